"""Writes layers: reproducible gzip-compressed tar archives (image-spec layer.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from build.oci.descriptor import digest_of
from build.oci.image import Layer
from build.oci.tar import NO_RECORDS, Member, tar


def layer(
    members: Iterable[Member],
    time: int,
    has: Callable[[str], bool] = lambda _: False,
    records: Mapping[str, str] = NO_RECORDS,
) -> Layer:
    """A layer with `members` and their parent folders, all with modification time `time` (seconds since the epoch).

    Parent folders that the image below has, which `has` tells by their absolute path, are left as they are there.
    `records` are PAX records of each member. Raises ImageError for a path that can't be in an image.
    """
    from build.image.gzip import gzip

    archive = tar(members, time, has, records)
    return Layer(gzip(archive), digest_of(archive))
