"""Malformed indexes, manifests and configs give one message that names the content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build.errors import ImageError
from build.oci import media_types
from build.oci.parse import media_type_of, parse_manifest
from tests.support.properties import examples
from tests.support.strangers import OCI, Json, Shelf, proved

NO = "sha256:" + "0" * 64


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(NO),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(["digest", "size", "os"]), each),
    max_leaves=6,
)


@examples(400)
@given(st.data())
def test_malformed_json_gives_one_message(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any member of an honest index, manifest or config becomes anything."""
    shelf = Shelf(tmp_path_factory.mktemp("shelf"))
    image = shelf.image()
    manifest = shelf.read(image)
    config, index = shelf.read(manifest["config"]), shelf.read(shelf.index(image))

    def spoilt(value: Json) -> Json:
        holders = [(value, key) for key in value]
        for part in value.values():
            held = part[0] if isinstance(part, list) and part and isinstance(part[0], dict) else part
            holders += [(held, key) for key in held] if isinstance(held, dict) else []
        holder, key = data.draw(st.sampled_from(holders))
        holder[key] = data.draw(values)
        return value

    what = data.draw(st.sampled_from(["index", "manifest", "config"]))
    if what == "config":
        top = shelf.manifest(shelf.json(spoilt(config), "config"), manifest["layers"])
    else:
        top = shelf.json(spoilt(index if what == "index" else manifest), what)
    try:
        proved(shelf.tag("1", top))
    except ImageError as error:
        assert "sha256:" in str(error)  # noqa: PT017
        assert str(error).isprintable() or "\n" in str(error)  # noqa: PT017


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, '{"a":1,"a":2}', "{", "null", '"\\ud800"', "\0"])
def test_text_that_is_not_a_manifest_is_refused(shelf: Shelf, text: str) -> None:
    with pytest.raises(ImageError, match="@sha256:"):
        proved(shelf.tag("1", shelf.put(text.encode(), OCI + "manifest.v1+json")))


def test_a_manifest_over_the_size_limit_is_refused(shelf: Shelf) -> None:
    manifest = json.dumps({**shelf.read(shelf.image()), "annotations": {"x": "x" * (4 << 20)}}).encode()
    with pytest.raises(ImageError, match="expected 4194304 at most"):
        proved(shelf.tag("1", shelf.put(manifest, OCI + "manifest.v1+json")))


BOTH = b'{"manifests": [], "config": {}, "layers": []}'


@pytest.mark.parametrize(
    ("body", "given", "found"),
    [
        (b'{"mediaType": "a/b", "manifests": []}', media_types.OCI.manifest, "a/b"),
        (b'{"manifests": []}', media_types.DOCKER.index, media_types.DOCKER.index),
        (b'{"manifests": []}', "application/json", media_types.OCI.index),
        (b'{"config": {}, "layers": []}', "text/plain", media_types.OCI.manifest),
        (b'{"mediaType": 5, "config": {}, "layers": []}', "", media_types.OCI.manifest),
        (b'{"layers": []}', "application/octet-stream", "application/octet-stream"),
        (b"[]", media_types.OCI.index, media_types.OCI.index),
        (b"<html>", "text/html", "text/html"),
    ],
)
def test_the_media_type_of_a_manifest(body: bytes, given: str, found: str) -> None:
    assert media_type_of(body, given) == found


def test_a_body_that_could_be_either_is_refused() -> None:
    with pytest.raises(ImageError, match="found the member"):
        parse_manifest(
            b'{"schemaVersion": 2, "manifests": [], "config": {"a": 1}, "layers": []}', media_type_of(BOTH, "")
        )
