"""How a run's progress reaches the user: a line an event, or on a terminal a live view. All of it goes to stderr.

A view is drawn by a thread of its own, which loads what it needs once there is something to see: a run that finds
nothing to do ends before that, with plain lines. Nobody who reads no further stops a run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from threading import Event as Signal
from threading import Lock, Thread
from time import monotonic
from typing import TextIO

from build import trace
from build.errors import UsageError
from build.report import COMPILE, Event, Report

# Seconds: until a run is long enough for a view though nothing is made, and between two frames.
PATIENCE, PACE = 0.3, 0.1


@contextmanager
def watching(stream: TextIO | None, environment: Mapping[str, str], quiet: bool, verbose: bool) -> Iterator[Report]:
    """What hears of a run's progress until the context ends. Raises UsageError for both `quiet` and `verbose`."""
    if quiet and verbose:
        raise UsageError("--quiet and --verbose: expected one of them")
    if quiet or verbose or stream is None or not _draws(stream, environment):
        with trace.shown(to(stream)) if verbose else nullcontext():
            yield _plain(stream, quiet)
        return
    view = _Live(stream, colour=not environment.get("NO_COLOR"))
    failed = True
    try:
        yield view.report
        failed = False
    finally:
        view.end(failed)


def to(stream: TextIO | None) -> Callable[[str], None]:
    """What writes lines to `stream` as long as that takes any."""

    def line(text: str) -> None:
        with suppress(OSError):
            say(text, stream)

    return line


def say(text: str, stream: TextIO | None) -> None:
    """Write a line; to who reads no further, or to nobody, nothing. Raises OSError for what else is wrong."""
    if stream is None:
        return
    try:
        stream.write(f"{text}\n")  # in one piece, as others may write, too
        stream.flush()
    except OSError as error:
        # Python would try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            raise


def _draws(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether someone watches, on a terminal that can move its cursor."""
    in_ci = environment.get("CI", "").lower() not in ("", "0", "false")
    return stream.isatty() and not in_ci and environment.get("TERM", "").lower() not in ("dumb", "unknown")


def _plain(stream: TextIO | None, quiet: bool) -> Report:
    line = to(stream)

    def report(event: str | Event) -> None:
        wanted = not quiet or (isinstance(event, Event) and event.note)
        if wanted and str(event):
            line(str(event))

    return report


class _Live:
    """The thread that draws, and what it has yet to draw: each event with its time."""

    def __init__(self, stream: TextIO, colour: bool) -> None:
        self._stream = stream
        self._colour = colour
        self._lock = Lock()
        self._events: list[tuple[float, Event]] = []
        self._at_work, self._over = Signal(), Signal()
        self._failed = self._drawing = False
        # No daemon: whatever ends the run, the cursor is there again when we go.
        self._thread = Thread(target=self._run)

    def report(self, event: str | Event) -> None:
        told = Event(event) if isinstance(event, str) else event
        with self._lock:
            self._events.append((monotonic(), told))
            if self._thread.ident is None:
                self._thread.start()
        if told.stage == COMPILE or told.size:
            self._at_work.set()

    def end(self, failed: bool) -> None:
        """Draw the last frame; or, if there was none, say it all in plain lines."""
        with self._lock:
            self._failed = failed
            self._over.set()
            self._at_work.set()
        if self._drawing:
            self._thread.join()
        report = _plain(self._stream, quiet=False)
        for _, event in self._taken():
            report(event)

    def _run(self) -> None:
        self._at_work.wait(PATIENCE)
        if self._over.is_set():
            return
        from build.cli.live import View

        with self._lock:
            if self._over.is_set():
                return
            self._drawing = True
        with suppress(OSError, SystemExit), View(self._stream, self._colour) as view:  # the terminal may go away
            while not self._over.wait(PACE):
                view.show(self._taken())
            view.end(self._taken(), self._failed)

    def _taken(self) -> list[tuple[float, Event]]:
        with self._lock:
            taken, self._events = self._events, []
        return taken
