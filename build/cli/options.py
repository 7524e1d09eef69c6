"""The user's options: flags and environment variables, and the registry settings that follow from them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build.errors import UsageError
from build.report import Report, silent

if TYPE_CHECKING:
    from build.config.arches import ImageSettings, Settings
    from build.stores.http.access import Access, Source

# Seconds: the default limit for all requests to registries in a run, including waiting.
TIMEOUT = 300


# .cache is also used by other tools.
CACHE = ".cache/pause"
_SELECT_ONE = "select it with --image NAME"


@dataclass(frozen=True)
class Options:
    """Flags by name, and the environment. A `dry` run changes nothing; `report` receives progress events."""

    root: Path
    flags: Mapping[str, Any]
    environment: Mapping[str, str]
    dry: bool
    report: Report = silent

    def text(self, name: str, default: str) -> str:
        """The flag, else the environment variable (name in upper case), else the default; empty values are ignored."""
        return self.flags.get(name) or self.environment.get(name.upper()) or default

    def any(self, *names: str) -> bool:
        """Whether the user gave one of these flags, or its environment variable."""
        return any(self.flags.get(name) or self.environment.get(name.upper()) for name in names)

    def one_of(self, name: str, default: str, known: Mapping[str, Any]) -> Any:
        """The value in `known` that the option selects; raise UsageError with the nearest name for an unknown one."""
        from build.config.arches import nearest

        chosen = self.text(name, default)
        if chosen not in known:
            raise UsageError(f"unknown {name.replace('_', '-')} {chosen!r}{nearest(chosen, known)}")
        return known[chosen]


def registries(options: Options, default: str) -> list[str]:
    """The registries to publish to, as written by the user; raise UsageError for an archive or an invalid name."""
    from build.oci.reference import archive_file, check_registry

    given = options.flags.get("registry") or [options.environment.get("REGISTRY") or default]
    checked = list(dict.fromkeys(map(check_registry, given)))
    for registry in checked:
        if archive_file(registry):
            raise UsageError(
                f"{registry!r}: expected HOST[:PORT][/PATH] or oci:FOLDER\n  to write an archive, use invoke copy"
            )
    return checked


def also_tags(options: Options) -> list[str]:
    """The further tags that a release gets; raise UsageError for what is no tag."""
    from build.oci.reference import check_tag

    return [
        *dict.fromkeys(map(check_tag, options.flags.get("also_tag") or options.environment.get("ALSO_TAG", "").split()))
    ]


def expect_folder(options: Options, place: str, path: str) -> None:
    """Raise UsageError if `path`, for the user's `place`, is outside the checkout in a folder that does not exist.

    In the checkout, folders are created; elsewhere, a path that is not there is more likely misspelled or not mounted.
    """
    folder = Path(os.path.abspath(options.root / path)).parent
    if not folder.exists() and not folder.is_relative_to(options.root):
        raise UsageError(f"{place!r}: no such folder: {folder}\n  create it first: mkdir -p {shlex.quote(str(folder))}")


def timeout(options: Options) -> float:
    """The limit in seconds for all requests to registries; raise UsageError unless it is a positive integer."""
    return _positive(options, "timeout", str(TIMEOUT), "seconds") or TIMEOUT


def parallel(options: Options) -> int | None:
    """The largest number of requests in flight to a registry, if one is given; raise UsageError for anything else."""
    return _positive(options, "parallel", "", "requests")


def _positive(options: Options, name: str, default: str, unit: str) -> int | None:
    given = options.text(name, default)
    if given and not re.fullmatch("0*[1-9][0-9]{0,8}", given):
        raise UsageError(f"{name}: found {given!r}, expected a positive whole number of {unit}")
    return int(given) if given else None


def insecure(options: Options) -> frozenset[str]:
    """The hosts of --insecure-registry; raise UsageError for an invalid host."""
    from build.oci.reference import HOST, check_port

    given = options.flags.get("insecure_registry") or ()
    for host in given:
        check_port(host, host)
        if not HOST.fullmatch(host):
            raise UsageError(f"--insecure-registry {host!r}: expected HOST[:PORT], for example registry.site:5000")
    return frozenset(given)


def _home(environment: Mapping[str, str]) -> Path | None:
    """The user's home folder; None if HOME is not set and the system does not know the user, as in some containers."""
    try:
        return Path(environment.get("HOME") or Path.home())
    except RuntimeError:
        return None


