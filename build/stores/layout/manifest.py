"""Manifests in a layout."""

from __future__ import annotations

from pathlib import Path

from build.errors import ImageError, PublishError
from build.oci.descriptor import DIGEST, Blob
from build.oci.layout import blob_path, manifest_of, with_digest
from build.stores.layout.blob import read
from build.stores.layout.index import read_index, tagged


def read_manifest(folder: Path, reference: str) -> Blob | None:
    """The manifest that a tag or digest refers to, or None; raise PublishError if it is damaged."""
    by_digest = DIGEST.fullmatch(reference)
    entry = with_digest(read_index(folder)["manifests"], reference) if by_digest else tagged(folder, reference)
    if entry is None:
        return None
    digest = str(entry.get("digest", reference))
    if not (folder / blob_path(digest)).exists():
        return None
    try:
        return manifest_of(entry, read(folder, digest))
    except ImageError as error:
        raise PublishError(f"oci:{folder}: {error}") from None
