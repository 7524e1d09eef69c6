"""`tags` and `retag`: what a repository has, and a tag moved to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from build.errors import ImageError, PublishError, UsageError
from build.release.reference import tags as module
from tests.release.test_check import flipped
from tests.release.test_copy_references import artifact, attestation, everything
from tests.support.checkout import Checkout, Run, results
from tests.support.model_registry import Content, Model, model_registry
from tests.support.reading import complete, layout_tags
from tests.support.referring import Told, copied, task
from tests.support.registries import Recorder, registry_reader
from tests.support.strangers import OCI, Json, Shelf

Released = tuple[Checkout, Run]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def model() -> Iterator[Model]:
    with model_registry() as made:
        yield made


def made(shelf: Shelf, year: int, platform: str = "linux/amd64") -> Json:
    return shelf.image(platform, more={"created": f"{year}-01-01T00:00:00+01:00"})


def filled(model: Model, shelf: Shelf, **tagged: Json) -> None:
    """Let the model's repository `one` have what is tagged, and all else on the shelf."""
    has = model.repositories.setdefault("one", Content())
    for path in (shelf.folder / "blobs" / "sha256").iterdir():
        has.blobs[f"sha256:{path.name}"] = has.manifests[f"sha256:{path.name}"] = path.read_bytes()
        has.types[f"sha256:{path.name}"] = "application/json"
    has.tags |= {tag.replace("_", "-"): each["digest"] for tag, each in tagged.items()}


def test_newest_first_from_everywhere(shelf: Shelf, tmp_path: Path, recorder: Recorder) -> None:
    listed = shelf.index(made(shelf, 2021, "linux/arm64"), made(shelf, 2009))
    dated = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": shelf.read(listed)["manifests"]}
    annotated = shelf.json({**dated, "annotations": {module.CREATED: "2030-05-06T07:08:09Z"}}, "index")
    image = made(shelf, 2020)
    tagged = {
        "3.9": made(shelf, 2019),
        "3.10": made(shelf, 2019),
        "latest": image,
        "list": listed,
        "dated": annotated,
        "attested": shelf.index(image, attestation(shelf, image)),
        "bom": artifact(shelf),
    }
    for tag, each in tagged.items():
        copied(tmp_path, shelf.tag("1", each), f"{recorder.host}/one:{tag}")
        copied(tmp_path, shelf.tag("1", each), f"oci:layout:{tag}")
    both = ["linux/arm64", "linux/amd64"]
    expected = [
        ("dated", "2030-05-06T07:08:09Z", both),
        ("list", "2020-12-31T23:00:00Z", both),
        ("latest", "2019-12-31T23:00:00Z", ["linux/amd64"]),
        ("attested", "2019-12-31T23:00:00Z", ["linux/amd64"]),
        ("3.10", "2018-12-31T23:00:00Z", ["linux/amd64"]),
        ("3.9", "2018-12-31T23:00:00Z", ["linux/amd64"]),
        ("bom", None, []),
    ]
    for place in (f"{recorder.host}/one", "oci:layout"):
        found = [each.fields() for each in task(tmp_path, "tags", repository=place)]
        assert [(each["tag"], each["created"], each["platforms"]) for each in found] == expected
        assert [each["digest"] for each in found] == [tagged[tag]["digest"] for tag, *_ in expected]
    copied(tmp_path, "oci:layout:3.9", "oci-archive:a.tar:some/name:3.9")
    [found] = task(tmp_path, "tags", repository="oci-archive:a.tar")
    assert str(found) == (
        f"oci-archive:a.tar:some/name:3.9@{tagged['3.9']['digest']}  2018-12-31T23:00:00Z  linux/amd64"
    )
    assert task(tmp_path, "tags", repository="oci-archive:a.tar:some/name") == [found]


@pytest.mark.parametrize("spelling", ["{}", "http://registry.internal:5000{}", "list?{}"])
def test_every_page_is_read(shelf: Shelf, tmp_path: Path, model: Model, spelling: str) -> None:
    """However the next page's URL is spelled, the registry that was named is asked."""
    image, names = made(shelf, 2020), {f"t{number}": made(shelf, 2020) for number in range(25)}
    filled(model, shelf, **names)
    model.page = 4
    model.next_page = spelling
    if "?" in spelling:  # relative to the page
        model.headers = lambda _, headers: [
            (name, value.replace("?/v2/one/tags/list?", "?") if name == "Link" else value) for name, value in headers
        ]
    found = task(tmp_path, "tags", repository=f"{model.host}/one")
    assert {each.reference.tag for each in found} == set(names)
    assert {each.digest for each in found} == {image["digest"]}
    pages = [line for line in model.lines if "tags/list" in line]
    assert len(pages) == 7
    # What several tags refer to is read once.
    assert len([line for line in model.lines if "/blobs/" in line]) == 1


