"""Writes layers: files in a gzip-compressed tar archive, the same bytes wherever and whenever they are written."""

from __future__ import annotations

from collections.abc import Iterable

from build.oci.descriptor import digest_of
from build.oci.image import Layer
from build.oci.tar import File, tar


def layer(files: Iterable[File], time: int) -> Layer:
    """Pack `files` and the folders they need, all with modification time `time` (seconds since the epoch)."""
    from build.image.gzip import gzip

    archive = tar(files, time)
    return Layer(gzip(archive), digest_of(archive))
