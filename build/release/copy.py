"""Copies releases: fetches and checks a published release, and packs it into an archive."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from build.config.arches import Arch, ImageSettings, Settings
from build.config.release import Release
from build.engines.moves import other_revision
from build.engines.published import fetch_image
from build.errors import ImageError, PublishError, UsageError, all_of
from build.oci.descriptor import Blob, Descriptor
from build.oci.image import Image, Index
from build.oci.media_types import FORMATS, INDEXES, OCI
from build.oci.parse import parse_config, parse_manifest, parse_time
from build.oci.reference import ARCHIVE, NAME, TAG, Repository, Tag, archive_file
from build.oci.referrer import is_referrers_tag
from build.oci.tar import LARGEST
from build.release.archive import Destination, write
from build.release.publish.destination import Destination as Publishing
from build.release.reference.referrers import Referring, carry, referring
from build.release.reference.referrers import entries as referring_entries
from build.report import Result
from build.stores.archive.archive import Archive
from build.stores.archive.write import Entry
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
    name = image.repository
    for reference in (image.arch_reference, f"{name}-{{arch}}:{{tag}}", f"{name}:{{tag}}-linux-{{arch}}"):
        found = replace(image, arch_reference=reference)
        tags = map(Release(found, (), f"{ARCHIVE}any", tag).arch_tag, arches)
        if all(_name(each) in there for each in tags):
            return found
    return image


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
    by_platform = {arch.platform: arch for arch in known}
    entries = parse_manifest(manifest.data, manifest.media_type)
    platforms = dict.fromkeys(each.platform for each in entries) if isinstance(entries, tuple) else {}
    unknown = [str(each or "no platform") for each in platforms if each not in by_platform]
    if unknown:
        raise ImageError(f"found an image for {', '.join(unknown)}, expected the platforms in arches.yaml only")
    return tuple(by_platform[each] for each in platforms if each)


def _name(tag: Tag) -> str:
    """NAME:TAG of a tag in an archive."""
    return f"{tag.repository.name}:{tag.name}"


async def fetch_release(source: Source, release: Release, spool: Path) -> Index:
    """The published manifest list of a release, unchanged, with the images of the arches' tags.

    Large layers are files in `spool`. Raises PublishError if a part is missing, ImageError or ElfError if the release
    is inconsistent.
    """
    tag = release.list_tag()
    manifest = await source.manifest(tag.repository, tag.name)
    if manifest is None:
        raise PublishError(
            f"{tag}: no such manifest list\n  publish it first (invoke push-manifest), or use another --tag"
        )
    images = await all_of(fetch_image(source, release.arch_tag(arch), arch, spool) for arch in release.arches)
    try:
        _check_list(manifest, images)
    except ImageError as error:
        raise ImageError(f"{tag}: {error}") from None
    return Index(manifest, tuple(images))


def _check_list(manifest: Blob, images: Sequence[Image]) -> None:
    """Raise ImageError unless `manifest` is a manifest list of exactly `images` (image-spec image-index.md)."""
    form = next((form for form in FORMATS.values() if form.index == manifest.media_type), None)
    if form is None:
        raise ImageError(f"found {manifest.media_type or 'no media type'}, expected a manifest list")
    parsed = parse_manifest(manifest.data, manifest.media_type)
    found = sorted(map(_line, parsed)) if isinstance(parsed, tuple) else []
    expected = sorted(_line(each.descriptor) for each in images)
    if found != expected:
        lines = [f"  found {line}" for line in found if found.count(line) != expected.count(line)]
        lines += [f"  expected {line}" for line in expected if line not in found]
        remedy = "publish it again with invoke push-manifest"
        if set(expected) < set(found):
            remedy = (
                "a list is copied whole, because its digest stays the same: select all of its arches with --arch"
                "\n  for a part: copy each image with skopeo, then make a new list: invoke push-manifest --arch …"
            )
        raise ImageError(f"the manifest list has other images than the arches' tags\n{chr(10).join(lines)}\n  {remedy}")
    if any(each.manifest.media_type != form.manifest for each in images):
        raise ImageError(f"the manifest list has format {form.name}, its images have another")


def refuse_docker_format(index: Index, tag: Tag) -> None:
    """Raise ImageError for Docker media types, which a layout or an archive can't have."""
    if index.manifest.media_type != OCI.index:
        raise ImageError(
            f"{tag}: found format docker, expected oci: OCI layouts always use OCI media types"
            "\n  copy it to a registry, or build it with --format oci"
        )


async def referring_release(
    source: Source, release: Release, index: Index, spool: Path
) -> Mapping[tuple[Repository, Arch | None], Referring]:
    """What refers to a release: in the repository of its list (None), and in those of its arches if these are others.

    Raises PublishError or ImageError if a part is missing, or is not as it should be.
    """
    home = release.list_tag().repository
    wanted: dict[tuple[Repository, Arch | None], list[str]] = {
        (home, None): [index.digest, *(each.digest for each in index.images)]
    }
    for arch, image in zip(release.arches, index.images, strict=True):
        if (own := release.arch_tag(arch).repository) != home:
            wanted[own, arch] = [image.digest]
    found = await all_of(referring(source, place, digests, spool) for (place, _), digests in wanted.items())
    return dict(zip(wanted, found, strict=True))


async def carry_release(attached: Mapping[tuple[Repository, Arch | None], Referring], to: Publishing) -> None:
    """Store what is attached to a release beside its copy; raise PublishError if the store refuses."""
    for (place, arch), found in attached.items():
        target = (to.release.arch_tag(arch) if arch else to.release.list_tag()).repository
        await carry(found, to.store, target, place, to.report, dry=to.dry)


async def pack(
    releases: Sequence[Release],
    indexes: Sequence[Index],
    attached: Sequence[Mapping[tuple[Repository, Arch | None], Referring]],
    to: Destination,
    spool: Path,
) -> list[Result]:
    """Write the releases, and what is attached to each, to one archive.

    The same releases from any source give the same bytes. Raises PublishError if the file exists with other content and
    `overwrite` is false.
    """
    wanted: list[tuple[Tag, Arch | None, Image | Index]] = []
    for release, index in zip(releases, indexes, strict=True):
        for each in (release, *release.further):
            wanted.append((each.list_tag(), None, index))
            wanted += zip(map(each.arch_tag, release.arches), release.arches, index.images, strict=True)
    entries = [Entry(each, *[_name(tag)] * 2) for tag, _, each in wanted]
    for release, by_place in zip(releases, attached, strict=True):
        for (_, arch), found in by_place.items():
            place = (release.arch_tag(arch) if arch else release.list_tag()).repository
            entries += referring_entries(found, place.name)
    time = max(_created(image) for index in indexes for image in index.images)
    tag, first = releases[0].list_tag(), indexes[0].images[0]
    change = await write(
        entries, time, to, spool, lambda: other_revision(Archive(to.file), tag.repository, tag.name, first)
    )
    return [
        Result(
            str(tag),
            each.digest,
            str(arch.platform) if arch else None,
            change,
            arch=arch.name if arch else None,
            place=tag.place,
        )
        for tag, arch, each in wanted
    ]


def _line(entry: Descriptor) -> str:
    """An entry of a manifest list as one line for comparisons and messages."""
    return f"{entry.digest} ({entry.media_type}, {entry.size} bytes, {entry.platform or 'no platform'})"


def _created(image: Image) -> int:
    """The time in an image's config (config.md, "created"), in seconds since the epoch; 0 if there is none."""
    return min(max(parse_time(parse_config(image.config.data).created) or 0, 0), LARGEST)
