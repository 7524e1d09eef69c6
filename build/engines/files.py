"""Writes the output files of a run, such as bin/pause-arm64, only if they differ, with the reason."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from build.cache.cache import Cache
from build.cache.inputs import Inputs, changes, remember, remembered
from build.report import Result
from build.system import differs, replacing, write_whole

BIN = "bin"
Write = Callable[[BinaryIO], None]


def keep(
    root: Path,
    cache: Cache,
    result: Result,
    data: bytes | Write,
    inputs: Callable[[Collection[str]], Inputs],
    dry: bool,
    *,
    executable: bool = False,
) -> Result:
    """Write `data` to the file `result.name` in `root` unless it is unchanged; return the result with size and reason.

    `data` may be a function that writes it, if it is large. `inputs` returns the current inputs, given the paths of the
    files that were inputs before. If `dry`, nothing is written.
    """
    target, mode = root / result.name, 0o777 if executable else 0o666
    if isinstance(data, bytes):
        size, is_new = len(data), differs(target, data, mode)
    else:
        size, is_new = _compared(target, data)
    result = replace(result, size=size)
    if not is_new:
        return replace(result, change="kept")
    before = remembered(cache, result.name)
    now = inputs(before.files if before else ())
    why = changes(before, now) or (f"{result.name} {'differs' if target.exists() else 'is missing'}",)
    if not dry:
        if isinstance(data, bytes):
            write_whole(target, data, mode)
        else:
            with replacing(target, mode) as temporary, temporary.open("wb") as output:
                data(output)
        remember(cache, result.name, now)
    return replace(result, change="made", why=why)


def _compared(path: Path, write: Write) -> tuple[int, bool]:
    """How many bytes `write` writes, and whether the file holds something else."""
    try:
        file: BinaryIO = path.open("rb")
    except OSError:
        file = io.BytesIO()
    with file:
        output = _Comparing(file)
        write(cast("BinaryIO", output))
        return output.size, output.differs or file.read(1) != b""


class _Comparing(io.RawIOBase):
    """Compares what is written to it with what `file` has."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self.file, self.size, self.differs = file, 0, False

    def write(self, data: Any) -> int:
        """Compare the next bytes."""
        self.differs = self.differs or self.file.read(len(data)) != data
        self.size += len(data)
        return len(data)