def test_pages_without_an_end(shelf: Shelf, tmp_path: Path, model: Model) -> None:
    filled(model, shelf, a=made(shelf, 2020), b=made(shelf, 2020), c=made(shelf, 2020))
    model.page, model.next_page = 1, "/v2/one/tags/list?last=a"
    with pytest.raises(PublishError, match="its list of tags does not end"):
        task(tmp_path, "tags", repository=f"{model.host}/one")


def test_what_cannot_be_read_has_a_note(shelf: Shelf, tmp_path: Path, model: Model) -> None:
    image = made(shelf, 2020)
    broken = shelf.manifest(shelf.json({"os": []}, "config"), [])
    vague = shelf.image(more={"created": "yesterday"})
    filled(model, shelf, good=image, broken=broken, vague=vague, gone={"digest": "sha256:" + "0" * 64})
    found = {each.reference.tag: each for each in task(tmp_path, "tags", repository=f"{model.host}/one")}
    assert next(iter(found)) == "good"
    assert "not found" in found["gone"].note
    assert found["gone"].digest is None
    assert "rootfs" in found["broken"].note
    assert found["broken"].digest == broken["digest"]
    assert found["vague"].note == "created: found 'yesterday', expected a time"
    assert found["good"].note == ""


def test_referrers_are_left_out_and_counted(shelf: Shelf, tmp_path: Path, model: Model) -> None:
    image = made(shelf, 2020)
    named = image["digest"].replace(":", "_")
    filled(model, shelf, **{"1": image, named: artifact(shelf), f"{named}.sig": artifact(shelf), "sha256_0": image})
    told = Told()
    found = task(tmp_path, "tags", told, repository=f"{model.host}/one")
    assert [each.reference.tag for each in found] == ["sha256-0", "1"]
    assert "2 tags of signatures and other referrers (sha256-…) are left out" in told.text


