"""Manifests in an archive."""

from __future__ import annotations

from build.oci.descriptor import DIGEST, Blob
from build.oci.layout import blob_path
from build.oci.parse import media_type_of
from build.oci.reference import Repository
from build.stores.archive.blob import read
from build.stores.archive.members import Members
from build.stores.archive.tag import entry_of


def read_manifest(members: Members, repository: Repository, reference: str) -> Blob | None:
    """The manifest that a tag or digest refers to, or None; PublishError if a tag's manifest is missing or damaged."""
    if DIGEST.fullmatch(reference):
        if blob_path(reference) not in members.files:
            return None
        data = read(members, reference)
        return Blob.of(media_type_of(data, ""), data)
    entry = entry_of(members, repository, reference)
    if entry is None:
        return None
    data = read(members, str(entry["digest"]))
    return Blob.of(media_type_of(data, str(entry.get("mediaType", ""))), data)
