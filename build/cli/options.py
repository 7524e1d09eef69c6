"""What the user asked for: flags, the environment, and what follows from them for registries and the daemon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build.errors import UsageError
from build.report import Report, silent

if TYPE_CHECKING:
    from build.stores.registry.access import Access

# Seconds for all requests of a run to registries, waiting included.
TIMEOUT = 300


@dataclass(frozen=True)
class Options:
    """Flags by name, and the environment. A `dry` run changes nothing; `report` receives the progress."""

    root: Path
    flags: Mapping[str, Any]
    environment: Mapping[str, str]
    dry: bool
    report: Report = silent

    def text(self, name: str, default: str) -> str:
        """A flag, else the environment variable of the same name in capitals, else the default; empty means unset."""
        return self.flags.get(name) or self.environment.get(name.upper()) or default

    def one_of(self, name: str, default: str, known: Mapping[str, Any]) -> Any:
        """The value in `known` that the option names; raise UsageError with the nearest name for any other."""
        from build.config.arches import nearest

        chosen = self.text(name, default)
        if chosen not in known:
            raise UsageError(f"unknown {name} {chosen!r}{nearest(chosen, known)}")
        return known[chosen]


def registries(options: Options, default: str) -> list[str]:
    """The registries to publish to, as they are spelled; raise UsageError for one that is not a destination."""
    from build.oci.reference import archive_file, check_registry

    given = options.flags.get("registry") or [options.environment.get("REGISTRY") or default]
    for registry in map(check_registry, given):
        if archive_file(registry):
            raise UsageError(
                f"{registry!r}: expected HOST[:PORT][/PATH] or oci:FOLDER\n  to write an archive, use invoke copy"
            )
    return list(dict.fromkeys(given))


def timeout(options: Options) -> float:
    """Seconds that all requests to registries may take; raise UsageError for anything but a positive number."""
    given = options.text("timeout", str(TIMEOUT))
    if not given.isascii() or not given.isdigit() or not int(given):
        raise UsageError(f"timeout: found {given!r}, expected seconds, a whole number from 1 on")
    return int(given)


def insecure(options: Options) -> frozenset[str]:
    """The hosts of --insecure-registry; raise UsageError for what is not a host."""
    from build.oci.reference import HOST

    given = options.flags.get("insecure_registry") or ()
    for host in given:
        if not HOST.fullmatch(host):
            raise UsageError(f"--insecure-registry {host!r}: expected HOST[:PORT], such as registry.site:5000")
    return frozenset(given)


def docker_config(options: Options) -> Path:
    """Docker's config.json."""
    folder = options.environment.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def access(options: Options) -> Access:
    """How registries are reached: credentials, certificates, proxies, timeout."""
    from build.stores.registry.access import Access

    environment = options.environment
    # Like Docker and other Go programs, read both spellings, the upper-case one first.
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
    )
