"""Checks an image before it is published: its content must match its manifest and config."""

from __future__ import annotations

from build.errors import ImageError
from build.image.reader import LayerReader
from build.oci.descriptor import Blob
from build.oci.image import Image
from build.oci.media_types import FORMATS
from build.oci.parse import Manifest, parse_config, parse_manifest
from build.oci.strict import MANIFEST, parse


def validate(image: Image) -> None:
    """Raise ImageError unless manifest, config, layers, platform and diff_ids agree with each other."""
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
        _check_equal(f"media type of the {what}", blob.media_type, getattr(form, what))
    config = parse_config(image.config.data)
    _check_equal("platform", str(config.platform), str(image.platform))
    _check_equal("diff_ids", list(config.diff_ids), [diff_id(layer) for layer in image.layers])


def diff_id(layer: Blob) -> str:
    """The digest of the tar archive in a gzip layer (config.md, "Layer DiffID"), computed as a stream.

    Raises ImageError if the layer is not gzip, is truncated, or unpacks to too much.
    """
    try:
        with layer.open() as file:
            return LayerReader(file, True, layer.size).digest()
    except ImageError as error:
        raise ImageError(f"layer {layer.digest}: {error}") from None


def _check_equal(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ImageError(f"image: {what}: found {found}, expected {expected}")
