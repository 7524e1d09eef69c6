"""The story of a release, top to bottom: compile, make images, publish them, publish the manifest list."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from build.compilers.compiler import Program
from build.config.release import Release
from build.errors import BuildError, all_of
from build.oci.image import Image, Index, index_of
from build.release.build import Build, Images, compiling, export, imaging, keep_binaries
from build.release.publish import Destination, Unchanged, no_condition, publish
from build.release.side_by_side import each_separately, started
from build.report import Result, silent
from build.stores.store import Source

if TYPE_CHECKING:
    from build.release import copy as archives
    from build.release.verify import Verification

# For each image the same release in each registry.
Destinations = Sequence[Destination]


async def build(builds: Sequence[Build]) -> list[Result]:
    """`bin/NAME-ARCH` for every arch: the image's program."""
    return await _compile(builds, lambda build: [build.program()])


async def companions(builds: Sequence[Build]) -> list[Result]:
    """`bin/orphan-ARCH` and the like: programs that accompany the image's, and are not shipped."""
    return await _compile(builds, lambda build: [build.program(name) for name in build.release.image.companions])


async def container(builds: Sequence[Build]) -> list[Result]:
    """`build`, then the image of every arch where the user finds it: `bin/NAME-ARCH.tar`, or the daemon."""
    async with compiling(builds, [b.program() for b in builds]) as binaries, imaging(builds, binaries) as images:
        return await each_image(builds, {build: export(build, images[build]) for build in builds})


async def push(
    builds: Sequence[Build], to: Mapping[Build, Destinations], verification: Verification | None, *, with_list: bool
) -> list[Result]:
    """`container`, then the tag of every arch, and `with_list` that of the manifest list that holds them all."""
    for build in builds:
        for each in to[build]:
            build.engine.accept(each.release.list_tag(), build.form)
    one_at_a_time = asyncio.Lock()
    async with compiling(builds, [b.program() for b in builds]) as binaries, imaging(builds, binaries) as images:

        async def pushed(build: Build) -> list[Result]:
            made = images[build]
            condition: Callable[[], Awaitable[None]] = no_condition
            if verification:
                from build.release.verify import gate

                condition = gate(build, verification, made, one_at_a_time)
            places = [replace(each, before_tags=condition) for each in to[build]]
            async with started({"export": export(build, made)}) as exporting:
                listing = index_of if with_list else None
                parts = {each.release.registry: publish(each, build.engine, made, listing) for each in places}
                try:
                    results = await each_separately("registries", parts, build.report)
                except BuildError:
                    await exporting["export"]  # a failed compilation explains more than what followed from it
                    raise
                await exporting["export"]
                return results

        return await each_image(builds, {build: pushed(build) for build in builds})


async def plan(builds: Sequence[Build], to: Mapping[Build, Destinations]) -> list[Result]:
    """Every step of `all-push` and the reason for it, with dry `builds`; "refused" is what it would refuse to do."""
    for build in builds:
        for each in to[build]:
            build.engine.accept(each.release.list_tag(), build.form)
    async with compiling(builds, [b.program() for b in builds]) as binaries, imaging(builds, binaries) as images:

        async def planned(build: Build) -> list[Result]:
            steps = await keep_binaries(build, build.program(), binaries)
            exported = await export(build, images[build])
            parts = {each.release.registry: _as_far_as_allowed(each, build, images[build]) for each in to[build]}
            tags = await each_separately("registries", parts, build.report)
            order = [*(str(arch.platform) for arch in build.arches), None]
            return sorted([*steps, *exported, *tags], key=lambda result: order.index(result.platform))

        return await each_image(builds, {build: planned(build) for build in builds})


async def push_manifest(images: Sequence[Destinations], scratch: Path) -> list[Result]:
    """The tag of the manifest list, made from what the tags of the arches refer to; nothing is built.

    Raises PublishError or ImageError that names the arch if an image is missing or is not what its row requires.
    """
    from build.release.prove import fetch_image

    async def listed(to: Destination) -> list[Result]:
        fetching = {arch: fetch_image(to.store, to.release.arch_tag(arch), arch, scratch) for arch in to.release.arches}
        async with started(fetching) as fetched:
            return await publish(to, Unchanged(), fetched, index_of)

    async def of_image(places: Destinations) -> list[Result]:
        parts = {each.release.registry: listed(each) for each in places}
        return await each_separately("registries", parts, places[0].report)

    parts = {places[0].release.image.name: of_image(places) for places in images}
    return await each_separately("images", parts, images[0][0].report)


async def copy(origins: Sequence[Release], source: Source, to: Sequence[Destination], scratch: Path) -> list[Result]:
    """The tags of `to`, from what the tags of `origins` refer to in `source`: the same bytes throughout.

    Each destination is for one image. Raises PublishError, ImageError or ElfError, before anything of a release is
    written, if it is not complete in `source`.
    """

    async def copied(origin: Release, target: Destination) -> list[Result]:
        on_disk = target.release.list_tag().repository.on_disk
        index = await _fetched(origin, source, scratch, on_disk=on_disk)
        images = dict(zip(target.release.arches, index.images, strict=True))
        async with started({arch: _known(image) for arch, image in images.items()}) as known:
            return await publish(target, Unchanged(), known, lambda _: index)

    parts = {origin.image.name: copied(origin, target) for origin, target in zip(origins, to, strict=True)}
    return await each_separately("images", parts, to[0].report)


async def pack(
    origins: Sequence[Release], source: Source, targets: Sequence[Release], to: archives.Destination, scratch: Path
) -> list[Result]:
    """An archive with what the tags of `origins` refer to in `source`, as `targets`; all of it, or no archive."""
    from build.release.copy import pack

    indexes = await all_of(_fetched(origin, source, scratch, on_disk=True) for origin in origins)
    return pack(targets, indexes, to, scratch)


async def _fetched(origin: Release, source: Source, scratch: Path, *, on_disk: bool) -> Index:
    from build.release.copy import fetch_release, refuse_docker_format

    index = await fetch_release(source, origin, scratch)
    if on_disk:
        refuse_docker_format(index, origin.list_tag())
    return index


async def each_image(builds: Sequence[Build], parts: Mapping[Build, Awaitable[Sequence[Result]]]) -> list[Result]:
    """The results of all images, in the table's order; the failure of one stops no other."""
    named = {build.release.image.name: parts[build] for build in builds}
    return await each_separately("images", named, builds[0].report)


async def _compile(builds: Sequence[Build], programs: Callable[[Build], list[Program]]) -> list[Result]:
    async with compiling(builds, [program for build in builds for program in programs(build)]) as binaries:

        async def kept(build: Build) -> list[Result]:
            return [each for program in programs(build) for each in await keep_binaries(build, program, binaries)]

        return await each_image(builds, {build: kept(build) for build in builds})


async def _as_far_as_allowed(to: Destination, build: Build, images: Images) -> list[Result]:
    """What publishing would do with --overwrite; what it would refuse to do without is "refused"."""
    results = await publish(replace(to, overwrite=True, report=silent), build.engine, images, index_of)
    refused = to.store.keeps_tags and not to.overwrite
    return [replace(each, change="refused") if refused and each.change == "moved" else each for each in results]


async def _known(image: Image) -> Image:
    return image
