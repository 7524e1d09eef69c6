"""The drivers by the names that --with knows them by."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from build.config.arches import nearest
from build.errors import UsageError
from build.verify.driver import Driver

if TYPE_CHECKING:
    from docker import APIClient


def choose(name: str, client: Callable[[], APIClient]) -> Callable[[], Driver]:
    """What makes the driver; UsageError for one that there is not. `client` is that of the Docker daemon."""

    def namespaces() -> Driver:
        from build.verify.namespaces import Namespaces

        return Namespaces()

    def docker() -> Driver:
        from build.verify.docker import Docker

        return Docker(client)

    def podman() -> Driver:
        from build.verify.podman import Podman

        return Podman()

    known = {"namespaces": namespaces, "docker": docker, "podman": podman}
    if name not in known:
        raise UsageError(f"unknown driver {name!r}{nearest(name, known)}")
    return known[name]
