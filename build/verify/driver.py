"""The protocol of all drivers: how programs of an arch are started, watched and ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from build.config.arches import CHECKS, Arch
from build.errors import BuildError
from build.verify.processes import Process

# Characters of a program's output that a message shows.
_LONGEST = 120


class NotRunError(BuildError):
    """Programs of this arch can't be run here; the message says what would help."""


@dataclass(frozen=True)
class Subject:
    """What is verified: an arch's program, the line that it prints for `-v`, the test helper `orphan`, and the image.

    `archive` writes the image to a file for a container engine to load. `checks` are the checks to run.
    """

    arch: Arch
    program: bytes = field(repr=False)
    version: str
    orphan: bytes = field(repr=False)
    archive: Callable[[Path], Awaitable[None]] = field(repr=False)
    checks: tuple[str, ...] = CHECKS


@dataclass(frozen=True)
class Method:
    """How programs of an arch run here, in a word or two; `emulator` goes in front of their command."""

    name: str
    emulator: tuple[str, ...] = ()
    native: bool = False


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit status, negative for a signal, and what it wrote."""

    status: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        written = (self.stderr or self.stdout).strip()
        shown = f"{written[:_LONGEST]!r}{' …' if len(written) > _LONGEST else ''}"
        return f"exit status {self.status}" + (f", {shown}" if written else "")


class Running(Protocol):
    """A program that has been started."""

    @property
    def process(self) -> Process:
        """Its process, as /proc of this machine shows it."""

    async def send(self, number: int) -> None:
        """Send it a signal."""

    async def ended(self, seconds: float) -> Ended | None:
        """How it ended, or None if it still runs after `seconds`."""

    async def kill(self) -> Ended:
        """Kill it, and return what it has written."""

    async def leave_orphans(self, count: int, seconds: float) -> Ended:
        """Run `orphan COUNT` in its PID namespace; raise BuildError if that takes longer than `seconds`."""


class Site(Protocol):
    """A place where the program of one arch can be started."""

    def start(self, *arguments: str, first: bool = True) -> AbstractAsyncContextManager[Running]:
        """Start the program, as PID 1 of a PID namespace of its own if `first`; it is gone when the context ends."""


class Driver(Protocol):
    """One way to make namespaces."""

    @property
    def name(self) -> str:
        """Its name for --with."""

    @property
    def direct(self) -> bool:
        """Whether signals go straight to the program, with no engine in between that takes time."""

    async def prepare(self) -> None:
        """Raise BuildError, with a remedy, if nothing can be run here."""

    def method(self, arch: Arch) -> Method:
        """How programs of `arch` run here; raise NotRunError if they can't."""

    def site(self, subject: Subject) -> AbstractAsyncContextManager[Site]:
        """A place for `subject`, of which nothing is left when the context ends. Raises BuildError."""
