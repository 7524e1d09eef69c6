"""The revision that is built and its commit time, from git or from REV and SOURCE_DATE_EPOCH."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from build.errors import UsageError
from build.system import Completed, run

# Fixed, because git's default length grows with the number of objects in the clone.
_ABBREV = 12
# Seconds since 1970: the limit of the mtime field in a tar header.
_LATEST = 8**11 - 1
_OVERRIDE = "\n  install git and run in a clone, or set both: REV=v3.1 SOURCE_DATE_EPOCH=0 invoke …"


@dataclass(frozen=True)
class Revision:
    """The revision of a checkout.

    `name` is the end of VERSION, `time` the commit time in seconds since the epoch. `changed` lists the files with
    uncommitted changes, which make the name end with -dirty.
    """

    name: str
    time: int
    changed: tuple[str, ...] = ()

    @property
    def created(self) -> str:
        """`time` as RFC 3339, in UTC."""
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def read_revision(root: Path, name: str | None, epoch: str | None) -> Revision:
    """The revision of the checkout `root`; `name` (REV) and `epoch` (SOURCE_DATE_EPOCH) take precedence over git.

    Raises UsageError if either is malformed, or if git is needed and fails.
    """
    describe = None if name else _git(root, "describe", "--contains", "--always", "--match=v*")
    status = None if name else _git(root, "status", "--porcelain", "--untracked-files=no")
    log = None if epoch else _git(root, "log", "-1", "--format=%ct")
    completed = iter(await asyncio.gather(*filter(None, (describe, status, log))))
    described = _output(next(completed), "REV") if describe else str(name)
    changed = _output(next(completed), "REV").splitlines() if status else []
    time = _output(next(completed), "SOURCE_DATE_EPOCH") if log else str(epoch)
    checked = _check_name(described + ("-dirty" if changed else ""))
    # git-status(1), "Short Format": one or two letters, a space, the path.
    return Revision(checked, _check_time(time), tuple(line.split(maxsplit=1)[-1] for line in changed))


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._~^/+-]+", name):
        raise UsageError(f"REV {name!r}: expected letters, digits and . _ ~ ^ / + -, as `git describe` prints")
    return name


def _check_time(epoch: str) -> int:
    if not re.fullmatch(r"\d{1,10}", epoch) or int(epoch) > _LATEST:
        raise UsageError(f"SOURCE_DATE_EPOCH {epoch!r}: expected seconds since 1970, at most {_LATEST}")
    return int(epoch)


async def _git(root: Path, *arguments: str) -> Completed:
    command = ["git", "--no-optional-locks", "-c", f"core.abbrev={_ABBREV}", "-C", str(root), *arguments]
    try:
        return await run(command, tied=False)
    except FileNotFoundError:
        raise UsageError(f"git is not installed{_OVERRIDE}") from None


def _output(git: Completed, variable: str) -> str:
    if git.status:
        lines = git.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {git.status}"]
        raise UsageError(f"{variable} is not set, and git failed: {lines[0]}{_OVERRIDE}")
    return git.stdout.decode(errors="surrogateescape").strip()
