"""index.json of a layout, which holds its tags (image-spec image-layout.md, "index.json file")."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from build.errors import PublishError
from build.oci.layout import REF_NAME
from build.oci.media_types import OCI
from build.system import refusal

LOCK = ".lock"


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a layout, empty where there is none; raise PublishError if it is malformed."""
    path = folder / "index.json"
    try:
        index = json.loads(path.read_bytes())
        well_formed = isinstance(index["manifests"], list) and all(
            isinstance(entry["digest"], str) and isinstance(entry.get("annotations", {}), dict)
            for entry in index["manifests"]
        )
        if not well_formed:
            raise TypeError
    except FileNotFoundError:
        return {"schemaVersion": 2, "mediaType": OCI.index, "manifests": []}
    except NotADirectoryError as error:
        raise PublishError(refusal(path, error)) from None
    except OSError as error:
        raise PublishError(f"{path}: can't be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise PublishError(f"{path}: not the index of an image layout\n  delete it, or push elsewhere") from None
    return dict(index)


def tagged(index: dict[str, Any], tag: str) -> dict[str, Any] | None:
    """The entry with this tag, or None."""
    return next((entry for entry in index["manifests"] if entry.get("annotations", {}).get(REF_NAME) == tag), None)


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
