"""Reads untrusted tar archives strictly, as a stream and in bounded memory.

`tarfile` reads the formats: ustar, pax (POSIX.1-2001) and GNU. Added here are limits, and an ImageError wherever
`tarfile` would end the archive silently, or read it differently from Go's archive/tar, which container runtimes use.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, Self

from build.errors import ImageError

CHUNK = 1 << 18
# Bytes of an archive, bytes of one extended header, characters of a path.
LARGEST, LONGEST_HEADER, LONGEST_PATH = 64 << 30, 1 << 20, 4096
# Bytes of all headers of one member.
_LONGEST_HEADERS = LONGEST_HEADER + 64 * tarfile.BLOCKSIZE
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_EXTENDED = (*_LONG, tarfile.XHDTYPE, tarfile.XGLTYPE)
# Files, hard and symbolic links, devices, folders and pipes.
_MEMBERS = (tarfile.REGTYPE, tarfile.AREGTYPE, b"1", b"2", b"3", b"4", b"5", b"6")
# Records of a global header that change nothing in a container; `git archive` writes a comment.
_IGNORED = {b"comment", b"mtime", b"atime", b"ctime"}
_RECORD = re.compile(rb"([0-9]{1,9}) ([^=\n]+)=")
# Mode, uid, gid, size, mtime, checksum, device numbers: octal, or GNU's binary form.
_NUMBERS = ((100, 108), (108, 116), (116, 124), (124, 136), (136, 148), (148, 156), (329, 337), (337, 345))
_NUMBER = re.compile(rb" *[0-7]* *(\0[\0 ]*)?|[\x80\xff].*", re.DOTALL)
# What tarfile raises for archives that are malformed.
_MALFORMED = (tarfile.TarError, ValueError, LookupError, EOFError, OverflowError, RecursionError)


class Stream:
    """A file that is read forwards only."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._ahead = b""
        self._position = 0
        # The position up to which headers may be read.
        self.limit: int | None = None

    def tell(self) -> int:
        """The number of bytes that were read or skipped."""
        return self._position

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, fewer only at the end; raise ImageError beyond `limit`."""
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        if len(data) < size:
            data += self._take(size - len(data))
        self._position += len(data)
        if self.limit is not None and self._position > self.limit:
            raise ImageError(f"more than {_LONGEST_HEADERS} bytes of tar headers for one member")
        return data

    def peek(self, size: int) -> bytes:
        """Up to `size` bytes, which `read` returns again."""
        if len(self._ahead) < size:
            self._ahead += self._take(size - len(self._ahead))
        return self._ahead[:size]

    def seek(self, position: int) -> None:
        """Skip to `position`, or to the end; raise ImageError if that is backwards."""
        if position < self._position:
            raise ImageError("not a tar archive: its content overlaps")
        while self._position < position and self.read(min(CHUNK, position - self._position)):
            pass

    def _take(self, size: int) -> bytes:
        return self._file.read(size)


def members(stream: Stream) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """The members in archive order, each with its content if it is a regular file.

    The content can be read, in `malformed`, until the next member is asked for. Raises ImageError if the archive is
    malformed or exceeds a limit.
    """
    with malformed():
        archive = _Archive(stream)
    while True:
        with malformed():
            member = archive.following()
            if member is None:
                return
            content = archive.extractfile(member) if member.isreg() else None
        yield member, content


@contextmanager
def malformed() -> Iterator[None]:
    """Raise ImageError for what tarfile raises for malformed archives."""
    try:
        yield
    except tarfile.ReadError as error:
        raise ImageError(f"the tar archive ends within a member: {error}") from None
    except _MALFORMED as error:
        raise ImageError(f"not a tar archive: {error}") from None


class _Header(tarfile.TarInfo):
    # Whether the type flag is that of tar before POSIX, which has a trailing slash for folders.
    is_old = False

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, *arguments: Any, **options: Any) -> Self:
        header = super().frombuf(buf, *arguments, **options)
        if header.type not in (*_EXTENDED, *_MEMBERS):
            raise ImageError(f"a tar member of type {header.type.decode('latin-1')!r}, which not every reader knows")
        if not all(_NUMBER.fullmatch(buf, *place) for place in _NUMBERS):
            raise ImageError("a tar header with a number that is not octal")
        # The prefix is 131 bytes long if the header is star's. GNU tar and others have something else in its place.
        prefix = buf[345:500]
        if any(prefix) and (buf[257:263] != b"ustar\0" or (buf[508:] == b"tar\0" and 0 not in buf[345:476])):
            raise ImageError("a tar header whose prefix is part of the path, depending on the reader")
        header.is_old = buf[156:157] == tarfile.AREGTYPE
        return header

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise ImageError(f"not a tar archive: {error}") from None

    def _proc_member(self, archive: _Archive) -> tarfile.TarInfo:
        archive.pax_headers.clear()  # type: ignore[attr-defined]  # runtimes ignore global headers
        if self.type in _EXTENDED:
            if not 0 <= self.size <= LONGEST_HEADER:
                raise ImageError(f"an extended tar header of {self.size} bytes, expected at most {LONGEST_HEADER}")
            archive.check_extension(self.type, self.size)
        elif not 0 <= self.size <= LARGEST:
            raise ImageError(f"a tar member of size {self.size}")
        elif self.is_old and archive.extensions:
            raise ImageError("a tar member that is a file or a folder, depending on the reader")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


class _Archive(tarfile.TarFile):
    fileobj: Stream  # type: ignore[assignment]
    tarinfo = _Header

    def __init__(self, stream: Stream) -> None:
        self.extensions: list[bytes] = []
        stream.limit = _LONGEST_HEADERS
        try:
            super().__init__(fileobj=stream, mode="r", encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]
        except tarfile.ReadError:
            if stream.tell():
                raise
            self._is_empty = True  # no archive at all; an empty layer is allowed
        else:
            self._is_empty = False

    def following(self) -> tarfile.TarInfo | None:
        """The next member, or None at the end."""
        if self._is_empty:
            return None
        self.members: list[tarfile.TarInfo] = []  # otherwise it grows with the archive
        self.extensions = []
        self.fileobj.limit = self.offset + _LONGEST_HEADERS
        member = self.next()
        self.fileobj.limit = None
        if member is not None:
            _check(member)
        elif any(self.fileobj.peek(tarfile.BLOCKSIZE)):
            raise ImageError("a tar archive with data behind a block of zeros, where readers differ on its end")
        return member

    def check_extension(self, kind: bytes, size: int) -> None:
        """Raise ImageError for an extended header that readers take differently; `size` is in bytes."""
        padded = self.fileobj.peek(size + -size % tarfile.BLOCKSIZE)
        if padded[size:].strip(b"\0"):
            raise ImageError("an extended tar header with data in its padding")
        if kind in _LONG and not padded[:size].partition(b"\0")[0]:
            raise ImageError("an extended tar header with an empty path")
        names = _records(padded[:size]) if kind not in _LONG else frozenset()
        if sparse := next((name for name in names if name.startswith(b"GNU.sparse.")), None):
            raise ImageError(f"a sparse file ({sparse.decode()}), which not every reader can read")
        if kind == tarfile.XGLTYPE and (applied := sorted(names - _IGNORED)):
            raise ImageError(f"a global tar header with {applied[0].decode()!r}, which not every reader applies")
        earlier = self.extensions
        if earlier and (kind in earlier or {kind, *earlier} != set(_LONG)):
            raise ImageError("several extended tar headers for one member, where readers differ on which one they use")
        if kind != tarfile.XGLTYPE:
            earlier.append(kind)


def _records(data: bytes) -> frozenset[bytes]:
    """The names of pax records: `LENGTH KEY=VALUE\\n`, LENGTH being that of all. Raises ImageError if malformed."""
    at, names = 0, set()
    while at < len(data):
        match = _RECORD.match(data, at)
        end = at + int(match[1]) if match else at
        if not match or not match.end() < end <= len(data) or data[end - 1] != ord("\n"):
            raise ImageError("a malformed pax header")
        value = data[match.end() : end - 1]
        if match[2] in (b"path", b"linkpath", b"size") and (not value or b"\0" in value):
            raise ImageError(f"a malformed pax header: {match[2].decode()}={value[:60]!r}")
        names.add(match[2])
        at = end
    return frozenset(names)


def _check(member: tarfile.TarInfo) -> None:
    """Raise ImageError for a member outside the limits, or one that readers take differently."""
    if max(len(member.name), len(member.linkname)) > LONGEST_PATH:
        raise ImageError(f"a path of more than {LONGEST_PATH} characters: {member.name[:60]!r}…")
    size = member.pax_headers.get("size", "0")
    if not (size.isascii() and size.isdigit() and len(size) < 20) or not 0 <= member.size <= LARGEST:
        raise ImageError(f"a tar member of size {size[:60]!r}")
    if member.size and not (member.isreg() or member.islnk()):
        raise ImageError(f"a tar member with content that is no file: {member.name[:60]!r}")
    if member.isreg() and member.name.endswith("/"):
        raise ImageError(f"a tar member that is a file or a folder, depending on the reader: {member.name[:60]!r}")
