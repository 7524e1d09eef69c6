"""How images and their manifest list reach a store: blobs, manifests by digest, then tags, the list's tag last.

If a run stops half-way, every tag is absent, old or complete, and running it again finishes the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from build.config.arches import Arch
from build.config.release import Release
from build.errors import BuildError, PublishError, all_of
from build.image.validate import validate
from build.oci.image import Image, Index
from build.oci.reference import Repository, Tag
from build.release.side_by_side import started
from build.report import DONE, FAILED, PUSH, Event, Report, Result
from build.stores.store import Store
from build.stores.transfer import transfer

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
Digests = Mapping[Tag, str | None]
Listing = Callable[[Sequence[Image]], Index]


async def no_condition() -> None:
    """Tags may move as soon as the content is there."""


@dataclass(frozen=True)
class Destination:
    """One release in one store, and what may be done there.

    `before_tags` is awaited when all content is in the store and before the first tag moves; if it raises, none moves.
    With `overwrite`, existing tags are moved; a `dry` run changes nothing.
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


class Publisher(Protocol[T_contra]):
    """What publishes images of some type; see `Engine`."""

    def expect(self, store: Store, repository: Repository) -> None:
        """Prepare `store` for an image in `repository`."""

    async def target(self, built: T_contra, tag: Tag, store: Store, held: str | None) -> Image | None:
        """The image that publishing would put under `tag`, or None if that is known only afterwards."""

    async def publish(self, built: T_contra, tag: Tag, store: Store) -> Image:
        """Make `tag` refer to the image, and return it as it is published."""


class Unchanged:
    """Publishes images as they are."""

    def expect(self, store: Store, repository: Repository) -> None:
        """The images are there already."""

    async def target(self, built: Image, tag: Tag, store: Store, held: str | None) -> Image | None:  # noqa: ARG002
        """The image itself."""
        return built

    async def publish(self, built: Image, tag: Tag, store: Store) -> Image:
        """Move the tag; the content is in the store already."""
        await store.put_tag(tag.repository, tag.name, built)
        return built


async def digests_of(store: Store, tags: Iterable[Tag]) -> dict[Tag, str | None]:
    """What each tag refers to now: a digest, or None for no such tag."""
    wanted = list(tags)
    found = await all_of(store.digest(tag.repository, tag.name) for tag in wanted)
    return dict(zip(wanted, found, strict=True))


async def publish(
    to: Destination, publisher: Publisher[T], images: Mapping[Arch, Awaitable[T]], listing: Listing | None
) -> list[Result]:
    """Make the tag of every arch refer to its image, which may still be in the making, and the list's tag to them all.

    Without a `listing`, there is no list. What is in the store already is not sent again. Raises ImageError for an
    image that contradicts itself, before any of it is sent, and PublishError if a tag would have to be moved without
    permission, if the store fails, or if another run interferes.
    """
    async with started({arch: _made(to, arch, image) for arch, image in images.items()}) as made:
        return await _publish(to, publisher, made, listing)


async def _made(to: Destination, arch: Arch, image: Awaitable[T]) -> T:
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
    held = await digests_of(to.store, [*([list_tag] if list_tag else []), *tags.values()])
    # Where there is no tag yet, none can move: an image leaves while others are still being compiled.
    early = to.store.keeps_tags and not any(held.values()) and not to.dry
    work = _Publication(to, publisher, tags, list_tag, held, early)
    if early:
        work.expect()
    made = dict(zip(tags, await all_of(work.ready(arch, images[arch]) for arch in tags), strict=True))
    targets = {arch: target for arch, (_, target) in made.items()}
    index = _index(listing, targets)
    work.refuse_to_move(targets, index)
    new = [arch for arch, target in targets.items() if target is None or target.digest != held[tags[arch]]]
    list_is_new = list_tag is not None and (index is None or index.digest != held[list_tag])
    if (new or list_is_new) and not to.dry:
        if not early:
            known = [(arch, image) for arch, image in targets.items() if image]
            await all_of(work.send(arch, image, own=arch in new, listed=list_is_new) for arch, image in known)
        await to.before_tags()
        published = dict(zip(new, await all_of(work.publish(arch, made[arch][0]) for arch in new), strict=True))
        late = [arch for arch in new if targets[arch] is None]
        targets |= published
        if list_is_new:
            await all_of(work.send(arch, published[arch], own=False, listed=True) for arch in late)
            index = await work.publish_list(_index(listing, targets))
        await work.verify(targets, index)
    return work.results(targets, index)


