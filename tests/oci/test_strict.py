"""JSON that two readers could take differently is refused, wherever it comes from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from build.errors import BuildError, ImageError
from build.image.validate import validate
from build.oci.descriptor import Blob
from build.oci.image import Image
from build.oci.media_types import OCI
from build.oci.parse import parse_config, parse_manifest
from build.oci.platform import Platform
from build.stores.archive.members import read_members
from build.stores.layout.index import read_index
from tests.support.strangers import Json, Shelf, proved, tape

# What is said of a document that has this before its first member.
AMBIGUOUS: dict[str, tuple[bytes, str]] = {
    "NaN": (b'"opaque":NaN,', "found 'NaN', expected a finite number"),
    "Infinity": (b'"opaque":-Infinity,', "found '-Infinity', expected a finite number"),
    "beyond a double": (b'"opaque":1e999,', "found '1e999', expected a finite number"),
    "a member twice": (b'"opaque":1,"opaque":1,', "found several members 'opaque'"),
    "a member in two cases": (b'"opaque":1,"Opaque":1,', "'Opaque', which some readers take for 'opaque'"),
    "two members within another": (b'"opaque":[{"a":1,"A":1}],', "'A', which some readers take for 'a'"),
    "a known member in another case": (b'"MediaType":"a/b",', "'MediaType', which some readers take for 'mediaType'"),
    "a long s": ('"layer\u017f":[],'.encode(), r"'layer\u017f', which some readers take for 'layers'"),
    "a Kelvin sign": ('"o\u212a":1,"ok":1,'.encode(), r"'ok', which some readers take for 'o\u212a'"),
    "Latin 1": (b'"opaque":"\xe4",', "found the byte 0xe4, expected UTF-8"),
    "half a pair": (b'"opaque":"\\ud800",', "found half of a surrogate pair"),
    "depth": (b'"opaque":' + b"[" * 100_000 + b"]" * 100_000 + b",", "nested too deeply"),
}


def spoilt(data: bytes, name: str) -> bytes:
    return b"{" + AMBIGUOUS[name][0] + data[1:]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


def image(shelf: Shelf) -> Image:
    manifest = shelf.read(shelf.image())
    blobs = [
        Blob(each["mediaType"], each["digest"], each["size"], shelf.path(each["digest"]).read_bytes())
        for each in (manifest["config"], *manifest["layers"])
    ]
    return Image(
        Platform("linux", "amd64"), Blob.of(OCI.manifest, json.dumps(manifest).encode()), blobs[0], (blobs[1],)
    )


def listed(shelf: Shelf, name: str) -> None:
    """A layout's index.json."""
    shelf.tag("1", shelf.image())
    path = shelf.folder / "index.json"
    path.write_bytes(spoilt(path.read_bytes(), name))
    read_index(shelf.folder)


def archived(shelf: Shelf, name: str) -> None:
    """An archive's index.json."""
    shelf.tag("1", shelf.image())
    files = {each: (shelf.folder / each).read_bytes() for each in ("oci-layout", "index.json")}
    archive = shelf.folder / "archive.tar"
    archive.write_bytes(tape(files | {"index.json": spoilt(files["index.json"], name)}))
    read_members(archive)


READERS: dict[str, Callable[[Shelf, str], object]] = {
    "manifest": lambda shelf, name: parse_manifest(spoilt(image(shelf).manifest.data, name), ""),
    "config": lambda shelf, name: parse_config(spoilt(image(shelf).config.data, name)),
    "before a push": lambda shelf, name: validate(
        Image(
            Platform("linux", "amd64"),
            Blob.of(OCI.manifest, spoilt(image(shelf).manifest.data, name)),
            image(shelf).config,
            image(shelf).layers,
        )
    ),
    "layout": listed,
    "archive": archived,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_ambiguous_json_is_refused_by_every_reader(shelf: Shelf, reader: str, name: str) -> None:
    if reader == "config" and name in ("a known member in another case", "a long s"):
        READERS[reader](shelf, name)  # configs have other members
        return
    with pytest.raises(BuildError, match=re.escape(AMBIGUOUS[name][1])):
        READERS[reader](shelf, name)


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xff\xfe"])
def test_a_byte_order_mark_and_other_encodings_are_refused(shelf: Shelf, mark: bytes) -> None:
    data = image(shelf).manifest.data
    for text in (mark + data, mark + data.decode().encode("utf-16-le"), data.decode().encode("utf-32")):
        with pytest.raises(ImageError, match="not valid JSON"):
            parse_manifest(text, OCI.manifest)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("Architecture", "architecture"),
        ("Config", "config"),
        ("RootFS", "rootfs"),
        ("hi\u017ftory", "history"),
    ],
)
def test_a_config_has_its_own_members(shelf: Shelf, wrong: str, right: str) -> None:
    data = json.dumps({**json.loads(image(shelf).config.data), wrong: None}).encode()
    with pytest.raises(ImageError, match=re.escape(f"which some readers take for {right!r}")):
        parse_config(data)


