"""How many round trips in a row does a release take? `python -m bench.roundtrips [ROUNDS]` prints them.

A proxy makes the registry seem far away, by several distances; the slope of wall time over distance is the number of
round trips of which each waits for the one before. It is taken for five arches and for fifty (further rows of the same
table), and for `skopeo`, if there is one, which copies the same images through the same proxy.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.latency import far_away
from bench.registry import empty_registry

ROOT = Path(__file__).resolve().parent.parent
DISTANCES = (0.0, 0.05, 0.1)  # seconds, there and back
RELEASE = ("amd64", "arm", "arm64", "ppc64le", "s390x")
ROW = """
  {name}:
    triple: x86_64-linux-gnu
    platform: linux/amd64/{name}
    elf: {{machine: EM_X86_64, class: 64, order: little}}
    qemu: x86_64
    runtime: x86_64
"""


def main(rounds: int) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as scratch:
        checkout = Path(scratch, "checkout")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
        print(f"{'':24}{'cold':>8}{'nothing':>9}   round trips in a row")
        few = list(RELEASE)
        _show("all-push, 5 arches", _slopes(rounds, checkout, few))
        _show("all-push, 50 arches", _slopes(max(3, rounds // 3), checkout, few + _more_rows(checkout, 45)))
        if shutil.which("skopeo"):
            _run(["invoke", "all-push"], checkout, "oci:dist")
            _show("skopeo copy, 5 arches", _slopes_of(1, lambda: None, lambda host: _skopeo(checkout, host)))


def _slopes(rounds: int, checkout: Path, arches: list[str]) -> tuple[float, float]:
    names = [word for arch in arches for word in ("--arch", arch)]

    def forget() -> None:
        for made in ("bin", ".cache"):
            shutil.rmtree(checkout / made, ignore_errors=True)

    return _slopes_of(rounds, forget, lambda host: _run(["invoke", "all-push", *names], checkout, host))


def _slopes_of(rounds: int, forget: Callable[[], None], publish: Callable[[str], None]) -> tuple[float, float]:
    """Round trips of a first publication and of a second: the slopes of their medians."""
    cold: list[list[float]] = [[] for _ in DISTANCES]
    again: list[list[float]] = [[] for _ in DISTANCES]
    for _ in range(rounds):  # all distances in turn, so that a machine whose speed varies varies for each
        for at, seconds in enumerate(DISTANCES):
            with empty_registry() as registry, far_away(registry, seconds) as host:
                forget()
                cold[at].append(_timed(publish, host))
                again[at].append(_timed(publish, host))
    return _slope(cold), _slope(again)


def _slope(walls: list[list[float]]) -> float:
    return statistics.linear_regression(DISTANCES, [statistics.median(each) for each in walls]).slope


def _more_rows(checkout: Path, count: int) -> list[str]:
    names = [f"x{number}" for number in range(count)]
    table = (checkout / "arches.yaml").read_text()
    rows = "".join(ROW.format(name=name) for name in names)
    (checkout / "arches.yaml").write_text(table.replace("\narches:\n", f"\narches:{rows}", 1))
    return names


def _skopeo(checkout: Path, host: str) -> None:
    copy = ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]
    for arch in RELEASE:
        _run([*copy, f"oci:dist/pause-{arch}:3.1", f"docker://{host}/pause-{arch}:3.1"], checkout, host)
    _run([*copy, "--all", "oci:dist/pause:3.1", f"docker://{host}/pause:3.1"], checkout, host)


def _timed(publish: Callable[[str], None], host: str) -> float:
    start = time.perf_counter()
    publish(host)
    return time.perf_counter() - start


def _run(command: list[str], folder: Path, registry: str) -> None:
    environment = {**os.environ, "REGISTRY": registry}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if command[0] == "invoke":
        command = [str(Path(sys.executable).with_name("invoke")), *command[1:]]
    run = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {run.returncode}\n{run.stderr}")


def _show(what: str, slopes: tuple[float, float]) -> None:
    print(f"{what:24}{slopes[0]:8.1f}{slopes[1]:9.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 7)
