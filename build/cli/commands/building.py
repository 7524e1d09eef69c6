"""The tasks that build images and publish them, and those for what these leave here: toolchain, CI files, clean.

Imports are inside the functions, so that they load while git runs, and `invoke --list` loads none of them.
"""

from __future__ import annotations

import shlex
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from build.cli import options as given
from build.cli import setup, signing, tools
from build.cli.options import Options

if TYPE_CHECKING:
    from build.cli.ci import Job
    from build.oci.reference import Repository
    from build.release.clean import Removed
    from build.release.publish.sign import AnyResult
    from build.report import Result
    from build.verify.verdicts import Verdict


async def build(options: Options) -> list[Result]:
    """Compile the program of every selected image and arch."""
    async with setup.builds(options, every_arch=False) as (builds, _):
        from build.release import pipeline

        return await pipeline.build(builds)


async def orphan(options: Options) -> list[Result]:
    """Compile the companions of every selected image."""
    async with setup.builds(options, every_arch=False) as (builds, _):
        from build.release import pipeline

        return await pipeline.companions(builds)


async def _container(options: Options, *, every_arch: bool) -> list[Result]:
    async with setup.builds(options, every_arch=every_arch) as (builds, _):
        from build.release import pipeline

        return await pipeline.container(builds)


async def _push(options: Options, *, every_arch: bool, with_list: bool) -> list[AnyResult]:
    async with AsyncExitStack() as stack, setup.builds(options, every_arch=every_arch) as (builds, store):
        from build.release import pipeline

        to = {build: setup.destinations(options, build.releases, store) for build in builds}
        run = None
        if with_list and signing.is_asked(options):
            from build.system import scratch

            spool = stack.enter_context(scratch(given.scratch_base(options)))
            to = {build: signing.signed(options, each, spool) for build, each in to.items()}
            run = await stack.enter_async_context(signing.run(options, "all-push"))
        verification = tools.verification(options, builds) if options.flags.get("verify") else None
        results = await pipeline.push(builds, to, verification, run, with_list=with_list)
        setup.remember(options, [each.registry for build in builds for each in build.releases])
        return results


container = partial(_container, every_arch=False)
all_container = partial(_container, every_arch=True)
push = partial(_push, every_arch=False, with_list=False)
all_push_images = partial(_push, every_arch=True, with_list=False)
all_push = partial(_push, every_arch=True, with_list=True)


async def plan(options: Options) -> list[Result]:
    """Show what `all_push` would do, with dry `options`."""
    async with setup.builds(options, every_arch=True) as (builds, store):
        from build.release import pipeline

        return await pipeline.plan(
            builds, {build: setup.destinations(options, build.releases, store) for build in builds}
        )


async def verify(options: Options) -> list[Verdict]:
    """Run the checks of every arch."""
    async with setup.builds(options, every_arch=True) as (builds, _):
        from build.release.verify import verify

        return await verify(builds, tools.verification(options, builds))


async def push_manifest(options: Options) -> list[AnyResult]:
    """Publish the manifest list of the published images."""
    from build.release import pipeline
    from build.system import scratch

    with scratch(given.scratch_base(options)) as folder:
        async with setup.stores(options) as store:
            images = [setup.destinations(options, releases, store) for releases in setup.releases(options)]
            images = [signing.signed(options, to, folder) for to in images]
            places = [each.release.registry for to in images for each in to]
            results = await pipeline.push_manifest(images, folder)
            setup.remember(options, places, on_disk_only=True)
            return results


async def matrix(options: Options) -> list[Job]:
    """The jobs of a CI matrix."""
    from build.cli.ci import fan_out

    # Several images may be for different arches: a job makes those that there are for its arch.
    return fan_out(dict.fromkeys(arch for release, *_ in setup.releases(options) for arch in release.arches))


async def bake(options: Options) -> list[Result]:
    """Write docker-bake.json."""
    forced = replace(options, environment={**options.environment, "COMPILER": "kube-cross", "ENGINE": "embedded"})
    async with setup.builds(forced, every_arch=True) as (builds, _):
        from build.release.bake import bake

        return bake(builds, tools.toolchain(options))


async def kube_cross(options: Options) -> list[Result]:
    """Build the kube-cross image in the daemon from `build/compilers/kube-cross.Dockerfile`; it may have mingw-w64."""
    from build.daemon.toolchain import build_toolchain
    from build.report import Event, Result

    image, version = tools.own_toolchain(options)
    name = f"{image}:{version}"
    if options.dry:
        return [Result(name, None, None, "made")]
    dockerfile = (options.root / "build/compilers/kube-cross.Dockerfile").read_bytes()
    daemon = await tools.connection(options)()
    more = "gcc-mingw-w64-x86-64-win32" if options.flags.get("windows") else ""
    made = Result(name, await build_toolchain(daemon, dockerfile, name, more, options.report), None, "made")
    words = f"export KUBE_CROSS_IMAGE={shlex.quote(image)} KUBE_CROSS_VERSION={shlex.quote(version)}"
    options.report(Event(f"note: to compile with it: {words}", note=True))
    return [made]


async def clean(options: Options) -> list[Removed]:
    """Remove what the tasks created in `bin`, in the cache, and in the selected registries that are layouts."""
    from build.cache.cache import Cache
    from build.cache.registries import remembered
    from build.config.release import Release
    from build.release.clean import clean
    from build.report import Event

    settings = given.settings(options)
    selected = given.registries(options, settings.defaults.registry)

    def repositories(registry: str) -> list[Repository]:
        releases = [Release(image, (), registry, image.tag) for image in settings.images.values()]
        tags = [[each.list_tag(), *map(each.arch_tag, settings.arches.values())] for each in releases]
        return list(dict.fromkeys(tag.repository for each in tags for tag in each))

    cache = Cache(options.root / given.CACHE)
    left = []
    for registry in dict.fromkeys([*selected, *remembered(cache)]):
        if not registry.startswith("oci:"):
            left.append(f"{registry}: left: clean removes nothing from registries")
        elif registry not in selected and any((options.root / each.name).exists() for each in repositories(registry)):
            left.append(f"{registry}: left: to clean it, too: invoke clean --registry {shlex.quote(registry)}")
    removed = clean(
        options.root,
        cache,
        settings.images.values(),
        settings.arches,
        [each for registry in selected for each in repositories(registry)],
        options.dry,
        options.report,
    )
    for each in left:
        options.report(Event(f"note: {each}", note=True))
    return removed
