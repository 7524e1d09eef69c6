"""How images and their manifest list reach a sink: blobs, then manifests by digest, then tags, the list's tag last.

Whatever stops this half-way, every tag is absent, old or complete, and doing it again finishes the work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from build.crew import results, side_by_side
from build.errors import BuildError, PublishError
from build.events import FAILED, PUSH
from build.oci import Blob, Image, Index, index, validate
from build.reference import Repository

# Of an image as a rule: a layer and a config.
_BLOBS = 2
# Bytes that are no reason for a round trip.
SMALL = 1 << 16


class Source(Protocol):
    """Where repositories are read. Every digest that a source is told is checked against its own."""

    def digest(self, repository: Repository, tag: str) -> str | None:
        """The digest under `tag`, or None."""

    def manifest(self, repository: Repository, reference: str) -> Blob | None:
        """The manifest under a tag or digest, or None."""

    def blob(self, repository: Repository, digest: str, most: int = sys.maxsize) -> bytes:
        """The bytes of a blob; no more than `most` of them are read."""

    def close(self) -> None:
        """Do nothing any more: what other threads still ask for is refused."""


class Sink(Source, Protocol):
    """Where repositories live: what can be read and written."""

    @property
    def keeps_tags(self) -> bool:
        """Whether a tag that exists is somebody's, and is not to be moved unasked."""

    @property
    def is_far(self) -> bool:
        """Whether a round trip costs more than sending a small blob twice, as far as it is known yet."""

    def open_upload(self, repository: Repository) -> str:
        """Make ready to take a blob, before that is known; `put_blob` may then use what this returns, once."""

    def put_blob(self, repository: Repository, blob: Blob, source: Repository | None = None, upload: str = "") -> int:
        """Store a blob, and return how many bytes were sent; `source` is a repository here that has it."""

    def put_manifest(self, repository: Repository, manifest: Blob) -> None:
        """Store a manifest under its digest; what it refers to is there."""

    def put_tag(self, repository: Repository, tag: str, target: Image | Index) -> None:
        """Let `tag` refer to `target`; its manifest is stored or comes along."""


@dataclass(frozen=True)
class Tag:
    """A tag of a repository: what gets published is known by it."""

    repository: Repository
    name: str

    def __str__(self) -> str:
        return f"{self.repository}:{self.name}"


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
Uploads = Mapping[Repository, list[Future[str]]]
Survey = Mapping[Tag, Future[str | None]]
Held = Mapping[Tag, str | None]


def survey(sink: Sink, tags: Iterable[Tag], pool: Executor) -> Survey:
    """Ask what each tag refers to now; `answers` waits for it."""
    return {tag: pool.submit(sink.digest, tag.repository, tag.name) for tag in tags}


def answers(asked: Survey) -> Held:
    """What each tag refers to: a digest, or None for no such tag."""
    return dict(zip(asked, results(list(asked.values())), strict=True))


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


def publish(
    sink: Sink,
    images: Mapping[Tag, Future[Image]],
    list_tag: Tag | None,
    asked: Survey,
    pool: Executor,
    order: Order,
    listing: Callable[[Sequence[Image]], Index] = index,
) -> list[Change]:
    """Bring the tags of `images`, which may still be in the making, and `list_tag` to refer to them.

    What is there already is not sent. Raises ImageError for an image that contradicts itself, before any of it is sent,
    and PublishError if a tag would have to be moved unasked, if the sink fails, or if another run got in between.
    """
    held = answers(asked)
    listed = list_tag.repository if list_tag else None
    with ThreadPoolExecutor(len(images)) as couriers:
        # Where no tag is there is none to move: an image leaves for afar while others are still being compiled.
        early = sink.keeps_tags and not any(held.values()) and not order.dry
        if early:
            uploads = _opened(sink, [tag.repository for tag in images], listed if sink.is_far else None, pool)
            courier = _Courier(sink, pool, order.told, uploads)
            side_by_side(couriers, lambda tag: courier.deliver(tag, images[tag].result(), listed), images)
        made = dict(zip(images, results(list(images.values())), strict=True))
        wanted: dict[Tag, Image | Index] = {list_tag: listing(list(made.values()))} if list_tag else {}
        wanted |= made
        if not order.overwrite:
            refuse_to_move(sink, wanted, held)
        new = {tag: target for tag, target in wanted.items() if held[tag] != target.digest}
        if new and not order.dry:
            if not early:
                homes = listed if list_tag in new else None
                courier = _Courier(sink, pool, order.told, {})
                side_by_side(couriers, lambda tag: courier.deliver(tag, made[tag], homes, tag in new), made)
            order.before_tags()
            _move_tags(sink, new, wanted, list_tag, pool)
    return [Change(tag, target, held[tag]) for tag, target in wanted.items()]


