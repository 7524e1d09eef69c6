"""What the checkout says of itself: the revision that is built, and when it was made."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from build.errors import UsageError
from build.system import Completed, run

# Twelve digits whatever git would choose: its own choice grows with the number of objects in the clone.
_DIGITS = 12
# Seconds since 1970: a tar header takes no later time.
LATEST = 8**11 - 1


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


async def ask(root: Path, name: str | None, epoch: str | None) -> Revision:
    """The revision of the checkout `root`; `name` (REV) and `epoch` (SOURCE_DATE_EPOCH) replace git's answers.

    Raises UsageError if either is malformed, or if git is needed and fails.
    """
    describe = None if name else _git(root, "describe", "--contains", "--always", "--match=v*")
    status = None if name else _git(root, "status", "--porcelain", "--untracked-files=no")
    log = None if epoch else _git(root, "log", "-1", "--format=%ct")
    answers = iter(await asyncio.gather(*filter(None, (describe, status, log))))
    described = _answer(next(answers), "REV") if describe else str(name)
    changed = _answer(next(answers), "REV").splitlines() if status else []
    time = _answer(next(answers), "SOURCE_DATE_EPOCH") if log else str(epoch)
    called = _checked_name(described + ("-dirty" if changed else ""))
    # git-status(1), "Short Format": a letter or two, a blank, the path.
    return Revision(called, _checked_time(time), tuple(line.split(maxsplit=1)[-1] for line in changed))


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._~^/+-]+", name):
        raise UsageError(f"REV {name!r}: expected letters, digits and . _ ~ ^ / + -, as `git describe` prints")
    return name


def _checked_time(epoch: str) -> int:
    if not re.fullmatch(r"\d{1,10}", epoch) or int(epoch) > LATEST:
        raise UsageError(f"SOURCE_DATE_EPOCH {epoch!r}: expected seconds since 1970, {LATEST} at most")
    return int(epoch)


async def _git(root: Path, *words: str) -> Completed:
    command = ["git", "--no-optional-locks", "-c", f"core.abbrev={_DIGITS}", "-C", str(root), *words]
    try:
        return await run(command)
    except FileNotFoundError:
        raise UsageError(f"git is not installed{_INSTEAD}") from None


def _answer(git: Completed, variable: str) -> str:
    if git.status:
        words = git.stderr.decode(errors="replace").strip().splitlines() or ["git failed"]
        raise UsageError(f"{variable} is not set, and git can't tell: {words[0]}{_INSTEAD}")
    return git.stdout.decode(errors="surrogateescape").strip()


_INSTEAD = "\n  install git and run in a clone, or say both: REV=v3.1 SOURCE_DATE_EPOCH=0 invoke …"
