"""Packs releases, and what refers to them, into one archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from build.config.arches import Arch
from build.config.release import Release
from build.engines.moves import other_revision
from build.errors import all_of
from build.oci.image import Image, Index
from build.oci.parse import parse_config, parse_time
from build.oci.reference import Tag
from build.oci.tar import LARGEST
from build.release.archive import Destination, write
from build.release.copy.fetch import Attached, attached_to, fetch_release
from build.release.reference.referrers import entries as referring_entries
from build.report import Result
from build.stores.archive.archive import Archive
from build.stores.archive.write import Entry
from build.stores.store import Source


@dataclass(frozen=True)
class _Packed:
    """A release under the names that it gets, its list with all images, and what refers to it."""

    release: Release
    index: Index
    attached: Attached

    @property
    def tagged(self) -> list[tuple[Tag, Arch | None, Image | Index]]:
        """What each tag refers to; the arch of a list is None."""
        arches, found = self.release.arches, list[tuple[Tag, Arch | None, Image | Index]]()
        for each in (self.release, *self.release.further):
            found.append((each.list_tag(), None, self.index))
            found += zip(map(each.arch_tag, arches), arches, self.index.images, strict=True)
        return found

    @property
    def referring(self) -> list[Entry]:
        """The entries for what refers to it."""
        found = []
        for (_, arch), attached in self.attached.items():
            tag = self.release.arch_tag(arch) if arch else self.release.list_tag()
            found += referring_entries(attached, tag.repository.name)
        return found


async def pack(
    origins: Sequence[Release],
    source: Source,
    targets: Sequence[Release],
    to: Destination,
    scratch: Path,
    *,
    referrers: bool,
) -> list[Result]:
    """Copy the releases `origins` from `source` to an archive, under the names of `targets`.

    With `referrers`, what refers to them goes along. The same releases from any source give the same bytes. Raises
    PublishError, ImageError or ElfError if a release is incomplete or inconsistent, and PublishError if the file exists
    with other content and `overwrite` is false.
    """

    async def packed(origin: Release, target: Release) -> _Packed:
        index = await fetch_release(source, origin, scratch, on_disk=True)
        return _Packed(target, index, await attached_to(source, origin, index, scratch) if referrers else {})

    releases = await all_of(map(packed, origins, targets))
    wanted = [each for release in releases for each in release.tagged]
    entries = [Entry(each, *[f"{tag.repository.name}:{tag.name}"] * 2) for tag, _, each in wanted]
    entries += [each for release in releases for each in release.referring]
    time = max(_created(image) for release in releases for image in release.index.images)
    tag, first = targets[0].list_tag(), releases[0].index.images[0]
    change = await write(
        entries, time, to, scratch, lambda: other_revision(Archive(to.file), tag.repository, tag.name, first)
    )
    return [
        Result(
            str(tag),
            each.digest,
            str(arch.platform) if arch else None,
            change,
            arch=arch.name if arch else None,
            place=tag.place,
        )
        for tag, arch, each in wanted
    ]


def _created(image: Image) -> int:
    """The time in an image's config (config.md, "created"), in seconds since the epoch; 0 if there is none."""
    return min(max(parse_time(parse_config(image.config.data).created) or 0, 0), LARGEST)
