"""Layers: files in a tar archive, gzip-compressed, the same bytes wherever and whenever they are written.

POSIX.1-1988 ustar, as image-spec layer.md asks for: every header field that could tell machines apart is fixed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from build.errors import ImageError
from build.oci.descriptor import digest_of
from build.oci.image import Layer

BLOCK = 512
# ustar's octal fields end here: mtime in the year 2242, size at 8 GiB.
LARGEST = 8**11 - 1


@dataclass(frozen=True)
class File:
    """A file in an image: absolute path, permission bits, content. Its owner is root."""

    path: str
    mode: int
    data: bytes = field(repr=False)


def layer(files: Iterable[File], time: int) -> Layer:
    """Pack `files` and the folders they need, all with modification time `time` (seconds since the epoch)."""
    from build.image.gzip import gzip

    archive = tar(files, time)
    return Layer(gzip(archive), digest_of(archive))


def tar(files: Iterable[File], time: int) -> bytes:
    """The uncompressed archive: folders before what is in them, then the files, sorted by path; no path twice."""
    entries: dict[str, tuple[int, bytes | None]] = {}
    named = {_relative(file.path): file for file in files}
    for path in sorted(named):
        for folder in (path[:end] for end, letter in enumerate(path) if letter == "/"):
            if folder in named:
                raise ImageError(f"layer: /{folder} is to be both a file and the folder of /{path}")
            entries[f"{folder}/"] = (0o755, None)
        entries[path] = (named[path].mode, named[path].data)
    blocks = b"".join(_entry(path, mode, data, time) for path, (mode, data) in entries.items())
    return blocks + bytes(2 * BLOCK)


def _relative(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not path.startswith("/") or not parts or ".." in parts or "\0" in path:
        raise ImageError(f"layer: {path!r} is not the path of a file in an image\n  expected an absolute path, no '..'")
    return "/".join(parts)


def _entry(path: str, mode: int, data: bytes | None, time: int) -> bytes:
    content = data or b""
    prefix, name = _split(path)
    header = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0" % mode,
            b"%07o\0" % 0,  # uid
            b"%07o\0" % 0,  # gid
            b"%011o\0" % len(content),
            b"%011o\0" % time,
            b" " * 8,  # the checksum counts its own field as blanks
            b"0" if data is not None else b"5",
            bytes(100),
            b"ustar\x0000",
            bytes(32 + 32),  # no user's and no group's name: they would win over the numbers
            b"%07o\0" % 0 * 2,  # device numbers
            prefix.ljust(155, b"\0"),
            bytes(12),
        )
    )
    checksum = b"%06o\0 " % sum(header)
    return header[:148] + checksum + header[156:] + content + bytes(-len(content) % BLOCK)


def _split(path: str) -> tuple[bytes, bytes]:
    """ustar's (prefix, name): 155 and 100 bytes at most, parted at a slash."""
    raw = path.encode()
    if len(raw) <= 100:
        return b"", raw
    for at, byte in enumerate(raw):
        if byte == ord("/") and at <= 155 and 0 < len(raw) - at - 1 <= 100:
            return raw[:at], raw[at + 1 :]
    raise ImageError(f"layer: the path /{path} is too long for a tar header")
