"""Writes reproducible tar archives.

The format is POSIX.1-1988 ustar, as image-spec layer.md requires, or with PAX records POSIX.1-2001 pax. Header fields
that could differ between machines have fixed values.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from build.errors import ImageError
from build.oci.descriptor import Blob

BLOCK = 512
# Limit of the octal fields: mtime in seconds, up to the year 2242, and size in bytes, up to 8 GiB.
LARGEST = 8**11 - 1
# Limit of the fields for UID and GID.
LARGEST_ID = 8**7 - 1
_FILE, _SYMLINK, _DIRECTORY, _EXTENDED = b"0", b"2", b"5", b"x"
# UID and GID, as root has them.
_ROOT = (0, 0)
NO_RECORDS: Mapping[str, str] = {}


@dataclass(frozen=True)
class File:
    """A file in an image: absolute path, permission bits, content, UID and GID."""

    path: str
    mode: int
    data: bytes = field(repr=False)
    owner: tuple[int, int] = _ROOT


@dataclass(frozen=True)
class Folder:
    """A folder in an image."""

    path: str
    mode: int = 0o755
    owner: tuple[int, int] = _ROOT


@dataclass(frozen=True)
class Symlink:
    """A symbolic link in an image."""

    path: str
    target: str
    owner: tuple[int, int] = _ROOT


Member = File | Folder | Symlink


def tar(
    members: Iterable[Member],
    time: int,
    has: Callable[[str], bool] = lambda _: False,
    records: Mapping[str, str] = NO_RECORDS,
) -> bytes:
    """An archive of `members`, sorted by path, each folder before its content; `time` is in seconds since the epoch.

    Folders that are neither among the members nor in the image below, which `has` tells by their absolute path, are
    added as root's. Of two members with the same path the last is used. `records` are PAX records of each member.
    Raises ImageError for a path that can't be in an image.
    """
    output = io.BytesIO()
    named = {_relative(member.path): member for member in members}
    for path in sorted(named):
        for folder in (path[:end] for end, letter in enumerate(path) if letter == "/"):
            if not isinstance(named.get(folder, Folder("")), Folder):
                raise ImageError(f"layer: /{folder} would be both a file and the folder of /{path}")
            if folder not in named and not has(f"/{folder}"):
                named[folder] = Folder(f"/{folder}")
    for path in sorted(named, key=lambda each: f"{each}/" if isinstance(named[each], Folder) else each):
        if records:
            _write_records(output, path, records, time)
        _write_member(output, path, named[path], time)
    output.write(bytes(2 * BLOCK))
    return output.getvalue()


def write_tar(output: BinaryIO, blobs: Mapping[str, Blob], time: int) -> None:
    """Write an archive of blobs by relative path, each with mode 0644; large blobs are streamed."""
    folders = {path[: end + 1] for path in blobs for end, letter in enumerate(path) if letter == "/"}
    for path in sorted({*blobs, *folders}):
        if path in folders:
            output.write(_header(path, _DIRECTORY, 0o755, 0, time))
            continue
        blob = blobs[path]
        output.write(_header(path, _FILE, 0o644, blob.size, time))
        with blob.open() as source:
            shutil.copyfileobj(source, output)
        output.write(bytes(-blob.size % BLOCK))
    output.write(bytes(2 * BLOCK))


def _write_records(output: BinaryIO, path: str, records: Mapping[str, str], time: int) -> None:
    """The extended header of the member that follows (POSIX.1-2001 pax, "pax Extended Header")."""
    data = b"".join(_record(name, value) for name, value in sorted(records.items()))
    name = path.rpartition("/")[2].encode()[:64].decode(errors="ignore")
    output.write(_header(f"PaxHeaders.0/{name}", _EXTENDED, 0o644, len(data), time))
    output.write(data)
    output.write(bytes(-len(data) % BLOCK))


def _record(name: str, value: str) -> bytes:
    """`LENGTH NAME=VALUE` and a newline, where LENGTH counts all of these bytes, its own digits, too."""
    rest = f" {name}={value}\n".encode()
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _write_member(output: BinaryIO, path: str, member: Member, time: int) -> None:
    if isinstance(member, Folder):
        output.write(_header(f"{path}/", _DIRECTORY, member.mode, 0, time, member.owner))
    elif isinstance(member, Symlink):
        output.write(_header(path, _SYMLINK, 0o777, 0, time, member.owner, member.target))
    else:
        output.write(_header(path, _FILE, member.mode, len(member.data), time, member.owner))
        output.write(member.data)
        output.write(bytes(-len(member.data) % BLOCK))


def _relative(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not path.startswith("/") or not parts or ".." in parts or "\0" in path:
        raise ImageError(
            f"layer: {path!r} is not the path of a file in an image\n  expected an absolute path without '..'"
        )
    return "/".join(parts)


def _header(
    path: str, kind: bytes, mode: int, size: int, time: int, owner: tuple[int, int] = _ROOT, target: str = ""
) -> bytes:
    """The header of a member of `size` bytes; `target` is that of a symbolic link."""
    prefix, name = _split(path)
    link = target.encode()
    if len(link) > 100:
        raise ImageError(f"layer: /{path}: the target of the link is too long for a tar header: {target}")
    uid, gid = owner
    header = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0" % mode,
            b"%07o\0" % uid,
            b"%07o\0" % gid,
            b"%011o\0" % size,
            b"%011o\0" % time,
            b" " * 8,  # the checksum field counts as spaces
            kind,
            link.ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(32 + 32),  # no user and group names: they would take precedence over the numbers
            b"%07o\0" % 0 * 2,  # device numbers
            prefix.ljust(155, b"\0"),
            bytes(12),
        )
    )
    checksum = b"%06o\0 " % sum(header)
    return header[:148] + checksum + header[156:]


def _split(path: str) -> tuple[bytes, bytes]:
    """The ustar fields prefix and name: at most 155 and 100 bytes, split at a slash."""
    raw = path.encode()
    if len(raw) <= 100:
        return b"", raw
    for at, byte in enumerate(raw):
        if byte == ord("/") and at <= 155 and 0 < len(raw) - at - 1 <= 100:
            return raw[:at], raw[at + 1 :]
    raise ImageError(f"layer: the path /{path} is too long for a tar header")
