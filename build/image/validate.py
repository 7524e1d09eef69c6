"""Checks an image before it is published: its content must match its manifest and config."""

from __future__ import annotations

import hashlib
import json
import zlib
from gzip import GzipFile

from build.errors import ImageError
from build.oci.descriptor import Blob
from build.oci.image import Image
from build.oci.media_types import FORMATS
from build.oci.platform import Platform

_CHUNK = 1 << 18
# Bytes. A small gzip file can decompress to any size, so the decompressed layer is limited.
_LARGEST = 64 << 30


def validate(image: Image) -> None:
    """Raise ImageError unless manifest, config, layers, platform and diff_ids agree with each other."""
    manifest = json.loads(image.manifest.data)
    form = next((form for form in FORMATS.values() if form.manifest == image.manifest.media_type), None)
    _check_equal("media type of the manifest", manifest.get("mediaType"), form and form.manifest)
    _check_equal("number of layers", len(image.layers), len(manifest["layers"]))
    for what, expected, blob in zip(
        ("config", *("layer" for _ in manifest["layers"])),
        (manifest["config"], *manifest["layers"]),
        (image.config, *image.layers),
        strict=True,
    ):
        _check_equal(what, expected, blob.descriptor().fields())
        _check_equal(f"media type of the {what}", blob.media_type, form and getattr(form, what))
    config = json.loads(image.config.data)
    _check_equal("platform", str(Platform.of(config)), str(image.platform))
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    _check_equal("diff_ids", diff_ids, [diff_id(layer) for layer in image.layers])


def diff_id(layer: Blob) -> str:
    """The digest of the tar archive in a gzip layer (config.md, "Layer DiffID"), computed as a stream.

    Raises ImageError if the layer is not gzip, is truncated, or decompresses to more than 64 GiB.
    """
    hashed, size = hashlib.sha256(), 0
    with layer.open() as file, GzipFile(fileobj=file) as stream:
        try:
            if not layer.size:
                raise EOFError
            # Every member counts (RFC 1952, 2.2), because runtimes decompress all of them.
            while size <= _LARGEST and (data := stream.read(_CHUNK)):
                size += len(data)
                hashed.update(data)
        except EOFError:
            size = _LARGEST + 1
        except (OSError, zlib.error) as error:
            raise ImageError(f"layer {layer.digest}: not gzip: {error}") from None
    if size > _LARGEST:
        raise ImageError(f"layer {layer.digest}: truncated, or more than {_LARGEST} bytes when decompressed")
    return f"sha256:{hashed.hexdigest()}"


def _check_equal(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ImageError(f"image: {what}: found {found}, expected {expected}")
