"""How images and their manifest list reach a sink: blobs, then manifests by digest, then tags, the list's tag last.

Whatever stops this half-way, every tag is absent, old or complete, and doing it again finishes the work.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Protocol

from build.crew import results, side_by_side
from build.errors import PublishError
from build.oci import Blob, Image, Index, validate
from build.reference import Repository


class Sink(Protocol):
    """Where repositories live. Both kinds check every digest that they are told against their own."""

    @property
    def keeps_tags(self) -> bool:
        """Whether a tag that exists is somebody's, and is not to be moved unasked."""

    def digest(self, repository: Repository, tag: str) -> str | None:
        """The digest under `tag`, or None."""

    def manifest(self, repository: Repository, reference: str) -> Blob | None:
        """The manifest under a tag or digest, or None."""

    def blob(self, repository: Repository, digest: str, most: int = sys.maxsize) -> bytes:
        """The bytes of a blob; no more than `most` of them are read."""

    def put_blob(self, repository: Repository, blob: Blob, source: Repository | None = None) -> None:
        """Store a blob; `source` is a repository of the same sink that has it already."""

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
        lines = [f"  {tag}: found {held[tag]}, expected {expected}" for tag, expected in moved.items()]
        raise PublishError(
            "a tag that others may use is not moved unasked\n"
            + "\n".join(lines)
            + "\n  publish under another TAG, or move it with --overwrite"
        )


def publish(
    sink: Sink,
    images: Mapping[Tag, Image],
    lists: Mapping[Tag, Index],
    held: Held,
    pool: Executor,
) -> None:
    """Bring the tags of `images`, then those of `lists`, to refer to them; `held` is what `survey` found.

    What is there already is not sent. Raises ImageError for an image that contradicts itself, before anything is
    sent, and PublishError if the sink fails.
    """
    new_images = {tag: image for tag, image in images.items() if held[tag] != image.digest}
    new_lists = {tag: index for tag, index in lists.items() if held[tag] != index.digest}
    side_by_side(pool, validate, _all_images(new_images, new_lists))

    homes = {image.digest: tag.repository for tag, image in images.items()}
    alone = [(tag.repository, image) for tag, image in new_images.items()]
    listed = [(tag.repository, image) for tag, index in new_lists.items() for image in index.images]

    # What has a home of its own is then mounted from there: a request without a body in place of two with one.
    side_by_side(pool, lambda upload: sink.put_blob(*upload), _blobs(alone, {}))
    side_by_side(pool, lambda upload: sink.put_blob(*upload), _blobs(listed, homes))

    side_by_side(pool, lambda stored: sink.put_manifest(stored[0], stored[1].manifest), alone + listed)

    side_by_side(pool, lambda new: sink.put_manifest(new[0].repository, new[1].manifest), new_lists.items())
    side_by_side(pool, lambda new: sink.put_tag(new[0].repository, new[0].name, new[1]), new_images.items())

    side_by_side(pool, lambda new: sink.put_tag(new[0].repository, new[0].name, new[1]), new_lists.items())


def _blobs(
    stored: Iterable[tuple[Repository, Image]], homes: Mapping[str, Repository]
) -> Iterable[tuple[Repository, Blob, Repository | None]]:
    """Where each blob goes, and which repository has it by then."""
    return [(repository, blob, homes.get(image.digest)) for repository, image in stored for blob in image.blobs]


def _all_images(images: Mapping[Tag, Image], lists: Mapping[Tag, Index]) -> Iterable[Image]:
    every = [*images.values(), *(image for index in lists.values() for image in index.images)]
    return {image.digest: image for image in every}.values()
