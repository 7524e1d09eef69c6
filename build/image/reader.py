"""Reads a layer's tar archive as a stream, in bounded memory, because layers of other publishers may be of any size."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, cast

from build.errors import ImageError
from build.oci.untar import CHUNK, LARGEST, Stream, malformed, members

# The value of zlib's `wbits` for gzip, and bytes of it that are read at once: each step copies what is left of them.
_GZIP, _PACKED = 31, 1 << 14
# What a layer may unpack to: as many bytes, or as many times its size. Deflate itself packs zeros 1000 to 1.
FREE, RATIO = 256 << 20, 100


def largest(size: int) -> int:
    """How many bytes a layer of `size` bytes may unpack to; else a small one would take minutes."""
    return min(max(FREE, RATIO * size), LARGEST)


@dataclass(frozen=True)
class Entry:
    """A member of the archive: name, permission bits, type flag, the target of a link, and whether it has content."""

    name: str
    mode: int
    kind: bytes
    target: str
    is_file: bool


class LayerReader:
    """One pass over a layer. Every method raises ImageError if the layer is not a valid archive.

    `size` is the number of bytes in `stream`, and all that is read of it.
    """

    def __init__(self, stream: BinaryIO, compressed: bool, size: int) -> None:
        self._unpacked = _Unpacked(stream, compressed, size)
        self._source = Stream(cast("BinaryIO", io.BufferedReader(self._unpacked, CHUNK)))
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
        """The digest of the whole archive, unpacked, which is the layer's diff_id (config.md, "Layer DiffID")."""
        while self._source.read(CHUNK):
            pass
        return f"sha256:{self._unpacked.hash.hexdigest()}"


class _Unpacked(io.RawIOBase):
    """What `size` bytes of a layer unpack to, hashed, and limited as `largest` says.

    Of gzip, all members count (RFC 1952, 2.2), and nothing but members may follow: readers differ on what that means.
    """

    def __init__(self, file: BinaryIO, compressed: bool, size: int) -> None:
        super().__init__()
        self.hash = hashlib.sha256()
        self._file, self._left, self._length, self._largest = file, size, 0, largest(size)
        self._gunzip = zlib.decompressobj(wbits=_GZIP) if compressed else None
        self._packed = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._unpacked(len(buffer)) if self._gunzip else self._chunk(len(buffer))
        buffer[: len(data)] = data
        self.hash.update(data)
        self._length += len(data)
        if self._length > self._largest:
            raise ImageError(f"more than {self._largest} bytes when unpacked")
        return len(data)

    def _unpacked(self, size: int) -> bytes:
        """At least one byte, and at most `size`; none at the end."""
        gunzip, data = self._gunzip, b""
        while gunzip and not data:
            self._packed = self._packed or self._chunk(_PACKED)
            if gunzip.eof and self._packed:
                gunzip = self._gunzip = zlib.decompressobj(wbits=_GZIP)
            elif not self._packed:
                if gunzip.eof:
                    break
                raise ImageError("not gzip, or truncated")
            try:
                data = gunzip.decompress(self._packed, size)
            except zlib.error as error:
                raise ImageError(f"not gzip: {error}") from None
            self._packed = gunzip.unconsumed_tail or gunzip.unused_data
        return data

    def _chunk(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data
