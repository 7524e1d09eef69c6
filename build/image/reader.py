"""Reads a layer's tar archive as a stream, in bounded memory, because layers of other publishers may be of any size.

`tarfile` reads the formats that image-spec layer.md allows, pax and GNU; limits and strictness are added here.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO, Self

from build.errors import ImageError

CHUNK = 1 << 18
# Bytes of a decompressed archive, bytes of an extended header, characters of a path.
LARGEST, LONGEST_HEADER, LONGEST_PATH = 64 << 30, 1 << 20, 4096
_EXTENDED = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


@dataclass(frozen=True)
class Entry:
    """A member of the archive: name, permission bits, type flag, and the target of a link."""

    name: str
    mode: int
    kind: bytes
    target: str

    @property
    def is_file(self) -> bool:
        """Whether the member is a regular file."""
        return self.kind in (*tarfile.REGULAR_TYPES, tarfile.GNUTYPE_SPARSE)


class LayerReader:
    """One pass over a layer. Every method raises ImageError if the layer is not a valid archive."""

    def __init__(self, stream: BinaryIO, compressed: bool) -> None:
        self._source = _Hashed(gzip.GzipFile(fileobj=stream) if compressed else stream)
        self._current: IO[bytes] | None = None

    def entries(self) -> Iterator[Entry]:
        """The members in archive order. `read` reads from the one that was yielded last."""
        try:
            with tarfile.open(fileobj=self._source, mode="r|", tarinfo=_Header, bufsize=CHUNK) as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # otherwise the list grows with the archive
                    _check(member)
                    self._current = archive.extractfile(member) if member.isreg() else None
                    yield Entry(member.name, member.mode, member.type, member.linkname)
        except tarfile.ReadError as error:
            if self._source.length:  # an empty layer is not an archive, but allowed
                raise ImageError(f"the tar archive ends within a member: {error}") from None
        except (tarfile.TarError, EOFError, OverflowError) as error:
            raise ImageError(f"not a tar archive: {error}") from None

    def read(self, limit: int) -> bytes:
        """Up to `limit` bytes of the member that `entries` yielded last, from its start."""
        return self._current.read(limit) if self._current else b""

    def digest(self) -> str:
        """The digest of the decompressed archive, which is the layer's diff_id (config.md, "Layer DiffID")."""
        while self._source.read(CHUNK):
            pass
        return f"sha256:{self._source.hash.hexdigest()}"


class _Header(tarfile.TarInfo):
    """Raises ImageError where `tarfile` would end the archive silently, or read a header of any size."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise ImageError(f"not a tar archive: {error}") from None

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENDED and not 0 <= self.size <= LONGEST_HEADER:
            raise ImageError(f"an extended tar header of {self.size} bytes, expected at most {LONGEST_HEADER}")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


class _Hashed(io.RawIOBase):
    """A stream that hashes what is read, and limits its length."""

    def __init__(self, stream: gzip.GzipFile | BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self.hash = hashlib.sha256()
        self.length = 0

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._stream.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise ImageError(f"not gzip: {error}") from None
        self.hash.update(data)
        self.length += len(data)
        if self.length > LARGEST:
            raise ImageError(f"more than {LARGEST} bytes when decompressed")
        return data


def _check(member: tarfile.TarInfo) -> None:
    if max(len(member.name), len(member.linkname)) > LONGEST_PATH:
        raise ImageError(f"a path of more than {LONGEST_PATH} characters: {member.name[:60]!r}…")
    size = member.pax_headers.get("size", "0")
    if not (size.isascii() and size.isdigit() and len(size) < 20):
        raise ImageError(f"a tar member of size {size[:60]!r}")
