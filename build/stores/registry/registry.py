"""A registry as a store: what it stores is in `blob`, `manifest` and `tag`; how to reach it is `session`'s affair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from build.oci.descriptor import Blob, Descriptor
from build.oci.image import Target
from build.oci.reference import Reference, Repository
from build.oci.referrer import Referrer
from build.stores.http.access import Access
from build.stores.registry import manifest, tag
from build.stores.registry.blob import Uploads, pull_blob, push_blob
from build.stores.registry.referrer import Referrers
from build.stores.registry.session import Session

# Seconds. A registry nearby answers more quickly, even on a busy machine.
_DISTANT = 0.1


class Registry:
    """The repositories of one registry, HOST[:PORT]; see `Store`."""

    keeps_tags = True

    def __init__(self, host: str, access: Access) -> None:
        self._session = Session(host, access)
        self._uploads = Uploads(self._session)
        self._referrers = Referrers(self._session)

    @property
    def is_distant(self) -> bool:
        """Whether every request so far took longer than one to a registry nearby."""
        return self._session.http.retries.quickest > _DISTANT

    async def digest(self, repository: Repository, name: str, *, certain: bool = False) -> str | None:
        """See `Store`."""
        return await tag.digest(self._session, repository, name, certain)

    async def settled_digest(self, repository: Repository, name: str, wanted: str, before: str | None) -> str | None:
        """See `Store`."""
        return await tag.settled_digest(self._session, repository, name, wanted, before)

    async def manifest(self, repository: Repository, reference: str) -> Blob | None:
        """See `Store`."""
        return await manifest.pull_manifest(self._session, repository, reference)

    async def references(self, repository: Repository) -> list[Reference]:
        """See `Listing`."""
        return [Reference(repository, name) for name in await tag.names(self._session, repository)]

    async def referrers(self, repository: Repository, digest: str) -> tuple[Referrer, ...]:
        """See `Source`."""
        return await self._referrers.of(repository, digest)

    async def blob(self, repository: Repository, descriptor: Descriptor, spool: Path) -> Blob:
        """See `Store`."""
        return await pull_blob(self._session, repository, descriptor, spool)

    def listing(self, registry: str) -> list[tuple[str, str]]:  # noqa: ARG002
        """See `Store`."""
        return []

    def will_write(self, repositories: Iterable[Repository]) -> None:
        """Ask for tokens to push with, from the first one on."""
        self._session.to_write.update(repositories)

    def expect(self, repository: Repository, blobs: int) -> None:
        """Open uploads ahead."""
        self._uploads.open_ahead(repository, blobs)

    async def put_blob(self, repository: Repository, blob: Blob, mount_from: Repository | None = None) -> int:
        """See `Store`."""
        return await push_blob(self._session, self._uploads, repository, blob, mount_from)

    async def put_manifest(self, repository: Repository, content: Blob) -> None:
        """See `Store`."""
        await manifest.push_manifest(self._session, repository, content.digest, content)

    async def put_referrers(self, repository: Repository, subject: str, manifests: Sequence[Blob]) -> None:
        """See `Store`."""
        await self._referrers.put(repository, subject, manifests)

    async def settle_referrers(self) -> None:
        """See `Store`."""
        await self._referrers.settle()

    async def put_tag(self, repository: Repository, name: str, target: Target) -> None:
        """See `Store`."""
        await manifest.push_manifest(self._session, repository, name, target.manifest)

    async def close(self) -> None:
        """Give up uploads that were not used, and close all connections."""
        await self._uploads.close()
        await self._session.http.close()
