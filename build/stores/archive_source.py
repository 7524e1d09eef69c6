"""Source: an archive that holds an OCI image layout (image-spec image-layout.md), as `archive` writes them.

All of it is read and proved at once; nothing is unpacked to the disk.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from build.errors import PublishError
from build.oci.descriptor import Blob, digest_of
from build.oci.media_types import LARGEST_MANIFEST
from build.oci.parse import media_type_of
from build.oci.descriptor import DIGEST
from build.oci.reference import Repository
from build.stores.archive import REFERENCE

# In bytes. A release takes some 30 KB, with libc in its programs some MB.
LARGEST = 1 << 30
# tarfile takes the end of a file for the end of the archive, too.
_END = bytes(2 * tarfile.BLOCKSIZE)
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True)
class ArchiveSource:
    """What an archive holds: descriptors by reference (`NAME:TAG`), and bytes by digest."""

    file: Path
    index: Mapping[str, Mapping[str, Any]]
    blobs: Mapping[str, bytes] = field(repr=False)

    async def digest(self, repository: Repository, tag: str) -> str | None:
        """The digest under `tag`, or None."""
        entry = self.index.get(f"{repository.name}:{tag}")
        return str(entry["digest"]) if entry else None

    async def manifest(self, repository: Repository, reference: str) -> Blob | None:
        """The manifest under a tag or digest, or None; PublishError if a tag's manifest is not in the archive."""
        if DIGEST.fullmatch(reference):
            entry: Mapping[str, Any] = {}
            data = self.blobs.get(reference)
        else:
            entry = self.index.get(f"{repository.name}:{reference}", {})
            data = await self.blob(repository, entry["digest"]) if entry else None
        if data is None:
            return None
        return Blob(media_type_of(data, str(entry.get("mediaType", ""))), data)

    async def blob(self, repository: Repository, digest: str, most: int = sys.maxsize) -> bytes:  # noqa: ARG002
        """The bytes of a blob; PublishError if the archive lacks it. An archive's repositories share their blobs."""
        if digest not in self.blobs:
            raise PublishError(f"{self.file}: no blob {digest}\n  make the archive again")
        return self.blobs[digest]

    def close(self) -> None:
        """The file is read already."""


def read(file: Path) -> ArchiveSource:
    """Read an archive; raise PublishError if it can't be read, or is not a plain tar with a layout that is whole."""
    try:
        if not file.is_file():
            raise PublishError(f"{file}: no such file\n  expected one that invoke copy wrote, seen from the checkout")
        size = file.stat().st_size
        if size > LARGEST:
            raise PublishError(f"{file}: found {size} bytes, expected {LARGEST} at most")
        with file.open("rb") as raw:
            _refuse_compressed(file, raw.read(6))
            raw.seek(max(0, size - len(_END)))
            if raw.read(len(_END)) != _END:
                raise _damaged(file, "no tar, or cut short")
        files = dict(_files(file))
    except OSError as error:
        raise PublishError(f"{file}: can't be read: {error.strerror}") from None
    blobs = {}
    for path, data in files.items():
        digest = path.removeprefix("blobs/").replace("/", ":", 1)
        if path.startswith("blobs/") and DIGEST.fullmatch(digest):
            if digest_of(data) != digest:
                raise _damaged(file, f"{path}: found {digest_of(data)}")
            blobs[digest] = data
    return ArchiveSource(file, _index(file, files), blobs)


def _refuse_compressed(file: Path, start: bytes) -> None:
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise PublishError(f"{file}: found a file that {name} compressed, expected a plain tar\n  unpack it first")


def _files(file: Path) -> Iterator[tuple[str, bytes]]:
    """Path and content of every file in the archive; raise PublishError for what no layout has."""
    seen = set()
    try:
        with tarfile.open(file, "r:") as tape:
            for member in tape:
                path = member.name.removeprefix("./")
                if member.isdir():
                    continue
                # A sparse file is larger than the archive says.
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
                    raise _damaged(file, f"{path!r} is neither a file nor a folder")
                if path in seen:
                    raise _damaged(file, f"two files are called {path!r}")
                seen.add(path)
                content = tape.extractfile(member)
                yield path, content.read() if content else b""
    except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError) as error:
        raise _damaged(file, f"not a tar: {error}") from None


def _index(file: Path, files: Mapping[str, bytes]) -> Mapping[str, Mapping[str, Any]]:
    for path in ("oci-layout", "index.json"):
        if path not in files:
            raise PublishError(f"{file}: no {path} in it: expected an OCI image layout, as invoke copy writes it")
    if len(files["index.json"]) > LARGEST_MANIFEST:
        raise _damaged(file, f"index.json: found {len(files['index.json'])} bytes, expected {LARGEST_MANIFEST} at most")
    try:
        version = json.loads(files["oci-layout"])["imageLayoutVersion"]
        entries = [
            (entry["annotations"][REFERENCE], entry)
            for entry in json.loads(files["index.json"])["manifests"]
            if REFERENCE in (entry.get("annotations") or {})
        ]
        if not all(isinstance(name, str) and DIGEST.fullmatch(entry["digest"]) for name, entry in entries):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _damaged(file, "its oci-layout or index.json is not well-formed") from None
    if version != "1.0.0":
        raise PublishError(f"{file}: found image layout version {version!r}, expected '1.0.0'")
    index = dict(entries)
    if len(index) < len(entries):
        raise _damaged(file, "index.json: one reference stands for two things")
    return index


def _damaged(file: Path, found: str) -> PublishError:
    return PublishError(f"{file}: damaged: {found}\n  make the archive again")
