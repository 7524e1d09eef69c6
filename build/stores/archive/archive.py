"""An archive as a source: its content is read by `blob`, `manifest` and `tag`, and located by `members`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from build.oci.descriptor import Blob, Descriptor
from build.oci.reference import Reference, Repository
from build.oci.referrer import Referrer
from build.stores.archive import manifest, referrer, tag
from build.stores.archive.blob import read_blob
from build.stores.archive.members import Members, read_members
from build.stores.image_layout import name_of


@dataclass(frozen=True)
class Archive:
    """The image layout in the tar archive `file`, whose repositories share their blobs; see `Source`."""

    file: Path

    async def digest(self, repository: Repository, name: str, *, certain: bool = False) -> str | None:  # noqa: ARG002
        """See `Source`."""
        return tag.digest(self._members, repository, name)

    async def manifest(self, repository: Repository, reference: str) -> Blob | None:
        """See `Source`."""
        return manifest.read_manifest(self._members, repository, reference)

    async def references(self, repository: Repository) -> list[Reference]:
        """See `Listing`."""
        named = [(each, *name_of(each).rpartition(":")[::2]) for each in self._members.index]
        return [
            Reference(Repository(repository.host, name), tag, "" if tag else each["digest"])
            for each, name, tag in named
        ]

    async def referrers(self, repository: Repository, digest: str) -> tuple[Referrer, ...]:
        """See `Source`."""
        return referrer.referrers(self._members, repository, digest)

    async def blob(self, repository: Repository, descriptor: Descriptor, spool: Path) -> Blob:  # noqa: ARG002
        """See `Source`: a large blob is copied to a file in `spool`."""
        return await asyncio.to_thread(read_blob, self._members, descriptor, spool)

    def listing(self, registry: str) -> list[tuple[str, str]]:  # noqa: ARG002
        """See `Source`."""
        return [(name, tag) for name, _, tag in (each.rpartition(":") for each in map(name_of, self._members.index))]

    async def close(self) -> None:
        """Nothing is kept open."""

    @cached_property
    def _members(self) -> Members:
        return read_members(self.file)
