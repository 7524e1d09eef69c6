"""Makes the pipeline's arguments from flags, environment variables and arches.yaml, in order of precedence.

Imports are inside the functions, so that they load while git runs, and `invoke --list` loads none of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from build.cli import options as given
from build.cli import selection
from build.cli.options import Options
from build.errors import UsageError

if TYPE_CHECKING:
    from build.cache.cache import Cache
    from build.compilers.compiler import Compiler
    from build.config.arches import Settings
    from build.config.release import Release
    from build.config.revision import Revision
    from build.daemon.client import Daemon
    from build.engines.engine import Engine
    from build.oci.reference import Repository
    from build.release.build import Build
    from build.release.publish import Destination
    from build.release.verify import Verification
    from build.stores.http.access import Access
    from build.stores.registry.credentials import Credentials
    from build.stores.store import Source, Store

# .cache is also used by other tools.
CACHE = ".cache/pause"

Stores = Callable[[str], "Store"]
Connect = Callable[[], Awaitable["Daemon"]]


def settings(options: Options) -> Settings:
    """The contents of arches.yaml; raise UsageError if it is invalid."""
    from build.config.parse import read_settings

    return read_settings(options.root / "arches.yaml")


def releases(options: Options, registries: Sequence[str] = (), *, every_arch: bool = True) -> list[tuple[Release, ...]]:
    """For each image its release in each registry; raise UsageError for an invalid reference."""
    from build.config.release import Release
    from build.oci.reference import check_tag

    table = settings(options)
    arches = selection.arches(options, table, every_arch)
    hosts = registries or given.registries(options, table.defaults.registry)
    images = []
    for image in selection.images(options, table):
        tag = check_tag(options.text("tag", image.tag))
        images.append(tuple(Release(image, arches, registry, tag) for registry in hosts))
    for release in chain(*images):
        release.list_tag()
        for arch in arches:
            release.arch_tag(arch)
    return images


@asynccontextmanager
async def builds(options: Options, *, every_arch: bool) -> AsyncIterator[list[Build]]:
    """A Build for each image. Without --arch, it is for every arch of the release or for the default arch."""
    from build.config.revision import read_revision

    epoch = options.environment.get("SOURCE_DATE_EPOCH")
    revision = asyncio.create_task(read_revision(options.root, options.text("rev", ""), epoch, options.environment))
    try:
        await asyncio.wait({revision}, timeout=0.002)  # let git start before the rest is loaded
        with ExitStack() as stack:
            yield await _builds(options, revision, every_arch, stack)
    finally:
        revision.cancel()
        await asyncio.gather(revision, return_exceptions=True)  # until git has ended


async def _builds(options: Options, revision: Awaitable[Revision], every_arch: bool, stack: ExitStack) -> list[Build]:
    from build.cache.cache import Cache
    from build.config.arches import ENGINES
    from build.oci.media_types import FORMATS
    from build.release.build import Build

    table = settings(options)
    compiler_name = options.one_of("engine", table.defaults.engine, ENGINES)
    images = releases(options, every_arch=every_arch)
    given.access(options)  # report errors before anything is compiled
    build_cache = Cache(options.root / CACHE, keep=not options.dry)
    connect = connection(options)
    form = options.one_of("format", table.defaults.format, FORMATS)
    cflags = [selection.cflags(options, each[0].image) for each in images]
    compiler = _compiler(options, compiler_name, connect)
    engine = _engine(options, options.text("engine", table.defaults.engine), build_cache, connect, stack)
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
            scratch=scratch_base(options),
            report=options.report,
            dry=options.dry,
        )
        for each, flags in zip(images, cflags, strict=True)
    ]


def scratch_base(options: Options) -> Path:
    """The folder for temporary files: in the cache, or the system's if nothing may be written to the checkout."""
    from build.cache.cache import SCRATCH

    if options.dry or not os.access(options.root, os.W_OK):
        import tempfile

        return Path(tempfile.gettempdir(), f"pause-{os.urandom(8).hex()}")
    return options.root / CACHE / SCRATCH


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
    from build.release.publish import Destination

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
    from build.release.clean import remember

    if not options.dry and os.access(options.root, os.W_OK):
        names = [each for each in registries if each.startswith("oci:") or not on_disk_only]
        remember(Cache(options.root / CACHE), names)


