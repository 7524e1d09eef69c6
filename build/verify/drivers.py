"""The drivers by their names for --with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from build.config.arches import nearest
from build.errors import UsageError
from build.verify.driver import Driver

if TYPE_CHECKING:
    from build.daemon.client import Daemon


def choose(name: str, connect: Callable[[], Awaitable[Daemon]], base: Path) -> Callable[[], Driver]:
    """A function that makes the driver `name`.

    `connect` reaches the Docker daemon; scratch folders are made below `base`. Raises UsageError for an unknown name.
    """

    def namespaces() -> Driver:
        from build.verify.namespaces import Namespaces

        return Namespaces(base)

    def docker() -> Driver:
        from build.verify.docker import Docker

        return Docker(connect, base)

    def podman() -> Driver:
        from build.verify.podman import Podman

        return Podman(base)

    known = {"namespaces": namespaces, "docker": docker, "podman": podman}
    if name not in known:
        raise UsageError(f"unknown driver {name!r}{nearest(name, known)}")
    return known[name]
