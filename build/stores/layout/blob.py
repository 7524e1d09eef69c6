"""Blobs in a layout: files named by their digest, verified as they are read."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from build.errors import PublishError
from build.oci.descriptor import DIGEST, Blob, Descriptor, digest_of
from build.oci.media_types import LARGEST_MANIFEST
from build.stores.image_layout import blob_path
from build.stores.store import SMALL
from build.system import replacing, write_if_changed


def read_blob(folder: Path, descriptor: Descriptor) -> Blob:
    """The blob of a descriptor, in memory if small; raise PublishError if it is missing or damaged."""
    path, digest = _path(folder, descriptor.digest), descriptor.digest
    with _opened(folder, digest) as (file, size):
        if size != descriptor.size:
            found = f"found {size} bytes, expected {descriptor.size} as its descriptor says"
            raise PublishError(f"{path}: damaged: {found}\n  delete it and push again")
        source: bytes | Path = path
        if size <= SMALL:
            source = file.read(size)
        verify(path, digest_of(source) if isinstance(source, bytes) else _digest(file, size), digest)
    return Blob(descriptor.media_type, digest, size, source)


def verify_blob(folder: Path, digest: str) -> None:
    """Raise PublishError if a blob is missing or damaged."""
    with _opened(folder, digest) as (file, size):
        verify(_path(folder, digest), _digest(file, size), digest)


def read(folder: Path, digest: str) -> bytes:
    """The bytes of a small blob; raise PublishError if it is missing, damaged or large."""
    path = _path(folder, digest)
    with _opened(folder, digest) as (file, size):
        if size > LARGEST_MANIFEST:
            raise PublishError(f"{path}: found {size} bytes, expected {LARGEST_MANIFEST} at most")
        data = file.read(size)
    verify(path, digest_of(data), digest)
    return data


def open_regular(path: Path) -> BinaryIO:
    """A regular file, to be read. Raises OSError for anything else: a pipe may block, and a device has no end."""
    file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "not a regular file", str(path))


@contextmanager
def _opened(folder: Path, digest: str) -> Iterator[tuple[BinaryIO, int]]:
    """A blob, and its size in bytes."""
    try:
        with open_regular(_path(folder, digest)) as file:
            yield file, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise PublishError(f"oci:{folder}: blob {digest}: {error.strerror}") from None


def _digest(file: BinaryIO, size: int) -> str:
    """The digest of the first `size` bytes."""
    hashed = hashlib.sha256()
    while size > 0 and (chunk := file.read(min(size, SMALL))):
        hashed.update(chunk)
        size -= len(chunk)
    return f"sha256:{hashed.hexdigest()}"


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
        with open_regular(path) as file:
            return _digest(file, blob.size) == blob.digest and not file.read(1)
    except OSError:
        return False
