"""Reads a layer's tar archive as a stream, in bounded memory, because layers of other publishers may be of any size."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO, cast

from build.errors import ImageError
from build.oci.untar import CHUNK, LARGEST, Stream, malformed, members


@dataclass(frozen=True)
class Entry:
    """A member of the archive: name, permission bits, type flag, the target of a link, and whether it has content."""

    name: str
    mode: int
    kind: bytes
    target: str
    is_file: bool


class LayerReader:
    """One pass over a layer. Every method raises ImageError if the layer is not a valid archive."""

    def __init__(self, stream: BinaryIO, compressed: bool) -> None:
        self._source = _Hashed(cast("BinaryIO", gzip.GzipFile(fileobj=stream)) if compressed else stream)
        self._current: IO[bytes] | None = None

    def entries(self) -> Iterator[Entry]:
        """The members in archive order. `read` reads from the one that was yielded last."""
        for member, content in members(self._source):
            self._current = content
            yield Entry(member.name, member.mode, member.type, member.linkname, member.isreg())

    def read(self, limit: int) -> bytes:
        """Up to `limit` bytes of the member that `entries` yielded last, from its start."""
        with malformed():
            return self._current.read(limit) if self._current else b""

    def digest(self) -> str:
        """The digest of the decompressed archive, which is the layer's diff_id (config.md, "Layer DiffID")."""
        while self._source.read(CHUNK):
            pass
        return f"sha256:{self._source.hash.hexdigest()}"


class _Hashed(Stream):
    """A stream that hashes what is read, and limits its length."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.hash = hashlib.sha256()
        self._length = 0

    def _take(self, size: int) -> bytes:
        try:
            data = super()._take(size)
        except (OSError, EOFError, zlib.error) as error:
            raise ImageError(f"not gzip: {error}") from None
        self.hash.update(data)
        self._length += len(data)
        if self._length > LARGEST:
            raise ImageError(f"more than {LARGEST} bytes when decompressed")
        return data
