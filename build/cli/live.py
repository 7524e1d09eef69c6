"""The live view of a run: a row for each arch, and above them the lines that are of none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from build.report import DONE, FAILED, WAIT, Event

_TITLES = ("image", "arch", "stage", "bytes", "time")


@dataclass
class _Row:
    """What an arch is at: its stage, the bytes that were sent, and since when and until when it is worked at."""

    stage: str = WAIT
    failed: bool = False
    size: int = 0
    began: float = 0
    ended: float = 0

    def hear(self, time: float, event: Event) -> None:
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


class View:
    """Draws on a terminal until the context ends; what was drawn last stays. Raises OSError if the terminal is gone."""

    def __init__(self, stream: TextIO, colour: bool) -> None:
        self._console = Console(
            file=stream,
            force_terminal=True,
            color_system="auto" if colour else None,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._rows: dict[tuple[str, str], _Row] = {}
        self._drawn: list[list[str]] = []

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, events: Iterable[tuple[float, Event]]) -> None:
        """Draw what is known by now."""
        self._hear(events)
        self._draw(over=False)

    def end(self, events: Iterable[tuple[float, Event]], failed: bool) -> None:
        """Draw the last frame: what has not ended is done, or if the run has `failed`, stopped."""
        self._hear(events)
        for row in () if failed else self._rows.values():
            row.hear(row.ended or monotonic(), Event(stage=DONE))
        self._draw(over=True)

    def _hear(self, events: Iterable[tuple[float, Event]]) -> None:
        for time, event in events:
            if event.stage:
                self._rows.setdefault((event.image, event.arch), _Row()).hear(time, event)
            elif event.text:
                self._console.print(Text(event.text), soft_wrap=True)

    def _draw(self, over: bool) -> None:
        now = monotonic()
        cells = [[image, arch, *row.cells(now, over)] for (image, arch), row in self._rows.items()]
        if cells != self._drawn:
            self._drawn = cells
            self._live.update(self._table(cells))
            self._live.start()  # once
            self._live.refresh()

    def _table(self, cells: Sequence[Sequence[str]]) -> Table:
        first = 0 if len({image for image, _ in self._rows}) > 1 else 1
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for title in _TITLES[first:]:
            table.add_column(title, no_wrap=True, justify="right" if title in ("bytes", "time") else "left")
        for texts, row in zip(cells, self._rows.values(), strict=True):
            table.add_row(*texts[first:], style="bold red" if row.failed else "")
        return table
