"""Copies a list with all that it has, an image or an artifact, whoever made it, without changing a byte, or not at all.

Blobs come first, then manifests by digest, then the tag. If a run is interrupted, the tag is absent, old or complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from build.errors import ImageError, all_of
from build.oci.descriptor import Blob
from build.oci.image import Content, Image
from build.oci.media_types import INDEXES, LARGEST_MANIFEST, MANIFESTS, OCI
from build.oci.parse import Manifest, parse_config, parse_time
from build.oci.platform import Platform
from build.oci.reference import Reference, Repository, Tag
from build.oci.tar import LARGEST
from build.release import archive
from build.release.reference.destination import Destination, planned, put_tag, reached
from build.release.reference.fetch import Kept, parsed_manifest, proved, root_of, settled
from build.release.reference.part import part
from build.release.reference.referrers import Referring, carry, referring
from build.release.reference.referrers import entries as referring_entries
from build.report import Event, Report, Result
from build.stores.archive.write import Entry
from build.stores.store import Source

if TYPE_CHECKING:
    from build.release.publish.sign import AnyResult, Signed


@dataclass(frozen=True)
class Origin:
    """What to copy: a reference in `source`, of a list only the `platforms` if there are any.

    With `referrers`, what refers to it goes along.
    """

    source: Source
    reference: Reference
    platforms: Sequence[Platform] = ()
    referrers: bool = True


async def copy(origin: Origin, to: Destination, spool: Path) -> list[AnyResult]:
    """Copy to a registry or a layout; within a registry, blobs are mounted. Large ones are files in `spool`.

    Raises PublishError or ImageError before anything is written if a part is missing or is not as it should be, if
    there is no image for a platform, or if the tag exists with another digest and `overwrite` is false.
    """
    kept, reference, root = await _selected(origin, spool, to.report, str(to.tag))
    if not to.dry:
        to.store.will_write([to.tag.repository])
    if to.tag.repository.on_disk:
        _refuse_docker_format(reference, root)
    current, result = await planned(to, root)
    place, home = to.tag.repository, reference.repository
    found = await _referring(origin, kept, reference, root, spool)
    content: Content | None = None
    if result.change == "kept":
        result = replace(result, platform=await _platform(kept, reference, root, spool))
    else:
        content = await proved(kept, reference, root, to.report, spool)
        if place.on_disk:
            _refuse_docker_format(reference, *content.manifests)
        if not to.dry:
            await _send(to, content, home)
    await carry(found, to.store, place, home, to.report, dry=to.dry)
    signed = await _signed(kept, reference, root, to, spool)
    if content:
        target = await _target(kept, reference, content, spool)
        result = replace(result, platform=_platform_of(target))
        if not to.dry:
            await put_tag(to, target, current)
    await to.store.settle_referrers()
    reached(to, result)
    return [result, *signed]


async def _signed(kept: Kept, reference: Reference, root: Blob, to: Destination, spool: Path) -> list[Signed]:
    """Sign what is copied, where it is copied to, if that is asked for."""
    if to.signing is None:
        return []
    from build.release.publish.sign import Signatures
    from build.release.reference.sign import signable

    signatures = Signatures(to.store, to.tag.repository, to.signing, spool, to.report, to.dry)
    attachments = await signatures.attach(await signable(kept, reference, root, spool))
    signed = signatures.results(attachments)
    await signatures.settle(attachments)
    return signed


async def pack(origin: Origin, tag: Tag, to: archive.Destination, spool: Path) -> Result:
    """Copy to an archive of its own, as the entry `tag`; the same content from any source gives the same bytes.

    Raises PublishError or ImageError as `copy` does, and PublishError if the file has other content and `overwrite` is
    false.
    """
    kept, reference, root = await _selected(origin, spool, to.report, str(tag))
    _refuse_docker_format(reference, root)
    content = await proved(kept, reference, root, to.report, spool)
    _refuse_docker_format(reference, *content.manifests)
    target = await _target(kept, reference, content, spool)
    name = f"{tag.repository.name}:{tag.name}"
    found = await _referring(origin, kept, reference, root, spool)
    entries = [Entry(target, name, name), *referring_entries(found, tag.repository.name)]
    change = await archive.write(entries, _created(content), to, spool)
    return Result(str(tag), root.digest, _platform_of(target), change, place=tag.place)


async def _referring(origin: Origin, kept: Kept, reference: Reference, root: Blob, spool: Path) -> Referring:
    """What refers to `root`, and to what it lists."""
    if not origin.referrers:
        return Referring()
    digests, pending = [root.digest], [root]
    while pending:
        parsed = parsed_manifest(pending.pop())
        for entry in () if isinstance(parsed, Manifest) else parsed:
            if entry.digest not in digests:
                digests.append(entry.digest)
                if entry.media_type in INDEXES and (below := await kept.manifest(reference.repository, entry.digest)):
                    pending.append(replace(below, media_type=entry.media_type))
    return await referring(kept, reference.repository, digests, spool)


async def _selected(origin: Origin, spool: Path, report: Report, name: str) -> tuple[Kept, Reference, Blob]:
    """The reference, and what of it is to be copied to `name`."""
    reference = await settled(origin.source, origin.reference)
    kept = Kept(origin.source, spool)
    whole = root = await root_of(kept, reference)
    if origin.platforms:
        root = await part(kept, reference, whole, origin.platforms)
    if root.digest != whole.digest:
        text = f"{name}: a part of {reference}, and so a new list: its digest is {root.digest}, not {whole.digest}"
        report(Event(f"note: {text}", note=True))
    return kept, reference, root


async def _target(kept: Kept, reference: Reference, content: Content, spool: Path) -> Image | Content:
    """The content as an image, if it is one: archives have a list of those for `docker load`."""
    if content.manifest.media_type not in MANIFESTS:
        return content
    parsed = parsed_manifest(content.manifest)
    if not isinstance(parsed, Manifest) or parsed.artifact or any(parsed.elsewhere):
        return content
    config, *layers = [await kept.blob(reference.repository, each, spool) for each in (parsed.config, *parsed.layers)]
    return Image(parse_config(config.data).platform, content.manifest, config, tuple(layers))


def _platform_of(target: Image | Content) -> str | None:
    return str(target.platform) if isinstance(target, Image) else None


async def _platform(kept: Kept, reference: Reference, root: Blob, spool: Path) -> str | None:
    parsed = parsed_manifest(root)
    if not isinstance(parsed, Manifest) or parsed.artifact or parsed.config.size > LARGEST_MANIFEST:
        return None
    return str(parse_config((await kept.blob(reference.repository, parsed.config, spool)).data).platform)


def _refuse_docker_format(reference: Reference, *manifests: Blob) -> None:
    """Raise ImageError for Docker media types, which a layout or an archive can't have."""
    for each in manifests:
        if each.media_type in (INDEXES | MANIFESTS) - {OCI.index, OCI.manifest}:
            raise ImageError(
                f"{reference.repository}@{each.digest}: found format docker, expected oci: OCI layouts always use OCI"
                " media types\n  copy it to a registry"
            )


