"""How long does a release take? `python -m bench.speed [ROUNDS]` prints medians, against an empty Invoke task.

Each round runs a cold `all-push` (compilation included, empty registry) and one with nothing to do, each right after an
empty task, so that a machine whose speed varies varies for both; ratios are taken pair by pair.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.registry import empty_registry

ROOT = Path(__file__).resolve().parent.parent
EMPTY = "from invoke import task\n\n@task\ndef empty(c):\n    'Do nothing.'\n"


def main(rounds: int) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as scratch:
        checkout, nothing = Path(scratch, "checkout"), Path(scratch, "nothing")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
        nothing.mkdir()
        (nothing / "tasks.py").write_text(EMPTY)
        _round(checkout, nothing)  # so that bytecode is written, as on any machine after its first run
        found = [_round(checkout, nothing) for _ in range(rounds)]
    empty = [seconds for each in found for seconds in (each.before_cold, each.before_nothing)]
    _show("empty task", empty, empty)
    _show("cold all-push", [each.cold for each in found], [each.before_cold for each in found])
    _show("nothing to do", [each.nothing for each in found], [each.before_nothing for each in found])


@dataclass(frozen=True)
class Round:
    """Seconds of a cold run, of one with nothing to do, and of the empty task right before each."""

    before_cold: float
    cold: float
    before_nothing: float
    nothing: float


def _round(checkout: Path, nothing: Path) -> Round:
    for made in ("bin", ".cache"):
        shutil.rmtree(checkout / made, ignore_errors=True)
    with empty_registry() as host:
        return Round(
            _invoke(nothing, "empty", host),
            _invoke(checkout, "all-push", host),
            _invoke(nothing, "empty", host),
            _invoke(checkout, "all-push", host),
        )


def _invoke(folder: Path, task: str, registry: str) -> float:
    environment = {**os.environ, "REGISTRY": registry}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [str(Path(sys.executable).with_name("invoke")), task]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def _show(what: str, seconds: Sequence[float], empty: Sequence[float]) -> None:
    ratios = [run / idle for run, idle in zip(seconds, empty, strict=True)]
    print(
        f"{what:15}{statistics.median(seconds) * 1000:6.0f} ms   {statistics.median(ratios):5.2f} times the empty task"
        f" ({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 15)