def test_members_of_descriptors_platforms_and_settings_are_known() -> None:
    settings: list[Json] = [{"config": {"entrypoint": ["/x"]}}, {"config": {"ENV": []}}, {"rootfs": {"Diff_IDs": []}}]
    for within in settings:
        with pytest.raises(ImageError, match="which some readers take for"):
            parse_config(json.dumps(within).encode())
    entries: list[Json] = [
        {"Digest": 1},
        {"URLs": []},
        {"platform": {"OS": "linux"}},
        {"platform": {"os.Version": "1"}},
    ]
    for each in entries:
        with pytest.raises(ImageError, match="which some readers take for"):
            parse_manifest(json.dumps({"manifests": [each]}).encode(), OCI.index)


def test_names_that_users_choose_may_differ_in_case(shelf: Shelf) -> None:
    labels = {"Version": "1", "version": "2", "MediaType": "a/b", "OS": "x"}
    config = json.loads(image(shelf).config.data)
    config["config"] |= {"Labels": labels, "Volumes": {"/a": {}, "/A": {}}}
    assert parse_config(json.dumps(config).encode()).labels == labels
    manifest = {**json.loads(image(shelf).manifest.data), "annotations": labels}
    parse_manifest(json.dumps(manifest).encode(), OCI.manifest)


def test_an_image_with_layers_in_two_cases_is_refused_by_check(shelf: Shelf) -> None:
    """Go's readers take the last of the two for the layers."""
    good, evil = shelf.image(), shelf.image("linux/arm")
    manifest = {**shelf.read(good), "Layers": shelf.read(evil)["layers"]}
    with pytest.raises(ImageError, match="'Layers', which some readers take for 'layers'"):
        proved(shelf.tag("1", shelf.json(manifest, "manifest")))


@pytest.mark.parametrize("member", ["manifests", "fsLayers"])
@pytest.mark.parametrize("value", [[], None, [{}]])
def test_a_manifest_is_no_index_too(shelf: Shelf, member: str, value: object) -> None:
    with pytest.raises(ImageError, match=f"found the member '{member}'"):
        parse_manifest(json.dumps({**json.loads(image(shelf).manifest.data), member: value}).encode(), "")


@pytest.mark.parametrize("member", ["config", "layers"])
def test_an_index_is_no_manifest_too(shelf: Shelf, member: str) -> None:
    index: Json = shelf.read(shelf.index(shelf.image()))
    with pytest.raises(ImageError, match=f"found the member '{member}'"):
        parse_manifest(json.dumps({**index, member: []}).encode(), "")


@pytest.mark.parametrize("version", [None, 1, 3, True, "2", 2.0])
def test_the_schema_version_is_2(shelf: Shelf, version: object) -> None:
    for data in (image(shelf).manifest.data, json.dumps(shelf.read(shelf.index(shelf.image()))).encode()):
        with pytest.raises(ImageError, match="schemaVersion: found"):
            parse_manifest(json.dumps({**json.loads(data), "schemaVersion": version}).encode(), "")


def test_what_is_shown_of_a_config_is_checked(shelf: Shelf) -> None:
    for changes in ({"rootfs": {"diff_ids": ["\n::error::x"]}}, {"config": {"Labels": {"a": 1}}}):
        with pytest.raises(ImageError, match="found") as raised:
            parse_config(json.dumps({**json.loads(image(shelf).config.data), **changes}).encode())
        assert str(raised.value).isprintable()
