"""Writes the output files of a run, such as bin/pause-arm64, only if they differ, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from build.cache.cache import Cache
from build.cache.inputs import Inputs, changes, remember, remembered
from build.report import Result
from build.system import differs, write_whole

BIN = "bin"


def keep(
    root: Path,
    cache: Cache,
    result: Result,
    data: bytes,
    inputs: Callable[[Collection[str]], Inputs],
    dry: bool,
    *,
    executable: bool = False,
) -> Result:
    """Write `data` to the file `result.name` in `root` unless it is unchanged; return the result with size and reason.

    `inputs` returns the current inputs, given the paths of the files that were inputs before. If `dry`, nothing is
    written.
    """
    target, mode = root / result.name, 0o777 if executable else 0o666
    result = replace(result, size=len(data))
    if not differs(target, data, mode):
        return replace(result, change="kept")
    before = remembered(cache, result.name)
    now = inputs(before.files if before else ())
    why = changes(before, now) or (f"{result.name} {'differs' if target.exists() else 'is missing'}",)
    if not dry:
        write_whole(target, data, mode)
        remember(cache, result.name, now)
    return replace(result, change="made", why=why)
