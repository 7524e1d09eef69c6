"""The protocol of all engines: an image from a binary, the image where the user finds it, the image in a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from build.compilers.binary import Binary
from build.image.spec import Spec
from build.oci.image import Image
from build.oci.media_types import Format
from build.oci.reference import Repository, Tag
from build.report import Result
from build.stores.store import Store


@dataclass(frozen=True)
class Built:
    """An image that an engine has made: `result` tells the user where it is.

    `image` is None for an image whose bytes only the daemon has; `reference` then names it there.
    """

    spec: Spec
    binary: Binary
    result: Result
    image: Image | None = None


class Engine(Protocol):
    """Makes images and publishes them. Every method raises BuildError; in a dry run nothing is changed."""

    def accept(self, tag: Tag, form: Format) -> None:
        """Raise UsageError if images of this engine can't be published under `tag` in this format."""

    def expect(self, store: Store, repository: Repository) -> None:
        """Prepare `store` for an image in `repository`, while that is still being made."""

    async def make(self, spec: Spec, binary: Binary) -> Built:
        """The image of `binary`, which has been proved to be the row's; unchanged images are not made again."""

    async def export(self, built: Built) -> Result:
        """The image where the user finds it: an archive in bin, or the daemon."""

    async def archive(self, built: Built, name: str) -> bytes:
        """An archive of the image for container engines to load, as `name` where the engine can choose."""

    async def target(self, built: Built, tag: Tag, store: Store, held: str | None) -> Image | None:
        """The image that publishing would put under `tag`, which refers to the digest `held` now; None if only the
        daemon's push will tell.
        """

    async def publish(self, built: Built, tag: Tag, store: Store) -> Image:
        """Make `tag` refer to the image, and return it as it is published.

        What `target` returned is in the store by now.
        """
