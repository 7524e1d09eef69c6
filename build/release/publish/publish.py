"""Publishes images and their manifest list: blobs, manifests by digest, signatures, then tags, the list's tag last.

If a run is interrupted, each tag is absent, old or complete, and the next run finishes the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from build.config.arches import Arch
from build.engines.engine import Publisher
from build.engines.moves import digests_of, moved
from build.errors import BuildError, all_of
from build.oci.image import Image, Index
from build.oci.reference import Tag
from build.release.publish.destination import Destination, no_condition
from build.release.publish.sending import Sending
from build.release.publish.tags import Tags, Targets, refuse_to_move, tags_of
from build.release.side_by_side import started
from build.report import FAILED, PUSH

if TYPE_CHECKING:
    from build.attest.attach import Attachment
    from build.release.publish.sign import AnyResult, Signatures

T = TypeVar("T")
Listing = Callable[[Sequence[Image]], Index]


async def publish(
    to: Destination, publisher: Publisher[T], images: Mapping[Arch, Awaitable[T]], listing: Listing | None
) -> list[AnyResult]:
    """Publish the image of every arch, each of which may still be in progress, and the manifest list of all of them.

    `listing` makes the manifest list; None publishes none. Content that the store has is not sent again. Raises
    ImageError for an inconsistent image, before any of it is sent, and PublishError if a tag would have to move without
    `overwrite`, if the store fails, or if another run moves a tag at the same time.
    """
    async with started({arch: _built(to, arch, image) for arch, image in images.items()}) as built:
        return await _publish(to, publisher, built, listing)


async def _built(to: Destination, arch: Arch, image: Awaitable[T]) -> T:
    try:
        built = await asyncio.shield(image)  # others wait for it too: it goes on if this registry fails
    except Exception:
        to.stage(arch, FAILED)
        raise
    to.stage(arch, PUSH)
    return built


async def _publish(
    to: Destination, publisher: Publisher[T], images: Mapping[Arch, Awaitable[T]], listing: Listing | None
) -> list[AnyResult]:
    current: dict[Tag, str | None] = {}
    named = tags_of(to, images, current, with_list=listing is not None)
    tags = named[0]
    sending = await _survey(to, publisher, named, current)
    signatures = _signatures(to, tags)
    attachments: list[Attachment] = []
    # What verification may refuse yet is not signed before.
    is_early = sending.early and to.before_tags is no_condition
    async with started({"attached": _attached(to, signatures, sending, listing)} if is_early else {}) as attaching:
        ready = dict(zip(images, await all_of(sending.ready(arch, images[arch]) for arch in images), strict=True))
        targets: Targets = {arch: target for arch, (_, target) in ready.items()}
        index = _index(listing, targets)
        if is_early and signatures:
            await signatures.store(index if tags.has_new_list(index) else None)
            attachments = await attaching["attached"]
    notes = tuple(dict.fromkeys([note for each in named for note in await each.notes(targets, index)]))
    refuse_to_move(named, targets, index, notes)
    _report_reached(to, named, targets, index, notes)
    new, list_is_new = tags.new(targets), tags.has_new_list(index)
    is_new = any(each.new(targets) or each.has_new_list(index) for each in named)
    if is_new and not to.dry:
        if not sending.early:
            known = [(arch, image) for arch, image in targets.items() if image]
            await all_of(sending.send(arch, image, own=arch in new, listed=list_is_new) for arch, image in known)
        await to.before_tags()
    if signatures and not is_early:
        await signatures.store(index if list_is_new else None)
        attachments = await _attached(to, signatures, sending, listing)
    signed = signatures.results(attachments) if signatures else []
    if is_new and not to.dry:
        try:
            built = {arch: ready[arch][0] for arch in new}
            targets, index = await _move(sending, named, built, targets, listing)
            await all_of([tags.verify(targets, index), *([signatures.settle(attachments)] if signatures else [])])
            await _put_further(named[1:], {arch: image for arch, image in targets.items() if image}, index)
        except BuildError as error:
            raise type(error)("\n".join([str(error), *await moved(to.store, current)])) from None
    elif signatures:
        await signatures.settle(attachments)
    return [*(result for each in named for result in each.results(targets, index, notes)), *signed]


async def _attached(
    to: Destination, signatures: Signatures | None, sending: Sending[T], listing: Listing | None
) -> list[Attachment]:
    """Sign a release as soon as its images are known, and attach that."""
    images = await sending.images()
    index = _index(listing, images)
    if not (signatures and to.sign and index):
        return []
    known = {arch: image for arch, image in images.items() if image}
    return await signatures.attach(await to.sign.describe(index, known))


async def _move(
    sending: Sending[T], named: Sequence[Tags], built: Mapping[Arch, T], targets: Targets, listing: Listing | None
) -> tuple[Targets, Index | None]:
    """Move the tags of the arches to what is `built`, and then that of the list; return what they refer to now."""
    tags = named[0]
    published = dict(zip(built, await all_of(map(sending.publish, built, built.values())), strict=True))
    late = [arch for arch in built if targets[arch] is None]
    index = _index(listing, targets)
    list_is_new = tags.has_new_list(index)
    targets = {**targets, **published}
    if list_is_new:
        await all_of(sending.send(arch, published[arch], own=False, listed=True) for arch in late)
        index = _index(listing, targets)
        await tags.put_list(index)
    return targets, index


async def _survey(
    to: Destination, publisher: Publisher[T], named: Sequence[Tags], current: dict[Tag, str | None]
) -> Sending[T]:
    """Read what all tags refer to, into `current`, and prepare the store for what is still being built."""
    every = [tag for each in named for tag in each.every]
    if not to.dry:
        to.store.will_write(tag.repository for tag in every)
    current |= await digests_of(to.store, every)
    sending = Sending(to, publisher, named[0], early=to.store.keeps_tags and _is_free(named) and not to.dry)
    if sending.early:
        sending.expect()
        if to.sign and named[0].index:
            to.store.expect(named[0].index.repository, to.sign.blobs(len(named[0].arches)))
    if to.store.keeps_tags and (absent := [tag for tag, digest in current.items() if digest is None]):
        # Meanwhile uploads are opened and compilers are at work.
        current |= await digests_of(to.store, absent, certain=True)
        sending = replace(sending, early=sending.early and _is_free(named))
    return sending


def _signatures(to: Destination, tags: Tags) -> Signatures | None:
    """Signs in the repository of the list; None if nothing is to be signed."""
    if not to.sign or not tags.index:
        return None
    from build.release.publish.sign import Signatures

    return Signatures(to.store, tags.index.repository, to.sign.signing, to.sign.spool, to.report, to.dry)


def _is_free(named: Sequence[Tags]) -> bool:
    """Whether no tag exists that could be moved by mistake, so each image is sent while others are still compiled."""
    return not any(each.current[tag] for each in named if not each.release.is_moving for tag in each.every)


def _report_reached(
    to: Destination, named: Sequence[Tags], targets: Targets, index: Index | None, notes: Sequence[str]
) -> None:
    """Report the tags that are as they should be already, or in a dry run all."""
    for each in named:
        new = each.new(targets)
        for arch, target in targets.items():
            if to.dry or arch not in new:
                each.reached(arch, target, notes)
        if each.index and (to.dry or not each.has_new_list(index)):
            each.reached(None, index, notes)


async def _put_further(further: Sequence[Tags], targets: Mapping[Arch, Image], index: Index | None) -> None:
    refuse_to_move(further, targets, index)  # what a daemon has pushed is known only now
    await all_of(each.put(targets) for each in further)
    await all_of(each.put_list(index) for each in further if each.has_new_list(index))
    await all_of(each.verify(targets, index) for each in further)


def _index(listing: Listing | None, targets: Targets) -> Index | None:
    known = [image for image in targets.values() if image]
    return listing(known) if listing and len(known) == len(targets) else None
