"""From flags, environment and arches.yaml, in this order, to what the pipeline takes.

Imports stand inside the functions here: git answers while they load, and `invoke --list` loads none of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build.errors import UsageError

if TYPE_CHECKING:
    from docker import APIClient

    from build.arches import Arch, Settings
    from build.auth import Credentials
    from build.cleaning import Removed
    from build.compilers import Compiler
    from build.publish import Sink
    from build.reference import Reference, Repository
    from build.release import Made, Release, Workshop

# A folder of its own in one that other tools know, too.
CACHE = ".cache/pause"


@dataclass(frozen=True)
class Options:
    """What the user said: flags by name, and the environment. A `dry` run changes nothing."""

    root: Path
    flags: Mapping[str, Any]
    environment: Mapping[str, str]
    dry: bool

    def text(self, name: str, default: str) -> str:
        """A flag, the environment variable of its name in capitals, or the default; an empty one counts as unset."""
        return self.flags.get(name) or self.environment.get(name.upper()) or default

    def one_of(self, name: str, default: str, known: Mapping[str, Any]) -> Any:
        """The value in `known` that the option names; raise UsageError with the nearest name for any other."""
        from build.arches import nearest

        chosen = self.text(name, default)
        if chosen not in known:
            raise UsageError(f"unknown {name} {chosen!r}{nearest(chosen, known)}")
        return known[chosen]


def releasing(options: Options) -> Release:
    """What to publish and where, for a task that makes nothing. Raises UsageError for a name against the grammar."""
    return _release(options, _settings(options), every_arch=True)


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
    return _sink(options, reference.repository), reference


def checked(options: Options) -> list[Made]:
    """Prove what was asked for, from the bytes that are published."""
    from build.check import check_reference, check_release

    asked = checking(options)
    return check_reference(*asked, _report) if asked else check_release(releasing(options))


def making(options: Options, every_arch: bool) -> Workshop:
    """What to make, and with what. With `every_arch` no --arch means the release set, else the one default arch."""
    from build import revision

    asked = revision.ask(options.root, options.text("rev", ""), options.environment.get("SOURCE_DATE_EPOCH"))

    from build.arches import ENGINES
    from build.cache import Cache
    from build.oci import FORMATS
    from build.release import Daemon, Workshop

    settings = _settings(options)
    usual_compiler = options.one_of("engine", settings.defaults.engine, ENGINES)
    by_daemon = options.text("engine", settings.defaults.engine) == "docker"
    release = _release(options, settings, every_arch)
    client = cache(partial(_client, options))
    return Workshop(
        release=release,
        root=options.root,
        cflags=_cflags(options, settings),
        form=options.one_of("format", settings.defaults.format, FORMATS),
        compiler=_compiler(options, settings, usual_compiler, client),
        cache=Cache(options.root / CACHE, keep=not options.dry),
        daemon=Daemon(client, partial(_login, options)) if by_daemon else None,
        revision=asked(),
    )


def toolchain(options: Options) -> list[Made]:
    """Build the kube-cross image in force in the daemon, from `build/compilers/kube-cross.Dockerfile`."""
    from build.daemon import build_toolchain
    from build.release import Made

    name = _toolchain(options, _settings(options))
    if options.dry:
        return [Made(name, None, None, "made")]
    recipe = (options.root / "build/compilers/kube-cross.Dockerfile").read_bytes()
    return [Made(name, build_toolchain(_client(options), recipe, name, _report), None, "made")]


def cleaned(options: Options) -> list[Removed]:
    """Remove what the tasks made: in `bin`, in the cache, and in the registry in force if that is a folder."""
    from build.cache import Cache
    from build.cleaning import clean
    from build.reference import Repository

    settings = _settings(options)
    registry = _registry(options, settings)
    names = [
        template.format(registry=registry, arch=arch)
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


def _release(options: Options, settings: Settings, every_arch: bool) -> Release:
    from build.reference import check_tag
    from build.release import Release

    image = settings.image(options.text("image", next(iter(settings.images))))
    release = Release(
        image=image,
        arches=_arches(options, settings, every_arch),
        registry=_registry(options, settings),
        tag=check_tag(options.text("tag", image.tag)),
        sink=lambda: _sink(options, release.list_tag().repository),
        report=_report,
        overwrite=bool(options.flags.get("overwrite")),
        dry=options.dry,
    )
    release.list_tag()
    for arch in release.arches:
        release.arch_tag(arch)
    return release


def _arches(options: Options, settings: Settings, every_arch: bool) -> tuple[Arch, ...]:
    arches = settings.select(_arch_names(options, settings, every_arch))
    # A row without a runtime is one that links the toolchain's libc.
    return tuple(replace(arch, runtime=None) for arch in arches) if options.flags.get("libc") else arches


def _registry(options: Options, settings: Settings) -> str:
    registry = options.text("registry", settings.defaults.registry)
    if registry.startswith("oci:") and not registry.removeprefix("oci:").strip("/"):
        raise UsageError(f"REGISTRY {registry!r}: expected oci:FOLDER, not the root of the file system")
    return registry


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

        return KubeCross(client, _toolchain(options, settings), _report, may_pull=not options.dry)

    def host() -> Compiler:
        from build.compilers.host import Host

        return Host()

    made: Compiler = options.one_of("compiler", usual, {"zig": zig, "kube-cross": kube_cross, "host": host})()
    return made


def _toolchain(options: Options, settings: Settings) -> str:
    name = options.text("kube_cross_image", settings.defaults.kube_cross_image)
    return f"{name}:{options.text('kube_cross_version', settings.defaults.kube_cross_version)}"


def _client(options: Options) -> APIClient:
    from build.daemon import connect

    return connect(options.environment)


def _login(options: Options, host: str) -> Credentials | None:
    from build.auth import credentials

    return credentials(_config_file(options), host)


def _config_file(options: Options) -> Path:
    folder = options.environment.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def _sink(options: Options, repository: Repository) -> Sink:
    if repository.on_disk:
        from build.layout import Layout

        return Layout(options.root)
    from build.registry import Registry

    return Registry(repository.host, _config_file(options))


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