@dataclass(frozen=True)
class _Courier:
    """Brings images to a sink, and tells of each what has become of it."""

    sink: Sink
    pool: Executor
    told: Callable[[Tag, str, int], None]
    uploads: Uploads

    def deliver(self, tag: Tag, image: Image, listed: Repository | None, is_new: bool = True) -> None:
        """Blobs, then the manifest by digest: to the tag's home if it is new there, and to the list's repository.

        In the list's repository they are mounted from their home; but to a registry far away small ones go straight.
        """
        try:
            self._deliver(tag, image, listed, is_new)
        except BuildError:
            self.told(tag, FAILED, 0)
            raise

    def _deliver(self, tag: Tag, image: Image, listed: Repository | None, is_new: bool) -> None:
        validate(image)
        sink, home = self.sink, tag.repository
        places = [place for place in (home if is_new else None, listed) if place]
        mounted = [blob for blob in image.blobs if listed and (not sink.is_far or len(blob.data) > SMALL)]
        straight = [(place, blob) for place in places for blob in image.blobs if place == home or blob not in mounted]
        side_by_side(self.pool, lambda each: self._send(tag, *each), straight)
        if listed:
            side_by_side(self.pool, lambda blob: self.told(tag, PUSH, sink.put_blob(listed, blob, home)), mounted)
        side_by_side(self.pool, lambda place: self._send_manifest(tag, place, image.manifest), places)

    def _send(self, tag: Tag, place: Repository, blob: Blob) -> None:
        try:
            upload = self.uploads[place].pop()
        except LookupError:
            sent = self.sink.put_blob(place, blob)
        else:
            # One that could not be opened is opened again, and if that fails, too, it is told.
            sent = self.sink.put_blob(place, blob, upload="" if upload.exception() else upload.result())
        self.told(tag, PUSH, sent)

    def _send_manifest(self, tag: Tag, place: Repository, manifest: Blob) -> None:
        self.sink.put_manifest(place, manifest)
        self.told(tag, PUSH, len(manifest.data))


def _opened(sink: Sink, homes: Iterable[Repository], listed: Repository | None, pool: Executor) -> Uploads:
    """Uploads for all blobs that are to come, which takes a round trip while the compilers work."""
    wanted = [place for home in homes for place in (home, listed) if place for _ in range(_BLOBS)]
    uploads: dict[Repository, list[Future[str]]] = {place: [] for place in wanted}
    for place in wanted:
        uploads[place].append(pool.submit(sink.open_upload, place))
    return uploads


def _move_tags(
    sink: Sink, new: Mapping[Tag, Image | Index], wanted: Mapping[Tag, Image | Index], last: Tag | None, pool: Executor
) -> None:
    """Move the `new` tags, and see whether they and their kin then are what is `wanted`: no registry can lock them."""
    first = [tag for tag in new if tag != last]
    side_by_side(pool, lambda tag: sink.put_tag(tag.repository, tag.name, new[tag]), first)
    if last and last in new:
        sink.put_tag(last.repository, last.name, new[last])
    found = answers(survey(sink, wanted, pool))
    lost = [tag for tag, target in wanted.items() if found[tag] != target.digest]
    if lost:
        lines = [f"  {tag}: found {found[tag]}, expected {wanted[tag].digest}" for tag in lost]
        raise PublishError(
            "another run has published at the same time: these tags are not what this run made them\n"
            + "\n".join(lines)
            + "\n  decide which of the two it shall be, and run that again with --overwrite"
        )
