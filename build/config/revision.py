"""The revision that is built and its commit time, from git or from REV and SOURCE_DATE_EPOCH."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from build.errors import UsageError, all_of
from build.system import Completed, run

# Whatever the user has configured, what is read stays the same. git's default length of a hash would grow with the
# number of objects in the clone; a monitor, or a file's times, could hide a change.
_SETTINGS = ("core.abbrev=12", "core.fsmonitor=false", "core.checkStat=default", "core.trustctime=true")
_GIT = ("git", "--no-optional-locks", "--no-replace-objects", *(word for each in _SETTINGS for word in ("-c", each)))
_STATUS = ("--untracked-files=no", "--no-renames", "--ignore-submodules=untracked")
# git(1), "Environment Variables", but where git and its configuration are, and which folders are searched.
_REDIRECTS = re.compile(r"GIT_(?!CONFIG_|EXEC_PATH$|CEILING_DIRECTORIES$|DISCOVERY_ACROSS_FILESYSTEM$)")
# Of a REV, for a regular expression.
_CHARACTERS = r"A-Za-z0-9._~^/+\-"
# Seconds since 1970: the limit of the mtime field in a tar header.
_LATEST = 8**11 - 1
_OVERRIDE = "set both: REV=v3.1 SOURCE_DATE_EPOCH=0 invoke …"


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


@dataclass(frozen=True)
class Checkout:
    """Where a checkout is from: its commit, the URL of its remote `origin`, and the files with uncommitted changes.

    The URL is the public one: HTTPS in place of SSH, without user and password. It is empty for a folder.
    """

    commit: str
    url: str
    changed: tuple[str, ...]


async def read_checkout(root: Path, environment: Mapping[str, str]) -> Checkout | None:
    """Where the checkout `root` is from; None if it is no clone, as an unpacked archive is not."""

    git = partial(_git, root, environment)
    try:
        commit, url, status = await all_of(
            [
                git("rev-parse", "--verify", "HEAD^{commit}"),
                git("config", "--get", "remote.origin.url"),
                git("status", "--porcelain", "-z", *_STATUS),
            ]
        )
    except UsageError:  # no git
        return None
    if commit.status or status.status:
        return None
    changed = tuple(entry[3:] for entry in status.stdout.decode(errors="surrogateescape").split("\0")[:-1])
    found = url.stdout.decode(errors="replace").strip() if not url.status else ""
    return Checkout(commit.stdout.decode().strip(), public_url(found), changed)


def public_url(url: str) -> str:
    """The URL of a repository as anybody may name it; empty if it is none that others can reach."""
    ssh = re.fullmatch(r"(?:ssh://)?(?:[^@/]*@)?([\w.-]+)(?::(?!\d+/)|(?::\d+)?/)(.+)", url)
    web = re.fullmatch(r"(?:https?|git)://(?:[^@/]*@)?([\w.:\[\]-]+)/([^?#]+).*", url)
    found = web or (ssh if url.startswith("ssh://") or "@" in url.partition("/")[0] else None)
    if not found:
        return ""
    return f"https://{found[1]}/{found[2].strip('/').removesuffix('.git')}"


async def read_revision(root: Path, name: str | None, epoch: str | None, environment: Mapping[str, str]) -> Revision:
    """The revision of the checkout `root`; `name` (REV) and `epoch` (SOURCE_DATE_EPOCH) take precedence over git.

    Nothing but the repository and its worktree changes what is read: not git's variables in `environment`, as hooks set
    them, nor the user's configuration. Raises UsageError if REV or SOURCE_DATE_EPOCH is malformed, or if git is needed
    and fails.
    """

    git = partial(_git, root, environment)
    describe = None if name else git("describe", "--contains", "--always", "--match=v*")
    status = None if name else git("status", "--porcelain", "-z", *_STATUS)
    log = None if epoch else git("rev-list", "--max-count=1", "--timestamp", "HEAD", "--")
    completed = iter(await all_of(filter(None, (describe, status, log))))
    described = _sanitized(_output(next(completed), "REV")) if describe else _check_name(str(name))
    changed = _output(next(completed), "REV").split("\0")[:-1] if status else []
    time = _output(next(completed), "SOURCE_DATE_EPOCH").partition(" ")[0] if log else str(epoch)
    # git-status(1), "Short Format": two letters, a space, the path.
    return Revision(described + ("-dirty" if changed else ""), _check_time(time), tuple(entry[3:] for entry in changed))


async def revision_of(root: Path, commit: str, environment: Mapping[str, str]) -> Revision:
    """The revision that `commit` has in the clone `root`, as `read_revision` would name it there."""
    described, time = await all_of(
        [
            _git(root, environment, "describe", "--contains", "--always", "--match=v*", commit),
            _git(root, environment, "rev-list", "--max-count=1", "--timestamp", commit, "--"),
        ]
    )
    seconds = _output(time, "SOURCE_DATE_EPOCH").partition(" ")[0]
    return Revision(_sanitized(_output(described, "REV")), _check_time(seconds))


async def check_out(root: Path, commit: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Write the files of `commit`, of the clone `root`, to the new `folder`; nothing of the clone changes.

    Raises UsageError if the clone does not have the commit.
    """
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit):
        raise UsageError(f"{commit[:80]!a}: expected the ID of a commit")
    found = await _git(root, environment, "cat-file", "-e", f"{commit}^{{commit}}")
    if found.status:
        raise UsageError(
            f"commit {commit}: not in this clone\n  git fetch origin {commit}, or run this in a clone that has it"
        )
    folder.mkdir()
    index = {**environment, "GIT_INDEX_FILE": str(folder.with_name(f"{folder.name}.index"))}
    for words in (("read-tree", commit), ("checkout-index", "--all", f"--prefix={folder}/")):
        ended = await _git(root, index, *words, keep=("GIT_INDEX_FILE",))
        if ended.status:
            raise UsageError(f"commit {commit}: can't be checked out: {ended.words}")


