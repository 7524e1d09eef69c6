"""How images and their manifest list reach a sink: blobs, then manifests by digest, then tags, the list's tag last.

Whatever stops this half-way, every tag is absent, old or complete, and doing it again finishes the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from build.errors import BuildError, PublishError
from build.events import FAILED, PUSH
from build.image.validate import validate
from build.oci.oci import Blob, Image, Index, index
from build.oci.reference import Repository
from build.release.outcomes import Outcome
from build.release.senders import made, together, together_at_most
from build.stores.store import Sink, Tag

# Of an image as a rule: a layer and a config.
_BLOBS = 2
# Bytes that are no reason for a round trip.
SMALL = 1 << 16


@dataclass(frozen=True)
class Order:
    """What publishing may do: move tags that are there (`overwrite`), or nothing but say what it would (`dry`).

    `before_tags` is called once all content is in the sink and before the first tag moves; if it raises, none does.
    `told` hears of each image, by its tag, what stage it is at, and how many bytes the sink has just taken.
    """

    overwrite: bool = False
    dry: bool = False
    before_tags: Callable[[], None] = lambda: None
    told: Callable[[Tag, str, int], None] = lambda _tag, _stage, _size: None


@dataclass(frozen=True)
class Change:
    """What a tag refers to now, and the digest that it referred to before, or None."""

    tag: Tag
    target: Image | Index
    before: str | None


# By repository; each is good for one blob.
Uploads = Mapping[Repository, list[asyncio.Task[str]]]
Held = Mapping[Tag, str | None]
Images = Mapping[Tag, Outcome[Image]]


async def survey(sink: Sink, tags: Collection[Tag]) -> Held:
    """What each tag refers to now: a digest, or None for no such tag."""
    asked = (sink.digest(tag.repository, tag.name) for tag in tags)
    return dict(zip(tags, await together_at_most(sink.at_once, asked), strict=True))


def refuse_to_move(sink: Sink, wanted: Mapping[Tag, Image | Index], held: Held) -> None:
    """Raise PublishError if a tag refers to something else already, in a sink where tags are kept."""
    moved = [tag for tag, target in wanted.items() if held[tag] not in (None, target.digest)]
    if sink.keeps_tags:
        refuse({tag: f"{wanted[tag].digest} or nothing" for tag in moved}, held)


def refuse(moved: Mapping[Tag, str], held: Held) -> None:
    """Raise PublishError if any tag would be moved; each with what was expected under it."""
    if moved:
        raise not_moved(f"{tag}: found {held[tag]}, expected {expected}" for tag, expected in moved.items())


def not_moved(found: Iterable[str]) -> PublishError:
    """What is raised where tags would be moved unasked; `found` is a line for each."""
    return PublishError(
        "a tag that others may use is not moved unasked\n"
        + "\n".join(f"  {line}" for line in found)
        + "\n  publish under another TAG, or move it with --overwrite"
    )


async def publish(
    sink: Sink,
    images: Images,
    list_tag: Tag | None,
    order: Order,
    listing: Callable[[Sequence[Image]], Index] = index,
) -> list[Change]:
    """Bring the tags of `images`, which may still be in the making, and `list_tag` to refer to them.

    What is there already is not sent. Raises ImageError for an image that contradicts itself, before any of it is sent,
    and PublishError if a tag would have to be moved unasked, if the sink fails, or if another run got in between.
    """
    held = await survey(sink, [*images, *([list_tag] if list_tag else [])])
    listed = list_tag.repository if list_tag else None
    # Where no tag is there is none to move: an image leaves for afar while others are still being compiled.
    early = sink.keeps_tags and not any(held.values()) and not order.dry
    if early:
        first = [tag.repository for tag, _ in zip(images, range(_images_at_once(sink)), strict=False)]
        courier = _Courier(sink, order.told, _opened(sink, first, listed if sink.is_far else None))
        ready = await courier.deliver(images, images, listed)
    else:
        courier = _Courier(sink, order.told, {})
        ready = await together_at_most(lambda: 1, map(made, images.values()))
    wanted: dict[Tag, Image | Index] = {list_tag: listing(ready)} if list_tag else {}
    wanted |= zip(images, ready, strict=True)
    if not order.overwrite:
        refuse_to_move(sink, wanted, held)
    new = {tag: target for tag, target in wanted.items() if held[tag] != target.digest}
    if new and not order.dry:
        if not early:
            await courier.deliver(images, new, listed if list_tag in new else None)
        await asyncio.to_thread(order.before_tags)
        await _move_tags(sink, new, wanted, list_tag)
    return [Change(tag, target, held[tag]) for tag, target in wanted.items()]


@dataclass(frozen=True)
class _Courier:
    """Brings images to a sink, and tells of each what has become of it."""

    sink: Sink
    told: Callable[[Tag, str, int], None]
    uploads: Uploads

    async def deliver(self, images: Images, new: Container[Tag], listed: Repository | None) -> list[Image]:
        """Blobs, then the manifest by digest: to a tag's home if it is among the new, and to the list's repository.

        In the list's repository they are mounted from their home; but to a registry far away small ones go straight.
        """
        leaving = (self._leave(tag, image, listed, tag in new) for tag, image in images.items())
        return await together_at_most(partial(_images_at_once, self.sink), leaving)

    async def _leave(self, tag: Tag, running: Outcome[Image], listed: Repository | None, is_new: bool) -> Image:
        image = await made(running)
        try:
            await self._deliver(tag, image, listed, is_new)
        except BuildError:
            self.told(tag, FAILED, 0)
            raise
        return image

    async def _deliver(self, tag: Tag, image: Image, listed: Repository | None, is_new: bool) -> None:
        blobs = validate(image).blobs
        sink, home = self.sink, tag.repository
        places = [place for place in (home if is_new else None, listed) if place]
        mounted = [blob for blob in blobs if listed and (not sink.is_far or len(blob.data) > SMALL)]
        straight = [(place, blob) for place in places for blob in blobs if place == home or blob not in mounted]
        await together(self._send(tag, *each) for each in straight)
        if listed:
            await together(self._mount(tag, listed, blob) for blob in mounted)
        await together(self._send_manifest(tag, place, image.manifest) for place in places)

    async def _send(self, tag: Tag, place: Repository, blob: Blob) -> None:
        upload = ""
        if waiting := self.uploads.get(place):
            with suppress(
                PublishError
            ):  # one that could not be opened is opened again, and if that fails, too, it is told
                upload = await waiting.pop()
        self.told(tag, PUSH, await self.sink.put_blob(place, blob, upload=upload))

    async def _mount(self, tag: Tag, place: Repository, blob: Blob) -> None:
        self.told(tag, PUSH, await self.sink.put_blob(place, blob, tag.repository))

    async def _send_manifest(self, tag: Tag, place: Repository, manifest: Blob) -> None:
        await self.sink.put_manifest(place, manifest)
        self.told(tag, PUSH, len(manifest.data))


def _images_at_once(sink: Sink) -> int:
    return max(1, sink.at_once() // _BLOBS)


def _opened(sink: Sink, homes: Iterable[Repository], listed: Repository | None) -> Uploads:
    """Uploads for all blobs that are to come, which takes a round trip while the compilers work."""
    uploads: dict[Repository, list[asyncio.Task[str]]] = {}
    for place in (place for home in homes for place in (home, listed) if place):
        opened = [asyncio.ensure_future(sink.open_upload(place)) for _ in range(_BLOBS)]
        for each in opened:
            each.add_done_callback(_heard)
        uploads.setdefault(place, []).extend(opened)
    return uploads


def _heard(ended: asyncio.Task[str]) -> None:
    # Of an upload that nobody comes for any more nobody needs to hear that it failed.
    if not ended.cancelled():
        ended.exception()


async def _move_tags(
    sink: Sink, new: Mapping[Tag, Image | Index], wanted: Mapping[Tag, Image | Index], last: Tag | None
) -> None:
    """Move the `new` tags, and see whether they and their kin then are what is `wanted`: no registry can lock them."""
    moving = (sink.put_tag(tag.repository, tag.name, target) for tag, target in new.items() if tag != last)
    await together_at_most(sink.at_once, moving)
    if last and last in new:
        await sink.put_tag(last.repository, last.name, new[last])
    found = await survey(sink, wanted)
    lost = [tag for tag, target in wanted.items() if found[tag] != target.digest]
    if lost:
        lines = [f"  {tag}: found {found[tag]}, expected {wanted[tag].digest}" for tag in lost]
        raise PublishError(
            "another run has published at the same time: these tags are not what this run made them\n"
            + "\n".join(lines)
            + "\n  decide which of the two it shall be, and run that again with --overwrite"
        )
