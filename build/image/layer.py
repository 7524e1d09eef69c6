"""Writes layers: reproducible gzip-compressed tar archives (image-spec layer.md)."""

from __future__ import annotations

from collections.abc import Iterable

from build.oci.descriptor import digest_of
from build.oci.image import Layer
from build.oci.tar import File, tar


def layer(files: Iterable[File], time: int) -> Layer:
    """A layer with `files` and their parent folders, all with modification time `time` (seconds since the epoch).

    Raises ImageError for a path that can't be in an image.
    """
    from build.image.gzip import gzip

    archive = tar(files, time)
    return Layer(gzip(archive), digest_of(archive))
