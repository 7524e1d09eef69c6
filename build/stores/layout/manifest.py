"""Manifests in a layout."""

from __future__ import annotations

from pathlib import Path

from build.oci.descriptor import DIGEST, Blob
from build.oci.layout import blob_path
from build.oci.parse import media_type_of
from build.stores.layout.blob import read
from build.stores.layout.index import read_index, tagged


def read_manifest(folder: Path, reference: str) -> Blob | None:
    """The manifest that a tag or digest refers to, or None; raise PublishError if it is damaged."""
    entry = tagged(read_index(folder), reference)
    digest = str(entry["digest"]) if entry else reference
    if not DIGEST.fullmatch(digest) or not (folder / blob_path(digest)).is_file():
        return None
    data = read(folder, digest)
    return Blob.of(media_type_of(data, str((entry or {}).get("mediaType", ""))), data)