async def _git(root: Path, environment: Mapping[str, str], *arguments: str, keep: tuple[str, ...] = ()) -> Completed:
    """Run git in a clone; of the user's variables that would lead it elsewhere, only `keep` is left."""
    kept = {name: environment[name] for name in keep}
    try:
        return await run(
            [*_GIT, "-C", str(root), *arguments], environment={**_environment(environment), **kept}, tied=False
        )
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "git is not installed" if missing else f"git can't be run: {error.strerror}"
        raise UsageError(f"{reason}\n  install git and run in a clone, or {_OVERRIDE}") from None


def _environment(given: Mapping[str, str]) -> Mapping[str, str]:
    """`given` without what git would take for another repository, and with messages in English."""
    return {name: value for name, value in given.items() if not _REDIRECTS.match(name)} | {"LC_ALL": "C"}


def _sanitized(described: str) -> str:
    """What `git describe` printed; tags may hold almost any byte, but REV is part of labels and of a C string."""
    return re.sub(rf"[^{_CHARACTERS}]", "_", described.strip())


def _check_name(name: str) -> str:
    if not re.fullmatch(rf"[{_CHARACTERS}]+", name):
        raise UsageError(f"REV {name!r}: expected letters, digits and . _ ~ ^ / + -, as `git describe` prints")
    return name


def _check_time(epoch: str) -> int:
    if not re.fullmatch(r"\d{1,10}", epoch) or int(epoch) > _LATEST:
        raise UsageError(f"SOURCE_DATE_EPOCH {epoch!r}: expected seconds since 1970, at most {_LATEST}")
    return int(epoch)


def _output(git: Completed, variable: str) -> str:
    if git.status:
        lines = [line.strip() for line in git.stderr.decode(errors="replace").splitlines()]
        reasons = [line for line in lines if line.startswith(("fatal: ", "error: "))] or [*filter(None, lines)]
        # Git's remedy for a checkout that somebody else owns.
        remedy = next((line for line in lines if line.startswith("git config --global ")), "")
        following = f"if you trust its owner: {remedy}\n  or" if remedy else "install git and run in a clone, or"
        raise UsageError(
            f"{variable} is not set, and git failed: {(reasons or [f'exit status {git.status}'])[0]}"
            f"\n  {following} {_OVERRIDE}"
        )
    return git.stdout.decode(errors="surrogateescape")
