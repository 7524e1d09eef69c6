"""The Engine protocol: build an image from a binary, export it for the user, publish it to a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol, TypeVar

from build.compilers.binary import Binary
from build.image.spec import Spec
from build.oci.image import Image
from build.oci.media_types import Format
from build.oci.reference import Repository, Tag
from build.report import Result
from build.stores.store import Store


class Pull(Enum):
    """When a registry is asked what a tag of FROM refers to: in each run, if the cache does not know, or never."""

    ALWAYS, MISSING, NEVER = "always", "missing", "never"


T = TypeVar("T", contravariant=True)  # noqa: PLC0105


@dataclass(frozen=True)
class Built:
    """An image that an engine has built; `result` has its name, and its digest if that is known.

    `image` is None if only the daemon has the image.
    """

    spec: Spec
    binary: Binary
    result: Result
    image: Image | None = None


class Publisher(Protocol[T]):
    """Publishes images of type T."""

    def expect(self, store: Store, repository: Repository) -> None:
        """Prepare `store` for an image in `repository` that is still being built."""

    async def target(self, built: T, tag: Tag, store: Store, current: str | None) -> Image | None:
        """The image that `publish` would publish as `tag`, whose current digest is `current`.

        None if it is not known before the daemon pushes.
        """

    async def publish(self, built: T, tag: Tag, store: Store, current: str | None) -> Image:
        """Move `tag`, whose digest is `current`, to the image, and return the published image.

        The store already has the content of the image that `target` returned.
        """


class Engine(Publisher[Built], Protocol):
    """Builds and publishes images. Every method but `accept` raises BuildError; a dry run changes nothing."""

    def accept(self, tag: Tag, form: Format) -> None:
        """Raise UsageError if images of this engine can't be published under `tag` in this format."""

    def annotates(self, form: Format) -> bool:
        """Whether images of this engine and format, and so their list, have annotations."""

    async def prepare(self, specs: Sequence[Spec]) -> None:
        """Before anything is compiled: raise BuildError if the base of an image can't be used, or lacks a platform."""

    async def make(self, spec: Spec, binary: Binary) -> Built:
        """Build the image of `binary`, or reuse it if it is unchanged. Raises ElfError for a binary of another arch."""

    async def export(self, built: Built) -> Result:
        """Put the image where the user expects it: an archive in bin, or the daemon."""

    async def archive(self, built: Built, name: str, file: Path) -> None:
        """Write an archive that container engines load. Engines that can set the name (NAME:TAG) set `name`."""


class Unchanged:
    """Publishes existing images without changes."""

    def expect(self, store: Store, repository: Repository) -> None:
        """The images exist already, so there is nothing to prepare."""

    async def target(self, built: Image, tag: Tag, store: Store, current: str | None) -> Image | None:  # noqa: ARG002
        """The image itself."""
        return built

    async def publish(self, built: Image, tag: Tag, store: Store, current: str | None) -> Image:  # noqa: ARG002
        """Move the tag; the store already has the content."""
        await store.put_tag(tag.repository, tag.name, built)
        return built
