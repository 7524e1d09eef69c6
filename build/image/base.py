"""The base of an image: what FROM names in its Dockerfile, for one platform."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from build.errors import ImageError
from build.oci.image import Image
from build.oci.media_types import is_gzip
from build.oci.parse import parse_config

if TYPE_CHECKING:
    from build.image.rootfs import Files


@dataclass(frozen=True)
class Base:
    """An image to build upon.

    `reference` is as FROM has it, and `digest` what it refers to: the digest of an index or of a manifest. The layers
    of `image` are files, in the cache as a rule, and its `origin` is the base itself.
    """

    reference: str
    digest: str
    image: Image

    @cached_property
    def files(self) -> Files:
        """The filesystem of its layers; raise ImageError if they can't be read, or are not those of its config."""
        from build.image.reader import LayerReader
        from build.image.rootfs import Files

        files = Files()
        diff_ids = parse_config(self.image.config.data).diff_ids
        for layer, expected in zip(self.image.layers, diff_ids, strict=True):
            try:
                with layer.open() as stream:
                    reader = LayerReader(stream, is_gzip(layer.media_type) is not False, layer.size)
                    files.add(reader)
                    found = reader.digest()
                if found != expected:
                    raise ImageError(f"diff_id: found {found}, expected {expected} as its config says")
            except ImageError as error:
                raise ImageError(f"FROM {self.reference}: layer {layer.digest}: {error}") from None
        return files
