"""Tags in an archive: references of the form NAME:TAG in its index.json."""

from __future__ import annotations

from build.errors import ImageError
from build.oci.reference import Repository
from build.stores.archive.members import Members, damaged
from build.stores.image_layout import Entry, named


def digest(members: Members, repository: Repository, tag: str) -> str | None:
    """The digest that `tag` refers to, or None."""
    entry = entry_of(members, repository, tag)
    return str(entry["digest"]) if entry else None


def entry_of(members: Members, repository: Repository, tag: str) -> Entry | None:
    """The entry of the index for a tag, or None; raise PublishError if readers could take different ones."""
    try:
        return named(members.index, f"{repository.name}:{tag}".removeprefix(":"))
    except ImageError as error:
        raise damaged(members.file, str(error)) from None
