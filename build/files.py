"""Files that appear whole, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from build.errors import BuildError


def write_whole(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Put `data` under `path` in one step, with its folder; raise BuildError if the system refuses.

    A reader, and whoever comes after a crash, sees the old content or the new, nothing between. The umask applies to
    `mode`.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opened by hand so that the kernel applies the umask: Python can only read it by changing it for all threads.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        raise BuildError(_refused(path, error)) from None
    finally:
        temporary.unlink(missing_ok=True)


def _refused(path: Path, error: OSError) -> str:
    """Why `path` can't be written: for what is wrong with a whole disk or folder one text, whichever the file."""
    folder = next(parent for parent in path.parents if parent.exists())
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        disk = next(parent for parent in path.parents if parent.is_mount())
        return f"{disk}: no space left on this disk\n  make room there, and run this again"
    if error.errno == errno.EROFS:
        return f"{folder}: this disk is read-only\n  run this in a checkout that can be written to"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{folder}: no permission to write there\n  make it yours, or run this in a checkout that is"
    return f"{path}: can't be written: {error.strerror}"


def write_if_changed(path: Path, data: bytes, mode: int = 0o666) -> None:
    """`write_whole`, unless the file holds `data` already."""
    if differs(path, data, mode):
        write_whole(path, data, mode)


def differs(path: Path, data: bytes, mode: int = 0o666) -> bool:
    """Whether the file is not there, holds something else than `data`, or can('t) be run unlike `mode`."""
    try:
        return path.read_bytes() != data or os.access(path, os.X_OK) != bool(mode & 0o111)
    except OSError:
        return True


def leftovers(path: Path) -> list[Path]:
    """Temporary files of `path` that a killed run left beside it."""
    return list(path.parent.glob(f".{path.name}.*.tmp"))
