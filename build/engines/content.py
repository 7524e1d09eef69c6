"""The content of bases: out of the cache or, as far as `Pull` allows, out of their registries and into the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from build.cache.blobs import Blobs
from build.cache.cache import Cache
from build.engines.engine import Pull
from build.errors import ImageError, PublishError
from build.oci.descriptor import Blob, Descriptor
from build.oci.parse import media_type_of
from build.oci.reference import Reference, Repository
from build.report import Report
from build.stores.store import SMALL, Source

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Content:
    """What the bases of a run consist of. `source` opens the store of a repository, `spool` a folder for large layers.

    That folder is in the file system of the cache if something may be stored there, and outlives the images. Every
    method raises BuildError for what can't be had, and does its work once, however many wait for it.
    """

    source: Callable[[Repository], Source]
    cache: Cache
    spool: Callable[[], Path]
    pull: Pull
    report: Report
    _tasks: dict[Hashable, asyncio.Task[Any]] = field(default_factory=dict)

    async def digest(self, reference: Reference) -> str:
        """The digest that a tag in a registry refers to, which is also shown."""
        return await self.once(("tag", reference), lambda: self._digest(reference))

    async def manifest(self, repository: Repository, digest: str) -> Blob:
        """An index or a manifest."""
        return await self.once(("manifest", digest), lambda: self._manifest(repository, digest))

    async def blob(self, repository: Repository, wanted: Descriptor) -> Blob:
        """A config or a layer, in a file unless nothing may be stored."""
        found = await self.once(("blob", wanted.digest), lambda: self._blob(repository, wanted))
        return Blob(wanted.media_type, found.digest, found.size, found.source)

    async def once(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, which is done once in a run for each key."""

        async def done() -> T:
            return await work()

        if key not in self._tasks:
            task = self._tasks[key] = asyncio.create_task(done())
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # if nobody waits any more
        result: T = await asyncio.shield(self._tasks[key])
        return result

    async def _digest(self, reference: Reference) -> str:
        note, repository = f"base {reference}", reference.repository
        known = (self.cache.get_note(note) or b"").decode()
        if self.pull is Pull.NEVER and not known:
            raise _not_held(str(reference))
        if self.pull is Pull.NEVER or (self.pull is Pull.MISSING and known and self._blobs.get("", known)):
            digest = known
        else:
            hint = f"\n  to build on {known}, as the last run did: --pull missing" if known else ""
            try:
                found = await self.source(repository).digest(repository, reference.tag, certain=True)
            except PublishError as error:
                raise PublishError(f"{error}{hint}", error.reason) from None
            if found is None:
                raise PublishError(f"{reference}: no such image{hint}")
            self.cache.put_note(note, found.encode())
            digest = found
        self.report(f"base {reference}: {digest}")
        return digest

    async def _manifest(self, repository: Repository, digest: str) -> Blob:
        found = self._blobs.get("", digest)
        if found is None:
            self._check_pull(repository, f"{repository}@{digest}")
            found = await self.source(repository).manifest(repository, digest)
            if found is None:
                raise PublishError(f"{repository}@{digest}: no such image")
            self._blobs.put(found)
        return Blob.of(media_type_of(found.data, found.media_type), found.data)

    async def _blob(self, repository: Repository, wanted: Descriptor) -> Blob:
        known = wanted.media_type, wanted.digest, wanted.size
        held = self._blobs.get(*known) if wanted.size <= SMALL else await asyncio.to_thread(self._blobs.get, *known)
        if held:
            return held
        self._check_pull(repository, f"{repository}: {wanted.digest}")
        if wanted.size > SMALL:
            self.report(f"{repository}: fetching {wanted.digest}, {wanted.size} bytes")
        spool = self.spool()
        blob = await self.source(repository).blob(repository, wanted, spool)
        return await asyncio.to_thread(self._blobs.put, blob, spool)

    def _check_pull(self, repository: Repository, what: str) -> None:
        if self.pull is Pull.NEVER and repository.is_remote:
            raise _not_held(what)

    @property
    def _blobs(self) -> Blobs:
        return Blobs(self.cache)


def _not_held(what: str) -> ImageError:
    return ImageError(f"{what}: not in the cache\n  run it once with --pull missing, where its registry can be reached")
