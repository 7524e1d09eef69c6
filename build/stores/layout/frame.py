"""What a layout says beside its blobs: the file oci-layout, and the members of index.json (image-spec image-layout.md).

Neither is covered by a digest, so both are compared with what they should say.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from build.errors import ImageError, PublishError
from build.oci.media_types import OCI
from build.oci.strict import LAYOUT, MANIFEST, parse, shown
from build.stores.image_layout import VERSION

_MEND = "\n  to mend it, push there again"


def check_frame(folder: Path, index: Mapping[str, Any]) -> None:
    """Raise PublishError unless readers take the folder for a layout; `index` is its index.json."""
    path = folder / "oci-layout"
    try:
        found = parse(path.read_bytes(), LAYOUT).get("imageLayoutVersion")
    except OSError as error:
        raise PublishError(f"{path}: {error.strerror}, expected a file with imageLayoutVersion{_MEND}") from None
    except ImageError as error:
        raise PublishError(f"{path}: {error}{_MEND}") from None
    if found != VERSION:
        raise PublishError(f"{path}: imageLayoutVersion: found {shown(found)}, expected {VERSION!r}{_MEND}")
    for name, value, wanted in (
        ("schemaVersion", index.get("schemaVersion"), 2),
        ("mediaType", index.get("mediaType", OCI.index), OCI.index),  # it may be absent
    ):
        if type(value) is not type(wanted) or value != wanted:
            raise PublishError(f"{folder / 'index.json'}: {name}: found {shown(value)}, expected {wanted!r}{_MEND}")


def check_entry(folder: Path, entry: Mapping[str, Any], manifest: bytes) -> None:
    """Raise PublishError unless an entry of index.json has the size and the media type of its manifest."""
    where = f"{folder / 'index.json'}: {entry['digest']}"
    if entry.get("size") != len(manifest):
        raise PublishError(f"{where}: size: found {shown(entry.get('size'))}, expected {len(manifest)}{_MEND}")
    found = entry.get("mediaType")
    wanted = _declared(manifest) or found
    if not isinstance(found, str) or not found or found != wanted:
        expected = shown(wanted) if wanted else "a media type"
        raise PublishError(f"{where}: mediaType: found {shown(found)}, expected {expected}{_MEND}")


def _declared(manifest: bytes) -> str | None:
    """The `mediaType` in a manifest, if there is one; whoever parses the manifest says what is wrong with it."""
    try:
        found = parse(manifest, MANIFEST).get("mediaType")
    except ImageError:
        return None
    return found if isinstance(found, str) else None