@dataclass(frozen=True)
class _Publication(Generic[T]):
    """The tags of a release, the digests that they refer to now, and the steps that bring images under them."""

    to: Destination
    publisher: Publisher[T]
    tags: Mapping[Arch, Tag]
    list_tag: Tag | None
    held: Digests
    early: bool

    def expect(self) -> None:
        for tag in self.tags.values():
            self.publisher.expect(self.to.store, tag.repository)
            if self.list_tag and self.to.store.is_distant:
                self.publisher.expect(self.to.store, self.list_tag.repository)

    async def ready(self, arch: Arch, image: Awaitable[T]) -> tuple[T, Image | None]:
        """An image once it is made; without any tag in the way, its content is sent at once."""
        built = await image
        tag = self.tags[arch]
        target = await self.publisher.target(built, tag, self.to.store, self.held[tag])
        if self.early and target:
            await self.send(arch, target, own=True, listed=True)
        return built, target

    async def send(self, arch: Arch, image: Image, *, own: bool, listed: bool) -> None:
        """Content to the image's own repository, to the list's, or to both."""
        home = self.tags[arch].repository
        places = [*([home] if own else []), *([self.list_tag.repository] if self.list_tag and listed else [])]
        try:
            await asyncio.to_thread(validate, image) if _is_large(image) else validate(image)
            await transfer(self.to.store, image, home, places, lambda size: self.to.stage(arch, PUSH, size=size))
        except BuildError:
            self.to.stage(arch, FAILED)
            raise

    def refuse_to_move(self, targets: Mapping[Arch, Image | None], index: Index | None) -> None:
        if self.to.store.keeps_tags and not self.to.overwrite:
            wanted = {self.tags[arch]: target.digest if target else None for arch, target in targets.items()}
            if self.list_tag and index:
                wanted = {self.list_tag: index.digest, **wanted}
            refuse_to_move(self.held, wanted)

    async def publish(self, arch: Arch, built: T) -> Image:
        return await self.publisher.publish(built, self.tags[arch], self.to.store)

    async def publish_list(self, index: Index | None) -> Index | None:
        if self.list_tag and index:
            self.refuse_to_move({}, index)
            if index.digest != self.held[self.list_tag]:
                await self.to.store.put_tag(self.list_tag.repository, self.list_tag.name, index)
        return index

    async def verify(self, targets: Mapping[Arch, Image | None], index: Index | None) -> None:
        """No registry can lock tags: read them back, and raise PublishError if another run moved one meanwhile."""
        wanted = {self.tags[arch]: image.digest for arch, image in targets.items() if image}
        if self.list_tag and index:
            wanted = {self.list_tag: index.digest, **wanted}
        found = await digests_of(self.to.store, wanted)
        lost = [tag for tag, digest in wanted.items() if found[tag] != digest]
        if lost:
            lines = [f"  {tag}: found {found[tag]}, expected {wanted[tag]}" for tag in lost]
            raise PublishError(
                "another run published at the same time: these tags are not as this run left them\n"
                + "\n".join(lines)
                + "\n  to decide the winner, rerun it with --overwrite"
            )

    def results(self, targets: Mapping[Arch, Image | None], index: Index | None) -> list[Result]:
        results = []
        if self.list_tag:
            results.append(_result(self.list_tag, index.digest if index else None, None, self.held[self.list_tag]))
            self.to.report(_line(results[-1], self.to.dry))
        for arch, target in targets.items():
            tag = self.tags[arch]
            results.append(_result(tag, target.digest if target else None, str(arch.platform), self.held[tag]))
            self.to.stage(arch, DONE, _line(results[-1], self.to.dry))
        return results


def _is_large(image: Image) -> bool:
    return any(not isinstance(blob.source, bytes) for blob in image.blobs)


def _index(listing: Listing | None, targets: Mapping[Arch, Image | None]) -> Index | None:
    known = [image for image in targets.values() if image]
    return listing(known) if listing and len(known) == len(targets) else None


def refuse_to_move(held: Digests, wanted: Mapping[Tag, str | None]) -> None:
    """Raise PublishError if a tag refers to something other than the wanted digest."""
    moved = [tag for tag, digest in wanted.items() if held[tag] not in (None, digest)]
    if moved:
        raise not_moved(
            f"{tag}: found {held[tag]}, expected {wanted[tag] or 'what this daemon pushed'} or no tag" for tag in moved
        )


def not_moved(lines: Iterable[str]) -> PublishError:
    """The error for tags that would have to be moved; one line for each."""
    return PublishError(
        "refusing to move an existing tag (use --overwrite)\n"
        + "\n".join(f"  {line}" for line in lines)
        + "\n  publish under another TAG, or move it with --overwrite"
    )


def refuse_plan(steps: Iterable[Result]) -> None:
    """Raise PublishError if a step of a plan would be refused."""
    lines = [f"{step.name}: {'; '.join(step.why)}" for step in steps if step.change == "refused"]
    if lines:
        raise not_moved(lines)


def _result(tag: Tag, digest: str | None, platform: str | None, held: str | None) -> Result:
    place = "layout" if tag.repository.on_disk else "registry"
    if digest and digest == held:
        return Result(str(tag), digest, platform, "kept")
    why = f"the {place} has another digest: {held}" if held else f"not in the {place}"
    return Result(str(tag), digest, platform, "moved" if held else "pushed", (why,))


def _line(result: Result, dry: bool) -> str:
    if result.change == "kept":
        return f"{result.name}: already published"
    return f"{result.name}: {'would be ' if dry else ''}{result.change}"