def credential_sources(environment: Mapping[str, str]) -> tuple[Source, ...]:
    """Where credentials are searched, in this order: as Docker, the variable first; then as containers-auth.json(5)."""
    from build.stores.http.access import Variable

    home = _home(environment)
    value = environment.get("DOCKER_AUTH_CONFIG")
    primary: Path | None = None
    if file := environment.get("REGISTRY_AUTH_FILE"):
        primary = Path(file)
    elif runtime := environment.get("XDG_RUNTIME_DIR"):
        primary = Path(runtime, "containers/auth.json")
    elif hasattr(os, "getuid"):
        primary = Path("/run/containers", str(os.getuid()), "auth.json")
    config = environment.get("XDG_CONFIG_HOME") or (home and home / ".config")
    docker = environment.get("DOCKER_CONFIG") or (home and home / ".docker")
    found = (
        Variable("DOCKER_AUTH_CONFIG", value) if value else None,
        primary,
        Path(config, "containers/auth.json") if config else None,
        Path(docker, "config.json") if docker else None,
    )
    return tuple(each for each in found if each)


def access(options: Options) -> Access:
    """The settings for access to registries: credentials, certificates, proxies and timeout."""
    from build.stores.http.access import Access

    environment = options.environment
    # Like Go programs such as Docker: both spellings are read, and upper case takes precedence.
    proxies = {
        name: value
        for name in ("http", "https", "no")
        if (value := environment.get(f"{name.upper()}_PROXY") or environment.get(f"{name}_proxy"))
    }
    home = _home(environment)
    certificates = (Path("/etc/docker/certs.d"), *([home / ".config/docker/certs.d"] if home else ()))
    return Access(
        credentials=credential_sources(environment),
        certificates=certificates,
        proxies=proxies,
        insecure=insecure(options),
        timeout=timeout(options),
        report=options.report,
        parallel=parallel(options),
    )


def images(options: Options, settings: Settings) -> list[ImageSettings]:
    """The selected images, or all of them, in the table's order.

    Raises UsageError for a name that has no row, and if several images would get the same tag.
    """
    names = options.flags.get("image") or options.environment.get("IMAGE", "").split() or settings.images
    wanted = [settings.image(name) for name in names]
    selected = [image for image in settings.images.values() if image in wanted]
    tag = options.text("tag", "")
    if tag and len(selected) > 1:
        found = _several(selected)
        raise UsageError(f"tag {tag!r}: {found}, expected one: each has a tag of its own\n  {_SELECT_ONE}")
    return selected


def only(selected: Iterable[ImageSettings]) -> ImageSettings:
    """The only image; raise UsageError if there are several, because a node uses one."""
    first, *others = selected
    if others:
        raise UsageError(f"{_several([first, *others])}, expected one\n  {_SELECT_ONE}")
    return first


def _several(selected: Iterable[ImageSettings]) -> str:
    names = [image.name for image in selected]
    return f"found {len(names)} images ({', '.join(names)})"


def cflags(options: Options, image: ImageSettings) -> tuple[str, ...]:
    """The compiler's flags: the user's, else the image's; raise UsageError for what no shell could split."""
    given = options.text("cflags", "")
    try:
        return tuple(shlex.split(given)) or image.cflags
    except ValueError as error:
        raise UsageError(f"CFLAGS {given!r}: {error}") from None


def settings(options: Options) -> Settings:
    """The contents of arches.yaml; raise UsageError if it is invalid."""
    from build.config.parse import read_settings

    return read_settings(options.root / "arches.yaml")


def scratch_base(options: Options) -> Path:
    """The folder for temporary files: in the cache, or the system's if nothing may be written to the checkout."""
    from build.cache.cache import SCRATCH

    if options.dry or not os.access(options.root, os.W_OK):
        import tempfile

        return Path(tempfile.gettempdir(), f"pause-{os.urandom(8).hex()}")
    return options.root / CACHE / SCRATCH
