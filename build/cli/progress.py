"""How a run's progress reaches the user, on stderr: one line per event, or a live view on a terminal.

The view has a row for each arch, and above them the lines that belong to no arch. rich, which draws it, is loaded once
there is something to see: a run that finds nothing to do ends before that, with plain lines. If the reader of stderr
exits, the run continues.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, TextIO

from build.errors import UsageError
from build.report import COMPILE, DONE, FAILED, WAIT, Event, Report, shown, tracing

if TYPE_CHECKING:
    from asyncio import Task

    from rich.live import Live
    from rich.table import Table

# Seconds: how long a run that compiles and sends nothing stays without a view, and the time between two frames.
PATIENCE, PACE = 0.3, 0.1
_TITLES = ("image", "arch", "stage", "bytes", "time")


@asynccontextmanager
async def watching(
    stream: TextIO | None, environment: Mapping[str, str], quiet: bool, verbose: bool
) -> AsyncIterator[Report]:
    """A Report that shows a run's progress until the context ends; the cursor is visible then.

    Raises UsageError for both `quiet` and `verbose`.
    """
    if quiet and verbose:
        raise UsageError("--quiet and --verbose: expected only one of them")
    if quiet or verbose or stream is None or not _draws(stream, environment):
        with tracing(to(stream)) if verbose else nullcontext():
            yield _plain(stream, quiet)
        return
    view = _View(stream, colour=not environment.get("NO_COLOR"))
    failed = True
    try:
        yield view.report
        failed = False
    finally:
        await view.end(failed)


def to(stream: TextIO | None) -> Callable[[str], None]:
    """A function that writes a message to `stream`, for as long as it takes any; see `shown`."""

    def line(text: str) -> None:
        with suppress(OSError):
            say(shown(text), stream)

    return line


def say(text: str, stream: TextIO | None) -> None:
    """Write a line; nothing if there is no stream, or if its reader has exited. Raises OSError for other failures."""
    if stream is None:
        return
    try:
        stream.write(f"{text}\n")  # in one piece, because other processes may write, too
        stream.flush()
    except OSError as error:
        # Python would try again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            raise


def _draws(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether the stream is a terminal whose cursor can be moved."""
    in_ci = environment.get("CI", "").lower() not in ("", "0", "false")
    return stream.isatty() and not in_ci and environment.get("TERM", "").lower() not in ("dumb", "unknown")


def _plain(stream: TextIO | None, quiet: bool) -> Report:
    line = to(stream)

    def report(event: str | Event) -> None:
        wanted = not quiet or (isinstance(event, Event) and event.note)
        if wanted and str(event):
            line(str(event))

    return report


@dataclass
class _Row:
    """The stage of an arch, the bytes sent, and when work on it began and ended."""

    stage: str = WAIT
    failed: bool = False
    size: int = 0
    began: float = 0
    ended: float = 0

    def update(self, time: float, event: Event) -> None:
        self.size += event.size
        if event.stage == FAILED:
            self.failed, self.ended = True, self.ended or time
        elif not self.failed:
            self.stage = event.stage
            self.began = self.began or (time if event.stage != WAIT else 0)
            self.ended = time if event.stage == DONE else 0

    def cells(self, now: float, over: bool) -> list[str]:
        at = "" if self.stage in (WAIT, DONE) else f" at {self.stage}"
        stopped = over and self.stage != DONE
        stage = f"FAILED{at}" if self.failed else f"stopped{at}" if stopped else self.stage
        time = f"{(self.ended or now) - self.began:.1f} s" if self.began else ""
        return [stage, str(self.size or ""), time]


class _View:
    """Draws the rows on a terminal, in a task of the event loop that the first event starts."""

    def __init__(self, stream: TextIO, colour: bool) -> None:
        import asyncio

        self._stream = stream
        self._colour = colour
        self._events: list[tuple[float, Event]] = []
        self._rows: dict[tuple[str, str], _Row] = {}
        self._drawn: list[list[str]] = []
        self._failed = True
        self._at_work = asyncio.Event()
        self._task: Task[None] | None = None

    def report(self, event: str | Event) -> None:
        """Note an event, for the next frame to show."""
        import asyncio

        event = Event(event) if isinstance(event, str) else event
        self._events.append((monotonic(), event))
        self._task = self._task or asyncio.create_task(self._draw())
        if event.stage == COMPILE or event.size:
            self._at_work.set()

    async def end(self, failed: bool) -> None:
        """Draw the last frame, in which what has not ended is done, or stopped if the run has `failed`.

        If there was no frame yet, write plain lines instead.
        """
        import asyncio

        self._failed = failed
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        report = _plain(self._stream, quiet=False)
        for _, event in self._taken():
            report(event)

    async def _draw(self) -> None:
        """Draw until cancelled, or until the terminal is gone."""
        import asyncio

        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._at_work.wait()
        # Compilers run and bytes flow in the meantime.
        await asyncio.to_thread(_load_rich)
        from rich.console import Console
        from rich.live import Live

        console = Console(
            file=self._stream,
            force_terminal=True,
            color_system="auto" if self._colour else None,
            highlight=False,
            markup=False,
            emoji=False,
        )
        live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        # The terminal may go away, which rich answers with SystemExit.
        with suppress(OSError, SystemExit):
            try:
                while True:
                    self._show(live, over=False)
                    await asyncio.sleep(PACE)
            finally:
                try:
                    self._show(live, over=True)
                finally:
                    live.stop()

    def _show(self, live: Live, over: bool) -> None:
        """Print the lines of the events since the last frame, and draw the rows if they have changed."""
        from rich.text import Text

        for time, event in self._taken():
            if event.stage:
                self._rows.setdefault((event.image, event.arch), _Row()).update(time, event)
            elif event.text:
                live.console.print(Text(shown(event.text)), soft_wrap=True)
        now = monotonic()
        for row in self._rows.values() if over and not self._failed else ():
            row.update(row.ended or now, Event(stage=DONE))
        cells = [[image, arch, *row.cells(now, over)] for (image, arch), row in self._rows.items()]
        if cells != self._drawn:
            self._drawn = cells
            live.update(self._table(cells))
            live.start()  # once
            live.refresh()

    def _table(self, cells: Sequence[Sequence[str]]) -> Table:
        from rich.table import Table

        first = 0 if len({image for image, _ in self._rows}) > 1 else 1
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for title in _TITLES[first:]:
            table.add_column(title, no_wrap=True, justify="right" if title in ("bytes", "time") else "left")
        for texts, row in zip(cells, self._rows.values(), strict=True):
            table.add_row(*texts[first:], style="bold red" if row.failed else "")
        return table

    def _taken(self) -> list[tuple[float, Event]]:
        taken, self._events = self._events, []
        return taken


def _load_rich() -> None:
    import rich.live
    import rich.table  # noqa: F401