def toolchain(options: Options) -> str:
    """The kube-cross image, NAME:TAG."""
    defaults = settings(options).defaults
    name = options.text("kube_cross_image", defaults.kube_cross_image)
    return f"{name}:{options.text('kube_cross_version', defaults.kube_cross_version)}"


def own_toolchain(options: Options) -> tuple[str, str]:
    """Name and tag of the toolchain image to build; raise UsageError for the name of an image that others publish.

    The default is on `localhost`, so that nothing from elsewhere can have its name.
    """
    published = settings(options).defaults.kube_cross_image
    image = options.text("kube_cross_image", "localhost/kube-cross")
    if image == published:
        raise UsageError(
            f"{image!r} is the published toolchain image, which a build of yours would hide"
            "\n  unset KUBE_CROSS_IMAGE, or choose another name with --kube-cross-image"
        )
    return image, options.text("kube_cross_version", "latest")


def connection(options: Options, *instead: str) -> Connect:
    """A function that connects to the daemon on the first call, and returns the same connection afterwards.

    `instead` is how to do without one, if not as builds do.
    """
    connecting: list[asyncio.Task[Daemon]] = []

    async def connected() -> Daemon:
        from build.daemon.client import connect

        if not connecting:
            connecting.append(asyncio.create_task(connect(options.environment, *instead)))
        return await asyncio.shield(connecting[0])

    return connected


def _compiler(options: Options, default: str, connect: Connect) -> Compiler:
    def zig() -> Compiler:
        from build.cache.cache import Cache
        from build.compilers.zig import Zig

        return Zig(Cache(options.root / CACHE / "zig", keep=not options.dry), options.report)

    def kube_cross() -> Compiler:
        from build.compilers.kube_cross import KubeCross

        return KubeCross(connect, _logins(options), toolchain(options), options.report, may_pull=not options.dry)

    def host() -> Compiler:
        from build.compilers.host import Host

        return Host()

    compiler: Compiler = options.one_of("compiler", default, {"zig": zig, "kube-cross": kube_cross, "host": host})()
    return compiler


def _engine(options: Options, name: str, build_cache: Cache, connect: Connect, stack: ExitStack) -> Engine:
    if name == "docker":
        from build.engines.docker import DockerEngine
        from build.system import scratch

        spool = stack.enter_context(scratch(scratch_base(options)))
        return DockerEngine(connect, _logins(options), build_cache, spool, options.report, options.dry)
    from build.engines.embedded import Embedded

    return Embedded(build_cache, options.dry)


def _logins(options: Options) -> Callable[[Repository], Awaitable[Credentials | None]]:
    from build.stores.registry.credentials import Logins

    return Logins(given.credential_sources(options.environment), partial(given.timeout, options)).find


def verification(options: Options) -> Verification:
    """How programs are run; raise UsageError for an unknown driver, or if no image has the companion `orphan`."""
    from build.daemon.errors import INSTEAD_OF_DRIVER
    from build.release.verify import ORPHAN, Verification
    from build.verify.drivers import choose

    connect = connection(options, INSTEAD_OF_DRIVER)
    driver = choose(options.flags.get("with_") or "namespaces", connect, scratch_base(options))
    images = settings(options).images.values()
    found = [image.companions[ORPHAN] for image in images if ORPHAN in image.companions]
    if not found:
        raise UsageError(
            f"arches.yaml: images: found no companion {ORPHAN!r}, expected one that creates orphaned processes"
            f"\n  add it to an image: {ORPHAN}: [{ORPHAN}.c]"
        )
    return Verification(cache(driver), found[0], bool(options.flags.get("allow_not_run")))
