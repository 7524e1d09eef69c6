"""Referrers in a registry (distribution-spec, "Listing Referrers", "Pushing Manifests with Subject").

Where there is no Referrers API, they are in an index under a tag, which every client reads, merges and writes. There is
no lock: of two clients that write at the same time, the later one may drop what the earlier one has added. So what was
added is read back at the end of a run, and added again if it is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from build.errors import ImageError, PublishError, all_of
from build.oci.descriptor import Blob
from build.oci.reference import Repository
from build.oci.referrer import Referrer, merged, parse_referrers, referrer_of, referrers_tag
from build.stores.http.failures import UnavailableError
from build.stores.http.messages import Request
from build.stores.registry.manifest import pull_manifest, push_manifest
from build.stores.registry.session import Session
from build.stores.registry.tag import next_page

# How registries say that they have no Referrers API.
_NO_API = (400, 403, 404, 405, 501)
# Pages of referrers, and how often an index that others write, too, is written again.
_MOST_PAGES, _ATTEMPTS = 100, 5


@dataclass(frozen=True)
class Referrers:
    """The referrers in the repositories of a registry; `_added` are those that this run has added to an index."""

    session: Session
    _added: dict[tuple[Repository, str], dict[str, Referrer]] = field(default_factory=dict)

    async def of(self, repository: Repository, digest: str) -> tuple[Referrer, ...]:
        """See `Source`: what the API lists, and what only the index does. Both are asked at the same time."""
        sources = [self._listed(repository, digest), self._indexed(repository, digest)]
        found = {each.digest: each for source in await all_of(sources) for each in source}
        return tuple(found.values())

    async def put(self, repository: Repository, subject: str, manifests: Sequence[Blob]) -> None:
        """See `Store`: the registry says whether its API lists a manifest; otherwise the index gets it."""
        reading = asyncio.create_task(self._index(repository, subject))
        try:
            pushing = [push_manifest(self.session, repository, each.digest, each) for each in manifests]
            listed = await all_of(pushing)
            new = {m.digest: referrer_of(m) for m, is_listed in zip(manifests, listed, strict=True) if not is_listed}
            if new:
                self._added.setdefault((repository, subject), {}).update(new)
                await self._add(repository, subject, await reading, new)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def settle(self) -> None:
        """See `Store`: read back what was added, as another run may have written the same index meanwhile."""
        await all_of(self._settle(*key, new) for key, new in self._added.items())

    async def _settle(self, repository: Repository, subject: str, new: Mapping[str, Referrer]) -> None:
        for _ in range(_ATTEMPTS):
            current = await self._index(repository, subject)
            if current and not new.keys() - {each.digest for each in _parsed(repository, subject, current)}:
                return
            await self._add(repository, subject, current, new)
        tag = referrers_tag(subject)
        raise PublishError(
            f"{repository}:{tag}: other runs keep overwriting this index of referrers\n  retry when they have ended"
        )

    async def _add(
        self, repository: Repository, subject: str, current: Blob | None, new: Mapping[str, Referrer]
    ) -> None:
        _parsed(repository, subject, current)
        index = merged(current, new.values())
        if current is None or index.digest != current.digest:
            await push_manifest(self.session, repository, referrers_tag(subject), index)

    async def _indexed(self, repository: Repository, subject: str) -> tuple[Referrer, ...]:
        return _parsed(repository, subject, await self._index(repository, subject))

    async def _index(self, repository: Repository, subject: str) -> Blob | None:
        return await pull_manifest(self.session, repository, referrers_tag(subject))

    async def _listed(self, repository: Repository, digest: str) -> tuple[Referrer, ...]:
        found: list[Referrer] = []
        path = f"referrers/{digest}"
        for at in range(_MOST_PAGES):
            expected = (200,) if at else (200, *_NO_API)
            page, path = await self.session.http.retries.retried(partial(self._page, repository, path, expected))
            found += page
            if not path:
                return tuple(found)
        text = f"does not end after {_MOST_PAGES} pages"
        raise PublishError(f"{repository}: its list of referrers of {digest} {text}", f"{repository}: {text}")

    async def _page(
        self, repository: Repository, path: str, expected: Collection[int]
    ) -> tuple[tuple[Referrer, ...], str]:
        try:
            response = await self.session.send(repository, Request("GET", path), expected)
        except UnavailableError as error:
            if error.status not in expected:  # 501 is retried elsewhere, but here it says that there is no API
                raise
            return (), ""
        # Some answer with a web page where they have no API.
        if response.status != 200 or response.headers.get("content-type", "").lower().startswith("text/html"):
            return (), ""
        try:
            return parse_referrers(response.data), next_page(response)
        except ImageError as error:
            raise PublishError(f"{repository}: its list of referrers: {error}") from None


def _parsed(repository: Repository, subject: str, index: Blob | None) -> tuple[Referrer, ...]:
    try:
        return parse_referrers(index.data) if index else ()
    except ImageError as error:
        raise PublishError(
            f"{repository}:{referrers_tag(subject)}: {error}\n  a tag of this name is for an index of referrers"
        ) from None
