"""Publishes images and their manifest list: blobs, then manifests by digest, then tags, the manifest list's tag last.

If a run is interrupted, each tag is absent, old or complete, and the next run finishes the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from build.config.arches import Arch
from build.config.release import Release
from build.engines.engine import Publisher
from build.engines.moves import Digests, digests_of, moved, not_moved, other_revision
from build.errors import BuildError, PublishError, all_of
from build.image.validate import validate
from build.oci.image import Image, Index
from build.oci.reference import Tag
from build.release.side_by_side import started
from build.report import DONE, FAILED, PUSH, Event, Report, Result
from build.stores.store import Store
from build.stores.transfer import transfer

T = TypeVar("T")
Listing = Callable[[Sequence[Image]], Index]


async def no_condition() -> None:
    """No condition: tags may move as soon as the content is stored."""


@dataclass(frozen=True)
class Destination:
    """A release and the store to publish it to.

    `before_tags` is awaited when the store has all content, before the first tag moves; if it raises, no tag moves.
    Existing tags move only if `overwrite`. A `dry` run changes nothing.
    """

    release: Release
    store: Store
    report: Report
    overwrite: bool = False
    dry: bool = False
    before_tags: Callable[[], Awaitable[None]] = no_condition

    def stage(self, arch: Arch, stage: str, text: str = "", size: int = 0) -> None:
        """Report the stage that an arch has reached."""
        self.report(Event(text, self.release.image.name, arch.name, stage, size))


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
    tags = {arch: to.release.arch_tag(arch) for arch in images}
    list_tag = to.release.list_tag() if listing else None
    every = [*([list_tag] if list_tag else []), *tags.values()]
    if not to.dry:
        to.store.will_write(tag.repository for tag in every)
    current = await digests_of(to.store, every)
    # If no tag exists, none can be moved by mistake, so each image is sent while others are still being compiled.
    early = to.store.keeps_tags and not any(current.values()) and not to.dry
    work = _Publication(to, publisher, tags, list_tag, current, early)
    if early:
        work.expect()
    if to.store.keeps_tags and (absent := [tag for tag, digest in current.items() if digest is None]):
        # Meanwhile uploads are opened and compilers are at work.
        current |= await digests_of(to.store, absent, certain=True)
        work = replace(work, current=current, early=early and not any(current.values()))
    ready = dict(zip(tags, await all_of(work.ready(arch, images[arch]) for arch in tags), strict=True))
    targets = {arch: target for arch, (_, target) in ready.items()}
    index = _index(listing, targets)
    notes = await work.notes(targets, index)
    work.refuse_to_move(targets, index, notes)
    new = [arch for arch, target in targets.items() if target is None or target.tagged != current[tags[arch]]]
    list_is_new = list_tag is not None and (index is None or index.digest != current[list_tag])
    for arch, target in targets.items():
        if to.dry or arch not in new:
            work.reached(arch, target, notes)
    if list_tag and (to.dry or not list_is_new):
        work.reached(None, index, notes)
    if (new or list_is_new) and not to.dry:
        if not early:
            known = [(arch, image) for arch, image in targets.items() if image]
            await all_of(work.send(arch, image, own=arch in new, listed=list_is_new) for arch, image in known)
        await to.before_tags()
        try:
            published = dict(zip(new, await all_of(work.publish(arch, ready[arch][0]) for arch in new), strict=True))
            late = [arch for arch in new if targets[arch] is None]
            targets |= published
            if list_is_new:
                await all_of(work.send(arch, published[arch], own=False, listed=True) for arch in late)
                index = await work.publish_list(_index(listing, targets))
            await work.verify(targets, index)
        except BuildError as error:
            raise type(error)("\n".join([str(error), *await moved(to.store, current)])) from None
    return work.results(targets, index, notes)


@dataclass(frozen=True)
class _Publication(Generic[T]):
    """The tags of a release with their current digests, and the steps of publishing it."""

    to: Destination
    publisher: Publisher[T]
    tags: Mapping[Arch, Tag]
    list_tag: Tag | None
    current: Digests
    early: bool

    def expect(self) -> None:
        for tag in self.tags.values():
            self.publisher.expect(self.to.store, tag.repository)
            if self.list_tag and self.to.store.is_distant:
                self.publisher.expect(self.to.store, self.list_tag.repository)

    async def ready(self, arch: Arch, image: Awaitable[T]) -> tuple[T, Image | None]:
        """An image and its target. If no tag exists yet, its content is sent at once."""
        built = await image
        tag = self.tags[arch]
        target = await self.publisher.target(built, tag, self.to.store, self.current[tag])
        if self.early and target:
            await self.send(arch, target, own=True, listed=True)
        return built, target

    async def send(self, arch: Arch, image: Image, *, own: bool, listed: bool) -> None:
        """Send an image's content to its `own` repository, to that of the manifest list (`listed`), or to both."""
        home = self.tags[arch].repository
        places = [*([home] if own else []), *([self.list_tag.repository] if self.list_tag and listed else [])]
        try:
            await asyncio.to_thread(validate, image) if _is_large(image) else validate(image)
            await transfer(self.to.store, image, home, places, lambda size: self.to.stage(arch, PUSH, size=size))
        except BuildError:
            self.to.stage(arch, FAILED)
            raise

    async def notes(self, targets: Mapping[Arch, Image | None], index: Index | None) -> tuple[str, ...]:
        """Why tags that may not move, or that a plan would move, have another digest, as far as that is known."""
        if not self.to.store.keeps_tags or (self.to.overwrite and not self.to.dry):
            return ()
        known = [(self.tags[arch], image.tagged, image) for arch, image in targets.items() if image]
        if self.list_tag and index:
            known.append((self.list_tag, index.digest, index.images[0]))
        for tag, digest, image in known:
            if (current := self.current[tag]) not in (None, digest):  # one is enough: all have the same REV
                return await other_revision(self.to.store, tag.repository, current, image)
        return ()

    def refuse_to_move(
        self, targets: Mapping[Arch, Image | None], index: Index | None, notes: Sequence[str] = ()
    ) -> None:
        if not self.to.store.keeps_tags or self.to.overwrite:
            return
        wanted = {self.tags[arch]: target.tagged if target else None for arch, target in targets.items()}
        if self.list_tag and index:
            wanted = {self.list_tag: index.digest, **wanted}
        lines = [
            f"{tag}: found {self.current[tag]}, expected {digest or 'an image that this daemon pushed'} or no tag"
            for tag, digest in wanted.items()
            if self.current[tag] not in (None, digest)
        ]
        if lines:
            raise not_moved([*lines, *notes])

    async def publish(self, arch: Arch, built: T) -> Image:
        tag = self.tags[arch]
        image = await self.publisher.publish(built, tag, self.to.store, self.current[tag])
        self.reached(arch, image)
        return image

    async def publish_list(self, index: Index | None) -> Index | None:
        if self.list_tag and index:
            self.refuse_to_move({}, index)
            if index.digest != self.current[self.list_tag]:
                await self.to.store.put_tag(self.list_tag.repository, self.list_tag.name, index)
            self.reached(None, index)
        return index

    async def verify(self, targets: Mapping[Arch, Image | None], index: Index | None) -> None:
        """Read the tags back, because registries have no locks; raise PublishError if another run moved one."""
        wanted = {self.tags[arch]: image.tagged for arch, image in targets.items() if image}
        if self.list_tag and index:
            wanted = {self.list_tag: index.digest, **wanted}
        settled = self.to.store.settled_digest
        digests = await all_of(settled(t.repository, t.name, digest, self.current[t]) for t, digest in wanted.items())
        found = dict(zip(wanted, digests, strict=True))
        lines = [f"  {tag}: found {found[tag]}, expected {want}" for tag, want in wanted.items() if found[tag] != want]
        if lines:
            raise PublishError(
                "another run published at the same time and moved these tags\n"
                + "\n".join(lines)
                + "\n  to decide the winner, rerun it with --overwrite"
            )

    def reached(self, arch: Arch | None, target: Image | Index | None, notes: Sequence[str] = ()) -> None:
        """Report that the tag of an arch, or of the list (None), is as it should be, or in a dry run would be."""
        result = self._result(arch, target, notes)
        name, stage = (arch.name, DONE) if arch else ("", "")
        self.to.report(Event(_line(result, self.to.dry), self.to.release.image.name, name, stage, result=result))

    def results(self, targets: Mapping[Arch, Image | None], index: Index | None, notes: Sequence[str]) -> list[Result]:
        listed = [self._result(None, index, notes)] if self.list_tag else []
        return listed + [self._result(arch, target, notes) for arch, target in targets.items()]

    def _result(self, arch: Arch | None, target: Image | Index | None, notes: Sequence[str]) -> Result:
        tag = self.tags[arch] if arch else self.to.release.list_tag()
        store = "layout" if tag.repository.on_disk else "registry"
        digest, current = target.tagged if target else None, self.current[tag]
        change, why = "moved", (f"the {store} has another digest: {current}", *notes)
        if digest and digest == current:
            change, why = "kept", ()
        elif not current:
            change, why = "pushed", (f"not in the {store}",)
        name, platform = (arch.name, str(arch.platform)) if arch else (None, None)
        base = target.origin.fields() if isinstance(target, Image) and target.origin else None
        return Result(str(tag), digest, platform, change, why, arch=name, place=tag.place, base=base)


def _is_large(image: Image) -> bool:
    return any(not isinstance(blob.source, bytes) for blob in image.blobs)


def _index(listing: Listing | None, targets: Mapping[Arch, Image | None]) -> Index | None:
    known = [image for image in targets.values() if image]
    return listing(known) if listing and len(known) == len(targets) else None


def _line(result: Result, dry: bool) -> str:
    if result.change == "kept":
        return f"{result.name}: already published"
    return f"{result.name}: {'would be ' if dry else ''}{result.change}"
