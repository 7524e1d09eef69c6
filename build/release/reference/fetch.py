"""Fetches what a reference leads to, each manifest and blob once, and proves it."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from build.errors import BuildError, ImageError, PublishError
from build.oci.descriptor import Blob, Descriptor
from build.oci.image import Content
from build.oci.media_types import ARTIFACT, INDEXES, MANIFESTS
from build.oci.parse import NO_CONFIG, Manifest, parse_artifact, parse_manifest
from build.oci.reference import Reference, Repository
from build.oci.referrer import Referrer, is_referrers_tag, subject_of
from build.release.check.check import check_reference
from build.report import Event, Report
from build.stores.store import Listing, Source

# Bytes of a blob that is kept in memory. There may be thousands of them.
_KEPT = 1 << 16


class Kept:
    """A source that asks `source` once for each manifest and blob; see `Source`.

    Small blobs are kept in memory, others in files: the source's own, or new ones in the folder `spool`.
    """

    def __init__(self, source: Source, spool: Path) -> None:
        self._source, self._spool = source, spool
        self._manifests: dict[tuple[Repository, str], Blob] = {}
        self._blobs: dict[tuple[str, int], Blob] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def digest(self, repository: Repository, name: str, *, certain: bool = False) -> str | None:
        """See `Source`."""
        return await self._source.digest(repository, name, certain=certain)

    async def manifest(self, repository: Repository, reference: str) -> Blob | None:
        """See `Source`."""
        key = repository, reference
        async with self._locks[f"{repository} {reference}"]:
            if key not in self._manifests:
                found = await self._source.manifest(repository, reference)
                if found is None:
                    return None
                self._manifests[key] = found
                self.add(repository, found)
            return self._manifests[key]

    async def referrers(self, repository: Repository, digest: str) -> tuple[Referrer, ...]:
        """See `Source`."""
        return await self._source.referrers(repository, digest)

    def add(self, repository: Repository, manifest: Blob) -> None:
        """Have a manifest that may not be in the source."""
        self._manifests.setdefault((repository, manifest.digest), manifest)

    async def blob(self, repository: Repository, descriptor: Descriptor, spool: Path) -> Blob:  # noqa: ARG002
        """See `Source`; what is larger than _KEPT is in a file that stays after the caller's `spool`."""
        async with self._locks[descriptor.digest]:
            key = descriptor.digest, descriptor.size
            if key not in self._blobs:
                found = await self._source.blob(repository, descriptor, self._spool)
                if isinstance(found.source, bytes) and found.size > _KEPT:
                    file = self._spool / os.urandom(8).hex()
                    try:
                        file.write_bytes(found.source)
                    except OSError as error:
                        raise PublishError(f"{file}: can't be written: {error.strerror}") from None
                    found = replace(found, source=file)
                self._blobs[key] = found
            return replace(self._blobs[key], media_type=descriptor.media_type)

    def listing(self, registry: str) -> list[tuple[str, str]]:
        """See `Source`."""
        return self._source.listing(registry)

    async def close(self) -> None:
        """The source belongs to others."""


async def settled(source: Source, reference: Reference) -> Reference:
    """The reference to the only entry of a layout or an archive, if `reference` has no tag and no digest.

    What only refers to others does not count. Raises PublishError if there are others, or none.
    """
    if reference.wanted or not isinstance(source, Listing):
        return reference
    there = await source.references(reference.repository)
    found = [each for each in there if not await refers(source, each)] or there
    if len(found) == 1:
        return found[0]
    names = "".join(f"\n  {each}" for each in found[:10])
    raise PublishError(f"{reference}: found {len(found)} entries, expected one\n  name the one that you mean{names}")


async def refers(source: Source, reference: Reference) -> bool:
    """Whether an entry of a listing only refers to another one: under a tag for that, or without one, by `subject`."""
    if reference.tag:
        return is_referrers_tag(reference.tag)
    try:
        found = await source.manifest(reference.repository, reference.digest)
        return bool(found and subject_of(found.data))
    except BuildError:  # whoever needs it says why
        return False


async def root_of(source: Source, reference: Reference) -> Blob:
    """The manifest that `reference` refers to; raise PublishError if there is none."""
    manifest = await source.manifest(reference.repository, reference.wanted)
    if manifest is None:
        raise PublishError(f"{reference}: not found")
    return manifest


async def proved(kept: Kept, reference: Reference, root: Blob, report: Report, spool: Path) -> Content:
    """The content below `root`, which is in the repository of `reference`, after `check` has proved it.

    Raises ImageError with all faults, or for a part that can't be copied: one of an unknown media type. Notes of
    `check` are reported.
    """

    def notes(event: str | Event) -> None:
        if isinstance(event, Event) and event.note:
            report(event)

    whole = await root_of(kept, reference)
    checked = reference if root.digest == whole.digest else Reference(reference.repository, "", root.digest)
    await check_reference(kept, checked, notes, spool, referrers=False)
    return await content_of(kept, reference.repository, root, spool)


async def content_of(source: Source, repository: Repository, root: Blob, spool: Path) -> Content:
    """The manifest `root` with all that it leads to; raise ImageError for an entry of an unknown media type."""
    manifests: dict[str, Blob] = {}
    blobs: dict[str, Blob] = {}

    async def descend(manifest: Blob) -> None:
        parsed = parsed_manifest(manifest)
        if isinstance(parsed, Manifest):
            config = () if parsed.config == NO_CONFIG else (parsed.config,)
            here = [each for each, away in zip(parsed.layers, parsed.elsewhere, strict=True) if not away]
            for each in (*here, *config):
                blobs[each.digest] = await source.blob(repository, each, spool)
            return
        for entry in parsed:
            if entry.media_type not in MANIFESTS | INDEXES | {ARTIFACT}:
                raise ImageError(
                    f"{repository}@{entry.digest}: found {entry.media_type}, expected an image, a list or an"
                    " artifact: what else it refers to is not known\n  to leave it out, take the rest with --platform"
                )
            if entry.digest not in manifests and (child := await source.manifest(repository, entry.digest)):
                child = replace(child, media_type=entry.media_type)  # a registry may have called it something generic
                await descend(child)
                manifests[entry.digest] = child

    await descend(root)
    return Content(root, tuple(manifests.values()), tuple(blobs.values()))


def parsed_manifest(manifest: Blob) -> Manifest | Sequence[Descriptor]:
    """The parsed manifest of an image or an artifact, or the entries of a list; raise ImageError for anything else."""
    if manifest.media_type == ARTIFACT:
        return parse_artifact(manifest.data)
    return parse_manifest(manifest.data, manifest.media_type)
