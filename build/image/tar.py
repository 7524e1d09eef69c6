"""A layer's tar archive as a stream: unpacked, hashed and read in pieces, as a stranger's layer may be of any size.

pax and GNU tar, as image-spec layer.md allows them. The standard library reads each header block; what it would read
whole into memory (extended headers, the list of members) is bounded here.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from build.errors import ImageError

BLOCK = 512
# A pipe's worth: what is skipped goes through memory in pieces of this size.
PIECE = 1 << 18
LARGEST = 64 << 30
LONGEST_HEADER = 1 << 20
LONGEST_PATH = 4096
# tar's type flags.
_FILES, _WITHOUT_DATA, _SPARSE = (b"0", b"\0", b"7", b"S"), (b"1", b"2", b"3", b"4", b"5", b"6"), b"S"
_PAX, _PAX_FOR_ALL = (b"x", b"X"), b"g"
_GNU = {b"L": "path", b"K": "linkpath"}


@dataclass(frozen=True)
class Entry:
    """A member of the archive: its name and permission bits, its kind (tar's type flag), and where a link leads."""

    name: str
    mode: int
    kind: bytes
    target: str

    @property
    def is_file(self) -> bool:
        """Whether it has content of its own."""
        return self.kind in _FILES


class Tape:
    """One pass over a layer. Every method raises ImageError if the bytes are not the archive that they should be."""

    def __init__(self, data: bytes, compressed: bool) -> None:
        raw = io.BytesIO(data)
        self._file: io.BytesIO | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if compressed else raw
        self._hash = hashlib.sha256()
        self._length = 0
        self._left = 0

    def entries(self) -> Iterator[Entry]:
        """The members in their order. `start` reads from the one that came last."""
        import tarfile

        extended: dict[str, str] = {}
        while block := self._header():
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise ImageError(f"not a tar archive: {error}") from None
            if info.type in _PAX:
                extended |= _records(self._extension(info.size))
            elif info.type in _GNU:
                text = self._extension(info.size).partition(b"\0")[0]
                extended[_GNU[info.type]] = text.decode("utf-8", "surrogateescape")
            elif info.type == _PAX_FOR_ALL:
                self._extension(info.size)
            else:
                size = _size(extended, info.size)
                if info.type == _SPARSE:
                    self._sparse_map(block)
                self._left = 0 if info.type in _WITHOUT_DATA else size
                padding = -self._left % BLOCK
                name, target = extended.get("path", info.name), extended.get("linkpath", info.linkname)
                if max(len(name), len(target)) > LONGEST_PATH:
                    raise ImageError(f"a path of more than {LONGEST_PATH} characters: {name[:60]!r}…")
                yield Entry(name, info.mode, info.type, target)
                self._skip(self._left + padding)
                extended = {}

    def start(self, most: int) -> bytes:
        """The first bytes of the member that `entries` gave last, `most` of them if there are so many."""
        data = self._exactly(min(most, self._left))
        self._left -= len(data)
        return data

    def digest(self) -> str:
        """The digest of the whole archive, which is the layer's diff_id (config.md, "Layer DiffID")."""
        while self._read(PIECE):
            pass
        return "sha256:" + self._hash.hexdigest()

    def _header(self) -> bytes | None:
        block = self._read(BLOCK)
        if not block.strip(b"\0"):
            return None  # the end: two empty blocks, one, or none, depending on who wrote it
        return block + self._exactly(BLOCK - len(block)) if len(block) < BLOCK else block

    def _extension(self, size: int) -> bytes:
        if not 0 <= size <= LONGEST_HEADER:
            raise ImageError(f"an extended tar header of {size} bytes: expected {LONGEST_HEADER} at most")
        data = self._exactly(size)
        self._skip(-size % BLOCK)
        return data

    def _sparse_map(self, block: bytes) -> None:
        more = block[482]
        while more:
            more = self._exactly(BLOCK)[504]

    def _skip(self, size: int) -> None:
        while size > 0:
            size -= len(self._exactly(min(size, PIECE)))

    def _exactly(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) < size:
            raise ImageError("the tar archive ends within a member")
        return data

    def _read(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise ImageError(f"not gzip: {error}") from None
        self._hash.update(data)
        self._length += len(data)
        if self._length > LARGEST:
            raise ImageError(f"more than {LARGEST} bytes when unpacked")
        return data


def _size(extended: Mapping[str, str], size: int) -> int:
    text = extended.get("size", str(size))
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ImageError(f"a tar member of size {text[:60]!r}")
    return int(text)


def _records(data: bytes) -> dict[str, str]:
    """The records of a pax header: `LENGTH KEY=VALUE\\n`, the length in bytes and of all of it."""
    found, at = {}, 0
    while at < len(data) and data[at]:
        blank = data.find(b" ", at, at + 10)
        length = int(data[at:blank]) if data[at:blank].isdigit() else 0
        record = data[blank + 1 : at + length - 1]
        if blank < 0 or b"=" not in record or at + length > len(data):
            raise ImageError("a pax header that is not well-formed")
        key, _, value = record.partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at += length
    return found
