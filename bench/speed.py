"""How long does a release take? `python -m bench.speed [ROUNDS]` prints medians, against an empty Invoke task.

Each round runs the empty task, a cold `all-push` (compilation included, empty registry) and one with nothing to do,
one right after the other, so that a machine whose speed varies varies for all; ratios are taken within a round.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.registry import LocalRegistry, local_registry

ROOT = Path(__file__).resolve().parent.parent
EMPTY = "from invoke import task\n\n@task\ndef empty(c):\n    'Do nothing.'\n"


def main(rounds: int) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as scratch:
        checkout, nothing, content = (Path(scratch, name) for name in ("checkout", "nothing", "registry"))
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
        for folder in (nothing, content):
            folder.mkdir()
        (nothing / "tasks.py").write_text(EMPTY)
        with local_registry(content) as registry:
            _all_push(checkout, registry)  # so that bytecode is written, as on any machine after its first run
            found = [_round(checkout, nothing, registry) for _ in range(rounds)]
    for name, at in (("empty task", 0), ("cold all-push", 1), ("nothing to do", 2)):
        seconds = statistics.median(each[at] for each in found)
        ratio = statistics.median(each[at] / each[0] for each in found)
        least, most = (choose(each[at] / each[0] for each in found) for choose in (min, max))
        print(f"{name:15}{seconds * 1000:6.0f} ms   {ratio:5.2f} times the empty task ({least:.2f} to {most:.2f})")


def _round(checkout: Path, nothing: Path, registry: LocalRegistry) -> tuple[float, float, float]:
    for made in ("bin", ".cache"):
        shutil.rmtree(checkout / made, ignore_errors=True)
    registry.empty()
    return _invoke(nothing, "empty", registry), _all_push(checkout, registry), _all_push(checkout, registry)


def _all_push(checkout: Path, registry: LocalRegistry) -> float:
    return _invoke(checkout, "all-push", registry)


def _invoke(folder: Path, task: str, registry: LocalRegistry) -> float:
    environment = {**os.environ, "REGISTRY": registry.host}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [str(Path(sys.executable).with_name("invoke")), task]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 15)
