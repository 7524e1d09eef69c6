"""Blobs in a layout: files named by their digest, verified as they are read."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from build.errors import PublishError
from build.oci.descriptor import DIGEST, Blob, Descriptor
from build.oci.layout import blob_path
from build.oci.media_types import LARGEST_MANIFEST
from build.stores.store import SMALL
from build.system import replacing, write_if_changed


def read_blob(folder: Path, descriptor: Descriptor) -> Blob:
    """The blob of a descriptor, in memory if small; raise PublishError if it is missing or damaged."""
    path = folder / blob_path(descriptor.digest)
    source: bytes | Path
    if descriptor.size <= SMALL:
        data = read(folder, descriptor.digest)
        source, size = data, len(data)
    else:
        source, size = path, verify_blob(folder, descriptor.digest)
    if size != descriptor.size:
        raise PublishError(f"{path}: size: found {size} bytes, expected {descriptor.size} as its descriptor says")
    return Blob(descriptor.media_type, descriptor.digest, size, source)


def verify_blob(folder: Path, digest: str) -> int:
    """The size of a blob in bytes; raise PublishError if it is missing or damaged."""
    path = _path(folder, digest)
    try:
        with path.open("rb") as file:
            verify(path, f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}", digest)
            return file.tell()
    except OSError as error:
        raise PublishError(f"oci:{folder}: blob {digest}: {error.strerror}") from None


def read(folder: Path, digest: str) -> bytes:
    """The bytes of a small blob; raise PublishError if it is missing, damaged or large."""
    path = _path(folder, digest)
    try:
        if (size := path.stat().st_size) > LARGEST_MANIFEST:
            raise PublishError(f"{path}: found {size} bytes, expected {LARGEST_MANIFEST} at most")
        data = path.read_bytes()
    except OSError as error:
        raise PublishError(f"oci:{folder}: blob {digest}: {error.strerror}") from None
    verify(path, f"sha256:{hashlib.sha256(data).hexdigest()}", digest)
    return data


def _path(folder: Path, digest: str) -> Path:
    if not DIGEST.fullmatch(digest):  # it could lead out of the folder
        raise PublishError(f"oci:{folder}: found {digest[:80]!r}, expected sha256: and 64 hexadecimal digits")
    return folder / blob_path(digest)


def verify(path: Path, found: str, expected: str) -> None:
    """Raise PublishError if the digest of a file is not the expected one."""
    if found != expected:
        raise PublishError(f"{path}: damaged: found {found}, expected {expected}\n  delete it and push again")


def write_blob(folder: Path, blob: Blob) -> None:
    """Store a blob, unless it is there."""
    path = folder / blob_path(blob.digest)
    if isinstance(blob.source, bytes):
        write_if_changed(path, blob.source)
    elif not _is_there(path, blob):
        with replacing(path) as temporary, blob.open() as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target, SMALL)


def _is_there(path: Path, blob: Blob) -> bool:
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == blob.digest
    except OSError:
        return False
