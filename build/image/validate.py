"""Checks an image before it is published: its content must match its manifest and config."""

from __future__ import annotations

from build.errors import ImageError
from build.image.reader import LayerReader
from build.oci.descriptor import Blob
from build.oci.image import Image
from build.oci.media_types import FORMATS, is_gzip, layer_type
from build.oci.parse import Manifest, parse_config, parse_manifest
from build.oci.strict import MANIFEST, parse


def validate(image: Image) -> None:
    """Raise ImageError unless manifest, config, layers, platform and diff_ids agree with each other.

    The diff_ids of a base's layers were compared when the image was built upon it, so those layers are not read.
    """
    form = next((form for form in FORMATS.values() if form.manifest == image.manifest.media_type), None)
    declared = parse(image.manifest.data, MANIFEST).get("mediaType")
    _check_equal("media type of the manifest", declared, form and form.manifest)
    manifest = parse_manifest(image.manifest.data, image.manifest.media_type)
    if form is None or not isinstance(manifest, Manifest):
        raise ImageError(f"image: found {image.manifest.media_type!r}, expected an image manifest")
    _check_equal("number of layers", len(image.layers), len(manifest.layers))
    expected = [("config", manifest.config), *(("layer", each) for each in manifest.layers)]
    for (what, descriptor), blob in zip(expected, (image.config, *image.layers), strict=True):
        _check_equal(what, descriptor.fields(), blob.descriptor().fields())
        plain = what == "layer" and is_gzip(blob.media_type) is False
        expected_type = layer_type(blob.media_type, form) if plain else getattr(form, what)
        _check_equal(f"media type of the {what}", blob.media_type, expected_type)
    config = parse_config(image.config.data)
    _check_equal("platform", str(config.platform), str(image.platform))
    _check_equal("number of diff_ids", len(config.diff_ids), len(image.layers))
    own = image.own_layers
    _check_equal("diff_ids", list(config.diff_ids)[len(image.layers) - len(own) :], [diff_id(layer) for layer in own])


def diff_id(layer: Blob) -> str:
    """The digest of the tar archive in a layer (config.md, "Layer DiffID"), computed as a stream.

    Raises ImageError if the layer is not what its media type says, is truncated, or unpacks to too much.
    """
    try:
        with layer.open() as file:
            return LayerReader(file, is_gzip(layer.media_type) is not False, layer.size).digest()
    except ImageError as error:
        raise ImageError(f"layer {layer.digest}: {error}") from None


def _check_equal(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ImageError(f"image: {what}: found {found}, expected {expected}")
