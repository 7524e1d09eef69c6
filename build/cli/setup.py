"""Makes the pipeline's arguments from flags, environment variables and arches.yaml, in order of precedence.

Imports are inside the functions, so that they load while git runs, and `invoke --list` loads none of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from build.cli import options as given
from build.cli import tools
from build.cli.options import Options
from build.errors import UsageError

if TYPE_CHECKING:
    from build.config.arches import Arch, ImageSettings, Settings
    from build.config.release import Release
    from build.config.revision import Revision
    from build.oci.reference import Repository
    from build.release.build import Build
    from build.release.publish.destination import Destination
    from build.stores.http.access import Access
    from build.stores.store import Source, Store

Stores = Callable[[str], "Store"]


def releases(options: Options, registries: Sequence[str] = (), *, every_arch: bool = True) -> list[tuple[Release, ...]]:
    """For each image that has one of the arches its release in each registry; raise UsageError for what is invalid."""
    from build.config.release import Release
    from build.oci.reference import Tag, check_tag

    table = given.settings(options)
    hosts = registries or given.registries(options, table.defaults.registry)
    images = []
    for image, arches in _selected(options, table, every_arch):
        tag = check_tag(options.text("tag", image.tag))
        also = tuple(each for each in given.also_tags(options) if each != tag)
        images.append(tuple(Release(image, arches, registry, tag, also) for registry in hosts))
    seen: dict[Tag, str] = {}
    for release in chain(*images):
        for each in (release, *release.further):
            for found in (each.list_tag(), *map(each.arch_tag, release.arches)):
                if found in seen:
                    raise UsageError(f"{found}: two images would have this tag\n  choose another TAG or ALSO_TAG")
                seen[found] = release.image.name
    return images


def _selected(options: Options, table: Settings, every_arch: bool) -> list[tuple[ImageSettings, tuple[Arch, ...]]]:
    """The selected images, each with the selected arches that it is built for; images without any are left out.

    Without --arch: with `every_arch` the release set of each image, else the default arch. Raises UsageError for an
    arch that none of the images is built for.
    """
    chosen, words = given.images(options, table), options.environment
    names = options.flags.get("arch") or (["all"] if every_arch else words.get("ARCH", "").split())
    names = names or [table.defaults.arch]
    everything = table.expand(words.get("ALL_ARCH", "").split(), table.defaults.release)
    for name in names:
        named = () if name == "all" else table.systems.get(name, (name,))
        if named and not any(image.is_built_for(table.arch(row)) for image in chosen for row in named):
            raise _built_for_others(name, chosen)
    found = []
    for image in chosen:
        release = everything or image.arches or table.defaults.release
        arches = [arch for arch in table.select(table.expand(names, release)) if image.is_built_for(arch)]
        # A row without a runtime links the toolchain's libc.
        rows = [replace(arch, runtime=None) for arch in arches] if options.flags.get("libc") else arches
        found += [(image, tuple(rows))] if rows else []
    if not found:
        raise _built_for_others(" ".join(everything), chosen)
    kept = [image for image, _ in found]
    for image in chosen:
        if image not in kept:
            options.report(f"{image.name}: left out, because it is built for {', '.join(image.arches)} only")
    return found


def _built_for_others(arch: str, chosen: Sequence[ImageSettings]) -> UsageError:
    lines = "".join(f"\n  {image.name}: {', '.join(image.arches) or 'every arch but Windows'}" for image in chosen)
    return UsageError(
        f"arch {arch!r}: no selected image is built for it; in arches.yaml, they are for{lines}"
        "\n  select one of these arches with --arch, or other images with --image"
    )


@asynccontextmanager
async def builds(options: Options, *, every_arch: bool) -> AsyncIterator[tuple[list[Build], Stores]]:
    """A Build for each image, and the stores of the run, which have bases, too.

    Without --arch, the builds are for every arch of the release or for the default arch.
    """
    from build.config.revision import read_revision

    epoch = options.environment.get("SOURCE_DATE_EPOCH")
    revision = asyncio.create_task(read_revision(options.root, options.text("rev", ""), epoch, options.environment))
    try:
        await asyncio.wait({revision}, timeout=0.002)  # let git start before the rest is loaded
        with ExitStack() as stack:
            async with stores(options) as store:
                yield await _builds(options, revision, every_arch, store, stack), store
    finally:
        revision.cancel()
        await asyncio.gather(revision, return_exceptions=True)  # until git has ended


async def _builds(
    options: Options, revision: Awaitable[Revision], every_arch: bool, store: Stores, stack: ExitStack
) -> list[Build]:
    from build.cache.cache import Cache
    from build.config.arches import ENGINES
    from build.oci.media_types import FORMATS
    from build.release.build import Build

    table = given.settings(options)
    compiler_name = options.one_of("engine", table.defaults.engine, ENGINES)
    images = releases(options, every_arch=every_arch)
    tools.check_compiled(options, [each[0].image for each in images])
    build_cache = Cache(options.root / given.CACHE, keep=not options.dry)
    connect = tools.connection(options)
    form = options.one_of("format", table.defaults.format, FORMATS)
    cflags = [given.cflags(options, each[0].image) for each in images]
    compiler = tools.compiler(options, compiler_name, connect)

    def base_source(repository: Repository) -> Source:
        return source(options, repository.host or f"oci:{repository.name}", store)

    name = options.text("engine", table.defaults.engine)
    engine = tools.engine(options, name, build_cache, connect, base_source, stack)
    checked_out = await revision
    return [
        Build(
            releases=each,
            root=options.root,
            revision=checked_out,
            cflags=flags,
            form=form,
            compiler=compiler,
            engine=engine,
            cache=build_cache,
            scratch=given.scratch_base(options),
            report=options.report,
            dry=options.dry,
        )
        for each, flags in zip(images, cflags, strict=True)
    ]


@asynccontextmanager
async def stores(options: Options) -> AsyncIterator[Stores]:
    """A function that opens the store of a registry or a layout; registries on the same host share one.

    All stores are closed when the context ends.
    """
    access = given.access(options)  # report errors even if no registry is contacted
    opened: dict[str, Store] = {}

    def store(registry: str) -> Store:
        if registry.startswith("oci:") and (options.root / registry.removeprefix("oci:")).is_file():
            raise UsageError(f"{registry!r}: found a file, expected a folder of image layouts, or none")
        host = registry.partition("/")[0]
        if host not in opened:
            opened[host] = _store(options, access, registry)
        return opened[host]

    try:
        yield store
    finally:
        for each in opened.values():
            await each.close()


def source(options: Options, registry: str, store: Stores) -> Source:
    """The source to copy a release from: an archive or a store."""
    from build.oci.reference import archive_file

    if file := archive_file(registry):
        from build.stores.archive.archive import Archive

        return Archive(options.root / file)
    return store(registry)


def _store(options: Options, access: Access, registry: str) -> Store:
    if registry.startswith("oci:"):
        from build.stores.layout.layout import Layout

        return Layout(options.root)
    from build.stores.registry.registry import Registry

    return Registry(registry.partition("/")[0], access)


def destinations(options: Options, images: Sequence[Release], store: Stores) -> list[Destination]:
    """The destination of each release; raise UsageError for a layout in a folder that is refused."""
    from build.release.publish.destination import Destination

    for each in images:
        if each.registry.startswith("oci:"):
            given.expect_folder(options, each.registry, each.registry.removeprefix("oci:"))
    overwrite = bool(options.flags.get("overwrite"))
    return [
        Destination(each, store(each.registry), options.report, overwrite=overwrite, dry=options.dry) for each in images
    ]


def remember(options: Options, registries: Sequence[str], *, on_disk_only: bool = False) -> None:
    """Keep in mind where this run publishes, for `clean`; a run that only copies does so of layouts only."""
    from build.cache.cache import Cache
    from build.cache.registries import remember

    if not options.dry and os.access(options.root, os.W_OK):
        names = [each for each in registries if each.startswith("oci:") or not on_disk_only]
        remember(Cache(options.root / given.CACHE), names)
