"""What became of the checks: a table for people, and one message if it is not good enough to publish."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from build.errors import BuildError


class VerifyError(BuildError):
    """A program does not do what pods need of it, or was not run."""


@dataclass(frozen=True)
class Finding:
    """One check of one arch, with its figure, or with what failed."""

    check: str
    passed: bool
    figure: str


@dataclass(frozen=True)
class Verdict:
    """One arch of an image: how it was run (`way`), and what was found.

    With no way it was not run; `hint` says what would help.
    """

    arch: str
    way: str | None
    findings: tuple[Finding, ...] = ()
    hint: str = ""
    image: str = ""

    @property
    def failures(self) -> list[Finding]:
        """The checks that failed."""
        return [each for each in self.findings if not each.passed]


def refuse(verdicts: Sequence[Verdict], allow_not_run: bool) -> None:
    """Raise VerifyError unless every arch has passed, or was not run where that is allowed."""
    several = _of_several(verdicts)
    bad = [each for each in verdicts if each.failures]
    not_run = [] if allow_not_run else [each for each in verdicts if each.way is None]
    lines = [
        f"{f'{each.image}: ' if several else ''}{line}"
        for each, line in (
            *((each, f"{each.arch}: {one.check}: {one.figure}") for each in bad for one in each.failures),
            *((each, each.hint.replace(":", ": not run:", 1)) for each in not_run),
        )
    ]
    if lines:
        count = len({(each.image, each.arch) for each in (*bad, *not_run)})
        allowed = "\n  or do without them: --allow-not-run" if not_run else ""
        raise VerifyError(f"{count} of {len(verdicts)} arches have not passed\n" + "\n".join(lines) + allowed)


def shown(verdicts: Sequence[Verdict], terminal: bool) -> str:
    """The table: of the terminal's width, or plain text."""
    return rich(verdicts) if terminal else plain(verdicts)


def plain(verdicts: Sequence[Verdict]) -> str:
    """The table in aligned columns."""
    rows = _rows(verdicts)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def rich(verdicts: Sequence[Verdict], width: int | None = None) -> str:
    """The table for a terminal, of its width unless told."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    head, *rows = _rows(verdicts)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title in head:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    text = io.StringIO()
    Console(file=text, force_terminal=True, width=width or Console(file=sys.stdout).width).print(table)
    return text.getvalue().rstrip("\n")


_FAILED, _NOT_RUN = "FAILED", "not run"
_STYLES = {_FAILED: "bold red", _NOT_RUN: "yellow"}


def _of_several(verdicts: Sequence[Verdict]) -> bool:
    return len({each.image for each in verdicts}) > 1


def _rows(verdicts: Sequence[Verdict]) -> list[list[str]]:
    checks = list(dict.fromkeys(one.check for each in verdicts for one in each.findings))
    rows = [["arch", "run", *checks]]
    for each in verdicts:
        found = {one.check: one.figure if one.passed else _FAILED for one in each.findings}
        rows.append([each.arch, each.way or _NOT_RUN, *(found.get(check, "") for check in checks)])
    if _of_several(verdicts):
        return [[image, *row] for image, row in zip(["image", *(each.image for each in verdicts)], rows, strict=True)]
    return rows
