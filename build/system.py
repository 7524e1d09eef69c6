"""The operating system: files that appear whole, scratch folders, and commands that end with the run."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from build.errors import BuildError
from build.report import indented, trace_command, without_keys

T = TypeVar("T")
FINISHING = "finishing"  # the name of tasks that are waited for, and not cancelled, when a run ends


def write_whole(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write `data` to `path` in one step, creating its folder.

    Readers, and whoever comes after a crash, see the old content or the new, never a mixture. The umask applies to
    `mode`. Raises BuildError if the system refuses.
    """
    with replacing(path, mode) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """An empty temporary file beside `path`, which replaces it in one step if the context ends without an exception.

    Raises BuildError if the system refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The kernel applies the umask; Python can only read it by changing it.
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise BuildError(refusal(path, error)) from None
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


def refusal(path: Path, error: OSError) -> str:
    """Why the file `path` can't be used; one text for all files where a whole disk or folder is the problem."""
    folder = next(parent for parent in path.parents if os.path.lexists(parent))
    if not folder.is_dir():
        return f"{folder}: found something that is not a folder, expected a folder\n  move it away and retry"
    if error.errno == errno.EISDIR:
        return f"{path}: found a folder, expected a file\n  move it away and retry"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        disk = next(parent for parent in path.parents if parent.is_mount())
        return f"{disk}: no space left on this disk\n  free some space and retry"
    if error.errno == errno.EROFS:
        return f"{folder}: this disk is read-only\n  use a checkout on a writable disk"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{folder}: no permission to write there\n  change its owner, or use a checkout that you own"
    return f"{path}: can't be written: {error.strerror}"


def write_if_changed(path: Path, data: bytes, mode: int = 0o666) -> None:
    """`write_whole`, unless the file holds `data` already."""
    if differs(path, data, mode):
        write_whole(path, data, mode)


def differs(path: Path, data: bytes, mode: int = 0o666) -> bool:
    """Whether the file is missing, holds something other than `data`, or is executable where `mode` is not."""
    try:
        return path.read_bytes() != data or os.access(path, os.X_OK) != bool(mode & 0o111)
    except OSError:
        return True


def leftovers(path: Path) -> list[Path]:
    """Temporary files of `path` that a killed run left beside it."""
    return list(path.parent.glob(f".{path.name}.*.tmp"))


@contextmanager
def scratch(base: Path) -> Iterator[Path]:
    """A folder below `base` that goes when the context ends, and with it the folders above that were new and are empty.

    Each folder is locked while its run lives, so folders of runs that were killed are recognised and removed first.
    Raises BuildError if the system refuses.
    """
    new = [each for each in base.parents if not each.exists()]
    folder, lock = _locked_folder(base)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        with suppress(OSError):  # not empty
            for each in (base, *new):
                each.rmdir()


def _locked_folder(base: Path) -> tuple[Path, int]:
    """A new folder below `base`, and the descriptor that holds its lock."""
    folder = base / os.urandom(6).hex()
    try:
        while True:
            base.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError), lock(base):  # another run may have removed it
                remove_stale(base)
                folder.mkdir()
                descriptor = os.open(folder, os.O_RDONLY)
                _flock(descriptor)
                return folder, descriptor
    except OSError as error:
        raise BuildError(refusal(folder, error)) from None


def remove_stale(base: Path) -> None:
    """Remove the scratch folders below `base` whose run is gone."""
    for folder in base.glob("[0-9a-f]" * 12):
        with suppress(OSError), lock(folder, wait=False):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def lock(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a folder; raise BlockingIOError if another process holds it and `wait` is off."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _flock(descriptor, wait=wait)
        yield
    finally:
        os.close(descriptor)


def _flock(descriptor: int, *, wait: bool = True) -> None:
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@dataclass(frozen=True)
class Completed:
    """How a command ended: its exit status, negative for a signal, and what it wrote."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def words(self) -> str:
        """What it wrote, stderr first, as text for a message."""
        return indented((self.stderr + self.stdout).decode(errors="replace"))


async def run(
    command: Sequence[str],
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    data: bytes | None = None,
    timeout: float | None = None,
    *,
    tied: bool = True,
) -> Completed:
    """Run `command` to its end, with `data` on its standard input, for at most `timeout` seconds.

    When the run is cancelled, or dies, the command and all that it started end, too; see `start` for `tied`. Raises
    OSError if it can't be started, and TimeoutError.
    """
    child = await start(command, folder, environment, has_input=data is not None, tied=tied)
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await child.communicate(data)
    except BaseException:
        await end_group(child)
        raise
    return Completed(child.returncode or 0, stdout, stderr)


async def start(
    command: Sequence[str],
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    has_input: bool = False,
    tied: bool = True,
) -> asyncio.subprocess.Process:
    """Start `command` in a process group of its own, so that Ctrl-C reaches only this process; see `run`.

    The caller ends it with `end_group`. If this process dies first, the kernel kills it, if it is `tied`: that takes a
    millisecond, which commands that end at once can do without.
    """
    if shutil.which(command[0]) is None:  # setpriv would start, and only then fail
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
    trace_command(command)
    # Cancelled halfway, asyncio would kill the command, but not what the command has started.
    return await finish(
        asyncio.create_subprocess_exec(
            *(with_parent() if tied else ()),
            *command,
            cwd=folder,
            env=without_keys(os.environ if environment is None else environment),
            stdin=asyncio.subprocess.PIPE if has_input else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    )


@cache
def with_parent() -> tuple[str, ...]:
    """What to put before a command to have the kernel kill it when this process dies (prctl(2), PR_SET_PDEATHSIG)."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL") if setpriv else ()


def kill_group(leader: asyncio.subprocess.Process) -> None:
    """Kill a process that leads a group of its own, and all processes in the group, unless it has ended."""
    if leader.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)


async def end_group(leader: asyncio.subprocess.Process) -> None:
    """Kill a process that leads a group of its own, and all processes in the group; wait until it has ended."""
    kill_group(leader)
    # A process that has left the group may keep the pipes open, and asyncio would wait for that, too.
    for number in range(3):
        if pipe := leader._transport.get_pipe_transport(number):  # type: ignore[attr-defined]
            pipe.close()
    await leader.wait()


async def finish(work: Awaitable[T]) -> T:
    """The result of `work`, which runs to its end even if this task is cancelled meanwhile, or its loop is closed.

    Then the next `await` of this task raises CancelledError, so the caller can enter a `try` that undoes the work.
    """
    task, current, cancelled = asyncio.ensure_future(work), asyncio.current_task(), False
    if isinstance(task, asyncio.Task):
        task.set_name(FINISHING)
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
            if current:
                current.uncancel()
    if cancelled and current:
        current.cancel()
    return task.result()
