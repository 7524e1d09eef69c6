"""`copy` of references: any list or image, by anyone, to anywhere, without changing a byte, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from build.errors import BuildError, ImageError, PublishError, UsageError
from tests.release.test_check import attested, elsewhere, flipped, without
from tests.support.checkout import Checkout, Run, results
from tests.support.fronts import Asked
from tests.support.model_registry import Headers, model_registry, refused
from tests.support.reading import complete, digest, inspect, layout_reader, layout_tags, skopeo
from tests.support.referring import Told, broken_off, copied, forms
from tests.support.registries import Recorder, fetch, registry_reader
from tests.support.strangers import OCI, Json, Shelf, elf, tape

Released = tuple[Checkout, Run]
BOM = "application/vnd.example.bom"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


def artifact(shelf: Shelf) -> Json:
    kind = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "artifactType": BOM}
    config = shelf.put(b"{}", "application/vnd.oci.empty.v1+json")
    return shelf.json({**kind, "config": config, "layers": [shelf.put(b"bom", BOM)]}, "manifest")


def attestation(shelf: Shelf, image: Json) -> Json:
    """BuildKit's attestation for an image, as it is listed."""
    statement = json.dumps({"for": image["digest"]}).encode()
    config = shelf.json({"os": "unknown", "architecture": "unknown", "rootfs": {"diff_ids": []}}, "config")
    manifest = shelf.manifest(config, [shelf.put(statement, "application/vnd.in-toto+json")])
    marks = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image["digest"],
    }
    return {**manifest, "platform": {"os": "unknown", "architecture": "unknown"}, "annotations": marks}


def everything(shelf: Shelf) -> Json:
    """A list with whatever lists have: images that share a layer, attestations, an artifact, a list."""
    base = tape({"bin/sh": elf("amd64")})
    images = [
        shelf.image("linux/amd64", [base, tape({"app": elf("amd64")})]),
        shelf.image("linux/arm64", [base, tape({"app": elf("arm64")})]),
    ]
    inner = shelf.index(shelf.image("linux/s390x"), shelf.image("linux/386"))
    entries = [*images, *(attestation(shelf, each) for each in images), artifact(shelf), inner]
    kind = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "annotations": {"of": "ours"}}
    return shelf.json({**kind, "manifests": entries}, "index")


