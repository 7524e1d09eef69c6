"""The seam to what runs programs: what is asked of a driver, and what it answers with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from build.config.arches import Arch
from build.errors import BuildError
from build.verify.processes import Process, Watch


class NotRunError(BuildError):
    """Programs of this arch do not run here; the message says what would help."""


@dataclass(frozen=True)
class Subject:
    """What is tried: an arch's program, what its `-v` must tell, its companion `orphan`, and its image.

    `image` packs an archive for a container engine to load; only engines call it.
    """

    arch: Arch
    program: bytes
    version: str
    orphan: bytes
    image: Callable[[], bytes] = field(repr=False)


@dataclass(frozen=True)
class Way:
    """How an arch's programs run here, in a word or two; `emulator` is to be put before them."""

    name: str
    emulator: tuple[str, ...] = ()
    native: bool = False


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit status, negative for a signal, and what it said."""

    status: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        said = (self.stderr or self.stdout).strip()
        return f"exit status {self.status}" + (f", {said!r}" if said else "")


class Running(Protocol):
    """The program at work."""

    @property
    def process(self) -> Process:
        """It, as /proc of this machine shows it."""

    def send(self, number: int) -> None:
        """Send it a signal."""

    def outcome(self, seconds: float) -> Ended | None:
        """How it ended, or None if that takes longer."""

    def cut(self) -> Ended:
        """What it has said so far; it is killed."""

    def leave_orphans(self, count: int, seconds: float) -> Ended:
        """Run `orphan COUNT` in its PID namespace. BuildError if that takes longer."""


class Site(Protocol):
    """Where the program of one arch is ready to run."""

    def start(self, *arguments: str, first: bool = True) -> AbstractContextManager[Running]:
        """The program as PID 1 of a PID namespace of its own, or as one among others; it is gone in the end."""


class Driver(Protocol):
    """One way to make namespaces."""

    @property
    def name(self) -> str:
        """What --with calls it."""

    @property
    def direct(self) -> bool:
        """Whether a signal goes from us to the program, with nobody between who takes time."""

    def prepare(self) -> None:
        """Raise BuildError, with what to do, if nothing can run here."""

    def way(self, arch: Arch) -> Way:
        """How an arch's programs run; NotRunError if they don't."""

    def site(self, subject: Subject, watch: Watch) -> AbstractContextManager[Site]:
        """A place for `subject`, of which nothing is left in the end. Raises BuildError."""
