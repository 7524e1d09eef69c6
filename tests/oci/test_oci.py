"""Images and indexes follow the OCI image spec, and validate() rejects every inconsistency."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build.errors import ImageError
from build.image.layer import layer
from build.image.validate import diff_id, validate
from build.oci.descriptor import Blob, digest_of
from build.oci.image import Image, dump, image_of, index_of
from build.oci.media_types import DOCKER, FORMATS, OCI, Format
from build.oci.platform import Platform
from build.oci.tar import File
from tests.support.properties import examples

ARM = Platform("linux", "arm", "v7")
LAYERS = [layer([File(f"/{name}", 0o755, name.encode())], 0) for name in ("pause", "other")]


def made(platform: Platform = ARM, form: Format = OCI) -> Image:
    return image_of({**platform.fields(), "config": {"User": "1"}}, LAYERS, form)


# --- small things ---


@pytest.mark.parametrize(
    ("data", "digest"),
    [  # FIPS 180-4's examples
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ],
)
def test_digest(data: bytes, digest: str) -> None:
    assert digest_of(data) == f"sha256:{digest}"
    assert Blob.of("", data).digest == f"sha256:{digest}"


def test_json_is_sorted_and_has_no_white_space() -> None:
    assert dump({"b": [1, "é"], "a": {"d": None, "c": True}}) == '{"a":{"c":true,"d":null},"b":[1,"é"]}'.encode()


@examples(100)
@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans())))
def test_equal_values_are_equal_bytes(value: dict[str, Any]) -> None:
    assert dump(dict(reversed(value.items()))) == dump(value)
    assert json.loads(dump(value)) == value


parts = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1)


@examples(100)
@given(parts, parts, parts | st.just(""))
def test_platforms_survive_a_round_trip(system: str, cpu: str, variant: str) -> None:
    platform = Platform(system, cpu, variant)
    assert Platform.parse(str(platform)) == platform
    assert Platform.of(json.loads(dump(platform.fields()))) == platform
    assert ("variant" in platform.fields()) is bool(variant)


@pytest.mark.parametrize(
    "text", ["", "linux", "linux/", "/arm", "linux/arm/", "a/b/c/d", "linux/ARM", "linux/arm\n", " a/b"]
)
def test_an_invalid_platform_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        Platform.parse(text)


# --- images ---

# image-spec manifest.md, config.md and image-index.md; Docker's image manifest version 2, schema 2.
TYPES = {
    "oci": "application/vnd.oci.image.{}+json application/vnd.oci.image.layer.v1.tar+gzip "
    "manifest.v1 config.v1 index.v1",
    "docker": "application/vnd.docker.{}+json application/vnd.docker.image.rootfs.diff.tar.gzip "
    "distribution.manifest.v2 container.image.v1 distribution.manifest.list.v2",
}


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_an_image_follows_the_spec(form: Format) -> None:
    shape, layer_type, manifest_type, config_type, _ = TYPES[form.name].split()
    image = made(form=form)
    validate(image)
    manifest, config = json.loads(image.manifest.data), json.loads(image.config.data)
    assert manifest == {
        "schemaVersion": 2,
        "mediaType": shape.format(manifest_type),
        "config": {
            "mediaType": shape.format(config_type),
            "digest": digest_of(image.config.data),
            "size": len(image.config.data),
        },
        "layers": [
            {"mediaType": layer_type, "digest": digest_of(each.data), "size": len(each.data)} for each in LAYERS
        ],
    }
    assert config == {
        "os": "linux",
        "architecture": "arm",
        "variant": "v7",
        "config": {"User": "1"},
        "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in LAYERS]},
    }
    assert image.manifest.media_type == manifest["mediaType"]
    assert image.digest == digest_of(image.manifest.data)
    assert image.blobs == (*image.layers, image.config)
    assert image.platform == ARM


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_an_index_follows_the_spec(form: Format) -> None:
    shape, *_, manifest_type, _, index_type = TYPES[form.name].split()
    images = [made(Platform("linux", "s390x"), form), made(ARM, form)]
    index = index_of(images)
    assert json.loads(index.manifest.data) == {
        "schemaVersion": 2,
        "mediaType": shape.format(index_type),
        "manifests": [
            {
                "mediaType": shape.format(manifest_type),
                "digest": image.digest,
                "size": len(image.manifest.data),
                "platform": platform,
            }
            for image, platform in zip(
                images,
                (
                    {"os": "linux", "architecture": "s390x"},
                    {"os": "linux", "architecture": "arm", "variant": "v7"},
                ),
                strict=True,
            )
        ],
    }
    assert index.manifest.media_type == shape.format(index_type)
    assert (index.digest, index.images) == (digest_of(index.manifest.data), tuple(images))
    assert index.descriptor.fields()["digest"] == index.digest


@pytest.mark.parametrize(
    ("images", "message"),
    [
        pytest.param(
            [made(), made(Platform("linux", "amd64"), DOCKER)], "must have the same format", id="mixed formats"
        ),
        pytest.param([], "found none", id="no images"),
        pytest.param([made(), made(Platform("linux", "amd64")), made()], "platform linux/arm/v7", id="platform twice"),
    ],
)
def test_images_that_can_not_be_listed_together_are_refused(images: list[Image], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        index_of(images)


# --- validate ---


def with_manifest(image: Image, **members: Any) -> Image:
    """The image with other members in its manifest."""
    manifest = {**json.loads(image.manifest.data), **members}
    return replace(image, manifest=Blob.of(image.manifest.media_type, dump(manifest)))


def with_content(image: Image, **parts: Any) -> Image:
    """The image with other content."""
    return replace(image, **parts)


def with_config(config: Mapping[str, Any]) -> Image:
    """An image with this config, and a manifest that agrees with it."""
    blob = Blob.of(OCI.config, dump(config))
    return with_manifest(with_content(made(), config=blob), config=blob.descriptor().fields())


VALID = made()
CONFIG = json.loads(VALID.config.data)
MANIFEST = json.loads(VALID.manifest.data)
FIRST = MANIFEST["layers"][0]
NOT_GZIP = Blob.of(OCI.layer, b"not gzip")
INVALID = {
    "config digest": with_manifest(VALID, config={**MANIFEST["config"], "digest": "sha256:" + "0" * 64}),
    "config size": with_manifest(VALID, config={**MANIFEST["config"], "size": 1}),
    "config type": with_manifest(VALID, config={**MANIFEST["config"], "mediaType": DOCKER.config}),
    "other config": with_content(VALID, config=made(Platform("linux", "amd64")).config),
    "layer digest": with_manifest(VALID, layers=[{**FIRST, "digest": "sha256:" + "0" * 64}, MANIFEST["layers"][1]]),
    "layer size": with_manifest(VALID, layers=[{**FIRST, "size": 1}, MANIFEST["layers"][1]]),
    "layers swapped": with_content(VALID, layers=VALID.layers[::-1]),
    "layer missing": with_content(VALID, layers=VALID.layers[:1]),
    "layer too many": with_content(VALID, layers=(*VALID.layers, VALID.layers[0])),
    "layer unclaimed": with_manifest(VALID, layers=[FIRST]),
    "Docker layer types": with_manifest(
        with_content(VALID, layers=tuple(Blob.of(DOCKER.layer, each.data) for each in VALID.layers)),
        layers=[{**each, "mediaType": DOCKER.layer} for each in MANIFEST["layers"]],
    ),
    "Docker manifest type": replace(VALID, manifest=Blob.of(DOCKER.manifest, VALID.manifest.data)),
    "unknown manifest type": replace(VALID, manifest=Blob.of("text/plain", VALID.manifest.data)),
    "manifest without type": with_manifest(VALID, mediaType=None),
    "index type": with_manifest(replace(VALID, manifest=Blob.of(OCI.index, VALID.manifest.data)), mediaType=OCI.index),
    "platform": replace(VALID, platform=Platform("linux", "arm64")),
    "no variant": replace(VALID, platform=Platform("linux", "arm")),
    "diff_id": with_config({**CONFIG, "rootfs": {"diff_ids": ["sha256:" + "0" * 64, CONFIG["rootfs"]["diff_ids"][1]]}}),
    "diff_id missing": with_config({**CONFIG, "rootfs": {"diff_ids": CONFIG["rootfs"]["diff_ids"][:1]}}),
    "no diff_ids": with_config({**CONFIG, "rootfs": {}}),
    "no rootfs": with_config({name: value for name, value in CONFIG.items() if name != "rootfs"}),
    "rootfs of another kind": with_config({**CONFIG, "rootfs": CONFIG["rootfs"]["diff_ids"]}),
    "layer not gzip": with_manifest(
        with_content(VALID, layers=(NOT_GZIP, VALID.layers[1])),
        layers=[NOT_GZIP.descriptor().fields(), MANIFEST["layers"][1]],
    ),
}


@pytest.mark.parametrize("image", INVALID.values(), ids=INVALID)
def test_validate_rejects_an_inconsistent_image(image: Image) -> None:
    with pytest.raises(ImageError):
        validate(image)


def test_validate_accepts_a_consistent_image() -> None:
    validate(VALID)
    validate(with_manifest(VALID))
    validate(with_config(CONFIG))


def test_the_size_of_a_decompressed_layer_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = layer([File("/zeros", 0o644, bytes(100_000))], 0)
    assert diff_id(Blob.of(OCI.layer, zeros.data)) == zeros.diff_id
    monkeypatch.setattr("build.image.reader.FREE", 100_000)
    with pytest.raises(ImageError, match="more than 100000 bytes when unpacked"):
        diff_id(Blob.of(OCI.layer, zeros.data))


def test_a_truncated_layer_is_refused() -> None:
    with pytest.raises(ImageError, match="truncated"):
        diff_id(Blob.of(OCI.layer, LAYERS[0].data[:-1]))


def test_all_members_of_a_gzip_layer_count() -> None:
    packed = LAYERS[0].data + LAYERS[1].data
    whole = gzip.decompress(packed)
    assert diff_id(Blob.of(OCI.layer, packed)) == digest_of(whole) not in (LAYERS[0].diff_id, LAYERS[1].diff_id)


@pytest.mark.parametrize("data", [b"", b"junk", LAYERS[0].data + b"junk"])
def test_a_layer_that_is_not_gzip_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"not gzip|truncated"):
        diff_id(Blob.of(OCI.layer, data))