KINDS: dict[str, Callable[[Shelf], Json]] = {
    "everything": everything,
    "an image": lambda shelf: shelf.image("linux/arm64", more={"created": "2020-01-01T00:00:00Z"}),
    "attested": attested,
    "an artifact": artifact,
    "a list of none": lambda shelf: shelf.index(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_arrives_unchanged_everywhere(shelf: Shelf, tmp_path: Path, recorder: Recorder, kind: str) -> None:
    wanted = KINDS[kind](shelf)["digest"]
    hops = [
        shelf.tag("1", KINDS[kind](shelf)),
        f"{recorder.host}/some/one:1",
        f"{recorder.host}/another:latest",
        "oci-archive:a.tar:registry.example/some/name:2",
        "oci:there:x",
        f"{recorder.host}/back/again:1",
    ]
    for source, target in pairwise(hops):
        made = copied(tmp_path, source, target)
        assert (made.name, made.digest, made.change) == (target, wanted, "pushed")
        assert copied(tmp_path, source, target).change == "kept"
        assert bool(made.platform) == (kind == "an image")
    complete(layout_reader(tmp_path / "there"), wanted)
    complete(registry_reader(recorder.host, "back/again"), wanted)
    copied(tmp_path, hops[-1], "oci-archive:b.tar:registry.example/some/name:2")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_skopeo_reads_what_was_copied(shelf: Shelf, tmp_path: Path, recorder: Recorder) -> None:
    wanted = everything(shelf)["digest"]
    source = shelf.tag("1", everything(shelf))
    for target, name in (
        (f"{recorder.host}/a:1", "docker://{}"),
        ("oci:there:1", "{}"),
        ("oci-archive:a.tar", "{}:x:1"),
    ):
        copied(tmp_path, source, f"{target}:x:1" if target.endswith(".tar") else target)
        assert inspect(name.format(target), "--raw", cwd=tmp_path)[0] == wanted
    found = inspect("oci-archive:a.tar:x:1", "--override-arch=arm64", "--config", cwd=tmp_path)
    assert found[1]["architecture"] == "arm64"


def test_lists_by_skopeo_in_dockers_media_types(shelf: Shelf, tmp_path: Path, recorder: Recorder) -> None:
    listed = shelf.tag("1", shelf.index(shelf.image("linux/amd64"), shelf.image("linux/arm64")))
    words = ("copy", "--all", "--format", "v2s2", "--dest-tls-verify=false")
    skopeo(*words, listed, f"docker://{recorder.host}/docker:1")
    made = copied(tmp_path, f"{recorder.host}/docker:1", f"{recorder.host}/other:1")
    found, manifest = inspect(f"docker://{recorder.host}/other:1", "--raw")
    assert found == made.digest
    assert manifest["mediaType"] == "application/vnd.docker.distribution.manifest.list.v2+json"
    for target in ("oci:there:1", "oci-archive:a.tar"):
        with pytest.raises(ImageError, match="found format docker, expected oci"):
            copied(tmp_path, f"{recorder.host}/docker:1", target)
    assert not {*tmp_path.glob("there"), *tmp_path.glob("*.tar")}


def test_order_and_mounts(shelf: Shelf, tmp_path: Path, recorder: Recorder) -> None:
    """Blobs, images, lists, the tag; within a registry nothing is sent that it has."""
    copied(tmp_path, shelf.tag("1", everything(shelf)), f"{recorder.host}/a:1")
    puts = [each for each in recorder.exchanges if each.method == "PUT"]
    kinds = [each.path.split("/")[3] for each in puts]
    assert kinds == sorted(kinds)  # blobs, manifests
    shared = shelf.read(shelf.read(everything(shelf))["manifests"][0])["layers"][0]["digest"].replace(":", "%3A")
    assert len([each for each in puts if shared in each.path]) == 1
    *_, inner = shelf.read(everything(shelf))["manifests"]
    assert [each.path for each in puts[-2:]] == [f"/v2/a/manifests/{inner['digest']}", "/v2/a/manifests/1"]
    assert max(each.ended for each in puts[:-1]) < puts[-1].began
    recorder.forget()
    copied(tmp_path, f"{recorder.host}/a:1", f"{recorder.host}/b:1")
    assert {each.status for each in recorder.exchanges if each.method == "POST"} == {201}
    assert not [each for each in recorder.exchanges if each.method == "PUT" and "/blobs/" in each.path]
    recorder.forget()
    copied(tmp_path, f"oci:{shelf.folder}:1", f"{recorder.host}/b:2")
    assert not [each for each in recorder.exchanges if each.method == "PUT" and "/blobs/" in each.path]
    recorder.forget()
    copied(tmp_path, f"{recorder.host}/a:1", f"{recorder.host}/a:2")
    assert [each.path for each in recorder.exchanges if each.method == "PUT"] == [
        f"/v2/a/manifests/{inner['digest']}",
        "/v2/a/manifests/2",
    ]


def test_broken_off_anywhere_the_tag_is_absent_or_old_and_a_rerun_completes(
    shelf: Shelf, tmp_path: Path, recorder: Recorder
) -> None:
    source = shelf.tag("1", everything(shelf))
    new = everything(shelf)["digest"]
    old = copied(tmp_path, Shelf(tmp_path / "old").tag("1", Shelf(tmp_path / "old").image()), f"{recorder.host}/b:1")
    recorder.forget()
    copied(tmp_path, source, f"{recorder.host}/count:1")
    total = len(recorder.exchanges)
    for place, before in (("a", None), ("b", old.digest)):
        for at in range(1, total, 3):
            recorder.forget()

            async def run(place: str = place, at: int = at) -> None:
                stop, loop = asyncio.Event(), asyncio.get_running_loop()
                recorder.on_request = lambda number: (
                    loop.call_soon_threadsafe(stop.set) if number == at else None  # type: ignore[assignment]
                )
                await broken_off(tmp_path, stop, source, f"{recorder.host}/{place}:1", overwrite=True)
                recorder.on_request = lambda _: None

            asyncio.run(run())
            status, data = fetch(recorder.host, f"{place}/manifests/1")
            found = digest(data) if status == 200 else None
            assert found in (before, new)
            if found:
                complete(registry_reader(recorder.host, place), found)
        assert copied(tmp_path, source, f"{recorder.host}/{place}:1", overwrite=True).digest == new
        complete(registry_reader(recorder.host, place), new)


@pytest.mark.parametrize("where", ["manifests/sha256", "manifests/1"])
def test_a_refusal_leaves_the_tag(shelf: Shelf, tmp_path: Path, where: str) -> None:
    with model_registry() as model:
        old = copied(tmp_path, shelf.tag("1", shelf.image()), f"{model.host}/a:1")
        model.refusals, model.times = {where: refused(403, "DENIED")}, 1e9
        with pytest.raises(PublishError, match="DENIED"):
            copied(tmp_path, shelf.tag("1", everything(shelf)), f"{model.host}/a:1", overwrite=True)
        assert model.tags() == {"a:1": old.digest}


def test_a_tag_that_another_run_moves_meanwhile(shelf: Shelf, tmp_path: Path) -> None:
    other = shelf.image()
    with model_registry() as model:
        copied(tmp_path, shelf.tag("1", other), f"{model.host}/a:other")

        def moves(asked: Asked, headers: Headers) -> Headers:
            if asked.method == "PUT" and asked.path.endswith("/manifests/1"):
                model.repositories["a"].tags["1"] = other["digest"]
            return headers

        model.headers = moves
        with pytest.raises(PublishError, match=f"another run moved a tag .*\n.*found {other['digest']}"):
            copied(tmp_path, shelf.tag("1", everything(shelf)), f"{model.host}/a:1")


FAULTS: dict[str, tuple[Callable[[Shelf], Json], str]] = {
    "no layer": (lambda shelf: without(shelf, "layer"), "blob sha256:"),
    "no image": (lambda shelf: without(shelf, "manifest"), "not found"),
    "a bit": (lambda shelf: flipped(shelf, "layer"), "expected sha256:"),
    "another platform": (
        lambda shelf: shelf.index({**shelf.image(), "platform": {"os": "linux", "architecture": "arm64"}}),
        "found linux/amd64 in the config, expected linux/arm64",
    ),
    "another CPU": (
        lambda shelf: shelf.index(shelf.image("linux/arm64", [tape({"app": elf("amd64")})])),
        "found EM_X86_64, expected EM_AARCH64",
    ),
    "an unknown kind": (
        lambda shelf: shelf.index(shelf.image(), shelf.put(b"{}", "application/vnd.example.thing+json")),
        "found application/vnd.example.thing+json, expected an image, a list or an artifact",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_not_proved_is_not_written(shelf: Shelf, tmp_path: Path, recorder: Recorder, name: str) -> None:
    make, words = FAULTS[name]
    source = shelf.tag("1", make(shelf))
    for target in (f"{recorder.host}/a:1", "oci:there:1", "oci-archive:a.tar:a:1"):
        with pytest.raises(BuildError) as raised:
            copied(tmp_path, source, target)
        assert words in str(raised.value)
    assert {each.method for each in recorder.exchanges} <= {"GET", "HEAD"}
    assert not {*tmp_path.glob("there"), *tmp_path.glob("*.tar")}


def test_layers_that_are_elsewhere_stay_there(shelf: Shelf, tmp_path: Path) -> None:
    told = Told()
    made = copied(tmp_path, shelf.tag("1", elsewhere(shelf)), "oci:there:1", told)
    assert layout_tags(tmp_path / "there") == {"1": made.digest}
    assert "stored elsewhere" in told.text


def test_a_tag_or_a_file_that_is_there_stays_without_overwrite(
    shelf: Shelf, tmp_path: Path, recorder: Recorder
) -> None:
    other = copied(tmp_path, shelf.tag("1", shelf.image()), f"{recorder.host}/a:1")
    copied(tmp_path, shelf.tag("1", shelf.image()), "oci-archive:a.tar:a:1")
    source = shelf.tag("1", everything(shelf))
    recorder.forget()
    with pytest.raises(PublishError, match=f"found {other.digest}, expected {everything(shelf)['digest']} or no tag"):
        copied(tmp_path, source, f"{recorder.host}/a:1")
    assert {each.method for each in recorder.exchanges} == {"HEAD"}
    with pytest.raises(PublishError, match="not this copy, expected the same or none"):
        copied(tmp_path, source, "oci-archive:a.tar:a:1")
    for target in (f"{recorder.host}/a:1", "oci-archive:a.tar:a:1"):
        assert copied(tmp_path, source, target, overwrite=True).change == "moved"


def entries(root: Path, made: Any) -> list[Json]:
    found: list[Json] = json.loads(layout_reader(root)(made.digest))["manifests"]
    return found


def test_a_part_is_a_new_list(shelf: Shelf, tmp_path: Path, recorder: Recorder) -> None:
    whole = shelf.read(everything(shelf))
    amd64, arm64, _, for_arm64, _, inner = whole["manifests"]
    source = shelf.tag("1", everything(shelf))
    for digest_ in (amd64["digest"], shelf.read(amd64)["layers"][1]["digest"]):
        shelf.path(digest_).unlink()  # what is not taken is not asked for
    told = Told()
    made = copied(tmp_path, source, "oci:there:1", told, platform=["linux/arm64/v8"])
    assert f"its digest is {made.digest}, not {shelf.json(whole, 'index')['digest']}" in told.text
    new = json.loads(layout_reader(tmp_path / "there")(made.digest))
    assert new == {**whole, "manifests": [arm64, for_arm64]}
    complete(layout_reader(tmp_path / "there"), made.digest)
    # From a list in the list, in any order; into the repository itself, too.
    made = copied(tmp_path, source, "oci:there:2", platform=["linux/386", "linux/arm64"])
    new_inner = entries(tmp_path / "there", made)[-1]
    assert entries(tmp_path / "there", made) == [arm64, for_arm64, new_inner]
    assert (
        shelf.read(inner)["manifests"][1:]
        == json.loads(layout_reader(tmp_path / "there")(new_inner["digest"]))["manifests"]
    )
    copied(tmp_path, "oci:there:2", f"{recorder.host}/a:1")
    same = copied(tmp_path, f"{recorder.host}/a:1", f"{recorder.host}/a:2", platform=["linux/386"])
    complete(registry_reader(recorder.host, "a"), same.digest)
    # Twice gives the same bytes, and all of it is no other list.
    assert copied(tmp_path, source, "oci:again:1", platform=["linux/arm64", "linux/386"]).digest == made.digest
    all_of_it = copied(tmp_path, "oci:there:1", "oci:again:2", platform=["linux/arm64"])
    assert all_of_it.digest == layout_tags(tmp_path / "there")["1"]


def test_a_part_that_is_not_there(shelf: Shelf, tmp_path: Path) -> None:
    source = shelf.tag("1", everything(shelf))
    with pytest.raises(ImageError, match=r"no image for linux/vax\n  expected one of: linux/amd64, linux/arm64, "):
        copied(tmp_path, source, "oci:there:1", platform=["linux/amd64", "linux/vax"])
    with pytest.raises(UsageError, match="expected os/architecture"):
        copied(tmp_path, source, "oci:there:1", platform=["arm64"])
    with pytest.raises(ImageError, match="expected a list: --platform takes a part of one"):
        copied(tmp_path, shelf.tag("1", shelf.image()), "oci:there:1", platform=["linux/amd64"])
    unknown = shelf.index(shelf.image(), shelf.image("linux/arm64"), shelf.put(b"{}", "application/vnd.example.thing"))
    copied(tmp_path, shelf.tag("1", unknown), "oci:there:1", platform=["linux/amd64"])


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("oci:dist", "registry.example/team", None),
        ("localhost:5000", "oci-archive:a.tar", None),
        ("oci-archive:a.tar", "localhost:5000/team/", None),
        ("a.example/b:1", "oci:c:2", ["a.example/b:1", "oci:c:2"]),
        ("a.example/b:1", "oci-archive:c.tar", ["a.example/b:1", "oci-archive:c.tar:b:1"]),
        ("oci:some/where:1", "oci-archive:c.tar", ["oci:some/where:1", "oci-archive:c.tar:where:1"]),
        ("oci-archive:c.tar", "localhost:5000/x:1", ["oci-archive:c.tar", "localhost:5000/x:1"]),
        (f"a.example/b@sha256:{'0' * 64}", "oci:c:2", [f"a.example/b@sha256:{'0' * 64}", "oci:c:2"]),
    ],
)
def test_a_reference_has_a_tag_or_a_digest(source: str, target: str, expected: list[str] | None) -> None:
    assert forms(Path("/"), source, target) == expected


@pytest.mark.parametrize(
    ("source", "target", "flags", "words"),
    [
        ("a.example/b:1", "oci:c", {}, "'oci:c' without a tag"),
        ("a.example", "oci:c:1", {}, "'a.example' without a tag"),
        ("a.example/b:1", "a.example/c", {}, "'a.example/c' without a tag"),
        ("oci:dist", "oci:c", {"platform": ["linux/arm"]}, "--platform takes a part of a list"),
        ("a.example/b:1", "oci:c:1", {"arch": ["arm"]}, "--arch selects a part of a release"),
        ("a.example/b:1", "oci:c:1", {"also_tag": ["3"]}, "--also-tag is for a release"),
        ("a.example/b:1", f"oci:c@sha256:{'0' * 64}", {}, "expected a tag only"),
        (f"a.example/b@sha256:{'0' * 64}", "oci-archive:c.tar", {}, "expected oci-archive:FILE:NAME:TAG"),
    ],
)
def test_one_message_shows_both_forms(source: str, target: str, flags: Any, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        forms(Path("/"), source, target, **flags)
    assert words in str(raised.value)
    if "digest" not in words and "expected" not in words:
        assert "copy REGISTRY REGISTRY" in str(raised.value)
        assert "copy REFERENCE REFERENCE" in str(raised.value)


def test_the_task(released: Released, checkout: Checkout, recorder: Recorder) -> None:
    """From the command line: a list of ours, alone; dry, as JSON, and the bare file."""
    source = f"oci:{released[0].root}/dist/pause:3.1"
    wanted = released[1].digests["oci:dist/pause:3.1"]
    before = checkout.snapshot()
    assert checkout("--dry", "copy", source, f"{recorder.host}/x:1").stdout.startswith("pushed ")
    assert checkout.snapshot() == before
    assert {each.method for each in recorder.exchanges} <= {"GET", "HEAD"}
    [made] = results(checkout("copy", source, f"{recorder.host}/x:1", "--json"))
    assert (made["kind"], made["digest"], made["tag"], made["change"]) == ("list", wanted, "1", "pushed")
    run = checkout("copy", f"{recorder.host}/x:1", "oci-archive:x.tar")
    assert run.digests == {"oci-archive:x.tar:x:1": wanted}
    run = checkout("copy", "oci-archive:x.tar", f"{recorder.host}/y:1", "--platform", "linux/arm")
    [(name, part)] = run.digests.items()
    assert part != wanted
    assert f"not {wanted}" in run.stderr
    checkout("check", f"{name}@{part}")
