"""Writes an archive of images: as a whole, and only if it is new, differs from what is there, or may replace that."""

from __future__ import annotations

import asyncio
import filecmp
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from build.errors import PublishError
from build.report import Report
from build.stores.archive.write import Entry, write_archive_file
from build.system import replacing


@dataclass(frozen=True)
class Destination:
    """The archive to write, and its name for messages.

    Only with `overwrite` it replaces a file with other content; `dry` writes nothing.
    """

    name: str
    file: Path
    overwrite: bool
    dry: bool
    report: Report


async def no_reason() -> Sequence[str]:
    """Nothing is known about why a file differs."""
    return ()


async def write(
    entries: Sequence[Entry],
    time: int,
    to: Destination,
    spool: Path,
    explain: Callable[[], Awaitable[Sequence[str]]] = no_reason,
) -> str:
    """Write one archive of `entries`, with modification time `time`; return what changes: pushed, moved or kept.

    Raises PublishError if the file exists with other content and `overwrite` is false; `explain` says why.
    """
    packed = spool / "packed.tar"
    size = await asyncio.to_thread(_pack, entries, time, packed)
    change = await asyncio.to_thread(_change, to.file, packed)
    if change == "moved" and not to.overwrite:
        notes = await explain()
        raise PublishError(
            f"{to.file}: found a file that is not this copy, expected the same or none"
            + "".join(f"\n  {note}" for note in notes)
            + "\n  use another file, or replace this one with --overwrite"
        )
    if change != "kept" and not to.dry:
        await asyncio.to_thread(_move, packed, to.file)
    outcome = "unchanged" if change == "kept" else f"{'would be ' if to.dry else ''}{change}"
    to.report(f"{to.name}: {outcome}, {size} bytes")
    return change


def _pack(entries: Sequence[Entry], time: int, packed: Path) -> int:
    """Write an archive to the new file `packed`; return its size in bytes."""
    write_archive_file(packed, entries, time)
    return packed.stat().st_size


def _move(packed: Path, file: Path) -> None:
    with replacing(file) as temporary:
        shutil.move(packed, temporary)


def _change(file: Path, packed: Path) -> str:
    """What writing `file` changes: "pushed" if there is none, "moved" if it differs, "kept" if it is the same."""
    if not file.exists() and not file.is_symlink():
        return "pushed"
    if not file.is_file():
        raise PublishError(f"{file}: found something that is not a file, expected an archive or nothing")
    return "kept" if filecmp.cmp(file, packed, shallow=False) else "moved"
