"""The results of the checks: a table for people, and one message if an arch did not pass."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from build.errors import BuildError


class VerifyError(BuildError):
    """A program failed a check, or could not be run here."""


@dataclass(frozen=True)
class Finding:
    """The result of one check of one arch: its figure, or what failed; and the figure as numbers, named with units."""

    check: str
    passed: bool
    figure: str
    numbers: Mapping[str, float] = field(default_factory=dict)

    def fields(self) -> Mapping[str, object]:
        """The check in the document of --json."""
        return {"name": self.check, "passed": self.passed, "figure": self.figure, **self.numbers}


@dataclass(frozen=True)
class Verdict:
    """The results of one arch of an image; `way` is the name of the method by which it was run.

    None means that it was not run; then `hint` says why, and what would help.
    """

    arch: str
    way: str | None
    findings: tuple[Finding, ...] = ()
    hint: str = ""
    image: str = ""
    platform: str = ""

    def fields(self) -> Mapping[str, object]:
        """The result in the document of --json."""
        return {
            "kind": "run",
            "image": self.image,
            "arch": self.arch,
            "platform": self.platform,
            "method": self.way,
            "hint": self.hint or None,
            "checks": [each.fields() for each in self.findings],
        }

    @property
    def failures(self) -> list[Finding]:
        """The checks that failed."""
        return [finding for finding in self.findings if not finding.passed]


def refuse(verdicts: Sequence[Verdict], allow_not_run: bool) -> None:
    """Raise VerifyError unless every arch passed, or was not run and `allow_not_run` is set."""
    several = _are_several_images(verdicts)
    failed = [verdict for verdict in verdicts if verdict.failures]
    not_run = [] if allow_not_run else [verdict for verdict in verdicts if verdict.way is None]
    lines = [
        f"\n  {f'{verdict.image}: ' if several else ''}{line}"
        for verdict, line in (
            *((each, f"{each.arch}: {one.check}: {one.figure}") for each in failed for one in each.failures),
            *((each, each.hint.replace(":", ": not run:", 1)) for each in not_run),
        )
    ]
    if lines:
        count = len({(verdict.image, verdict.arch) for verdict in (*failed, *not_run)})
        allowed = "\n  or accept arches that can't be run here: --allow-not-run" if not_run else ""
        raise VerifyError(f"{count} of {len(verdicts)} arches did not pass" + "".join(lines) + allowed)


def shown(verdicts: Sequence[Verdict], terminal: bool) -> str:
    """The table, fitted to the terminal, or as plain text."""
    return rich(verdicts) if terminal else plain(verdicts)


def plain(verdicts: Sequence[Verdict]) -> str:
    """The table in aligned columns."""
    rows = _rows(verdicts)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def rich(verdicts: Sequence[Verdict], width: int | None = None) -> str:
    """The table for a terminal; `width` defaults to that of the terminal."""
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


def _are_several_images(verdicts: Sequence[Verdict]) -> bool:
    return len({each.image for each in verdicts}) > 1


def _rows(verdicts: Sequence[Verdict]) -> list[list[str]]:
    checks = list(dict.fromkeys(finding.check for verdict in verdicts for finding in verdict.findings))
    rows = [["arch", "run", *checks]]
    for verdict in verdicts:
        cells = {finding.check: finding.figure if finding.passed else _FAILED for finding in verdict.findings}
        rows.append([verdict.arch, verdict.way or _NOT_RUN, *(cells.get(check, "") for check in checks)])
    if _are_several_images(verdicts):
        images = ["image", *(verdict.image for verdict in verdicts)]
        return [[image, *row] for image, row in zip(images, rows, strict=True)]
    return rows
