"""Chooses the tools of a run: the toolchain, the daemon, the compiler, the engine, and what runs programs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import cache, partial
from typing import TYPE_CHECKING

from build.cli import options as given
from build.cli.options import Options
from build.errors import UsageError

if TYPE_CHECKING:
    from build.cache.cache import Cache
    from build.compilers.compiler import Compiler
    from build.config.arches import ImageSettings
    from build.daemon.client import Daemon
    from build.engines.bases import Bases
    from build.engines.engine import Engine
    from build.oci.reference import Repository
    from build.release.build import Build
    from build.release.verify import Verification
    from build.stores.registry.credentials import Credentials
    from build.stores.store import Source

Connect = Callable[[], Awaitable["Daemon"]]


def toolchain(options: Options) -> str:
    """The kube-cross image, NAME:TAG."""
    defaults = given.settings(options).defaults
    name = options.text("kube_cross_image", defaults.kube_cross_image)
    return f"{name}:{options.text('kube_cross_version', defaults.kube_cross_version)}"


def own_toolchain(options: Options) -> tuple[str, str]:
    """Name and tag of the toolchain image to build; raise UsageError for the name of an image that others publish.

    The default is on `localhost`, so that nothing from elsewhere can have its name.
    """
    published = given.settings(options).defaults.kube_cross_image
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


def compiler(options: Options, default: str, connect: Connect) -> Compiler:
    """The compiler that --compiler names; raise UsageError for an unknown one."""

    def zig() -> Compiler:
        from build.cache.cache import Cache
        from build.compilers.zig import Zig

        return Zig(Cache(options.root / given.CACHE / "zig", keep=not options.dry), options.report)

    def kube_cross() -> Compiler:
        from build.compilers.kube_cross import KubeCross

        return KubeCross(connect, _logins(options), toolchain(options), options.report, may_pull=not options.dry)

    def host() -> Compiler:
        from build.compilers.host import Host

        return Host()

    chosen: Compiler = options.one_of("compiler", default, {"zig": zig, "kube-cross": kube_cross, "host": host})()
    return chosen


def check_compiled(options: Options, images: Iterable[ImageSettings]) -> None:
    """Raise UsageError for a flag of the compiler if all programs of `images` were built elsewhere."""
    flag = next((flag for flag in ("cflags", "compiler", "libc") if options.flags.get(flag)), None)
    if flag and all(image.binary for image in images):
        raise UsageError(
            f"--{flag}: nothing is compiled, because the row of each selected image has the key binary"
            "\n  omit it, or select an image that has sources with --image"
        )


def engine(
    options: Options,
    name: str,
    build_cache: Cache,
    connect: Connect,
    source: Callable[[Repository], Source],
    stack: ExitStack,
) -> Engine:
    """The engine `name`; what it needs for the time of the run is closed with `stack`. `source` is for bases."""
    from build.engines.engine import Pull
    from build.system import scratch

    spool = cache(lambda: stack.enter_context(scratch(given.scratch_base(options))))
    pull: Pull = options.one_of("pull", Pull.ALWAYS.value, {each.value: each for each in Pull})

    @cache
    def bases() -> Bases:
        from build.engines.bases import Bases
        from build.engines.content import Content

        return Bases(Content(source, build_cache, spool, pull, options.report))

    if name == "docker":
        from build.engines.docker import DockerEngine

        asked = pull if options.any("pull") else None
        return DockerEngine(
            connect, bases, asked, _logins(options), build_cache, spool(), options.report, dry=options.dry
        )
    from build.engines.embedded import Embedded

    return Embedded(build_cache, bases, options.dry)


def _logins(options: Options) -> Callable[[Repository], Awaitable[Credentials | None]]:
    from build.stores.registry.credentials import Logins

    return Logins(given.credential_sources(options.environment), partial(given.timeout, options)).find


def verification(options: Options, builds: Sequence[Build]) -> Verification:
    """How programs are run; raise UsageError for an unknown driver, or if a check has no companion `orphan` to run."""
    from build.daemon.errors import INSTEAD_OF_DRIVER
    from build.release.verify import ORPHAN, ORPHAN_CHECK, Verification
    from build.verify.drivers import choose

    connect = connection(options, INSTEAD_OF_DRIVER)
    driver = choose(options.flags.get("with_") or "namespaces", connect, given.scratch_base(options))
    images = given.settings(options).images.values()
    found = [image.companions[ORPHAN] for image in images if ORPHAN in image.companions]
    expected = [build.release.image.verify for build in builds]
    if not found and any(each and ORPHAN_CHECK in each.checks for each in expected):
        raise UsageError(
            f"arches.yaml: images: found no companion {ORPHAN!r}, expected one that creates orphaned processes"
            f"\n  add it to an image: {ORPHAN}: [{ORPHAN}.c]"
        )
    return Verification(cache(driver), found[0] if found else (), bool(options.flags.get("allow_not_run")))
