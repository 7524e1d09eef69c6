"""Image layouts as a store: what is stored is in `blob`, `manifest` and `tag`.

A layout is local output: its tags follow the last build. Blobs come before what refers to them, and `index.json`, which
holds the tags, is replaced in one step under a lock that the system releases if the process dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from build.oci.descriptor import Blob, Descriptor
from build.oci.image import Target
from build.oci.reference import Reference, Repository
from build.oci.referrer import Referrer
from build.stores.image_layout import name_of
from build.stores.layout import manifest, referrer, tag
from build.stores.layout.blob import read_blob, write_blob
from build.stores.layout.index import read_index


@dataclass(frozen=True)
class Layout:
    """The layouts below the folder `base`; a repository's name is its path from there, or an absolute path."""

    base: Path
    keeps_tags = False
    is_distant = False

    async def digest(self, repository: Repository, name: str, *, certain: bool = False) -> str | None:  # noqa: ARG002
        """See `Store`. A damaged or incomplete image counts as absent, so that a push replaces it."""
        return await asyncio.to_thread(tag.digest, self._folder(repository), name)

    async def manifest(self, repository: Repository, reference: str) -> Blob | None:
        """See `Store`."""
        return manifest.read_manifest(self._folder(repository), reference)

    async def references(self, repository: Repository) -> list[Reference]:
        """See `Listing`."""
        entries = read_index(self._folder(repository))["manifests"]
        return [Reference(repository, name_of(each), "" if name_of(each) else each["digest"]) for each in entries]

    async def referrers(self, repository: Repository, digest: str) -> tuple[Referrer, ...]:
        """See `Store`."""
        return referrer.referrers(self._folder(repository), digest)

    async def blob(self, repository: Repository, descriptor: Descriptor, spool: Path) -> Blob:  # noqa: ARG002
        """See `Store`: a large blob is the layout's own file."""
        return await asyncio.to_thread(read_blob, self._folder(repository), descriptor)

    def listing(self, registry: str) -> list[tuple[str, str]]:
        """See `Store`: of the layouts that are folders in that of `registry`."""
        found = []
        for path in sorted((self.base / Repository.parse(registry).name).glob("*/oci-layout")):
            entries = read_index(path.parent)["manifests"]
            found += [(path.parent.name, name) for name in map(name_of, entries) if name]
        return found

    async def settled_digest(self, repository: Repository, name: str, wanted: str, before: str | None) -> str | None:  # noqa: ARG002
        """See `Store`: a file can be seen as soon as it is written."""
        return await self.digest(repository, name)

    def will_write(self, repositories: Iterable[Repository]) -> None:
        """A folder needs no permission."""

    def expect(self, repository: Repository, blobs: int) -> None:
        """A folder needs no preparation."""

    async def put_blob(self, repository: Repository, blob: Blob, mount_from: Repository | None = None) -> int:  # noqa: ARG002
        """See `Store`."""
        folder = self._folder(repository)
        if isinstance(blob.source, Path):
            await asyncio.to_thread(write_blob, folder, blob)
        else:
            write_blob(folder, blob)
        return blob.size

    async def put_manifest(self, repository: Repository, content: Blob) -> None:
        """See `Store`."""
        write_blob(self._folder(repository), content)

    async def put_referrers(self, repository: Repository, subject: str, manifests: Sequence[Blob]) -> None:
        """See `Store`."""
        await asyncio.to_thread(referrer.put_referrers, self._folder(repository), subject, manifests)

    async def settle_referrers(self) -> None:
        """A layout has a lock, so nothing is overwritten."""

    async def put_tag(self, repository: Repository, name: str, target: Target) -> None:
        """See `Store`."""
        await asyncio.to_thread(tag.put_tag, self._folder(repository), name, target)

    async def close(self) -> None:
        """Nothing is kept open."""

    def _folder(self, repository: Repository) -> Path:
        return self.base / repository.name
