"""What the checkout says of itself: the revision that is built, and when it was made."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from build import trace
from build.errors import UsageError
from build.image.layer import LARGEST

# Twelve digits whatever git would choose: its own choice grows with the number of objects in the clone.
_DIGITS = 12


@dataclass(frozen=True)
class Revision:
    """`name` is what VERSION ends with; `time` is when the commit was made, in seconds since the epoch.

    `changed` are the files that make it a dirty one.
    """

    name: str
    time: int
    changed: tuple[str, ...] = ()

    @property
    def created(self) -> str:
        """`time` as RFC 3339, in UTC."""
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ask(root: Path, name: str | None, epoch: str | None) -> Callable[[], Revision]:
    """Ask for the revision of the checkout `root`; calling the result waits for the answer.

    `name` (REV) and `epoch` (SOURCE_DATE_EPOCH) take git's place where they are given. Raises UsageError, as the
    result does, if either is ill-formed, or if git is needed and can't tell.
    """
    # Asked all at once, and early: git takes as long as anything else in a run that finds nothing to do.
    describe = None if name else _git(root, "describe", "--contains", "--always", "--match=v*")
    status = None if name else _git(root, "status", "--porcelain", "--untracked-files=no")
    log = None if epoch else _git(root, "log", "-1", "--format=%ct")

    def answer() -> Revision:
        described = _answer(describe, "REV") if describe else str(name)
        changed = _answer(status, "REV").splitlines() if status else []
        time = _answer(log, "SOURCE_DATE_EPOCH") if log else str(epoch)
        called = _checked_name(described + ("-dirty" if changed else ""))
        # git-status(1), "Short Format": a letter or two, a blank, the path.
        return Revision(called, _checked_time(time), tuple(line.split(maxsplit=1)[-1] for line in changed))

    return answer


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._~^/+-]+", name):
        raise UsageError(f"REV {name!r}: expected letters, digits and . _ ~ ^ / + -, as `git describe` prints")
    return name


def _checked_time(epoch: str) -> int:
    if not re.fullmatch(r"\d{1,10}", epoch) or int(epoch) > LARGEST:
        raise UsageError(f"SOURCE_DATE_EPOCH {epoch!r}: expected seconds since 1970, {LARGEST} at most")
    return int(epoch)


def _git(root: Path, *words: str) -> subprocess.Popen[str]:
    command = ["git", "--no-optional-locks", "-c", f"core.abbrev={_DIGITS}", "-C", str(root), *words]
    trace.command(command)
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError:
        raise UsageError(f"git is not installed{_INSTEAD}") from None


def _answer(git: subprocess.Popen[str], variable: str) -> str:
    out, err = git.communicate()
    if git.returncode:
        said = err.strip().splitlines() or ["git failed"]
        raise UsageError(f"{variable} is not set, and git can't tell: {said[0]}{_INSTEAD}")
    return out.strip()


_INSTEAD = "\n  install git and run in a clone, or say both: REV=v3.1 SOURCE_DATE_EPOCH=0 invoke …"
