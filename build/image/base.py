"""The base of an image: what FROM names in its Dockerfile, for one platform."""

from __future__ import annotations

from dataclasses import dataclass, field

from build.image.rootfs import Files
from build.oci.image import Image


@dataclass(frozen=True)
class Base:
    """An image to build upon.

    `reference` is as FROM has it, and `digest` what it refers to: the digest of an index or of a manifest. Large layers
    of `image` are files in the cache; `files` is the filesystem of its layers.
    """

    reference: str
    digest: str
    image: Image
    files: Files = field(repr=False, compare=False)
