"""From flags, environment and arches.yaml, in this order, to what the pipeline takes.

Imports stand inside the functions here: git answers while they load, and `invoke --list` loads none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

from build import remote
from build.errors import UsageError
from build.options import Options

if TYPE_CHECKING:
    from docker import APIClient

    from build.arches import Arch, Settings
    from build.cleaning import Removed
    from build.compilers import Compiler
    from build.publish import Sink
    from build.reference import Reference
    from build.release import Made, Release, Verifying, Workshop
    from build.usage import Setting
    from build.verdicts import Verdict

# A folder of its own in one that other tools know, too.
CACHE = ".cache/pause"


def releasing(options: Options) -> tuple[Release, ...]:
    """What to publish and where, for a task that makes nothing. Raises UsageError for a name against the grammar."""
    settings = _settings(options)
    return _releases(options, settings, remote.registries(options, settings.defaults.registry))


def making(options: Options, every_arch: bool) -> Workshop:
    """What to make, and with what. With `every_arch` no --arch means the release set, else the one default arch.

    With --verify every arch is run as well.
    """
    from build import revision

    asked = revision.ask(options.root, options.text("rev", ""), options.environment.get("SOURCE_DATE_EPOCH"))

    from build.arches import ENGINES
    from build.cache import Cache
    from build.oci import FORMATS
    from build.release import Daemon, Workshop

    settings = _settings(options)
    usual_compiler = options.one_of("engine", settings.defaults.engine, ENGINES)
    by_daemon = options.text("engine", settings.defaults.engine) == "docker"
    registries = remote.registries(options, settings.defaults.registry)
    releases = _releases(options, settings, registries, every_arch)
    client = cache(partial(_client, options))
    return Workshop(
        releases=releases,
        root=options.root,
        cflags=_cflags(options, settings),
        form=options.one_of("format", settings.defaults.format, FORMATS),
        compiler=_compiler(options, settings, usual_compiler, client),
        cache=Cache(options.root / CACHE, keep=not options.dry),
        daemon=Daemon(client, partial(remote.login, options)) if by_daemon else None,
        revision=asked(),
        verifying=verifying(options, client) if options.flags.get("verify") else None,
    )


def checking(options: Options) -> tuple[Sink, Reference] | None:
    """What to check and where that is, or None for the release. Raises UsageError if both are asked for."""
    from build.reference import Reference

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
    from build.check import check_reference, check_release

    asked = checking(options)
    if asked:
        return check_reference(*asked, options.report)
    return [made for release in releasing(options) for made in check_release(release)]


def copied(options: Options) -> list[Made]:
    """Copy a release from SRC to DST. Raises UsageError for a name against the grammar."""
    from build.pipeline import copy
    from build.reference import archive_file, check_registry

    sides = [check_registry(options.flags[side]) for side in ("src", "dst")]
    origin, target = _releases(options, _settings(options), sides)
    packed = archive_file(origin.registry)
    if packed:
        from build.archive_source import read

        return copy(origin, read(options.root / packed), target, options.root)
    return copy(origin, origin.sink(), target, options.root)


def using(options: Options) -> list[Setting]:
    """How nodes are told to use the release. Raises UsageError for several registries: a node takes one."""
    from build.usage import settings

    first, *others = releasing(options)
    if others:
        raise UsageError(f"{len(others) + 1} registries: expected one\n  run it once for each")
    return settings(first)


def toolchain(options: Options) -> list[Made]:
    """Build the kube-cross image in force in the daemon, from `build/compilers/kube-cross.Dockerfile`."""
    from build.daemon import build_toolchain
    from build.release import Made

    name = _toolchain(options, _settings(options))
    if options.dry:
        return [Made(name, None, None, "made")]
    recipe = (options.root / "build/compilers/kube-cross.Dockerfile").read_bytes()
    return [Made(name, build_toolchain(_client(options), recipe, name, options.report), None, "made")]


def cleaned(options: Options) -> list[Removed]:
    """Remove what the tasks made: in `bin`, in the cache, and in the registry in force if that is a folder."""
    from build.cache import Cache
    from build.cleaning import clean
    from build.reference import Repository

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
    from build.arches import read_settings

    return read_settings(options.root / "arches.yaml")


def _releases(
    options: Options, settings: Settings, registries: Iterable[str], every_arch: bool = True
) -> tuple[Release, ...]:
    """The same release for each registry."""
    from build.publish import Order
    from build.reference import check_tag
    from build.release import Release

    image = settings.image(options.text("image", next(iter(settings.images))))
    order = Order(overwrite=bool(options.flags.get("overwrite")), dry=options.dry)
    arches = _arches(options, settings, every_arch)
    tag = check_tag(options.text("tag", image.tag))
    timeout = remote.timeout(options)
    remote.insecure(options)  # what is wrong is said before anything is compiled
    releases = []
    for registry in registries:
        sink = partial(remote.sink, options, registry, timeout)
        release = Release(image, arches, registry, tag, sink, options.report, order)
        release.list_tag()
        for arch in arches:
            release.arch_tag(arch)
        releases.append(release)
    return tuple(releases)


def _arches(options: Options, settings: Settings, every_arch: bool) -> tuple[Arch, ...]:
    arches = settings.select(_arch_names(options, settings, every_arch))
    # A row without a runtime is one that links the toolchain's libc.
    return tuple(replace(arch, runtime=None) for arch in arches) if options.flags.get("libc") else arches


def _arch_names(options: Options, settings: Settings, every_arch: bool) -> Iterable[str]:
    everything = options.environment.get("ALL_ARCH", "").split() or list(settings.defaults.release)
    one = options.environment.get("ARCH", "").split() or [settings.defaults.arch]
    for name in options.flags.get("arch") or (everything if every_arch else one):
        yield from everything if name == "all" else [name]


def _cflags(options: Options, settings: Settings) -> tuple[str, ...]:
    import shlex

    cflags = options.text("cflags", "")
    try:
        return tuple(shlex.split(cflags)) or settings.defaults.cflags
    except ValueError as error:
        raise UsageError(f"CFLAGS {cflags!r}: {error}") from None


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
    from build.verify import verify

    return verify(making(options, every_arch=True), verifying(options, cache(partial(_client, options))))


def verifying(options: Options, client: Callable[[], APIClient]) -> Verifying:
    """Who runs the programs. Raises UsageError for a driver that there is not."""
    from build.drivers.choosing import choose
    from build.release import Verifying

    driver = choose(options.flags.get("with_") or "namespaces", client)
    return Verifying(driver, bool(options.flags.get("allow_not_run")))


def _toolchain(options: Options, settings: Settings) -> str:
    name = options.text("kube_cross_image", settings.defaults.kube_cross_image)
    return f"{name}:{options.text('kube_cross_version', settings.defaults.kube_cross_version)}"


def _client(options: Options) -> APIClient:
    from build.daemon import connect

    return connect(options.environment)
