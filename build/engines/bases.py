"""The bases of a run: what FROM names, for each platform. What they consist of comes from `content`.

Every method raises BuildError for a base that can't be used, and says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from build.engines.content import Content
from build.errors import BuildError, ImageError, PublishError, UsageError, all_of
from build.image.assemble import base_of
from build.image.base import Base
from build.image.spec import Spec
from build.oci.descriptor import Blob, Descriptor
from build.oci.image import Image, Origin
from build.oci.media_types import LARGEST_MANIFEST, MANIFESTS, is_gzip
from build.oci.parse import Manifest, parse_config, parse_manifest
from build.oci.platform import UNKNOWN, Platform, usable_on
from build.oci.reference import Reference, base_reference
from build.stores.store import Listing


@dataclass(frozen=True)
class Resolved:
    """What a reference of FROM refers to: an index or, `parsed`, the manifest of a single image."""

    reference: Reference
    top: Blob
    parsed: tuple[Descriptor, ...] | Manifest = field(repr=False)

    @property
    def name(self) -> str:
        """The full reference; its digest is left out if there is a tag, too."""
        with_tag = Reference(self.reference.repository, self.reference.tag)
        return str(with_tag if self.reference.tag else self.reference)

    def __str__(self) -> str:
        """The full reference, with the digest."""
        return str(Reference(self.reference.repository, self.reference.tag, self.top.digest))

    def image_for(self, platform: Platform) -> Descriptor | None:
        """The entry that nodes of `platform` take, None if there is none.

        Raises ImageError for several versions of Windows, of which `platform` names none.
        """
        for usable in usable_on(platform):
            found = {each: entry for each, entry in self.images.items() if each.unversioned == usable}
            if len(found) > 1 and platform.is_windows:
                lines = "".join(f"\n  {each.platform}: {each.digest}" for each in found.values())
                raise ImageError(
                    f"{self}: found {len(found)} images for {platform}, expected one{lines}"
                    f"\n  name one of them in the row's base: {self.reference.repository}@sha256:…"
                )
            if found:
                return next(iter(found.values()))
        return None

    @property
    def images(self) -> dict[Platform, Descriptor]:
        """The images of an index by their normal platforms, in its order; the first one if a platform has several."""
        entries = self.parsed if isinstance(self.parsed, tuple) else ()
        images = [each for each in entries if each.media_type in MANIFESTS and not each.attests]
        found: dict[Platform, Descriptor] = {}
        for each in images:
            if each.platform and each.platform != UNKNOWN:
                found.setdefault(each.platform.normal, each)
        return found


@dataclass(frozen=True, eq=False)
class Bases:
    """The bases of a run."""

    content: Content

    async def prepare(self, specs: Iterable[Spec]) -> None:
        """Raise BuildError unless the bases of all these images can be used."""
        wanted: dict[tuple[str, str], list[Platform]] = {}
        for spec in specs:
            if text := base_of(spec):
                wanted.setdefault((spec.settings.dockerfile, text), []).append(spec.arch.platform)

        async def required(file: str, text: str, platforms: Sequence[Platform]) -> None:
            with _named(file, text):
                await self._require(text, platforms)

        await all_of(required(*named, platforms) for named, platforms in wanted.items())

    async def of(self, spec: Spec) -> Base:
        """The base of an image that has one."""
        text = base_of(spec)
        with _named(spec.settings.dockerfile, text, f" ({spec.arch.name})"):
            platform = spec.arch.platform
            return await self.content.once(("base", text, platform), lambda: self._base(text, platform))

    async def _require(self, text: str, platforms: Sequence[Platform]) -> None:
        """Raise ImageError unless the base that FROM calls `text` can be used for all these platforms."""
        resolved = await self._resolved(text)
        has = [each.platform for each in resolved.images.values()]
        if isinstance(resolved.parsed, Manifest):
            config = await self._config(resolved, await self._manifest(resolved, UNKNOWN))
            has = [platform := parse_config(config.data).platform]
            missing = [each for each in platforms if platform.unversioned.normal not in usable_on(each)]
        else:
            missing = [each for each in platforms if resolved.image_for(each) is None]
        if missing:
            raise ImageError(
                f"{resolved}: found no image for {', '.join(map(str, missing))}"
                f"\n  it has {', '.join(map(str, has)) or 'none'}"
                "\n  use another base, or select the arches that it has with --arch"
            )
        await all_of(self._manifest(resolved, platform) for platform in platforms)

    async def _base(self, text: str, platform: Platform) -> Base:
        """The base that FROM calls `text`, for a platform that it has, with its layers in files."""
        resolved = await self._resolved(text)
        repository, blob = resolved.reference.repository, await self._manifest(resolved, platform)
        config = await self._config(resolved, blob)
        parsed, layers = parse_config(config.data), _image_manifest(blob).layers
        if parsed.platform.unversioned.normal not in usable_on(platform):
            raise ImageError(f"{resolved}: config: found platform {parsed.platform}, expected {platform}")
        if len(parsed.diff_ids) != len(layers):
            raise ImageError(f"{resolved}: config: found {len(parsed.diff_ids)} diff_ids, expected {len(layers)}")
        files = await all_of(self.content.blob(repository, each) for each in layers)
        origin = Origin(resolved.name, resolved.top.digest, repository, len(layers))
        image = Image(parsed.platform, blob, config, tuple(files), origin=origin)
        return Base(text, resolved.top.digest, image, self.content.cache)

    async def _resolved(self, text: str) -> Resolved:
        return await self.content.once(("FROM", text), lambda: self._resolve(text))

    async def _resolve(self, text: str) -> Resolved:
        reference = base_reference(text)
        if reference.repository.is_remote:
            digest = reference.digest or await self.content.digest(reference)
            top = await self.content.manifest(reference.repository, digest)
        else:
            reference, top = await self._read(reference)
        return Resolved(reference, top, parse_manifest(top.data, top.media_type))

    async def _read(self, reference: Reference) -> tuple[Reference, Blob]:
        """What a layout or an archive has, which is read in each run, and under which name."""
        repository, is_pinned = reference.repository, bool(reference.digest)
        source = self.content.source(repository)
        if not reference.wanted and isinstance(source, Listing):
            found = await source.references(repository)
            if len(found) != 1:
                names = ", ".join(map(str, found)) or "nothing"
                raise PublishError(f"{repository}: found {names}, expected one image, or its name in FROM")
            reference = found[0]
        top = await source.manifest(reference.repository, reference.wanted)
        if top is None:
            raise PublishError(f"{reference}: no such image")
        if not is_pinned:
            self.content.report(f"base {reference}: {top.digest}")
        return reference, top

    async def _manifest(self, resolved: Resolved, platform: Platform) -> Blob:
        """The manifest of the image for a platform that there is."""
        blob = resolved.top
        if not isinstance(resolved.parsed, Manifest):
            entry = resolved.image_for(platform)
            if entry is None:
                raise ImageError(f"{resolved}: found no image for {platform}")
            blob = await self.content.manifest(resolved.reference.repository, entry.digest)
        try:
            _image_manifest(blob)
        except ImageError as error:
            raise error.at(str(resolved)) from None
        return blob

    async def _config(self, resolved: Resolved, manifest: Blob) -> Blob:
        wanted = _image_manifest(manifest).config
        if wanted.size > LARGEST_MANIFEST:
            raise ImageError(f"{resolved}: config: found {wanted.size} bytes, expected at most {LARGEST_MANIFEST}")
        return await self.content.blob(resolved.reference.repository, wanted)


def _image_manifest(blob: Blob) -> Manifest:
    """The parsed manifest of an image; raise ImageError if it is something else, or has a layer that can't be used."""
    parsed = parse_manifest(blob.data, blob.media_type)
    if not isinstance(parsed, Manifest) or parsed.artifact:
        raise ImageError(f"found {parsed.artifact if isinstance(parsed, Manifest) else 'an index'}, expected an image")
    for layer, elsewhere in zip(parsed.layers, parsed.elsewhere, strict=True):
        if elsewhere:
            found = f"layer {layer.digest} is stored elsewhere (urls), and not in the registry"
            raise ImageError(f"{found}\n  use another base, or build it with --engine docker")
        if is_gzip(layer.media_type) is None:
            found = f"layer {layer.digest}: found {layer.media_type}, expected gzip or plain tar"
            raise ImageError(f"{found}\n  use another base, or build it with --engine docker")
    return parsed


@contextmanager
def _named(file: str, text: str, arch: str = "") -> Iterator[None]:
    try:
        yield
    except BuildError as error:
        # What is wrong with a reference is no wrong usage of the command line.
        kind = ImageError if isinstance(error, UsageError) else type(error)
        where = f"{file}{arch}: FROM {text}"
        raise kind(f"{where}: {error}", error.reason if error.reason != str(error) else "") from None
