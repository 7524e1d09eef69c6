"""The user's options: flags and environment variables, and the registry settings that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build.errors import UsageError
from build.report import Report, silent

if TYPE_CHECKING:
    from build.stores.registry.access import Access

# Seconds: the default limit for all requests to registries in a run, including waiting.
TIMEOUT = 300


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

    def one_of(self, name: str, default: str, known: Mapping[str, Any]) -> Any:
        """The value in `known` that the option selects; raise UsageError with the nearest name for an unknown one."""
        from build.config.arches import nearest

        chosen = self.text(name, default)
        if chosen not in known:
            raise UsageError(f"unknown {name} {chosen!r}{nearest(chosen, known)}")
        return known[chosen]


def registries(options: Options, default: str) -> list[str]:
    """The registries to publish to, as written by the user; raise UsageError for an archive or an invalid name."""
    from build.oci.reference import archive_file, check_registry

    given = options.flags.get("registry") or [options.environment.get("REGISTRY") or default]
    for registry in map(check_registry, given):
        if archive_file(registry):
            raise UsageError(
                f"{registry!r}: expected HOST[:PORT][/PATH] or oci:FOLDER\n  to write an archive, use invoke copy"
            )
    return list(dict.fromkeys(given))


def timeout(options: Options) -> float:
    """The limit in seconds for all requests to registries; raise UsageError unless it is a positive integer."""
    given = options.text("timeout", str(TIMEOUT))
    if not given.isascii() or not given.isdigit() or not int(given):
        raise UsageError(f"timeout: found {given!r}, expected a positive whole number of seconds")
    return int(given)


def insecure(options: Options) -> frozenset[str]:
    """The hosts of --insecure-registry; raise UsageError for an invalid host."""
    from build.oci.reference import HOST

    given = options.flags.get("insecure_registry") or ()
    for host in given:
        if not HOST.fullmatch(host):
            raise UsageError(f"--insecure-registry {host!r}: expected HOST[:PORT], for example registry.site:5000")
    return frozenset(given)


def docker_config(options: Options) -> Path:
    """The path of Docker's config.json."""
    folder = options.environment.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def access(options: Options) -> Access:
    """The settings for access to registries: credentials, certificates, proxies and timeout."""
    from build.stores.registry.access import Access

    environment = options.environment
    # Like Go programs such as Docker: both spellings are read, and upper case takes precedence.
    proxies = {
        name: value
        for name in ("http", "https", "no")
        if (value := environment.get(f"{name.upper()}_PROXY") or environment.get(f"{name}_proxy"))
    }
    home = Path(environment.get("HOME") or Path.home())
    return Access(
        config_file=docker_config(options),
        certificates=(Path("/etc/docker/certs.d"), home / ".config" / "docker" / "certs.d"),
        proxies=proxies,
        insecure=insecure(options),
        timeout=timeout(options),
        report=options.report,
    )
