"""What every image passes before it is published: proved from its bytes, it is what its manifest says."""

from __future__ import annotations

import hashlib
import json
import zlib

from build.errors import ImageError
from build.oci.descriptor import Blob
from build.oci.image import Image
from build.oci.media_types import FORMATS
from build.oci.platform import Platform

_CHUNK = 1 << 18
# Bytes of a decompressed layer: a few compressed ones can decompress to any number.
_LARGEST = 64 << 30


def validate(image: Image) -> None:
    """Prove from the bytes that config, layers and platform are what the manifest says; raise ImageError otherwise."""
    manifest = json.loads(image.manifest.data)
    form = next((form for form in FORMATS.values() if form.manifest == image.manifest.media_type), None)
    _agree("media type of the manifest", manifest.get("mediaType"), form and form.manifest)
    _agree("number of layers", len(image.layers), len(manifest["layers"]))
    for what, expected, blob in zip(
        ("config", *("layer" for _ in manifest["layers"])),
        (manifest["config"], *manifest["layers"]),
        (image.config, *image.layers),
        strict=True,
    ):
        _agree(what, expected, blob.descriptor().fields())
        _agree(f"media type of the {what}", blob.media_type, form and getattr(form, what))
    config = json.loads(image.config.data)
    _agree("platform", str(Platform.of(config)), str(image.platform))
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    _agree("diff_ids", diff_ids, [diff_id(layer) for layer in image.layers])


def diff_id(layer: Blob) -> str:
    """The digest of the tar archive in a gzip layer (config.md, "Layer DiffID"), which is never whole in memory.

    Raises ImageError if the layer is not gzip, or too large.
    """
    stream, hashed, size = zlib.decompressobj(wbits=31), hashlib.sha256(), 0
    with layer.open() as file:
        try:
            while (chunk := stream.unconsumed_tail or file.read(_CHUNK)) and not stream.eof and size <= _LARGEST:
                data = stream.decompress(chunk, _CHUNK)
                size += len(data)
                hashed.update(data)
        except zlib.error as error:
            raise ImageError(f"layer {layer.digest}: not gzip: {error}") from None
    if not stream.eof or size > _LARGEST:
        raise ImageError(f"layer {layer.digest}: truncated, or more than {_LARGEST} bytes when decompressed")
    return f"sha256:{hashed.hexdigest()}"


def _agree(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ImageError(f"image: {what}: found {found}, expected {expected}")
