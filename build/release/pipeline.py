"""The pipelines of the tasks: compile, build images, publish them, publish the manifest list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from build.compilers.binary import AnyProgram
from build.config.release import Release
from build.engines.engine import Unchanged
from build.errors import BuildError
from build.oci.image import Image, Index, index_of
from build.oci.reference import Tag
from build.release.build import Build, Images, export, imaging, keep_binaries, prepare
from build.release.compile import compiling
from build.release.publish.destination import Destination, no_condition
from build.release.publish.publish import publish
from build.release.side_by_side import each_separately, started
from build.report import Event, Result, silent

if TYPE_CHECKING:
    from build.release.publish.destination import Describe
    from build.release.publish.sign import AnyResult
    from build.release.publish.statements import Run
    from build.release.verify import Verification

T = TypeVar("T")
# The same release in each registry.
Destinations = Sequence[Destination]


async def build(builds: Sequence[Build]) -> list[Result]:
    """Write `bin/NAME-ARCH`, the image's program, for every arch."""
    return await _compile(builds, lambda build: [build.program()])


async def companions(builds: Sequence[Build]) -> list[Result]:
    """Write the companions, such as `bin/orphan-ARCH`, which are not in the image."""
    return await _compile(builds, lambda build: starmap(build.compiled, build.release.image.companions.items()))


async def container(builds: Sequence[Build]) -> list[Result]:
    """`build`, then export the image of every arch to `bin/NAME-ARCH.tar` or the daemon."""
    await prepare(builds)
    async with compiling({b: [b.program()] for b in builds}) as binaries, imaging(builds, binaries) as images:
        return await each_image(builds, {build: export(build, images[build], build.report) for build in builds})


async def push(
    builds: Sequence[Build],
    to: Mapping[Build, Destinations],
    verification: Verification | None,
    run: Run | None,
    *,
    with_list: bool,
) -> list[AnyResult]:
    """`container`, then publish the image of every arch and, if `with_list`, the manifest list.

    With `run`, what is signed has provenance and SBOMs.
    """
    for build in builds:
        for each in to[build]:
            build.engine.accept(each.release.list_tag(), build.form)
    await prepare(builds)
    one_at_a_time = asyncio.Lock()
    async with compiling({b: [b.program()] for b in builds}) as binaries, imaging(builds, binaries) as images:

        async def pushed(build: Build) -> list[AnyResult]:
            built = images[build]
            condition: Callable[[], Awaitable[None]] = no_condition
            if verification:
                from build.release.verify import gate

                condition = gate(build, verification, built, one_at_a_time)
            destinations = [replace(each, before_tags=condition) for each in to[build]]
            exporting = started({"export": export(build, built, silent)})
            async with exporting as exported, _stating(build, run, built) as describe:
                if describe:
                    destinations = [_stated(each, describe) for each in destinations]
                listing = _listing(build.release) if with_list else None
                parts = {each.release.registry: publish(each, build.engine, built, listing) for each in destinations}
                try:
                    results = await each_separately("registries", parts, build.report)
                except BuildError:
                    await exported["export"]  # raises a compiler error, which may have caused this one
                    raise
                await exported["export"]
                return results

        return await each_image(builds, {build: pushed(build) for build in builds})


@asynccontextmanager
async def _stating(build: Build, run: Run | None, built: Images) -> AsyncIterator[Describe | None]:
    """What is stated about a release that is signed; its SBOMs are made as soon as the images are."""
    if run is None:
        yield None
        return
    from build.release.publish.statements import content, stated

    async with started({arch: content(build, arch, built[arch]) for arch in build.arches}) as contents:
        yield stated(build, run, contents)


def _stated(to: Destination, describe: Describe) -> Destination:
    return replace(to, sign=replace(to.sign, describe=describe, statements=True) if to.sign else None)


async def plan(builds: Sequence[Build], to: Mapping[Build, Destinations]) -> list[Result]:
    """Every step of `all-push` with its reason, for dry `builds`; tags that may not move are "refused"."""
    for build in builds:
        for each in to[build]:
            build.engine.accept(each.release.list_tag(), build.form)
    await prepare(builds)
    async with compiling({b: [b.program()] for b in builds}) as binaries, imaging(builds, binaries) as images:

        async def planned(build: Build) -> list[Result]:
            steps = await keep_binaries(build, build.program(), binaries)
            exported = await export(build, images[build], build.report)
            parts = {each.release.registry: _plan_publish(each, build, images[build]) for each in to[build]}
            tags = await each_separately("registries", parts, build.report)
            order = [*(arch.name for arch in build.arches), None]
            return sorted([*steps, *exported, *tags], key=lambda result: order.index(result.arch))

        return await each_image(builds, {build: planned(build) for build in builds})


async def push_manifest(images: Sequence[Destinations], scratch: Path) -> list[AnyResult]:
    """Publish the manifest list of the images that are published for the arches, without building anything.

    Raises PublishError or ImageError, with the arch, if an image is missing or is for another platform.
    """
    from build.engines.published import fetch_image

    async def listed(to: Destination) -> list[AnyResult]:
        tags = {arch: to.release.arch_tag(arch) for arch in to.release.arches}
        fetching = {arch: fetch_image(to.store, tag, arch, scratch, attested=True) for arch, tag in tags.items()}
        async with started(fetching) as fetched:
            return await publish(to, Unchanged(), fetched, _listing(to.release))

    async def listed_everywhere(to: Destinations) -> list[AnyResult]:
        parts = {each.release.registry: listed(each) for each in to}
        return await each_separately("registries", parts, to[0].report)

    parts = {to[0].release.image.name: listed_everywhere(to) for to in images}
    return await each_separately("images", parts, images[0][0].report)


async def each_image(builds: Sequence[Build], parts: Mapping[Build, Awaitable[Sequence[T]]]) -> list[T]:
    """The results of all images, in the order of the image table; a failure does not stop the others."""
    named = {build.release.image.name: parts[build] for build in builds}
    return await each_separately("images", named, builds[0].report)


async def _compile(builds: Sequence[Build], programs: Callable[[Build], Iterable[AnyProgram]]) -> list[Result]:
    async with compiling({build: [*programs(build)] for build in builds}) as binaries:

        async def written(build: Build) -> list[Result]:
            return [each for program in programs(build) for each in await keep_binaries(build, program, binaries)]

        return await each_image(builds, {build: written(build) for build in builds})


async def _plan_publish(to: Destination, build: Build, images: Images) -> list[Result]:
    """The results of a dry `publish`; without --overwrite, "refused" for tags that would have to move."""
    dry = replace(to, overwrite=True, report=silent)
    results = [
        each for each in await publish(dry, build.engine, images, _listing(to.release)) if isinstance(each, Result)
    ]
    fixed = {str(tag) for tag in _fixed(to.release)} if to.store.keeps_tags and not to.overwrite else set()
    steps = [
        replace(each, change="refused") if each.change == "moved" and each.name in fixed else each for each in results
    ]
    for each in steps:
        to.report(Event(result=each))
    return steps


def _listing(release: Release) -> Callable[[Sequence[Image]], Index]:
    return partial(index_of, annotations=release.image.annotations)


def _fixed(release: Release) -> Iterator[Tag]:
    """The tags of a release that are not meant to move."""
    for each in (release, *release.further):
        if not each.is_moving:
            yield each.list_tag()
            yield from map(each.arch_tag, each.arches)
