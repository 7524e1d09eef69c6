"""Where each file is in an archive; refuses what is not a plain tar of an image layout."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from build.errors import ImageError, PublishError
from build.oci.media_types import LARGEST_MANIFEST
from build.oci.parse import check_version
from build.oci.untar import Stream, members
from build.stores.image_layout import REFERRERS, Entry, check_layout, parse_index

# Files in an archive; a release has a few for each image.
_MOST_FILES = 100_000
# tarfile takes the end of a file for the end of the archive, too.
_END = bytes(2 * tarfile.BLOCKSIZE)
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True)
class Member:
    """Where the content of a file is in the archive: offset and size in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class Members:
    """The files of an archive by their path, and the entries of index.json and of the index of referrers."""

    file: Path
    files: Mapping[str, Member]
    index: Sequence[Entry]


def read_members(file: Path) -> Members:
    """Read where everything is; raise PublishError if `file` is not a plain tar with an image layout."""
    with reading(file):
        if not file.is_file():
            raise PublishError(f"{file}: no such file\n  expected one that invoke copy wrote, relative to the checkout")
        with file.open("rb") as raw:
            _refuse_compressed(file, raw.read(6))
            raw.seek(max(0, file.stat().st_size - len(_END)))
            if raw.read(len(_END)) != _END:
                raise damaged(file, "not a tar, or truncated")
        files = dict(_files(file))
        return Members(file, files, _index(file, files))


def read_small(file: Path, member: Member, path: str) -> bytes:
    """The content of a small file in the archive; raise PublishError if it is larger than a manifest may be."""
    if member.size > LARGEST_MANIFEST:
        raise damaged(file, f"{path}: found {member.size} bytes, expected {LARGEST_MANIFEST} at most")
    with reading(file), file.open("rb") as raw:
        raw.seek(member.offset)
        return raw.read(member.size)


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Raise PublishError where the system refuses to read the archive."""
    try:
        yield
    except OSError as error:
        raise PublishError(f"{file}: can't be read: {error.strerror}") from None


def damaged(file: Path, found: str) -> PublishError:
    """The error for an archive that is not what it should be."""
    return PublishError(f"{file}: damaged: {found}\n  create the archive again")


def _refuse_compressed(file: Path, start: bytes) -> None:
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise PublishError(f"{file}: found a {name} file, expected a plain tar\n  decompress it first")


def _files(file: Path) -> Iterator[tuple[str, Member]]:
    """Path and place of every file in the archive; raise PublishError for what no layout has."""
    seen: set[str] = set()
    try:
        with file.open("rb") as raw:
            for member, _ in members(_Seekable(raw)):
                path = member.name.removeprefix("./")
                if member.isdir():
                    continue
                if not member.isreg():
                    raise damaged(file, f"{path!r} is neither a file nor a folder")
                if path in seen:
                    raise damaged(file, f"two files are called {path!r}")
                if len(seen) == _MOST_FILES:
                    raise damaged(file, f"more than {_MOST_FILES} files")
                seen.add(path)
                yield path, Member(member.offset_data, member.size)
    except ImageError as error:
        raise damaged(file, str(error)) from None


class _Seekable(Stream):
    """A file on a disk, where nothing has to be read to skip it."""

    def seek(self, position: int) -> None:
        if position > self.tell() + len(self._ahead):
            self._file.seek(position)
            self._ahead, self._position = b"", position
        else:
            super().seek(position)


def _index(file: Path, files: Mapping[str, Member]) -> Sequence[Entry]:
    for path in ("oci-layout", "index.json"):
        if path not in files:
            raise PublishError(f"{file}: no {path} in it: expected an OCI image layout, as invoke copy writes it")
    try:
        path = "oci-layout"
        check_layout(read_small(file, files[path], path))
        entries: list[Entry] = []
        for path in ("index.json", *({REFERRERS} & files.keys())):
            index = parse_index(read_small(file, files[path], path))
            check_version(index)
            entries += index["manifests"]
    except ImageError as error:
        raise damaged(file, f"{path}: {error}") from None
    return entries
