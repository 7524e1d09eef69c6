"""From flags and environment to registries: which ones, who we are to them, and how they are reached."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from build.cli.options import Options
from build.errors import UsageError

if TYPE_CHECKING:
    from build.stores.registry.auth import Credentials
    from build.stores.registry.trust import Trust
    from build.stores.store import Sink

# Seconds for all that a run sends to registries, and for all its waiting.
TIMEOUT = 300


def registries(options: Options, default: str) -> list[str]:
    """Every registry in force, as it is spelled; raise UsageError for one that can't be published to."""
    from build.oci.reference import archive_file, check_registry

    given = options.flags.get("registry") or [options.environment.get("REGISTRY") or default]
    for registry in map(check_registry, given):
        if archive_file(registry):
            raise UsageError(f"{registry!r}: expected HOST[:PORT][/PATH] or oci:FOLDER\n  for an archive: invoke copy")
    return list(dict.fromkeys(given))


def timeout(options: Options) -> float:
    """How long all exchanges of the run may take, in seconds; UsageError for what is no such number."""
    given = options.text("timeout", str(TIMEOUT))
    if not given.isascii() or not given.isdigit() or not int(given):
        raise UsageError(f"timeout: found {given!r}, expected seconds, as a whole number from 1 on")
    return int(given)


def login(options: Options, host: str) -> Credentials | None:
    """Who we are to HOST[:PORT]; raise PublishError if Docker's config.json can't be asked."""
    from build.stores.registry.auth import credentials

    return credentials(_config_file(options), host)


def insecure(options: Options) -> frozenset[str]:
    """The hosts that may be spoken to in the open; UsageError for what is no host."""
    from build.oci.reference import HOST

    given = options.flags.get("insecure_registry") or ()
    for host in given:
        if not HOST.fullmatch(host):
            raise UsageError(f"--insecure-registry {host!r}: expected HOST[:PORT], as registry.site:5000")
    return frozenset(given)


def sink(options: Options, registry: str, timeout: float) -> Sink:
    """What keeps the repositories of a registry, or of a folder."""
    if registry.startswith("oci:"):
        from build.stores.layout import Layout

        return Layout(options.root)
    from build.stores.registry.registry import Registry
    from build.stores.registry.transport import Transport

    return Registry(registry.partition("/")[0], _config_file(options), Transport(_trust(options), timeout))


def sinks(options: Options, timeout: float) -> Callable[[str], Sink]:
    """What keeps the repositories of a registry: the same for all of a host, so that they share their connections."""
    of_host = cache(lambda host: sink(options, host, timeout))
    return lambda registry: of_host(registry.partition("/")[0])


def _config_file(options: Options) -> Path:
    folder = options.environment.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def _trust(options: Options) -> Trust:
    from build.stores.registry.trust import Trust

    environment = options.environment
    # Go's programs, Docker among them, read either spelling, and this one first.
    proxies = {
        name: value
        for name in ("http", "https", "no")
        if (value := environment.get(f"{name.upper()}_PROXY") or environment.get(f"{name}_proxy"))
    }
    home = Path(environment.get("HOME") or Path.home())
    folders = (Path("/etc/docker/certs.d"), home / ".config" / "docker" / "certs.d")
    return Trust(folders, proxies, insecure(options))
