"""Referrers in stores: the Referrers API and what is said instead of it, and indexes that others write, too."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from build.errors import BuildError, PublishError
from build.stores.layout.clean import clean_layout
from tests.support.attaching import (
    BUNDLE,
    NAME,
    SIMPLE,
    Attached,
    attached,
    by_cosign,
    hyphened,
    in_archive,
    in_layout,
    in_registry,
    is_whole,
    lay_out,
    referrer,
    send,
    upload,
)
from tests.support.checkout import SOURCE
from tests.support.fronts import Asked, Said, front
from tests.support.model_registry import Model, model_registry
from tests.support.reading import skopeo
from tests.support.referring import copied, coroutine
from tests.support.registries import Recorder, fetch
from tests.support.strangers import OCI, Json, Shelf

HTML = [("Content-Type", "text/html; charset=utf-8")]
INDEX = [("Content-Type", OCI + "index.v1+json")]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def model() -> Iterator[Model]:
    with model_registry() as made:
        yield made


NO_API = {
    **{str(status): Said(status, [], b"{}") for status in (400, 403, 404, 405, 501)},
    "a web page": Said(200, HTML, b"<html>welcome</html>"),
    "null": Said(200, INDEX, b'{"schemaVersion":2,"manifests":null}'),
}


@pytest.mark.parametrize("name", NO_API)
def test_without_the_api_there_is_the_index(shelf: Shelf, tmp_path: Path, model: Model, name: str) -> None:
    made = attached(shelf, artifacts=True)
    upload(model.host, "from/there", shelf, made, indexes=True)
    model.referrers = NO_API[name]
    copied(tmp_path, f"{model.host}/from/there:1", f"{model.host}/some/one:1")
    copied(tmp_path, f"{model.host}/some/one:1", "oci:there:1")
    is_whole(in_layout(tmp_path / "there", made), shelf, made)
    assert set(model.repositories["some/one"].tags) == {"1", *made.tags, *map(hyphened, made.referrers)}


FAULTS = {
    "no JSON": (Said(200, INDEX, b"[["), "its list of referrers: not valid JSON"),
    "no index": (Said(200, INDEX, b"[]"), "its list of referrers: found []"),
    "an image": (
        Said(200, INDEX, json.dumps({"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json"}).encode()),
        "its list of referrers: media type",
    ),
    "no descriptors": (Said(200, INDEX, b'{"schemaVersion":2,"manifests":["a"]}'), "manifests[0]: found 'a'"),
    "no end": (
        Said(200, [*INDEX, ("Link", '</v2/from/there/referrers/x?more>; rel="next"')], b'{"schemaVersion":2}'),
        "does not end after 100 pages",
    ),
    "a failure": (Said(418, [], b"{}"), "418"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_message_for_an_api_that_fails(shelf: Shelf, tmp_path: Path, model: Model, name: str) -> None:
    made = attached(shelf)
    source = upload(model.host, "from/there", shelf, made, indexes=True)
    model.referrers, words = FAULTS[name]
    with pytest.raises(PublishError) as raised:
        copied(tmp_path, source, "oci:there:1")
    assert str(raised.value).count(words) == 1
    assert "--without-referrers" in str(raised.value)
    assert not [*tmp_path.glob("there*")]
    assert copied(tmp_path, source, "oci:there:1", without_referrers=True).change == "pushed"


@pytest.mark.parametrize("page", [1, 2])
def test_all_pages_are_read(shelf: Shelf, tmp_path: Path, model: Model, page: int) -> None:
    made = attached(shelf, artifacts=True)
    model.lists_referrers, model.referrers_page = True, page
    source = upload(model.host, "from/there", shelf, made, indexes=False)
    copied(tmp_path, source, "oci:there:1")
    is_whole(in_layout(tmp_path / "there", made), shelf, made)
    assert [each for each in model.lines if "?last=" in each]


def test_a_page_that_is_missing_is_no_end(shelf: Shelf, tmp_path: Path, model: Model) -> None:
    """Or signatures were lost unseen."""
    made = attached(shelf)
    model.lists_referrers, model.referrers_page = True, 1
    source = upload(model.host, "from/there", shelf, made, indexes=False)
    with front(model.host) as between:
        between.instead = lambda asked: Said(404, [], b"{}") if "?last=" in asked.path else None
        with pytest.raises(PublishError, match="404"):
            copied(tmp_path, source.replace(model.host, between.host), "oci:there:1")


def others_index(shelf: Shelf, image: Json, number: int) -> Json:
    """An index of referrers with one of somebody else's, as they write it who read before us."""
    return shelf.index(referrer(shelf, image, BUNDLE, f"theirs {number}"))