async def _send(to: Destination, content: Content, source: Repository) -> None:
    """Store all that `content` has but its own manifest."""
    place, store = to.tag.repository, to.store
    lists = [each for each in content.manifests if each.media_type in INDEXES]
    if place != source:
        # A registry that has a blob says so to a mount, even from its own repository: then it is not sent again.
        home = source if source.host == place.host else place
        await all_of(store.put_blob(place, blob, home) for blob in content.blobs)
        every = (*content.manifests, content.manifest)
        await all_of(store.put_manifest(place, each) for each in every if each.media_type not in INDEXES)
    for each in lists:  # in the source, the reduced ones of a part are new
        await store.put_manifest(place, each)


def _created(content: Content) -> int:
    """The latest time in the configs of its images, in seconds since the epoch; 0 if there is none."""
    configs = {
        parsed.config.digest
        for parsed in map(parsed_manifest, (content.manifest, *content.manifests))
        if isinstance(parsed, Manifest) and not parsed.artifact
    }
    times = (_time(blob) for blob in content.blobs if blob.digest in configs)
    return min(max((0, *times)), LARGEST)


def _time(config: Blob) -> int:
    try:
        return parse_time(parse_config(config.data).created) or 0
    except ImageError:  # of an attestation, which may have any config
        return 0
