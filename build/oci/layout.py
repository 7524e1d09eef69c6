"""Constants of image layouts (image-spec image-layout.md, annotations.md)."""

from __future__ import annotations

VERSION = "1.0.0"
# The whole file oci-layout.
OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
# The annotation that makes an entry of index.json findable by name.
REF_NAME = "org.opencontainers.image.ref.name"


def blob_path(digest: str) -> str:
    """Where a layout keeps the blob with this digest, relative to its folder."""
    return "blobs/" + digest.replace(":", "/")
