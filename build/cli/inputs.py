"""From flags, environment and arches.yaml, in this order, to what the pipeline takes.

Imports stand inside the functions here: git answers while they load, and `invoke --list` loads none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from typing import TYPE_CHECKING

from build.cli import registries as remote
from build.cli.options import Options
from build.errors import UsageError

if TYPE_CHECKING:
    from docker import APIClient

    from build.compilers.compiler import Compiler
    from build.config.arches import Settings
    from build.oci.reference import Reference
    from build.release.clean import Removed
    from build.release.nodes import Setting
    from build.release.release import Made, Release, Verifying, Workshop
    from build.stores.store import Sink
    from build.verify.verdicts import Verdict

# A folder of its own in one that other tools know, too.
CACHE = ".cache/pause"


def releasing(options: Options) -> tuple[tuple[Release, ...], ...]:
    """What to publish and where, for a task that makes nothing: of each image the same release for each registry.

    Raises UsageError for a name against the grammar.
    """
    settings = _settings(options)
    return _releases(options, settings, remote.registries(options, settings.defaults.registry))


def making(options: Options, every_arch: bool) -> tuple[Workshop, ...]:
    """What to make of each image, and with what. With `every_arch` no --arch means the release set, else one arch.

    With --verify every arch is run as well.
    """
    from build.config import revision

    asked = revision.ask(options.root, options.text("rev", ""), options.environment.get("SOURCE_DATE_EPOCH"))

    from build.cache.cache import Cache
    from build.cli import selection as picking
    from build.config.arches import ENGINES
    from build.oci.oci import FORMATS
    from build.release.release import Daemon, Workshop

    settings = _settings(options)
    usual_compiler = options.one_of("engine", settings.defaults.engine, ENGINES)
    by_daemon = options.text("engine", settings.defaults.engine) == "docker"
    registries = remote.registries(options, settings.defaults.registry)
    images = _releases(options, settings, registries, every_arch)
    client = cache(partial(_client, options))
    shop = Workshop(
        releases=images[0],
        root=options.root,
        cflags=picking.cflags(options, images[0][0].image),
        form=options.one_of("format", settings.defaults.format, FORMATS),
        compiler=_compiler(options, settings, usual_compiler, client),
        cache=Cache(options.root / CACHE, keep=not options.dry),
        daemon=Daemon(client, partial(remote.login, options)) if by_daemon else None,
        revision=asked(),
        verifying=verifying(options, settings, client) if options.flags.get("verify") else None,
    )
    return tuple(replace(shop, releases=each, cflags=picking.cflags(options, each[0].image)) for each in images)


def checking(options: Options) -> tuple[Sink, Reference] | None:
    """What to check and where that is, or None for the release. Raises UsageError if both are asked for."""
    from build.oci.reference import Reference

    text = options.flags.get("reference")
    if not text:
        return None
    for flag in ("arch", "image", "registry", "tag"):
        if options.flags.get(flag):
            raise UsageError(f"--{flag} is for the release, and {text!r} is none\n  leave out the one or the other")
    reference = Reference.parse(text)
    return remote.sink(options, str(reference.repository), remote.timeout(options)), reference


def checked(options: Options) -> list[Made]:
    """Prove what was asked for, from the bytes that are published."""
    from build.release.check import check_reference, check_release
    from build.release.everywhere import in_turn

    asked = checking(options)
    if asked:
        return check_reference(*asked, options.report)
    return in_turn(releasing(options), check_release)


def copied(options: Options) -> list[Made]:
    """Copy releases from SRC to DST. Raises UsageError for a name against the grammar."""
    from build.oci.reference import archive_file, check_registry
    from build.release.pipeline import copy

    sides = [check_registry(options.flags[side]) for side in ("src", "dst")]
    origins, targets = zip(*_releases(options, _settings(options), sides), strict=True)
    packed = archive_file(sides[0])
    if packed:
        from build.stores.archive_source import read

        return copy(origins, read(options.root / packed), targets, options.root)
    return copy(origins, origins[0].sink(), targets, options.root)


def using(options: Options) -> list[Setting]:
    """How nodes are told to use the release. Raises UsageError for several images or registries: a node takes one."""
    from build.cli.selection import only
    from build.release.nodes import settings

    images = releasing(options)
    only(releases[0].image for releases in images)
    first, *others = images[0]
    if others:
        raise UsageError(f"{len(others) + 1} registries: expected one\n  run it once for each")
    return settings(first)


def toolchain(options: Options) -> list[Made]:
    """Build the kube-cross image in force in the daemon, from `build/compilers/kube-cross.Dockerfile`."""
    from build.daemon.client import build_toolchain
    from build.release.release import Made

    name = _toolchain(options, _settings(options))
    if options.dry:
        return [Made(name, None, None, "made")]
    recipe = (options.root / "build/compilers/kube-cross.Dockerfile").read_bytes()
    return [Made(name, build_toolchain(_client(options), recipe, name, options.report), None, "made")]


def cleaned(options: Options) -> list[Removed]:
    """Remove what the tasks made: in `bin`, in the cache, and in the registry in force if that is a folder."""
    from build.cache.cache import Cache
    from build.oci.reference import Repository
    from build.release.clean import clean

    settings = _settings(options)
    names = [
        template.format(registry=registry, arch=arch)
        for registry in remote.registries(options, settings.defaults.registry)
        for image in settings.images.values()
        for arch in settings.arches
        for template in (image.repository, image.arch_repository)
    ]
    repositories = [Repository.parse(name) for name in dict.fromkeys(names)]
    cache = Cache(options.root / CACHE)
    return clean(options.root, cache, settings.images.values(), settings.arches, repositories, options.dry)


def _settings(options: Options) -> Settings:
    from build.config.arches import read_settings

    return read_settings(options.root / "arches.yaml")


def _releases(
    options: Options, settings: Settings, registries: Sequence[str], every_arch: bool = True
) -> tuple[tuple[Release, ...], ...]:
    """Of each image the same release for each registry."""
    from build.cli import selection as picking
    from build.oci.reference import check_tag
    from build.release.publish import Order
    from build.release.release import Release

    order = Order(overwrite=bool(options.flags.get("overwrite")), dry=options.dry)
    arches = picking.arches(options, settings, every_arch)
    sink = remote.sinks(options, remote.timeout(options))
    remote.insecure(options)  # what is wrong is said before anything is compiled
    images = []
    for image in picking.images(options, settings):
        tag = check_tag(options.text("tag", image.tag))
        images.append(
            tuple(Release(image, arches, each, tag, partial(sink, each), options.report, order) for each in registries)
        )
    for release in chain(*images):
        release.list_tag()
        for arch in arches:
            release.arch_tag(arch)
    return tuple(images)


def _compiler(options: Options, settings: Settings, usual: str, client: Callable[[], APIClient]) -> Compiler:
    def zig() -> Compiler:
        from build.compilers.zig import Zig

        return Zig(None if options.dry else options.root / CACHE / "zig")

    def kube_cross() -> Compiler:
        from build.compilers.kube_cross import KubeCross

        return KubeCross(client, _toolchain(options, settings), options.report, may_pull=not options.dry)

    def host() -> Compiler:
        from build.compilers.host import Host

        return Host()

    made: Compiler = options.one_of("compiler", usual, {"zig": zig, "kube-cross": kube_cross, "host": host})()
    return made


def verified(options: Options) -> list[Verdict]:
    """Build the release, and run every arch of it."""
    from build.verify.verify import verify

    shops = making(options, every_arch=True)
    return verify(shops, verifying(options, _settings(options), cache(partial(_client, options))))


def verifying(options: Options, settings: Settings, client: Callable[[], APIClient]) -> Verifying:
    """Who runs the programs. Raises UsageError for a driver that there is not, or if nothing leaves orphans behind."""
    from build.release.release import ORPHAN, Verifying
    from build.verify.choosing import choose

    driver = choose(options.flags.get("with_") or "namespaces", client)
    found = [image.companions[ORPHAN] for image in settings.images.values() if ORPHAN in image.companions]
    if not found:
        raise UsageError(
            f"arches.yaml: images: found no companion {ORPHAN!r}, expected one that leaves orphans behind"
            f"\n  add it to an image, as {ORPHAN}: [{ORPHAN}.c]"
        )
    return Verifying(driver, found[0], bool(options.flags.get("allow_not_run")))


def _toolchain(options: Options, settings: Settings) -> str:
    name = options.text("kube_cross_image", settings.defaults.kube_cross_image)
    return f"{name}:{options.text('kube_cross_version', settings.defaults.kube_cross_version)}"


def _client(options: Options) -> APIClient:
    from build.daemon.client import connect

    return connect(options.environment)
