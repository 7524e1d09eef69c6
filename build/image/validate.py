"""What every image passes before it is published: proved from its bytes, it is what its manifest says."""

from __future__ import annotations

import json
import zlib

from build.errors import ImageError
from build.oci.descriptor import Blob, digest_of
from build.oci.image import Image
from build.oci.media_types import FORMATS
from build.oci.platform import Platform

# Of what a layer unpacks to, in bytes: a few can be made to unpack to any number.
_LARGEST = 1 << 30


def validate(each: Image) -> None:
    """Prove from the bytes that config, layers and platform are what the manifest and the image say; or ImageError."""
    claims = json.loads(each.manifest.data)
    form = next((form for form in FORMATS.values() if form.manifest == each.manifest.media_type), None)
    _agree("media type of the manifest", claims.get("mediaType"), form and form.manifest)
    _agree("number of layers", len(each.layers), len(claims["layers"]))
    for what, claim, blob in zip(
        ("config", *("layer" for _ in claims["layers"])),
        (claims["config"], *claims["layers"]),
        (each.config, *each.layers),
        strict=True,
    ):
        _agree(what, claim, blob.descriptor().fields())
        _agree(f"media type of the {what}", blob.media_type, form and getattr(form, what))
    config = json.loads(each.config.data)
    _agree("platform", str(Platform.of(config)), str(each.platform))
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    _agree("diff_ids", diff_ids, [digest_of(unpacked(layer)) for layer in each.layers])


def unpacked(layer: Blob) -> bytes:
    """The tar archive in a layer; raise ImageError if it is not gzip, or too large."""
    stream = zlib.decompressobj(wbits=31)
    try:
        archive = stream.decompress(layer.data, _LARGEST)
    except zlib.error as error:
        raise ImageError(f"layer {layer.digest}: not gzip: {error}") from None
    if not stream.eof:
        raise ImageError(f"layer {layer.digest}: cut short, or of more than {_LARGEST} bytes once unpacked")
    return archive


def _agree(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ImageError(f"image: {what}: found {found}, expected {expected}")
