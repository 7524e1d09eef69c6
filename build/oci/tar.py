"""Writes reproducible tar archives.

The format is POSIX.1-1988 ustar, as image-spec layer.md requires. Header fields that could differ between machines have
fixed values.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from build.errors import ImageError
from build.oci.descriptor import Blob

BLOCK = 512
# Limit of the octal fields: mtime in seconds, up to the year 2242, and size in bytes, up to 8 GiB.
LARGEST = 8**11 - 1


@dataclass(frozen=True)
class File:
    """A file in an image: absolute path, permission bits, content. The owner is root."""

    path: str
    mode: int
    data: bytes = field(repr=False)


def tar(files: Iterable[File], time: int) -> bytes:
    """An archive of `files`, sorted by path, each folder before its content; `time` is in seconds since the epoch.

    Of two files with the same path the last is used. Raises ImageError for a path that can't be in an image.
    """
    output = io.BytesIO()
    _write(output, {_relative(file.path): (file.mode, file.data) for file in files}, time)
    return output.getvalue()


def write_tar(output: BinaryIO, blobs: Mapping[str, Blob], time: int) -> None:
    """Write an archive of blobs by relative path, each with mode 0644; large blobs are streamed."""
    _write(output, {_relative(f"/{path}"): (0o644, blob) for path, blob in blobs.items()}, time)


def _write(output: BinaryIO, named: Mapping[str, tuple[int, bytes | Blob]], time: int) -> None:
    entries: dict[str, tuple[int, bytes | Blob | None]] = {}
    for path in sorted(named):
        for folder in (path[:end] for end, letter in enumerate(path) if letter == "/"):
            if folder in named:
                raise ImageError(f"layer: /{folder} would be both a file and the folder of /{path}")
            entries[f"{folder}/"] = (0o755, None)
        entries[path] = named[path]
    for path, (mode, content) in entries.items():
        size = content.size if isinstance(content, Blob) else len(content or b"")
        output.write(_header(path, mode, None if content is None else size, time))
        if isinstance(content, Blob):
            with content.open() as source:
                shutil.copyfileobj(source, output)
        elif content:
            output.write(content)
        output.write(bytes(-size % BLOCK))
    output.write(bytes(2 * BLOCK))


def _relative(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not path.startswith("/") or not parts or ".." in parts or "\0" in path:
        raise ImageError(
            f"layer: {path!r} is not the path of a file in an image\n  expected an absolute path without '..'"
        )
    return "/".join(parts)


def _header(path: str, mode: int, size: int | None, time: int) -> bytes:
    """The header of a file of `size` bytes, or of a folder if `size` is None."""
    prefix, name = _split(path)
    header = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0" % mode,
            b"%07o\0" % 0,  # uid
            b"%07o\0" % 0,  # gid
            b"%011o\0" % (size or 0),
            b"%011o\0" % time,
            b" " * 8,  # the checksum field counts as spaces
            b"0" if size is not None else b"5",
            bytes(100),
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
