"""Copies releases to a registry or a layout: content, then what refers to it, then the tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from build.config.release import Release
from build.engines.engine import Unchanged
from build.oci.image import Image
from build.release.copy.fetch import Attached, attached_to, fetch_release
from build.release.publish.destination import Destination
from build.release.publish.publish import publish
from build.release.reference.referrers import carry
from build.release.side_by_side import each_separately, started
from build.stores.store import Source

if TYPE_CHECKING:
    from build.release.publish.sign import AnyResult


async def copy(
    origins: Sequence[Release], source: Source, to: Sequence[Destination], scratch: Path, *, referrers: bool
) -> list[AnyResult]:
    """Copy the releases `origins` from `source` to the destinations `to`, without changing a byte.

    With `referrers`, what refers to them goes along, before any tag. Each destination is for one image. Raises
    PublishError, ImageError or ElfError if a release is incomplete or inconsistent in `source`, before anything of it
    is written.
    """

    async def copied(origin: Release, target: Destination) -> list[AnyResult]:
        on_disk = target.release.list_tag().repository.on_disk
        index = await fetch_release(source, origin, scratch, on_disk=on_disk)
        attached = await attached_to(source, origin, index, scratch) if referrers else {}
        images = dict(zip(target.release.arches, index.images, strict=True))
        carried: list[bool] = []

        async def carry_along() -> None:
            await _carry(attached, target)
            carried.append(True)

        async with started({arch: _known(image) for arch, image in images.items()}) as known:
            results = await publish(replace(target, before_tags=carry_along), Unchanged(), known, lambda _: index)
        if not carried:  # no tag had to move
            await carry_along()
        await target.store.settle_referrers()
        return results

    parts = {f"{each.image.name}:{each.tag}": copied(each, target) for each, target in zip(origins, to, strict=True)}
    return await each_separately("images", parts, to[0].report)


async def _carry(attached: Attached, to: Destination) -> None:
    for (place, arch), found in attached.items():
        target = (to.release.arch_tag(arch) if arch else to.release.list_tag()).repository
        await carry(found, to.store, target, place, to.report, dry=to.dry)


async def _known(image: Image) -> Image:
    return image
