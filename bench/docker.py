"""The docker engine against the Makefile: `python -m bench.docker KUBE_CROSS_IMAGE:VERSION [ROUNDS]` prints medians.

It wants a Docker daemon, `docker-registry`, `make`, and a toolchain image that the daemon has: `invoke kube-cross`.
Each round runs both from cold against an empty registry, one right after the other; ratios are taken within a round.
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
from pathlib import Path

from bench.registry import empty_registry

ROOT = Path(__file__).resolve().parent.parent


def main(toolchain: str, rounds: int) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as scratch:
        checkout, makefile = Path(scratch, "checkout"), Path(scratch, "makefile")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
        shutil.copytree(ROOT / "bench" / "makefile", makefile)
        shutil.copy(ROOT / "pause.c", makefile)
        name, _, version = toolchain.rpartition(":")
        ours = [str(Path(sys.executable).with_name("invoke")), "all-push", "--engine", "docker"]
        ours += ["--kube-cross-image", name, "--kube-cross-version", version]
        make = ["make", "--silent", "all-push", f"KUBE_CROSS={toolchain}"]
        runs = {
            "invoke all-push --engine docker": (ours, checkout),
            "make -j5 all-push": ([*make, "-j5"], makefile),
            "make all-push": (make, makefile),
        }
        _cold(*runs["invoke all-push --engine docker"])  # so that bytecode is written
        found = [[_cold(command, folder) for command, folder in runs.values()] for _ in range(rounds)]
    for at, what in enumerate(runs):
        seconds = statistics.median(each[at] for each in found)
        ratio = statistics.median(each[at] / each[0] for each in found)
        print(f"{what:32}{seconds:6.2f} s   {ratio:5.2f} times the first")


def _cold(command: Sequence[str], folder: Path) -> float:
    for made in (
        folder / "bin",
        folder / ".work",
        folder / ".cache",
        *folder.glob(".push-*"),
        *folder.glob(".container-*"),
    ):
        shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)
    with empty_registry() as host:
        _forget_images(host)
        # Another revision each time: else the daemon's build cache has the Makefile's images already.
        named = {"REGISTRY": host, "TAG": "3.1", "REV": f"bench-{time.time_ns()}"}
        environment = {**os.environ, **named, "DOCKER_CLI_EXPERIMENTAL": "enabled"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        return time.perf_counter() - start


def _forget_images(host: str) -> None:
    listed = subprocess.run(
        ["docker", "images", "--quiet", f"{host}/*"], check=True, capture_output=True, text=True
    ).stdout.split()
    if listed:
        subprocess.run(["docker", "rmi", "--force", *set(listed)], check=True, capture_output=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if sys.argv[2:] else 5)
