"""The embedded engine: assembles reproducible images in Python, without a daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from build.cache.cache import Cache
from build.cache.inputs import Inputs
from build.compilers.binary import Binary
from build.engines.engine import Built
from build.engines.files import keep
from build.engines.startable import check_assembled, check_binary
from build.errors import ImageError, UsageError
from build.image.assemble import assemble, base_of, image_inputs
from build.image.spec import Spec
from build.oci.image import Image
from build.oci.media_types import OCI, Format
from build.oci.reference import Repository, Tag
from build.report import Result
from build.stores.archive.write import Entry, archive, write_archive, write_archive_file
from build.stores.store import SMALL, Store

if TYPE_CHECKING:
    from build.engines.bases import Bases


@dataclass(frozen=True)
class Embedded:
    """Assembles images and publishes them to any store. A `dry` run writes no files. `bases` are for FROM."""

    cache: Cache
    bases: Callable[[], Bases]
    dry: bool

    def accept(self, tag: Tag, form: Format) -> None:
        """Raise UsageError for Docker media types in a layout."""
        if tag.repository.on_disk and form is not OCI:
            raise UsageError(
                f"{tag}: found format {form.name}, expected oci: OCI layouts always use OCI media types"
                "\n  use --format oci, or publish to a registry"
            )

    def expect(self, store: Store, repository: Repository) -> None:
        """Images have a layer and a config, as a rule."""
        store.expect(repository, 2)

    def annotates(self, form: Format) -> bool:
        """Docker's media types have no annotations."""
        return form is OCI

    async def prepare(self, specs: Sequence[Spec]) -> None:
        """See `Engine`."""
        if based := [spec for spec in specs if base_of(spec)]:
            await self.bases().prepare(based)

    async def make(self, spec: Spec, binary: Binary) -> Built:
        """Assemble the image, or take it from the cache. Raises ElfError or ImageError."""

        base = await self.bases().of(spec) if base_of(spec) else None

        def check(image: Image, files: Mapping[str, bytes]) -> None:
            check_binary(binary.data, spec)
            check_assembled(spec, image, files, binary.data, base)

        work = partial(assemble, spec, binary.data, binary.digest, self.cache, check, base)
        image = await asyncio.to_thread(work) if base or len(binary.data) > SMALL else work()
        return Built(spec, binary, Result(spec.names[0], image.digest, str(image.platform), "made"), image)

    async def export(self, built: Built) -> Result:
        """Write bin/NAME-ARCH.tar, which loads under the name that the image is published as."""
        spec, image = built.spec, _image(built)
        name, *others = spec.names
        # With every tag of it; not with the names of other registries.
        names = [name, *(each for each in others if each.rpartition(":")[0] == name.rpartition(":")[0])]
        entries = [Entry(image, each, each.rpartition(":")[2]) for each in names]

        def inputs(before: Collection[str]) -> Inputs:
            used = image_inputs(spec, built.binary.digest, self.cache, before, image.origin)
            return replace(used, settings={**used.settings, "name in the archive": " ".join(names)})

        result = Result(f"{spec.binary_path}.tar", image.digest, str(image.platform), "made", arch=spec.arch.name)
        if image.origin:
            result = replace(result, base=image.origin.fields())
        if any(layer.size > SMALL for layer in image.layers):
            write = partial(write_archive, entries=entries, time=spec.revision.time)
            return await asyncio.to_thread(keep, spec.root, self.cache, result, write, inputs, self.dry)
        return keep(spec.root, self.cache, result, archive(entries, spec.revision.time), inputs, self.dry)

    async def archive(self, built: Built, name: str, file: Path) -> None:
        """An archive that loads as `name` (NAME:TAG)."""
        entries = [Entry(_image(built), name, name.rpartition(":")[2])]
        await asyncio.to_thread(write_archive_file, file, entries, built.spec.revision.time)

    async def target(self, built: Built, tag: Tag, store: Store, current: str | None) -> Image | None:  # noqa: ARG002
        """The image, which is known before it is published."""
        return _image(built)

    async def publish(self, built: Built, tag: Tag, store: Store, current: str | None) -> Image:  # noqa: ARG002
        """Move the tag; the store already has the content."""
        await store.put_tag(tag.repository, tag.name, _image(built))
        return _image(built)


def _image(built: Built) -> Image:
    if built.image is None:
        raise ImageError(f"{built.result.name}: made by another engine")
    return built.image
