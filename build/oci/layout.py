"""Names and constants of image layouts (image-spec image-layout.md, annotations.md)."""

from __future__ import annotations

VERSION = "1.0.0"
# The content of the file oci-layout.
OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
# The annotation of an entry in index.json that gives its tag.
REF_NAME = "org.opencontainers.image.ref.name"


def blob_path(digest: str) -> str:
    """The path of the blob with this digest, relative to the layout."""
    return "blobs/" + digest.replace(":", "/")
