"""`diff`: what changed between two references, by anyone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from build.errors import BuildError
from build.release.reference.diff.diff import Difference
from tests.release.test_check import elsewhere
from tests.release.test_copy_references import artifact, attestation
from tests.support.checkout import RELEASE, Checkout, Run, results
from tests.support.reading import digest
from tests.support.referring import Told, task
from tests.support.strangers import OCI, PLAIN, Json, Shelf, elf, tape

Released = tuple[Checkout, Run]
BASE = tape({"etc/": None, "etc/gone": b"1", "etc/hidden": b"2", "etc/same": b"3", "lib/x": b"4"})


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


def compared(shelf: Shelf, old: Json, new: Json, told: Told | None = None) -> list[Difference]:
    """The differences between two things on a shelf."""
    names = [shelf.tag("x", old).rpartition(":")[0] + f"@{each['digest']}" for each in (old, new)]
    return task(shelf.folder, "diff", told, old=names[0], new=names[1])


def lines(shelf: Shelf, old: Json, new: Json) -> list[str]:
    return [str(each) for each in compared(shelf, old, new)]


def of(found: list[Difference], what: str) -> dict[str, tuple[Any, Any]]:
    return {each.name: (each.before, each.after) for each in found if each.what == what}


def test_files_as_the_layers_make_them(shelf: Shelf) -> None:
    """Whiteouts, modes, links, what a layer replaces, and the base that both have."""
    program = elf("amd64")
    old = shelf.image(tapes=[BASE, tape({"app": program, "link": "app", "etc/same": b"3"})])
    changed: dict[str, bytes | str | None] = {
        "app": program + b"!",
        "link": "lib/x",
        "etc/same": b"3",
        "etc/.wh.gone": b"",
        "new": b"5",
    }
    new = shelf.image(tapes=[BASE, tape(changed), tape({"etc/hidden": b"2"}, mode=0o644), tape({"lib": "etc"})])
    found = compared(shelf, old, new)
    files = {name: tuple(each and str(each) for each in values) for name, values in of(found, "file").items()}
    hashed = {data: f"{len(data)} bytes, {digest(data)}" for data in (b"1", b"2", b"4", b"5", program, program + b"!")}
    assert files == {
        "/app": (f"file, 0755, {hashed[program]}", f"file, 0755, {hashed[program + b'!']}"),
        "/etc/gone": (f"file, 0755, {hashed[b'1']}", None),
        "/etc/hidden": (f"file, 0755, {hashed[b'2']}", f"file, 0644, {hashed[b'2']}"),
        "/lib": ("folder, 0755", "symlink, 0755 to etc"),
        "/lib/x": (f"file, 0755, {hashed[b'4']}", None),
        "/link": ("symlink, 0755 to app", "symlink, 0755 to lib/x"),
        "/new": (None, f"file, 0755, {hashed[b'5']}"),
    }
    assert of(found, "layers") == {"": ("2", "4, the first 1 unchanged")}
    assert {each.platform for each in found} == {"linux/amd64"}


def described(shelf: Shelf, annotations: Json, **settings: Any) -> Json:
    image = shelf.image(settings={"Entrypoint": ["/app"], **settings})
    manifest = {**shelf.read(image), "annotations": annotations}
    return {**shelf.json(manifest, "manifest"), "platform": image["platform"]}


def test_config_annotations_base_and_version(shelf: Shelf) -> None:
    version, base = "org.opencontainers.image.version", "org.opencontainers.image.base."
    old = described(shelf, {base + "name": "a:1", "x": "y"}, Env=["A=1", "B=2"], Labels={version: "1", "l": "m"})
    new = described(shelf, {base + "name": "a:2", "z": ""}, Env=["A=1", "B=3"], Labels={version: "2"}, User="1")
    found = compared(shelf, shelf.index(old), shelf.index(new))
    assert of(found, "config") == {
        "config.Env.B": ("2", "3"),
        "config.Labels.l": ("m", None),
        "config.User": (None, "1"),
    }
    assert of(found, "version") == {version: ("1", "2")}
    assert of(found, "base") == {base + "name": ("a:1", "a:2")}
    assert of(found, "annotation") == {"x": ("y", None), "z": (None, "")}
    assert [each.platform for each in found if each.what == "list"] == [None]
    assert 'linux/amd64: annotation z: added: ""' in [str(each) for each in found]


def test_platforms_and_what_else_a_list_has(shelf: Shelf) -> None:
    amd64, arm, arm64 = (shelf.image(f"linux/{each}") for each in ("amd64", "arm/v7", "arm64"))
    explicit = {**arm64, "platform": {**arm64["platform"], "variant": "v8"}}
    old = shelf.index(amd64, arm, arm64, attestation(shelf, amd64))
    kind = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "annotations": {"a": "b"}}
    new = shelf.json({**kind, "manifests": [shelf.index(amd64), explicit, artifact(shelf)]}, "index")
    shelf.read(new)
    assert lines(shelf, old, new) == [
        f"list: {old['digest']} → {new['digest']}",
        "annotation a: added: b",
        f"entry application/vnd.example.bom: added: {artifact(shelf)['digest']}",
        f"entry attestation for linux/amd64: removed: {attestation(shelf, amd64)['digest']}",
        f"linux/arm: platform: removed: {arm['digest']}",
    ]
    assert lines(shelf, shelf.index(arm64), arm64) == [
        f"reference: list {shelf.index(arm64)['digest']} → image {arm64['digest']}"
    ]


def test_nothing_that_others_wrote_begins_a_line(shelf: Shelf) -> None:
    evil = "x\n  linux/amd64: file /etc/passwd: added\x1b[2J\n::error::no"
    old = described(shelf, {})
    new = described(shelf, {evil: evil}, Env=[f"A={evil}"], Labels={evil: evil})
    marked = {**new, "annotations": {"vnd.docker.reference.digest": [], "vnd.docker.reference.type": {}}}
    found = compared(shelf, shelf.index(old), shelf.index(marked))
    assert len(found) > 4
    for each in map(str, found):
        assert each.isprintable()
        assert not each.startswith("::")
    odd = shelf.image(more={"history": 7})
    assert {each.what for each in compared(shelf, odd, shelf.index(old))} == {"reference", "image"}
    with pytest.raises(BuildError, match=r"os\.version: found \['x'\], expected a string"):
        compared(shelf, shelf.image(more={"os.version": ["x"]}), shelf.index(old))


def test_what_is_the_same_is_said_to_be(shelf: Shelf) -> None:
    told = Told()
    assert compared(shelf, shelf.image(), shelf.image(), told) == []
    assert "the same as" in told.text


@pytest.mark.parametrize("kind", ["zstd", "elsewhere", "damaged"])
def test_layers_that_cannot_be_read_have_a_note(shelf: Shelf, kind: str) -> None:
    other = {
        "zstd": lambda: shelf.image(packed=PLAIN + "+zstd"),
        "elsewhere": lambda: elsewhere(shelf),
        "damaged": lambda: shelf.image(tapes=[b"not a tape" * 100], more={"created": "2020-01-01T00:00:00Z"}),
    }[kind]()
    told = Told()
    found = compared(shelf, shelf.image(tapes=[BASE]), other, told)
    assert "linux/amd64: files not compared: layer sha256:" in told.text
    assert of(found, "layers")
    assert not of(found, "file")


def test_what_is_missing_is_one_message(shelf: Shelf) -> None:
    old, new = shelf.index(shelf.image()), shelf.index(shelf.image(tapes=[BASE]))
    shelf.path(shelf.read(shelf.read(new)["manifests"][0])["layers"][0]["digest"]).unlink()
    with pytest.raises(BuildError, match="No such file"):
        compared(shelf, old, new)
    shelf.path(shelf.read(new)["manifests"][0]["digest"]).unlink()
    with pytest.raises(BuildError, match="not found"):
        compared(shelf, old, new)


def test_two_releases(checkout: Checkout) -> None:
    """A release, and the next one of another tag and program; nothing is run to tell its version."""
    checkout("all-push", REGISTRY="oci:one")
    checkout.edit("pause.c", "Shutting down, got signal: Interrupt", "Shutting down, interrupted")
    checkout("all-push", "--tag", "3.2", "--rev", "next", REGISTRY="oci:two")
    run = checkout("diff", "oci:one/pause:3.1", "oci:two/pause:3.2", "--json")
    found = results(run)
    platforms = {f"linux/{arch}" for arch in RELEASE}
    for platform in platforms:
        here = {(each["what"], each["name"]): each for each in found if each["platform"] == platform}
        program = here["version", "program"]
        assert (program["before"], program["after"]) == (checkout.version, "v3.2-next")
        revision = here["version", "org.opencontainers.image.revision"]
        assert (revision["before"], revision["after"]) == (checkout.revision, "next")
        file = here["file", "/pause"]
        assert (file["change"], file["before"]["mode"], file["after"]["mode"]) == ("changed", "0755", "0755")
        binary = (checkout.root / "bin" / f"pause-{platform.removeprefix('linux/')}").read_bytes()
        assert (file["after"]["digest"], file["after"]["size_bytes"]) == (digest(binary), len(binary))
        assert here["layers", ""]["change"] == "changed"
    assert {each["platform"] for each in found} == {None, *platforms}
    text = checkout("diff", "oci:one/pause:3.1", "oci:two/pause:3.2").stdout
    assert f"linux/amd64: version program: {checkout.version} → v3.2-next" in text
    assert json.loads(run.stdout)["ok"]
    same = checkout("diff", "oci:one/pause:3.1", "oci:one/pause:3.1")
    assert (same.stdout, "the same as" in same.stderr) == ("", True)