def rival(shelf: Shelf, host: str, image: Json, times: float) -> tuple[list[str], object]:
    """Overwrites the index right after each of our writes, so many times; what it wrote, and `change` of a front."""
    written: list[str] = []

    def change(asked: Asked, _: Said) -> None:
        if asked.method == "PUT" and asked.path.endswith(hyphened(image["digest"])) and len(written) < times:
            theirs = referrer(shelf, image, BUNDLE, f"theirs {len(written)}")
            written.append(theirs["digest"])
            send(host, "some/one", shelf, theirs, theirs["digest"])
            send(host, "some/one", shelf, shelf.index(theirs), hyphened(image["digest"]))

    return written, change


def test_an_index_that_another_run_overwrites(shelf: Shelf, tmp_path: Path, recorder: Recorder) -> None:
    """Ours are added again, and theirs stay."""
    image = shelf.image()
    made = Attached(image, {image["digest"]: [referrer(shelf, image, BUNDLE, f"ours {at}") for at in range(2)]})
    origin = lay_out(shelf, made)
    with front(recorder.host) as between:
        written, between.change = rival(shelf, recorder.host, image, 2)  # type: ignore[assignment]
        copied(tmp_path, origin, f"{between.host}/some/one:1")
    assert len(written) == 2
    seen = in_registry(recorder.host, "some/one", made)
    assert seen.listed[image["digest"]] == {*made.listed[image["digest"]], written[-1]}


def test_a_rival_without_an_end(shelf: Shelf, tmp_path: Path, recorder: Recorder) -> None:
    image = shelf.image()
    made = Attached(image, {image["digest"]: [referrer(shelf, image, BUNDLE, "ours")]})
    origin = lay_out(shelf, made)
    with front(recorder.host) as between:
        written, between.change = rival(shelf, recorder.host, image, 1e9)  # type: ignore[assignment]
        with pytest.raises(PublishError, match="other runs keep overwriting this index of referrers\n  retry"):
            copied(tmp_path, origin, f"{between.host}/some/one:1")
    # The last one wrote after us: nothing of theirs is lost.
    assert written[-1] in in_registry(recorder.host, "some/one", made).listed[image["digest"]]


def test_what_another_one_writes_between_read_and_write(shelf: Shelf, tmp_path: Path, recorder: Recorder) -> None:
    """Runs of ours at once: whatever the last writer has dropped, those that have ended already add when run again."""
    image = shelf.image()
    runs = []
    for at in range(4):
        mine = Shelf(tmp_path / f"shelf{at}")
        mine.image()
        made = Attached(image, {image["digest"]: [referrer(mine, image, BUNDLE, f"run {at}")]})
        runs.append((lay_out(mine, made), made))

    async def together() -> None:
        each = (coroutine(tmp_path, "copy", src=source, dst=f"{recorder.host}/some/one:{at}")
                for at, (source, _) in enumerate(runs))  # fmt: skip
        await asyncio.gather(*each)

    async def again() -> None:
        for at, (source, _) in enumerate(runs):
            await coroutine(tmp_path, "copy", src=source, dst=f"{recorder.host}/some/one:{at}")

    asyncio.run(together())
    asyncio.run(again())
    _, data = fetch(recorder.host, f"some/one/manifests/{hyphened(image['digest'])}")
    wanted = {digest for _, made in runs for digest in made.listed[image["digest"]]}
    assert {each["digest"] for each in json.loads(data)["manifests"]} == wanted


