"""The commands that are measured: each in an environment that we know, and heard if it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INVOKE = str(Path(sys.executable).with_name("invoke"))


class FailedError(Exception):
    """A command that failed, with its own words."""


@dataclass(frozen=True)
class Ran:
    """How long a command took, in seconds, and its stdout."""

    seconds: float
    stdout: str


def run(command: Sequence[str], folder: Path, home: Path, **environment: str) -> Ran:
    """Run a command in `folder`, with nothing of the user's settings; FailedError unless it succeeds."""
    known = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **environment}
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=known, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise FailedError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr.strip()}")
    return Ran(seconds, done.stdout)


@dataclass(frozen=True)
class Checkout:
    """A clone of this repository's last commit, and a home folder that holds nothing."""

    root: Path
    home: Path

    @classmethod
    def clone(cls, scratch: Path, name: str) -> Checkout:
        """A clone at `scratch`/`name`."""
        home = scratch / "home"
        home.mkdir(exist_ok=True)
        run(["git", "clone", "--quiet", str(ROOT), str(scratch / name)], scratch, home)
        return cls(scratch / name, home)

    def invoke(self, *words: str, **environment: str) -> Ran:
        """`invoke WORDS`."""
        return run([INVOKE, *words], self.root, self.home, **environment)

    def forget(self) -> None:
        """Have nothing made, as in a new clone; but for the bytecode, which any machine has after its first run."""
        for made in ("bin", "dist", ".cache"):
            shutil.rmtree(self.root / made, ignore_errors=True)


def absent(commands: Mapping[str, str]) -> dict[str, str]:
    """Of commands by the names of what needs them: those names whose command is not installed, each with the reason."""
    return {name: f"{command}: not found" for name, command in commands.items() if not shutil.which(command)}
