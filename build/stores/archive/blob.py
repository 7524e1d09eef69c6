"""Blobs in an archive, verified as they are read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from build.errors import PublishError
from build.oci.descriptor import Blob, Descriptor, digest_of
from build.stores.archive.members import Member, Members, damaged, read_small, reading
from build.stores.image_layout import blob_path
from build.stores.store import SMALL
from build.system import replacing


def read_blob(members: Members, descriptor: Descriptor, spool: Path) -> Blob:
    """The blob of a descriptor, in memory if small, else in a new file in `spool`.

    Raises PublishError if it is missing or damaged.
    """
    member = _member(members, descriptor.digest)
    if member.size <= SMALL:
        source: bytes | Path = read(members, descriptor.digest)
    else:
        source = spool / os.urandom(8).hex()
        _copy(members, member, descriptor.digest, source)
    if member.size != descriptor.size:
        path = blob_path(descriptor.digest)
        raise damaged(members.file, f"{path}: found {member.size} bytes, expected {descriptor.size}")
    return Blob(descriptor.media_type, descriptor.digest, member.size, source)


def read(members: Members, digest: str) -> bytes:
    """The bytes of a small blob; raise PublishError if it is missing or damaged."""
    path = blob_path(digest)
    data = read_small(members.file, _member(members, digest), path)
    if digest_of(data) != digest:
        raise damaged(members.file, f"{path}: found {digest_of(data)}")
    return data


def _member(members: Members, digest: str) -> Member:
    if blob_path(digest) not in members.files:
        raise PublishError(f"{members.file}: no blob {digest}\n  create the archive again")
    return members.files[blob_path(digest)]


def _copy(members: Members, member: Member, digest: str, target: Path) -> None:
    hashed = hashlib.sha256()
    with replacing(target) as temporary, temporary.open("wb") as output:
        for chunk in _chunks(members.file, member):
            hashed.update(chunk)
            output.write(chunk)
        if f"sha256:{hashed.hexdigest()}" != digest:
            raise damaged(members.file, f"{blob_path(digest)}: found sha256:{hashed.hexdigest()}")


def _chunks(file: Path, member: Member) -> Iterator[bytes]:
    left = member.size
    with reading(file), file.open("rb") as source:
        source.seek(member.offset)
        while chunk := source.read(min(left, SMALL)):
            yield chunk
            left -= len(chunk)
