"""`copy` carries what refers to content along: signatures, attestations and other referrers, from and to anywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from build.errors import BuildError, PublishError
from tests.support.attaching import (
    BUNDLE,
    NAME,
    SIMPLE,
    Attached,
    Seen,
    attached,
    by_cosign,
    hyphened,
    in_archive,
    in_layout,
    in_model,
    in_registry,
    is_whole,
    lay_out,
    referrer,
    send,
    upload,
)
from tests.support.checkout import Checkout, Run
from tests.support.components import need
from tests.support.containerd import own_containerd
from tests.support.cosign import oras
from tests.support.daemons import Docker
from tests.support.model_registry import Model, model_registry, refused
from tests.support.reading import layout_tags, skopeo
from tests.support.referring import Told, copied, task
from tests.support.registries import Recorder, fetch
from tests.support.strangers import Shelf

Released = tuple[Checkout, Run]
KINDS = ("registry", "API", "layout", "archive")
HOME = "some/one"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def model() -> Iterator[Model]:
    with model_registry() as made:
        made.lists_referrers = True
        yield made


@dataclass(frozen=True)
class World:
    """A place of each kind, and what is where."""

    root: Path
    shelf: Shelf
    recorder: Recorder
    model: Model

    def source(self, kind: str, made: Attached) -> str:
        """The reference to `made` in a place of this kind, put there by others; in archives, by ourselves."""
        if kind == "registry":
            return upload(self.recorder.host, "from/there", self.shelf, made, indexes=True)
        if kind == "API":
            return upload(self.model.host, "from/there", self.shelf, made, indexes=False)
        laid_out = lay_out(self.shelf, made)
        if kind == "archive":
            copied(self.root, laid_out, f"oci-archive:from.tar:{HOME}:1")
            return f"oci-archive:from.tar:{HOME}:1"
        return laid_out

    def target(self, kind: str) -> str:
        return {
            "registry": f"{self.recorder.host}/{HOME}:1",
            "API": f"{self.model.host}/{HOME}:1",
            "layout": "oci:there:1",
            "archive": f"oci-archive:there.tar:{HOME}:1",
        }[kind]

    def seen(self, kind: str, made: Attached) -> Seen:
        if kind == "registry":
            return in_registry(self.recorder.host, HOME, made)
        if kind == "API":
            return in_model(self.model, HOME, made)
        if kind == "layout":
            return in_layout(self.root / "there", made)
        return in_archive(self.root / "there.tar", HOME, made)

    @property
    def writes(self) -> list[str]:
        """What was written anywhere: requests, and files with their times."""
        methods = ("PUT", "POST", "PATCH", "DELETE")
        files = sorted(path for path in self.root.glob("there*/**/*") if path.is_file() and path.name != ".lock")
        return [
            *(each for each in (*self.recorder.lines, *self.model.lines) if each.startswith(methods)),
            *(f"{path} {path.stat().st_mtime_ns}" for path in files),
        ]


@pytest.fixture
def world(tmp_path: Path, shelf: Shelf, recorder: Recorder, model: Model) -> World:
    return World(tmp_path, shelf, recorder, model)


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_all_of_it_arrives_and_is_found(world: World, source: str, target: str) -> None:
    """Byte by byte; a second time nothing is sent."""
    made = attached(world.shelf, artifacts="registry" not in (source, target))
    origin = world.source(source, made)
    told = Told()
    assert copied(world.root, origin, world.target(target), told).digest == made.root["digest"]
    if target != "archive":
        assert "signatures, attestations and other referrers: copied" in told.text
    seen = world.seen(target, made)
    is_whole(seen, world.shelf, made)
    assert seen.tags["1"] == made.root["digest"]
    # With the API, there is no index beside it; without it, there is nothing but the indexes and cosign's tags.
    indexes = set() if target == "API" else set(map(hyphened, made.referrers))
    assert seen.tags.keys() == {"1", *made.tags, *indexes}
    before = world.writes
    assert copied(world.root, origin, world.target(target)).change == "kept"
    assert world.writes == before


def test_the_same_archive_from_anywhere(world: World) -> None:
    made = attached(world.shelf)
    archives = []
    for kind in KINDS:
        origin = world.source(kind, made)
        copied(world.root, origin, f"oci-archive:of-{kind}.tar:{HOME}:1")
        archives.append((world.root / f"of-{kind}.tar").read_bytes())
    assert len(set(archives)) == 1


@pytest.mark.parametrize("target", KINDS)
def test_they_can_be_left_out(world: World, target: str) -> None:
    made = attached(world.shelf)
    copied(world.root, lay_out(world.shelf, made), world.target(target), without_referrers=True)
    seen = world.seen(target, made)
    assert (seen.listed, seen.tags) == ({}, {"1": made.root["digest"]})
    referring = {each for several in made.listed.values() for each in several}
    assert not referring & seen.content.keys()


def test_an_image_alone_has_its_own(world: World) -> None:
    """What refers to the list that it is in stays there."""
    made = attached(world.shelf)
    image = world.shelf.read(made.root)["manifests"][0]
    lay_out(world.shelf, made)
    copied(world.root, f"oci:{world.shelf.folder}@{image['digest']}", world.target("layout"))
    seen = world.seen("layout", made)
    assert image["digest"] in seen.listed
    assert made.root["digest"] not in seen.listed
    assert set(seen.tags) - {"1"} >= {hyphened(image["digest"], end) for end in (".sig", ".att", ".sbom")}


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
def test_a_part_has_what_refers_to_its_images(world: World, platform: str) -> None:
    made = attached(world.shelf)
    chosen, other = world.shelf.read(made.root)["manifests"]
    if platform == "linux/arm64":
        chosen, other = other, chosen
    for target in ("layout", "registry", "API"):
        copied(world.root, lay_out(world.shelf, made), world.target(target), platform=[platform])
        seen = world.seen(target, made)
        assert seen.listed[chosen["digest"]] == made.listed[chosen["digest"]]
        assert not {other["digest"], made.root["digest"]} & seen.listed.keys()
        left = {hyphened(each["digest"], end) for each in (other, made.root) for end in ("", ".sig", ".att", ".sbom")}
        assert not left & seen.tags.keys()


def test_they_are_stored_before_the_tag_moves(world: World) -> None:
    made = attached(world.shelf)
    origin = lay_out(world.shelf, made)
    alone = f"oci:{world.shelf.folder}@{world.shelf.read(made.root)['manifests'][1]['digest']}"
    old = copied(world.root, alone, world.target("registry"), without_referrers=True)
    world.recorder.forget()
    assert old.digest != copied(world.root, origin, world.target("registry"), overwrite=True).digest
    puts = [each for each in world.recorder.exchanges if each.method == "PUT"]
    assert puts[-1].path == f"/v2/{HOME}/manifests/1"
    assert max(each.ended for each in puts[:-1]) < puts[-1].began
    assert {each.path.rpartition("/")[2] for each in puts} >= {*made.tags, *map(hyphened, made.referrers)}


def test_a_refusal_leaves_the_tag(world: World) -> None:
    made = attached(world.shelf)
    origin = lay_out(world.shelf, made)
    world.model.lists_referrers = False
    for pattern in ("sha256-[0-9a-f]{64}$", hyphened(made.root["digest"], ".sig")):
        world.model.refusals, world.model.times = {pattern: refused(403, "DENIED")}, 1e9
        with pytest.raises(PublishError, match="DENIED"):
            copied(world.root, origin, world.target("API"))
        assert "1" not in world.model.repositories[HOME].tags
    assert copied(world.root, origin, world.target("API"), without_referrers=True).change == "pushed"


def test_a_dry_run_writes_nothing(world: World) -> None:
    made = attached(world.shelf)
    origin = lay_out(world.shelf, made)
    for kind in KINDS:
        told = Told()
        task(world.root, "copy", told, dry=True, src=origin, dst=world.target(kind))
        if kind != "archive":
            assert "signatures, attestations and other referrers: would be copied" in told.text
    assert world.writes == []
    assert not [*world.root.glob("there*")]


def test_a_registry_that_stores_no_artifact_manifests(world: World) -> None:
    made = attached(world.shelf, artifacts=True)
    origin = lay_out(world.shelf, made)
    with pytest.raises(PublishError, match=r"MANIFEST_INVALID|manifest invalid|unsupported"):
        copied(world.root, origin, world.target("registry"))
    assert fetch(world.recorder.host, f"{HOME}/manifests/1")[0] == 404
    copied(world.root, origin, world.target("registry"), without_referrers=True)


def test_the_index_of_others_keeps_its_entries_and_their_order(world: World) -> None:
    made = attached(world.shelf)
    theirs = [referrer(world.shelf, made.root, BUNDLE, f"theirs {number}", of=str(number)) for number in range(3)]
    ours = made.referrers[made.root["digest"]]
    # One of ours is among theirs, with something that only they know of it.
    index = world.shelf.index(theirs[2], {**ours[1], "annotations": {"known": "to them"}}, theirs[0], theirs[1])
    others = Attached(made.root, {made.root["digest"]: theirs})
    upload(world.recorder.host, HOME, world.shelf, others, indexes=False)
    send(world.recorder.host, HOME, world.shelf, ours[1], ours[1]["digest"])
    send(world.recorder.host, HOME, world.shelf, index, hyphened(made.root["digest"]))
    copied(world.root, lay_out(world.shelf, made), world.target("registry"))
    _, data = fetch(world.recorder.host, f"{HOME}/manifests/{hyphened(made.root['digest'])}")
    found = json.loads(data)["manifests"]
    assert found[:4] == world.shelf.read(index)["manifests"]
    assert {each["digest"] for each in found[4:]} == {each["digest"] for each in ours} - {ours[1]["digest"]}


@pytest.mark.parametrize("target", ["registry", "API", "layout"])
def test_signatures_under_one_tag_are_joined(world: World, target: str) -> None:
    made = attached(world.shelf)
    tag = hyphened(made.root["digest"], ".sig")
    there = Attached(made.root, {}, {tag: by_cosign(world.shelf, SIMPLE, "theirs")})
    copied(world.root, lay_out(world.shelf, there), world.target(target))
    assert world.seen(target, there).tags[tag] == there.tags[tag]["digest"]
    origin = lay_out(world.shelf, made)
    copied(world.root, origin, world.target(target))
    seen = world.seen(target, made)
    layers = json.loads(seen.content[seen.tags[tag]])["layers"]
    assert layers == [layer for each in (there, made) for layer in world.shelf.read(each.tags[tag])["layers"]]
    assert {each["digest"] for each in layers} <= seen.content.keys()
    before = world.writes
    copied(world.root, origin, world.target(target))
    assert world.writes == before


@pytest.mark.parametrize("target", ["registry", "layout"])
def test_another_sbom_stays_and_is_told(world: World, target: str) -> None:
    made = attached(world.shelf)
    tag = hyphened(made.root["digest"], ".sbom")
    there = Attached(made.root, {}, {tag: by_cosign(world.shelf, "text/spdx+json", "theirs")})
    copied(world.root, lay_out(world.shelf, there), world.target(target))
    told = Told()
    copied(world.root, lay_out(world.shelf, made), world.target(target), told)
    assert world.seen(target, made).tags[tag] == there.tags[tag]["digest"]
    assert f"{tag}: left as it is: it refers to {there.tags[tag]['digest']}" in told.text


def test_what_is_no_signature_under_a_tag_for_them(world: World) -> None:
    made = attached(world.shelf)
    tag = hyphened(made.root["digest"], ".att")
    there = Attached(made.root, {}, {tag: made.root})
    upload(world.recorder.host, HOME, world.shelf, there, indexes=False, tag="2")
    with pytest.raises(PublishError, match=rf"{tag}: found {made.root['digest']}.*\n.*--without-referrers"):
        copied(world.root, lay_out(world.shelf, made), world.target("registry"))
    assert fetch(world.recorder.host, f"{HOME}/manifests/1")[0] == 404


def damage(shelf: Shelf, made: Attached, name: str) -> None:
    """Spoil something that refers to the list, with the layout written."""
    first, *_ = made.referrers[made.root["digest"]]
    if name == "missing manifest":
        shelf.path(first["digest"]).unlink()
    elif name == "damaged manifest":
        shelf.path(first["digest"]).write_bytes(b"{}")
    elif name == "missing blob":
        shelf.path(shelf.read(first)["layers"][0]["digest"]).unlink()
    elif name == "damaged blob":
        shelf.path(shelf.read(first)["layers"][0]["digest"]).write_bytes(b"spoiled")
    elif name == "damaged signature":
        layer = shelf.read(made.tags[hyphened(made.root["digest"], ".sig")])["layers"][0]
        shelf.path(layer["digest"]).write_bytes(b"spoiled")
    elif name == "another subject":
        other = shelf.read(made.root)["manifests"][1]
        made.referrers[made.root["digest"]].append(referrer(shelf, other, BUNDLE, "astray"))
        lay_out(shelf, made)
    elif name == "an image":
        made.referrers.pop(made.root["digest"])
        made.tags[hyphened(made.root["digest"])] = shelf.image()
        lay_out(shelf, made)


DAMAGES = {
    "missing manifest": "listed as a referrer, but not there",
    "damaged manifest": "damaged: found sha256:",
    "missing blob": "No such file",
    "damaged blob": "damaged: found",
    "damaged signature": "damaged: found",
    "another subject": "subject: found sha256:",
    "an image": "a tag of this name is for an index of referrers",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_ends_it_before_anything_is_written(world: World, name: str) -> None:
    made = attached(world.shelf)
    origin = lay_out(world.shelf, made)
    damage(world.shelf, made, name)
    for kind in KINDS:
        with pytest.raises(BuildError) as raised:
            copied(world.root, origin, world.target(kind))
        message = str(raised.value)
        assert DAMAGES[name] in message
        assert message.count("--without-referrers") == 1
    assert world.writes == []
    assert not [*world.root.glob("there*")]
    for kind in KINDS:
        assert copied(world.root, origin, world.target(kind), without_referrers=True).change == "pushed"


def test_an_image_under_the_tag_of_an_index(world: World) -> None:
    made = attached(world.shelf)
    image = world.shelf.read(made.root)["manifests"][0]
    origin = upload(world.recorder.host, "from/there", world.shelf, made, indexes=True)
    send(world.recorder.host, "from/there", world.shelf, image, hyphened(made.root["digest"]))
    with pytest.raises(BuildError, match="--without-referrers"):
        copied(world.root, origin, world.target("layout"))
    assert not [*world.root.glob("there*")]
    assert copied(world.root, origin, world.target("layout"), without_referrers=True).change == "pushed"


def test_oras_discovers_them_in_a_layout(world: World) -> None:
    """What oras has attached in a registry goes into a layout, where it finds it, and back from one that it wrote."""
    host, image = world.recorder.host, world.shelf.image()
    at = upload(host, "from/there", world.shelf, Attached(image), indexes=False)
    (world.root / "bom.txt").write_text("all that is in it")
    oras("attach", "--plain-http", "--artifact-type", "text/x", at, "bom.txt:text/plain", folder=world.root)
    oras("attach", "--plain-http", "--artifact-type", "text/y", at, "bom.txt:text/plain", folder=world.root)
    copied(world.root, at, "oci:there:1")
    listed = json.loads(oras("discover", "--oci-layout", "--format", "json", "there:1", folder=world.root).stdout)
    assert {each["artifactType"] for each in listed["manifests"]} == {"text/x", "text/y"}
    wanted = {each["digest"] for each in listed["manifests"]}
    # oras has no index of referrers in a layout, but an entry without a name for each.
    oras("cp", "-r", "--from-plain-http", "--to-oci-layout", at, "theirs:1", folder=world.root)
    entries = json.loads((world.root / "theirs/index.json").read_bytes())["manifests"]
    assert {each["digest"] for each in entries if not each.get("annotations", {}).get(NAME)} == wanted
    made = Attached(image, {image["digest"]: [{"digest": each} for each in wanted]})
    for target in KINDS:
        copied(world.root, "oci:theirs:1", world.target(target), overwrite=True)
        assert world.seen(target, made).listed == made.listed
    by_oras = oras("discover", "--plain-http", "--format", "json", f"{host}/{HOME}:1").stdout
    assert {each["digest"] for each in json.loads(by_oras)["manifests"]} == wanted
    # An archive of such a layout is read alike.
    with tarfile.open(world.root / "theirs.tar", "w") as tape:
        for name in ("oci-layout", "index.json", "blobs"):
            tape.add(world.root / "theirs" / name, name)
    copied(world.root, "oci-archive:theirs.tar:1", f"{world.model.host}/from/tar:1")
    assert in_model(world.model, "from/tar", made).listed == made.listed


def test_a_referrer_of_oras_that_is_damaged(world: World) -> None:
    image = world.shelf.image()
    first = referrer(world.shelf, image, BUNDLE, "one")
    lay_out(world.shelf, Attached(image))
    index = json.loads((world.shelf.folder / "index.json").read_bytes())
    index["manifests"].append(first)
    (world.shelf.folder / "index.json").write_text(json.dumps(index))
    world.shelf.path(first["digest"]).unlink()
    with pytest.raises(BuildError, match=f"{first['digest']}: (.|\n)*--without-referrers"):
        copied(world.root, f"oci:{world.shelf.folder}:1", "oci:there:1")
    copied(world.root, f"oci:{world.shelf.folder}:1", "oci:there:1", without_referrers=True)


def test_the_only_image_needs_no_name(world: World) -> None:
    """What refers to it is no second one."""
    made = attached(world.shelf)
    copied(world.root, lay_out(world.shelf, made), f"oci-archive:there.tar:{HOME}:1")
    copied(world.root, "oci-archive:there.tar", world.target("API"))
    is_whole(world.seen("API", made), world.shelf, made)


@pytest.mark.parametrize("target", ["layout", "archive"])
def test_skopeo_takes_it_by_name(world: World, target: str) -> None:
    made = attached(world.shelf)
    copied(world.root, lay_out(world.shelf, made), world.target(target))
    skopeo("copy", "--all", world.target(target), "oci:taken:1", cwd=world.root)
    assert layout_tags(world.root / "taken") == {"1": made.root["digest"]}


@pytest.mark.parametrize("target", ["layout", "archive"])
def test_check_and_tags_know_them(world: World, checkout: Checkout, target: str) -> None:
    made = attached(world.shelf, artifacts=True)
    place = {"layout": "oci:there", "archive": "oci-archive:there.tar"}[target]
    at = {"layout": "oci:there:1", "archive": f"oci-archive:there.tar:{HOME}:1"}[target]
    checkout("copy", lay_out(world.shelf, made), at)
    run = checkout("check", place)
    assert run.digests[at] == made.root["digest"]
    # One note for what has something attached, and none of each thing that is.
    assert "only its digests are checked" not in run.stderr
    assert run.stderr.count("attached, and not proved without --key") == 3
    run = checkout("tags", place)
    [line] = run.stdout.splitlines()
    assert line.startswith(f"{at}@{made.root['digest']} ")
    assert f"{len(made.tags) + len(made.referrers)} tags of signatures and other referrers" in run.stderr


def test_tags_leaves_out_those_of_oras(world: World) -> None:
    image = world.shelf.image()
    lay_out(world.shelf, Attached(image))
    index = json.loads((world.shelf.folder / "index.json").read_bytes())
    index["manifests"].append(referrer(world.shelf, image, BUNDLE, "one"))
    (world.shelf.folder / "index.json").write_text(json.dumps(index))
    [found] = task(world.root, "tags", repository=f"oci:{world.shelf.folder}")
    assert found.digest == image["digest"]


def test_a_release_goes_with_what_refers_to_it(released: Released, checkout: Checkout, world: World) -> None:
    """Through a registry without the API, an archive, one with the API, and a layout: in each repository its own."""
    dist = world.root / "dist"
    shutil.copytree(released[0].root / "dist", dist)
    made = {}
    for name in ("pause", "pause-arm"):
        shelf = Shelf(dist / name)
        index = json.loads((shelf.folder / "index.json").read_bytes())
        [root] = index["manifests"]
        made[name] = Attached(root, {root["digest"]: [referrer(shelf, root, BUNDLE, f"of {name}")]})
        made[name].tags[hyphened(root["digest"], ".sig")] = by_cosign(shelf, SIMPLE, f"signature of {name}")
        index["manifests"] += [
            *made[name].referrers[root["digest"]],
            *({**each, "annotations": {NAME: tag}} for tag, each in made[name].tags.items()),
        ]
        (shelf.folder / "index.json").write_text(json.dumps(index))
    places = [f"oci:{dist}", world.recorder.host, "oci-archive:r.tar", f"{world.model.host}/team", "oci:again"]
    for source, target in pairwise(places):
        run = checkout("copy", source, target)
        assert set(run.digests.values()) == set(released[1].digests.values())
    for name, each in made.items():
        tags = each.tags
        for seen in (
            in_registry(world.recorder.host, name, each),
            in_archive(checkout.root / "r.tar", name, each),
            in_model(world.model, f"team/{name}", each),
            in_layout(checkout.root / "again" / name, each),
        ):
            assert seen.listed == each.listed
            assert {tag: seen.tags[tag] for tag in tags} == each.digests
    checkout("copy", "oci:again", "oci-archive:s.tar")
    assert (checkout.root / "s.tar").read_bytes() == (checkout.root / "r.tar").read_bytes()
    checkout("copy", places[0], "oci:bare", "--without-referrers")
    assert not in_layout(checkout.root / "bare/pause", made["pause"]).listed
    checkout("check", "oci:again/pause")


@pytest.fixture
def packed(world: World) -> tuple[Path, Attached]:
    """An archive of an image with all that refers to it."""
    made = attached(world.shelf)
    image = world.shelf.read(made.root)["manifests"][0]
    lay_out(world.shelf, made)
    copied(world.root, f"oci:{world.shelf.folder}@{image['digest']}", f"oci-archive:there.tar:{HOME}:1")
    assert len(in_archive(world.root / "there.tar", HOME, made).tags) == 1 + 3 + 3
    return world.root / "there.tar", Attached(image)


@pytest.mark.xdist_group("docker")
@pytest.mark.parametrize("store", ["docker", "containerd_store"])
def test_docker_loads_the_image_alone(
    packed: tuple[Path, Attached], store: str, request: pytest.FixtureRequest
) -> None:
    daemon: Docker = request.getfixturevalue(store)
    listing = ("images", "--all", "--no-trunc", "--format={{.Repository}}:{{.Tag}}")
    before = daemon(*listing).split()
    assert daemon("load", "-i", str(packed[0])) == f"Loaded image: {HOME}:1"
    assert sorted(daemon(*listing).split()) == sorted([*before, f"{HOME}:1"])
    daemon("rmi", f"{HOME}:1")
    assert sorted(daemon(*listing).split()) == sorted(before)


def test_podman_loads_the_image_alone(packed: tuple[Path, Attached]) -> None:
    podman = need("podman", "podman")
    with TemporaryDirectory(prefix="pause") as short:
        command = [podman, f"--root={short}/root", f"--runroot={short}/run", "--storage-driver=vfs"]

        def said(*words: str) -> str:
            run = subprocess.run([*command, *words], check=False, capture_output=True, text=True, timeout=60)
            assert run.returncode == 0, run.stderr
            return run.stdout

        said("load", "-i", str(packed[0]))
        assert said("images", "--all", "--format={{.Repository}}:{{.Tag}}").split() == [f"docker.io/{HOME}:1"]


def test_containerd_imports_the_image_alone(packed: tuple[Path, Attached]) -> None:
    file, made = packed
    with own_containerd() as containerd:
        containerd("images", "import", "--all-platforms", str(file))
        assert containerd.digests() == {f"docker.io/{HOME}:1": made.root["digest"]}
