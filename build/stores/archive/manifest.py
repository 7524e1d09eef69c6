"""Manifests in an archive."""

from __future__ import annotations

from build.errors import ImageError
from build.oci.descriptor import DIGEST, Blob
from build.oci.reference import Repository
from build.stores.archive.blob import read
from build.stores.archive.members import Members, damaged
from build.stores.archive.tag import entry_of
from build.stores.image_layout import Entry, blob_path, manifest_of, with_digest


def read_manifest(members: Members, repository: Repository, reference: str) -> Blob | None:
    """The manifest that a tag or digest refers to, or None; PublishError if a tag's manifest is missing or damaged."""
    if DIGEST.fullmatch(reference):
        if blob_path(reference) not in members.files:
            return None
        entry: Entry | None = with_digest(members.index, reference)
    else:
        entry = entry_of(members, repository, reference)
    if entry is None:
        return None
    data = read(members, str(entry.get("digest", reference)))
    try:
        return manifest_of(entry, data)
    except ImageError as error:
        raise damaged(members.file, str(error)) from None
