"""Manifests in a layout."""

from __future__ import annotations

from pathlib import Path

from build.errors import ImageError, PublishError
from build.oci.descriptor import DIGEST, Blob
from build.stores.image_layout import blob_path, manifest_of, with_digest
from build.stores.layout.blob import read
from build.stores.layout.frame import check_entry, check_frame
from build.stores.layout.index import read_index, tagged


def read_manifest(folder: Path, reference: str) -> Blob | None:
    """The manifest that a tag or digest refers to, or None.

    Raises PublishError if it is damaged, or if readers would not take the folder for a layout.
    """
    index = read_index(folder)
    by_digest = DIGEST.fullmatch(reference)
    entry = with_digest(index["manifests"], reference) if by_digest else tagged(folder, index, reference)
    if entry is None:
        return None
    digest = str(entry.get("digest", reference))
    if not DIGEST.fullmatch(digest) or not (folder / blob_path(digest)).is_file():
        return None
    if (folder / "index.json").exists():  # else a run was killed before its first tag
        check_frame(folder, index)
    data = read(folder, digest)
    if not by_digest:
        check_entry(folder, entry, data)
    try:
        return manifest_of(entry, data)
    except ImageError as error:
        raise PublishError(f"oci:{folder}: {error}") from None
