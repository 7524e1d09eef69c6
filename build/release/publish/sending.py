"""The content of a release on its way: blobs and manifests by digest, each as soon as its image is built."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from build.config.arches import Arch
from build.engines.engine import Publisher
from build.errors import BuildError
from build.image.validate import validate
from build.oci.image import Image
from build.release.publish.destination import Destination
from build.release.publish.tags import Tags
from build.report import FAILED, PUSH
from build.stores.transfer import transfer

T = TypeVar("T")


@dataclass(frozen=True)
class Sending(Generic[T]):
    """The content of a release on its way to the repositories of its tags.

    It is sent `early`, while other images are still being compiled, if no tag could be moved by mistake.
    """

    to: Destination
    publisher: Publisher[T]
    tags: Tags
    early: bool
    _known: dict[Arch, asyncio.Future[Image | None]] = field(default_factory=dict)

    def expect(self) -> None:
        """Prepare the store for what is still being built."""
        for tag in self.tags.arches.values():
            self.publisher.expect(self.to.store, tag.repository)
            if self.tags.index and self.tags.index.repository != tag.repository and self.to.store.is_distant:
                self.publisher.expect(self.to.store, self.tags.index.repository)

    async def ready(self, arch: Arch, image: Awaitable[T]) -> tuple[T, Image | None]:
        """An image and its target. If no tag exists yet, its content is sent at once."""
        tag, known = self.tags.arches[arch], self._image(arch)
        try:
            built = await image
            target = await self.publisher.target(built, tag, self.to.store, self.tags.current[tag])
            known.set_result(target)
        finally:
            known.cancel()  # after a failure, for those who wait for it
        if self.early and target:
            await self.send(arch, target, own=True, listed=True)
        return built, target

    async def images(self) -> dict[Arch, Image | None]:
        """The targets of all arches, once they are known; they may still be on their way."""
        return {arch: await self._image(arch) for arch in self.tags.arches}

    def _image(self, arch: Arch) -> asyncio.Future[Image | None]:
        return self._known.setdefault(arch, asyncio.get_running_loop().create_future())

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
        """Move the tag of an arch to the image, and return that."""
        tag = self.tags.arches[arch]
        image = await self.publisher.publish(built, tag, self.to.store, self.tags.current[tag])
        self.tags.reached(arch, image)
        return image


def _is_large(image: Image) -> bool:
    return any(not isinstance(blob.source, bytes) for blob in image.blobs)
