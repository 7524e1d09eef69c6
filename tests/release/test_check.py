"""`check REFERENCE`: valid images of any publisher, and every kind of damage."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from build.errors import ImageError
from tests.support.checkout import Checkout, Run, results
from tests.support.components import need
from tests.support.reading import digest, skopeo
from tests.support.registries import Recorder
from tests.support.strangers import GZIP, OCI, PLAIN, Json, Shelf, elf, proved, tape

Released = tuple[Checkout, Run]
BASE, APP = tape({"bin/sh": elf("amd64"), "app": elf("s390x")}), tape({"app": elf("amd64", kind=3)})


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


def pushed(reference: str, host: str, *options: str) -> str:
    """The reference of what skopeo has copied to a registry."""
    skopeo("copy", "--all", "--dest-tls-verify=false", *options, reference, f"docker://{host}/some/one:1")
    return f"{host}/some/one:1"


def several(shelf: Shelf) -> Json:
    images = [shelf.image("linux/amd64", [BASE, APP]), shelf.image("linux/arm/v6"), shelf.image("linux/s390x")]
    return shelf.index(*images)


def test_a_list_in_a_registry(shelf: Shelf, recorder: Recorder, released: Released) -> None:
    checkout, _ = released
    name = pushed(shelf.tag("1", several(shelf)), recorder.host)
    recorder.forget()
    run = checkout("check", name, "--json")
    entries = shelf.read(several(shelf))["manifests"]
    assert [each["platform"] for each in results(run)] == [None, "linux/amd64", "linux/arm/v6", "linux/s390x"]
    assert [each["digest"] for each in results(run)] == [
        several(shelf)["digest"],
        *(each["digest"] for each in entries),
    ]
    assert {each["change"] for each in results(run)} == {"verified"}
    assert {each.method for each in recorder.exchanges} == {"GET"}
    lines = checkout("check", name).stdout.splitlines()
    assert lines[0] == f"{name}@{several(shelf)['digest']}"
    assert lines[1:] == [f"{name.removesuffix(':1')}@{each['digest']}" for each in entries]
    for line in lines:  # the printed references can be checked
        checkout("check", line)


def test_dockers_media_types(shelf: Shelf, recorder: Recorder, released: Released) -> None:
    checkout, _ = released
    name = pushed(shelf.tag("1", shelf.image()), recorder.host, "--format", "v2s2")
    assert len(checkout("check", name).digests) == 1


def test_busybox(shelf: Shelf, recorder: Recorder, released: Released) -> None:
    """A real program under a hard link, behind a link to a folder, and found in PATH."""
    checkout, _ = released
    busybox = Path(need("busybox", "busybox-static")).read_bytes()
    machine = {62: "amd64", 183: "arm64"}[busybox[18]]
    layers = [tape({"usr/bin/": None, "bin": "usr/bin", "usr/bin/busybox": busybox}), tape({"bin/sh": "busybox"})]
    settings = {"Cmd": ["sh"], "Env": ["PATH=/sbin:/bin"]}
    name = pushed(shelf.tag("1", shelf.image(f"linux/{machine}", layers, settings)), recorder.host)
    assert results(checkout("check", name, "--json"))[0]["platform"] == f"linux/{machine}"


def attested(shelf: Shelf) -> Json:
    statement = b'{"_type":"https://in-toto.io/Statement/v1"}'
    config = shelf.json({"os": "unknown", "architecture": "unknown", "rootfs": {"diff_ids": []}}, "config")
    manifest = shelf.manifest(config, [shelf.put(statement, "application/vnd.in-toto+json")])
    unknown = {**manifest, "platform": {"os": "unknown", "architecture": "unknown"}}
    return shelf.index(shelf.image(), unknown)


def elsewhere(shelf: Shelf) -> Json:
    image = shelf.image()
    manifest = shelf.read(image)
    layer = {**manifest["layers"][0], "urls": ["https://else.example/layer"]}
    shelf.path(layer["digest"]).unlink()
    return shelf.manifest(manifest["config"], [layer])


ODD: dict[str, tuple[Callable[[Shelf], Json], list[str], str]] = {
    "plain layers": (lambda shelf: shelf.image(packed=PLAIN), ["linux/amd64"], ""),
    "no command": (lambda shelf: shelf.image(settings={}), ["linux/amd64"], "no entrypoint and no command"),
    "zstd": (lambda shelf: shelf.image(packed=PLAIN + "+zstd"), ["linux/amd64"], "not its diff_id and files"),
    "foreign layer": (elsewhere, ["linux/amd64"], "stored elsewhere"),
    "another os": (lambda shelf: shelf.image("freebsd/amd64"), ["freebsd/amd64"], "it is for freebsd"),
    "a list in a list, and no record of a CPU": (
        lambda shelf: shelf.index(several(shelf)),
        ["list", "list", "linux/amd64"],
        "variant of linux/arm/v6 not proved: no record of the CPU",
    ),
    "attestation": (attested, ["list", "linux/amd64"], "an attestation: only its digests are checked"),
    "unknown CPU": (
        lambda shelf: shelf.image("linux/vax", [APP]),
        ["linux/vax"],
        "the ELF header for vax is not known here",
    ),
    "arm64/v8 is arm64": (
        lambda shelf: shelf.index({**shelf.image("linux/arm64"), "platform": platform("linux/arm64/v8")}),
        ["list", "linux/arm64"],
        "is equivalent to",
    ),
}


def platform(text: str) -> Json:
    return dict(zip(("os", "architecture", "variant"), text.split("/"), strict=False))


@pytest.mark.parametrize("name", ODD)
def test_unusual_but_valid_images(shelf: Shelf, name: str) -> None:
    make, platforms, note = ODD[name]
    found, notes = proved(shelf.tag("1", make(shelf)))
    assert found[: len(platforms)] == platforms
    assert bool(notes) == bool(note)
    assert note in "\n".join(notes)


def relisted(shelf: Shelf, **changes: object) -> Json:
    return shelf.index({**shelf.image("linux/arm/v7"), **changes})


def with_layer(shelf: Shelf, **changes: object) -> Json:
    manifest = shelf.read(shelf.image())
    return shelf.manifest(manifest["config"], [{**manifest["layers"][0], **changes}])


def without(shelf: Shelf, part: str) -> Json:
    image = shelf.image()
    manifest = shelf.read(image)
    descriptor = {"manifest": image, "config": manifest["config"], "layer": manifest["layers"][0]}[part]
    shelf.path(descriptor["digest"]).unlink()
    return shelf.index(image)


def flipped(shelf: Shelf, part: str) -> Json:
    image = shelf.image()
    manifest = shelf.read(image)
    descriptor = {"manifest": image, "config": manifest["config"], "layer": manifest["layers"][0]}[part]
    path = shelf.path(descriptor["digest"])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return shelf.index(image)


def deep(shelf: Shelf) -> Json:
    within = shelf.image()
    for _ in range(6):
        within = shelf.index(within)
    return within


NO = "sha256:" + "0" * 64
DAMAGE: dict[str, tuple[Callable[[Shelf], Json], list[str]]] = {
    **{f"no {part}": (partial(without, part=part), []) for part in ("manifest", "config", "layer")},
    **{
        f"a bit in the {part}": (partial(flipped, part=part), ["found sha256:", "expected sha256:"])
        for part in ("manifest", "config", "layer")
    },
    "size of a layer": (lambda shelf: with_layer(shelf, size=7), ["bytes, expected 7"]),
    "size of a layer, larger": (lambda shelf: with_layer(shelf, size=99999), ["bytes, expected 99999"]),
    "size of a layer, beyond memory": (lambda shelf: with_layer(shelf, size=10**30), ["expected at most 68719476736"]),
    "size of a manifest": (lambda shelf: relisted(shelf, size=9), ["bytes, expected 9"]),
    "size of a huge manifest": (lambda shelf: relisted(shelf, size=1 << 40), ["expected at most 4194304"]),
    "platform of the entry": (
        lambda shelf: relisted(shelf, platform=platform("linux/arm64")),
        ["found linux/arm/v7 in the config, expected linux/arm64"],
    ),
    "variant of the entry": (
        lambda shelf: relisted(shelf, platform=platform("linux/arm/v6")),
        ["found linux/arm/v7 in the config, expected linux/arm/v6"],
    ),
    "media type of the entry": (
        lambda shelf: relisted(shelf, mediaType=OCI + "index.v1+json"),
        [f"found '{OCI}manifest.v1+json', expected '{OCI}index.v1+json'"],
    ),
    "architecture of the config": (
        lambda shelf: shelf.image("linux/arm64", [APP]),
        ["found EM_X86_64, expected EM_AARCH64"],
    ),
    "class of the program": (
        lambda shelf: shelf.image("linux/arm", [tape({"app": elf("s390x")})]),
        ["found EM_S390, expected EM_ARM"],
    ),
    "no architecture": (lambda shelf: shelf.image(more={"architecture": None}), ["expected os/architecture"]),
    "diff_id": (
        lambda shelf: shelf.image(more={"rootfs": {"diff_ids": [NO]}}),
        [f"found {digest(tape({'app': elf('amd64')}))}, expected {NO}"],
    ),
    "a diff_id too many": (
        lambda shelf: shelf.image(more={"rootfs": {"diff_ids": [NO, NO]}}),
        ["found 2, expected 1"],
    ),
    "an object file": (lambda shelf: shelf.image(tapes=[tape({"app": elf("amd64", kind=1)})]), ["found 1, expected 2"]),
    "no program": (lambda shelf: shelf.image(tapes=[]), ["no file '/app'"]),
    "a layer that is no tar": (lambda shelf: shelf.image(tapes=[b"x" * 5000]), ["not a tar archive"]),
    "a layer that is no gzip": (lambda shelf: with_layer(shelf, **shelf.put(APP, GZIP)), ["not gzip"]),
    "lists without an end": (deep, ["nested lists"]),
    "both list and image": (
        lambda shelf: shelf.json({**shelf.read(several(shelf)), "layers": [{}]}, "index"),
        ["found the member 'layers'"],
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_reported(shelf: Shelf, name: str) -> None:
    make, words = DAMAGE[name]
    asked = shelf.tag("1", make(shelf))
    with pytest.raises(ImageError, match="fault") as raised:
        proved(asked)
    message = str(raised.value)
    assert "1 fault in" in message or name in ("a bit in the layer", "no architecture")
    assert "@sha256:" in message
    for word in words:
        assert word in message


def test_all_faults_are_reported_at_once(shelf: Shelf, released: Released) -> None:
    checkout, _ = released
    wrong = [{**shelf.image(f"linux/{cpu}"), "platform": platform("linux/386")} for cpu in ("amd64", "s390x")]
    message = checkout.refuses(1, "check", shelf.tag("1", shelf.index(*wrong, shelf.image("linux/arm"))))
    assert "2 faults" in message
    for each in wrong:
        assert shelf.read(each)["config"]["digest"] in message


def test_damage_on_a_registrys_disk(shelf: Shelf, recorder: Recorder, released: Released, tmp_path: Path) -> None:
    checkout, _ = released
    image = shelf.image()
    name = pushed(shelf.tag("1", image), recorder.host)
    layer = shelf.read(image)["layers"][0]["digest"].removeprefix("sha256:")
    path = tmp_path / f"registry/storage/docker/registry/v2/blobs/sha256/{layer[:2]}/{layer}/data"
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes((data[-9] ^ 1,)) + data[-8:])
    assert f"sha256:{layer}" in checkout.refuses(1, "check", name)
    path.write_bytes(data)
    checkout("check", name)
    path.write_bytes(data * 2)
    assert f"expected {len(data)} at most" in checkout.refuses(1, "check", name)
    path.unlink()
    assert f"sha256:{layer}" in checkout.refuses(1, "check", name)


def test_a_tag_that_has_moved_is_a_note(shelf: Shelf, released: Released) -> None:
    checkout, _ = released
    old = shelf.image()
    asked = f"{shelf.tag('1', old)}@{old['digest']}"
    assert "note" not in checkout("check", asked).stderr
    shelf.tag("1", shelf.image("linux/arm"))
    run = checkout("check", asked)
    assert list(run.digests.values()) == [old["digest"]]
    assert "the tag now refers to" in run.stderr


def test_a_highly_compressed_layer_is_checked(shelf: Shelf) -> None:
    bomb = gzip.compress(tape({"app": elf("amd64"), "zeros": bytes(1 << 26)}))
    manifest = shelf.read(shelf.image())
    with pytest.raises(ImageError, match="diff_id"):
        proved(shelf.tag("1", shelf.manifest(manifest["config"], [shelf.put(bomb, GZIP)])))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pause"], "expected HOST"),
        (["docker://r.example/x"], "without a scheme"),
        (["r.example/x@sha256:1"], "not a digest"),
        (["r.example/x:"], "is not a tag"),
        (["r.example/x", "--tag", "3"], "--tag selects a part of the release"),
        (["r.example/x", "--also-tag", "3"], "--also-tag is for the release"),
    ],
)
def test_usage_errors(released: Released, words: list[str], message: str) -> None:
    assert message in released[0].refuses(2, "check", *words)
