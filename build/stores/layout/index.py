"""index.json of a layout, which holds its tags (image-spec image-layout.md, "index.json file")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from build.errors import ImageError, PublishError
from build.oci.media_types import LARGEST_MANIFEST, OCI
from build.stores.image_layout import Entry, named, parse_index
from build.stores.layout.blob import open_regular
from build.system import refusal

LOCK = ".lock"


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a layout, empty where there is none; raise PublishError if it is malformed."""
    path = folder / "index.json"
    try:
        with open_regular(path) as file:
            return parse_index(file.read(LARGEST_MANIFEST))
    except FileNotFoundError:
        return {"schemaVersion": 2, "mediaType": OCI.index, "manifests": []}
    except NotADirectoryError as error:
        raise PublishError(refusal(path, error)) from None
    except OSError as error:
        raise PublishError(f"{path}: can't be read: {error.strerror}") from None
    except ImageError as error:
        raise PublishError(
            f"{path}: not the index of an image layout: {error}\n  delete it, or push elsewhere"
        ) from None


def tagged(folder: Path, index: Mapping[str, Any], tag: str) -> Entry | None:
    """The entry that a tag refers to, or None; raise PublishError if readers could take different ones."""
    try:
        return named(index["manifests"], tag)
    except ImageError as error:
        raise PublishError(f"oci:{folder}: {error}") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a layout, creating its folder; raise PublishError if another run holds it for 30 s."""
    from filelock import FileLock, Timeout

    lock = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=30):
            yield
    except Timeout:
        raise PublishError(f"{lock}: held by another run for 30 s\n  wait for that run to end") from None
    except OSError as error:
        raise PublishError(refusal(lock, error)) from None
