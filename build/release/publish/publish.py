"""Publishes images and their manifest list: blobs, then manifests by digest, then tags, the manifest list's tag last.

If a run is interrupted, each tag is absent, old or complete, and the next run finishes the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from build.config.arches import Arch
from build.engines.engine import Publisher
from build.engines.moves import digests_of, moved
from build.errors import BuildError, all_of
from build.image.validate import validate
from build.oci.image import Image, Index
from build.oci.reference import Tag
from build.release.publish.destination import Destination
from build.release.publish.tags import Tags, Targets, refuse_to_move, tags_of
from build.release.side_by_side import started
from build.report import FAILED, PUSH, Result
from build.stores.transfer import transfer

T = TypeVar("T")
Listing = Callable[[Sequence[Image]], Index]


async def publish(
    to: Destination, publisher: Publisher[T], images: Mapping[Arch, Awaitable[T]], listing: Listing | None
) -> list[Result]:
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
) -> list[Result]:
    current: dict[Tag, str | None] = {}
    named = tags_of(to, images, current, with_list=listing is not None)
    tags, *further = named
    every = [tag for each in named for tag in each.every]
    if not to.dry:
        to.store.will_write(tag.repository for tag in every)
    current |= await digests_of(to.store, every)
    sending = _Sending(to, publisher, tags, early=to.store.keeps_tags and _is_free(named) and not to.dry)
    if sending.early:
        sending.expect()
    if to.store.keeps_tags and (absent := [tag for tag, digest in current.items() if digest is None]):
        # Meanwhile uploads are opened and compilers are at work.
        current |= await digests_of(to.store, absent, certain=True)
        sending = replace(sending, early=sending.early and _is_free(named))
    ready = dict(zip(images, await all_of(sending.ready(arch, images[arch]) for arch in images), strict=True))
    targets = {arch: target for arch, (_, target) in ready.items()}
    index = _index(listing, targets)
    notes = tuple(dict.fromkeys([note for each in named for note in await each.notes(targets, index)]))
    refuse_to_move(named, targets, index, notes)
    _report_reached(to, named, targets, index, notes)
    new, list_is_new = tags.new(targets), tags.has_new_list(index)
    if to.dry or not any(each.new(targets) or each.has_new_list(index) for each in named):
        return [result for each in named for result in each.results(targets, index, notes)]
    if not sending.early:
        known = [(arch, image) for arch, image in targets.items() if image]
        await all_of(sending.send(arch, image, own=arch in new, listed=list_is_new) for arch, image in known)
    await to.before_tags()
    try:
        published = dict(zip(new, await all_of(sending.publish(arch, ready[arch][0]) for arch in new), strict=True))
        late = [arch for arch in new if targets[arch] is None]
        targets |= published
        if list_is_new:
            await all_of(sending.send(arch, published[arch], own=False, listed=True) for arch in late)
            index = _index(listing, targets)
            await tags.put_list(index)
        await tags.verify(targets, index)
        await _put_further(further, {arch: image for arch, image in targets.items() if image}, index)
    except BuildError as error:
        raise type(error)("\n".join([str(error), *await moved(to.store, current)])) from None
    return [result for each in named for result in each.results(targets, index, notes)]


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


@dataclass(frozen=True)
class _Sending(Generic[T]):
    """The content of a release on its way to the repositories of its tags.

    It is sent `early`, while other images are still being compiled, if no tag could be moved by mistake.
    """

    to: Destination
    publisher: Publisher[T]
    tags: Tags
    early: bool

    def expect(self) -> None:
        for tag in self.tags.arches.values():
            self.publisher.expect(self.to.store, tag.repository)
            if self.tags.index and self.tags.index.repository != tag.repository and self.to.store.is_distant:
                self.publisher.expect(self.to.store, self.tags.index.repository)

    async def ready(self, arch: Arch, image: Awaitable[T]) -> tuple[T, Image | None]:
        """An image and its target. If no tag exists yet, its content is sent at once."""
        built = await image
        tag = self.tags.arches[arch]
        target = await self.publisher.target(built, tag, self.to.store, self.tags.current[tag])
        if self.early and target:
            await self.send(arch, target, own=True, listed=True)
        return built, target

    async def send(self, arch: Arch, image: Image, *, own: bool, listed: bool) -> None:
        """Send an image's content to its `own` repository, to that of the manifest list (`listed`), or to both.

        If not to its own, that has it already: its tag is there.
        """
        home, index = self.tags.arches[arch].repository, self.tags.index
        elsewhere = [index.repository] if index and listed and index.repository != home else []
        places = [*([home] if own else []), *elsewhere]
        try:
            await asyncio.to_thread(validate, image) if _is_large(image) else validate(image)
            await transfer(self.to.store, image, home, places, lambda size: self.to.stage(arch, PUSH, size=size))
        except BuildError:
            self.to.stage(arch, FAILED)
            raise

    async def publish(self, arch: Arch, built: T) -> Image:
        tag = self.tags.arches[arch]
        image = await self.publisher.publish(built, tag, self.to.store, self.tags.current[tag])
        self.tags.reached(arch, image)
        return image


def _is_large(image: Image) -> bool:
    return any(not isinstance(blob.source, bytes) for blob in image.blobs)


def _index(listing: Listing | None, targets: Targets) -> Index | None:
    known = [image for image in targets.values() if image]
    return listing(known) if listing and len(known) == len(targets) else None
