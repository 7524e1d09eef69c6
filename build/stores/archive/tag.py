"""Tags in an archive: references of the form NAME:TAG in its index.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from build.oci.reference import Repository
from build.stores.archive.members import Members


def digest(members: Members, repository: Repository, tag: str) -> str | None:
    """The digest that `tag` refers to, or None."""
    entry = entry_of(members, repository, tag)
    return str(entry["digest"]) if entry else None


def entry_of(members: Members, repository: Repository, tag: str) -> Mapping[str, Any] | None:
    """The entry of the index for a tag, or None."""
    return members.index.get(f"{repository.name}:{tag}")