def test_of_very_many_tags_the_highest_are_looked_up(
    shelf: Shelf, tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    filled(model, shelf, **{f"v{number}": made(shelf, 2020) for number in range(8, 13)})
    found = task(tmp_path, "tags", repository=f"{model.host}/one")
    assert [each.reference.tag for each in found] == ["v12", "v11", "v10", "v9", "v8"]
    assert [bool(each.note) for each in found] == [False] * 3 + [True] * 2
    assert len([line for line in model.lines if "manifests/v" in line]) == 3


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b'{"tags":["a b"]}', b'{"tags":"a"}', b'{"tags":[1]}', b"[]"])
def test_a_list_that_is_none(tmp_path: Path, model: Model, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    model.repositories["one"] = Content()
    listing = model._list

    def odd(*words: Any) -> Any:
        said = listing(*words)
        said.body = answer
        return said

    monkeypatch.setattr(model, "_list", odd)
    with pytest.raises(PublishError, match="its list of tags: found"):
        task(tmp_path, "tags", repository=f"{model.host}/one")


@pytest.mark.parametrize("place", ["{}/none", "oci:none"])
def test_nothing_there(tmp_path: Path, model: Model, place: str) -> None:
    with pytest.raises(PublishError, match="found no tags"):
        task(tmp_path, "tags", repository=place.format(model.host))


@pytest.mark.parametrize(
    "word", ["a.example/b:1", "oci:b:1", "oci-archive:a.tar:b:1", f"a.example/b@sha256:{'0' * 64}"]
)
def test_a_repository_has_no_tag(tmp_path: Path, word: str) -> None:
    with pytest.raises(UsageError, match="expected a repository, without a tag or digest"):
        task(tmp_path, "tags", repository=word)


def test_the_task_lists_the_release(released: Released) -> None:
    checkout, run = released
    assert checkout("tags").stdout.splitlines()[0].startswith(f"oci:dist/pause:3.1@{run.digests['oci:dist/pause:3.1']}")
    found = results(checkout("tags", "--arch", "arm", "--json"))
    assert [each["reference"] for each in found] == ["oci:dist/pause:3.1", "oci:dist/pause-arm:3.1"]
    assert found[1]["platforms"] == ["linux/arm/v7"]


def two(shelf: Shelf, root: Path, place: str) -> tuple[str, str]:
    """The digests of `new` and `old`, which have these tags in a repository; `1` is `new`, too."""
    old, new = everything(shelf), shelf.index(shelf.image())
    for tag, each in (("old", old), ("new", new), ("1", new)):
        copied(root, shelf.tag("x", each), f"{place}:{tag}")
    return new["digest"], old["digest"]


def test_a_tag_moves_back(shelf: Shelf, tmp_path: Path, recorder: Recorder) -> None:
    place = f"{recorder.host}/some/one"
    new, old = two(shelf, tmp_path, place)
    recorder.forget()
    with pytest.raises(PublishError, match=f"found {new}, expected {old} or no tag"):
        task(tmp_path, "retag", reference=f"{place}:old", tag_="1")
    assert len(recorder.exchanges) == 2  # before anything is checked
    [planned] = task(tmp_path, "retag", reference=f"{place}@{old}", tag_="1", overwrite=True, dry=True)
    assert (planned.digest, planned.change) == (old, "moved")
    recorder.forget()
    [moved] = task(tmp_path, "retag", reference=f"{place}@{old}", tag_="1", overwrite=True)
    assert (moved.name, moved.digest, moved.change) == (f"{place}:1", old, "moved")
    writes = [each.path for each in recorder.exchanges if each.method not in ("GET", "HEAD")]
    assert writes == ["/v2/some/one/manifests/1"]
    assert recorder.exchanges[-1].method == "HEAD"  # it is read back
    complete(registry_reader(recorder.host, "some/one"), old)
    [kept] = task(tmp_path, "retag", reference=f"{place}:old", tag_="1")
    assert kept.change == "kept"
    [named] = task(tmp_path, "retag", reference=f"{place}:new", tag_="stable")
    assert (named.digest, named.change) == (new, "pushed")


def test_a_tag_of_a_layout_moves_back(shelf: Shelf, tmp_path: Path) -> None:
    _, old = two(shelf, tmp_path, "oci:there")
    task(tmp_path, "retag", reference="oci:there:old", tag_="1")
    assert layout_tags(tmp_path / "there")["1"] == old


def no_config(shelf: Shelf) -> Json:
    image = shelf.image()
    return shelf.manifest({**shelf.read(image)["config"], "digest": "sha256:" + "0" * 64}, [])


@pytest.mark.parametrize("fault", [lambda shelf: flipped(shelf, "layer"), no_config])
def test_no_tag_moves_to_what_is_damaged(
    shelf: Shelf, tmp_path: Path, model: Model, fault: Callable[..., Json]
) -> None:
    good, bad = made(shelf, 2020), fault(shelf)
    filled(model, shelf, bad=bad, good=good)
    with pytest.raises((ImageError, PublishError)):
        task(tmp_path, "retag", reference=f"{model.host}/one:bad", tag_="good", overwrite=True, timeout="2")
    assert model.tags()["one:good"] == good["digest"]


def test_retag_has_one_message(tmp_path: Path, model: Model) -> None:
    with pytest.raises(PublishError, match="one:none: not found"):
        task(tmp_path, "retag", reference=f"{model.host}/one:none", tag_="1")
    for reference, tag, words in (
        ("oci-archive:a.tar:b:1", "2", "an archive is written as a whole"),
        ("oci:there", "2", "expected a tag or a digest"),
        ("a.example/b:1", "a/b", "'a/b' is not a tag"),
    ):
        with pytest.raises(UsageError, match=words):
            task(tmp_path, "retag", reference=reference, tag_=tag)


def test_the_task_of_a_tag(checkout: Checkout, recorder: Recorder, shelf: Shelf) -> None:
    new, old = two(shelf, checkout.root, f"{recorder.host}/x")
    [moved] = results(checkout("retag", f"{recorder.host}/x:old", "1", "--overwrite", "--json"))
    assert (moved["tag"], moved["digest"], moved["change"], moved["kind"]) == ("1", old, "moved", "list")
    assert checkout("retag", f"{recorder.host}/x:new", "1", "--overwrite").digests == {f"{recorder.host}/x:1": new}
    assert "TAG is missing" in checkout.refuses(2, "retag", f"{recorder.host}/x:1")
