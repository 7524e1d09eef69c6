"""Files that users find after a run, such as bin/pause-arm64: written only if they differ, with the reason."""

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
    """Write `data` to the file `result.name` below `root`, unless it is there; return what was done, and why.

    `inputs` tells what the file is made from now, given the files that it was made from before.
    """
    target, mode = root / result.name, 0o777 if executable else 0o666
    if not differs(target, data, mode):
        return replace(result, change="kept")
    before = remembered(cache, result.name)
    now = inputs(before.files if before else ())
    why = changes(before, now) or (f"{result.name} {'differs' if target.exists() else 'is missing'}",)
    if not dry:
        write_whole(target, data, mode)
        remember(cache, result.name, now)
    return replace(result, change="made", why=why)
