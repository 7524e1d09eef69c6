"""Carries what refers to content along with a copy of it: signatures, attestations and other artifacts.

These are referrers, with a `subject`, referrers of these in turn, and what is under cosign's tags. They are copied
without changing a byte, and before the tag of what they refer to moves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from build.attest.cosign import layers_of, with_layers
from build.errors import BuildError, ImageError, PublishError, all_of
from build.oci.descriptor import Blob
from build.oci.image import Content
from build.oci.reference import Repository
from build.oci.referrer import COSIGN, Referrer, merged, referrer_of, referrers_tag, subject_of
from build.release.reference.fetch import content_of
from build.report import Event, Report
from build.stores.archive.write import Entry
from build.stores.store import Source, Store

# Manifests that refer to one release.
_MOST = 10_000


@dataclass(frozen=True)
class Referring:
    """What refers to content: referrers by the digest of their subject, and content by cosign's tags."""

    referrers: dict[str, tuple[Content, ...]] = field(default_factory=dict)
    tags: dict[str, Content] = field(default_factory=dict)

    @property
    def manifests(self) -> int:
        """How many manifests these are."""
        return sum(map(len, self.referrers.values())) + len(self.tags)


async def referring(source: Source, repository: Repository, digests: Iterable[str], spool: Path) -> Referring:
    """Everything that refers to content in a repository of `source`; large blobs are files in `spool`.

    Raises PublishError or ImageError if a part is missing, or is not as it should be.
    """
    found, pending, seen = Referring(), list(dict.fromkeys(digests)), set[str]()
    while pending:
        seen.update(pending)
        rounds = await all_of(_referring(source, repository, each, spool) for each in pending)
        below: list[str] = []
        for digest, (contents, tags) in zip(pending, rounds, strict=True):
            if contents:
                found.referrers[digest] = contents
            found.tags.update(tags)
            below += [
                manifest.digest for each in (*contents, *tags.values()) for manifest in (each.manifest, *each.manifests)
            ]
        pending = [each for each in dict.fromkeys(below) if each not in seen]
        if len(seen) > _MOST:
            raise ImageError(
                f"{repository}: more than {_MOST} manifests refer to it\n  leave them out: --without-referrers"
            )
    return found


async def _referring(
    source: Source, repository: Repository, digest: str, spool: Path
) -> tuple[tuple[Content, ...], dict[str, Content]]:
    try:
        listed, *tagged = await all_of(
            [_listed(source, repository, digest), *(_tagged(source, repository, digest, end) for end in COSIGN)]
        )
        contents = await all_of(content_of(source, repository, each, spool) for each in listed)
        tags = {
            referrers_tag(digest, end): await content_of(source, repository, each, spool)
            for end, manifests in zip(COSIGN, tagged, strict=True)
            for each in manifests
        }
    except BuildError as error:
        text = f"{repository}: what refers to {digest}: {error}\n  leave it out: --without-referrers"
        raise type(error)(text, error.reason) from None
    return tuple(contents), tags


async def _listed(source: Source, repository: Repository, digest: str) -> list[Blob]:
    """The manifests of the referrers, in an order that is the same from any source."""
    listed = sorted(await source.referrers(repository, digest), key=lambda each: each.digest)
    return await all_of(_manifest(source, repository, each, digest) for each in listed)


async def _manifest(source: Source, repository: Repository, referrer: Referrer, subject: str) -> Blob:
    found = await source.manifest(repository, referrer.digest)
    if found is None:
        raise ImageError(f"{repository}@{referrer.digest}: listed as a referrer, but not there")
    if (named := subject_of(found.data)) != subject:
        raise ImageError(f"{repository}@{referrer.digest}: subject: found {named or 'none'}, expected {subject}")
    return replace(found, media_type=referrer.descriptor.media_type)  # a registry may have said something generic


async def _tagged(source: Source, repository: Repository, digest: str, end: str) -> list[Blob]:
    found = await source.manifest(repository, referrers_tag(digest, end))
    return [found] if found else []


async def carry(
    found: Referring, store: Store, repository: Repository, mount_from: Repository | None, report: Report, *, dry: bool
) -> None:
    """Store what refers to content in `repository`, but for what is there; in a `dry` run nothing.

    Blobs are mounted from `mount_from`, if that is in the same registry. Raises PublishError if the store refuses.
    """
    missing = await _missing(found, store, repository, report)
    if missing.manifests:
        what = "would be copied" if dry else "copied"
        report(f"{repository}: {missing.manifests} signatures, attestations and other referrers: {what}")
    if dry:
        return
    contents = [*(each for several in missing.referrers.values() for each in several), *missing.tags.values()]
    blobs = {blob.digest: blob for each in contents for blob in each.blobs}
    home = mount_from if mount_from and mount_from.host == repository.host else None
    await all_of(store.put_blob(repository, blob, home) for blob in blobs.values())
    for each in contents:
        for manifest in each.manifests:
            await store.put_manifest(repository, manifest)
    for subject, several in missing.referrers.items():
        await store.put_referrers(repository, subject, [each.manifest for each in several])
    await all_of(store.put_tag(repository, tag, each) for tag, each in missing.tags.items())


async def _missing(found: Referring, store: Store, repository: Repository, report: Report) -> Referring:
    """The part that the repository lacks. To signatures under cosign's tags there, those that are missing are added."""
    there = await all_of(store.referrers(repository, each) for each in found.referrers)
    referrers = {}
    for (subject, contents), listed in zip(found.referrers.items(), there, strict=True):
        known = {each.digest for each in listed}
        if new := tuple(each for each in contents if each.digest not in known):
            referrers[subject] = new
    current = await all_of(store.manifest(repository, tag) for tag in found.tags)
    tags = {}
    for (tag, content), manifest in zip(found.tags.items(), current, strict=True):
        if manifest is None:
            tags[tag] = content
        elif manifest.digest != content.digest and tag.endswith(".sbom"):
            report(Event(f"note: {repository}:{tag}: left as it is: it refers to {manifest.digest}", note=True))
        elif (joined := _joined(manifest, content, f"{repository}:{tag}")).digest != manifest.digest:
            tags[tag] = Content(joined, content.manifests, content.blobs)
    return Referring(referrers, tags)


def _joined(current: Blob, new: Content, where: str) -> Blob:
    """The manifest of signatures at `where` with those of `new`; raise PublishError if either is something else."""
    if current.digest == new.digest:
        return current
    try:
        return with_layers(current, layers_of(new.manifest.data))
    except ImageError as error:
        raise PublishError(
            f"{where}: found {current.digest}, expected none, or signatures to add {new.digest} to: {error}"
            "\n  leave it out: --without-referrers"
        ) from None


def entries(found: Referring, name: str) -> list[Entry]:
    """What refers to content as entries of an archive, where the repository is `name`.

    They have no name for container engines, which would take them for images.
    """
    lists = []
    for subject, contents in found.referrers.items():
        index = merged(None, [referrer_of(each.manifest) for each in contents])
        manifests = {each.digest: each for content in contents for each in (*content.manifests, content.manifest)}
        blobs = {each.digest: each for content in contents for each in content.blobs}
        lists.append((referrers_tag(subject), Content(index, tuple(manifests.values()), tuple(blobs.values()))))
    return [Entry(each, "", f"{name}:{tag}") for tag, each in (*lists, *found.tags.items())]
