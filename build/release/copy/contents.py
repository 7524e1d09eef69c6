"""What to copy: the releases that a registry, a layout or an archive has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from build.config.arches import Arch, ImageSettings, Settings
from build.config.release import Release
from build.errors import ImageError, UsageError, all_of
from build.oci.media_types import INDEXES
from build.oci.parse import parse_manifest
from build.oci.reference import ARCHIVE, NAME, TAG, Tag, archive_file
from build.oci.referrer import is_referrers_tag
from build.stores.store import Source


async def contents(source: Source, registry: str, origins: Sequence[Release], settings: Settings) -> list[Release]:
    """What to copy from `registry` if nothing is selected; `origins` are the releases of the image table there.

    From an archive, that is every release in it; from a layout, `origins` and the images that the table does not have.
    Of the latter, the images for the arches are NAME-ARCH. Raises ImageError for what belongs to no such release.
    """
    is_archive = bool(archive_file(registry))
    listing = [(name, tag) for name, tag in source.listing(registry) if not is_referrers_tag(tag)]
    there = {f"{name}:{tag}" for name, tag in listing}
    found = [] if is_archive else list(origins)
    for name, tag in listing:
        template = f"{{registry}}/{name}"
        rows = [image for image in settings.images.values() if image.repository == template]
        if NAME.fullmatch(name) and TAG.fullmatch(tag) and (is_archive or not rows):
            # Images that share a repository have different tags.
            image = next((row for row in rows if row.tag == tag), rows[0] if rows else _unknown_image(name, tag))
            with _selectable(f"{registry}: {name}:{tag}"):
                arches = await _arches(source, Release(image, (), registry, tag), settings.arches.values())
            image = _as_listed(image, arches, tag, there)
            found += [Release(image, arches, registry, tag, origins[0].also)] if arches else []
    with _selectable(registry):
        taken = {_name(tag) for each in found for tag in (each.list_tag(), *map(each.arch_tag, each.arches))}
        if is_archive and found and (left := sorted(there - taken)):
            raise ImageError(f"found {', '.join(left)}, expected only manifest lists and their images")
    return found or list(origins)


def _unknown_image(name: str, tag: str) -> ImageSettings:
    template = f"{{registry}}/{name}"
    return ImageSettings(
        name, tag, template, f"{template}-{{arch}}:{{tag}}", "", (), {}, (), "", (), {}, libc=False, verify=None
    )


def as_listed(source: Source, origins: Sequence[Release]) -> list[Release]:
    """The same releases, with the arch-references that the source has, where it can be listed."""
    there = {
        f"{name}:{tag}" for registry in {each.registry for each in origins} for name, tag in source.listing(registry)
    }
    return [replace(each, image=_as_listed(each.image, each.arches, each.tag, there)) for each in origins]


def targets_of(origins: Sequence[Release], registry: str, settings: Settings) -> list[Release]:
    """The same releases in another registry, with the arch-references of the image table.

    Raises UsageError if several releases would get the same further tag.
    """
    rows = {(image.name, image.repository): image for image in settings.images.values()}
    targets = [
        replace(each, registry=registry, image=rows.get((each.image.name, each.image.repository), each.image))
        for each in origins
    ]
    for each in targets:
        several = [other.tag for other in targets if other.image == each.image]
        if each.also and len(several) > 1:
            raise UsageError(
                f"ALSO_TAG {each.also[0]}: found {each.image.name} {' and '.join(several)}, expected one release of it"
                "\n  select it with --tag"
            )
    return targets


def _as_listed(image: ImageSettings, arches: Sequence[Arch], tag: str, there: Collection[str]) -> ImageSettings:
    """The same image with the arch-reference, of those that are usual, that the source has the tags of."""
    for found in _usual(image):
        tags = map(Release(found, (), f"{ARCHIVE}any", tag).arch_tag, arches)
        if all(_name(each) in there for each in tags):
            return found
    return image


def _usual(image: ImageSettings) -> list[ImageSettings]:
    """The same image with its own arch-reference, and with those that are usual."""
    name = image.repository
    usual = (image.arch_reference, f"{name}-{{arch}}:{{tag}}", f"{name}:{{tag}}-linux-{{arch}}")
    return [replace(image, arch_reference=each) for each in usual]


@contextmanager
def _selectable(where: str) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{where}: {error}\n  to copy only a part, select it with --image or --tag") from None


async def _arches(source: Source, release: Release, known: Iterable[Arch]) -> tuple[Arch, ...]:
    """The arches of a manifest list; none if the release's tag is that of an image."""
    tag = release.list_tag()
    manifest = await source.manifest(tag.repository, tag.name)
    if manifest is None or manifest.media_type not in INDEXES:
        return ()
    rows = [*known]
    entries = parse_manifest(manifest.data, manifest.media_type)
    found: dict[Arch, None] = {}
    unknown: list[str] = []
    for entry in entries if isinstance(entries, tuple) else ():
        own = [arch for arch in rows if entry.platform and arch.is_for(entry.platform)]
        if len(own) > 1:  # rows for Windows have one platform
            own = [arch for arch in own if await _has(source, release, arch, entry.digest)]
        found |= dict.fromkeys(own[:1])
        unknown += [] if own else [str(entry.platform or "no platform")]
    if unknown:
        names = ", ".join(dict.fromkeys(unknown))
        raise ImageError(f"found an image for {names}, expected the platforms in arches.yaml only")
    return tuple(found)


async def _has(source: Source, release: Release, arch: Arch, digest: str) -> bool:
    """Whether the tag of an arch, under one of the usual references, refers to `digest`."""
    tags = [Release(image, (), release.registry, release.tag).arch_tag(arch) for image in _usual(release.image)]
    found = await all_of(source.digest(tag.repository, tag.name) for tag in dict.fromkeys(tags))
    return digest in found


def _name(tag: Tag) -> str:
    """NAME:TAG of a tag in an archive."""
    return f"{tag.repository.name}:{tag.name}"