def test_processes_that_write_one_layout(shelf: Shelf, tmp_path: Path) -> None:
    """Its lock lets one after the other in: nothing is lost."""
    image, sources = shelf.image(), []
    wanted = set()
    for at in range(3):
        mine = Shelf(tmp_path / f"shelf{at}")
        mine.image()
        made = Attached(image, {image["digest"]: [referrer(mine, image, BUNDLE, f"run {at}")]})
        sources.append(lay_out(mine, made))
        wanted |= made.listed[image["digest"]]
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        " from tests.support.referring import copied; copied(Path(sys.argv[2]), sys.argv[3], sys.argv[4])"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, SOURCE, tmp_path, source, f"oci:there:{at}"], cwd=SOURCE)
        for at, source in enumerate(sources)
    ]
    assert [each.wait(timeout=120) for each in started] == [0, 0, 0]
    assert in_layout(tmp_path / "there", Attached(image, {image["digest"]: []})).listed[image["digest"]] == wanted


def test_clean_removes_what_was_carried(shelf: Shelf, tmp_path: Path) -> None:
    made = attached(shelf, artifacts=True)
    copied(tmp_path, lay_out(shelf, made), "oci:there:1")
    clean_layout(tmp_path / "there", dry=False)
    assert not (tmp_path / "there").exists()


def test_clean_leaves_what_others_keep(shelf: Shelf, tmp_path: Path) -> None:
    """Theirs in an index that ours were added to, and those without an index; ours alone go."""
    made, there = attached(shelf), tmp_path / "there"
    root, image = made.root, shelf.read(made.root)["manifests"][0]
    sig = hyphened(root["digest"], ".sig")
    theirs = Attached(root, {root["digest"]: [referrer(shelf, root, BUNDLE, "theirs")]})
    theirs.tags[sig] = by_cosign(shelf, SIMPLE, "theirs")
    lay_out(Shelf(shelf.folder), theirs, "theirs")
    skopeo("copy", "--all", f"oci:{shelf.folder}:theirs", f"oci:{there}:theirs")
    for tag in (sig, hyphened(root["digest"])):
        for path in shelf.folder.glob("blobs/sha256/*"):
            (there / "blobs/sha256" / path.name).write_bytes(path.read_bytes())
        index = json.loads((there / "index.json").read_bytes())
        index["manifests"] += [
            each for each in json.loads((shelf.folder / "index.json").read_bytes())["manifests"]
            if each["annotations"][NAME] == tag
        ]  # fmt: skip
        (there / "index.json").write_text(json.dumps(index))
    copied(tmp_path, lay_out(shelf, made), "oci:there:1")
    before = in_layout(there, made)
    assert theirs.listed[root["digest"]] < before.listed[root["digest"]]
    clean_layout(there, dry=False)
    seen = in_layout(there, theirs)
    assert seen.listed[root["digest"]] >= theirs.listed[root["digest"]]
    layers = json.loads(seen.content[seen.tags[sig]])["layers"]
    assert shelf.read(theirs.tags[sig])["layers"][0] in layers
    assert {each["digest"] for each in layers} <= seen.content.keys()
    assert seen.tags["theirs"] == root["digest"]
    assert "1" not in seen.tags
    assert hyphened(image["digest"]) not in seen.tags


def test_an_archive_that_lists_what_is_not_there(shelf: Shelf, tmp_path: Path) -> None:
    image = shelf.image()
    first, second = (referrer(shelf, image, BUNDLE, each) for each in ("one", "two"))
    lay_out(shelf, Attached(image, {image["digest"]: [first, second]}))
    copied(tmp_path, f"oci:{shelf.folder}:1", "oci-archive:a.tar:some/one:1")
    made = Attached(image, {image["digest"]: [first, second]})
    is_whole(in_archive(tmp_path / "a.tar", "some/one", made), shelf, made)
    data = (tmp_path / "a.tar").read_bytes()
    path = f"blobs/sha256/{first['digest'][7:]}".encode()
    at = data.index(path)  # its header in the tar, with its checksum
    header = bytearray(data[at : at + 512])
    header[0:1], header[148:156] = b"c", f"{sum(header) + 1 - sum(header[148:156]) + 8 * 32:06o}\0 ".encode()
    (tmp_path / "b.tar").write_bytes(data[:at] + header + data[at + 512 :])
    with pytest.raises(BuildError, match=r"listed as a referrer, but not there(.|\n)*--without-referrers"):
        copied(tmp_path, "oci-archive:b.tar:some/one:1", "oci:there:1")
    assert not (tmp_path / "there").exists()
    copied(tmp_path, "oci-archive:b.tar:some/one:1", "oci:there:1", without_referrers=True)
