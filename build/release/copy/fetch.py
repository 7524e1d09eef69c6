"""Fetches a published release, and what refers to it, and proves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from build.config.arches import Arch
from build.config.release import Release
from build.engines.published import fetch_image
from build.errors import ImageError, PublishError, all_of
from build.oci.descriptor import Blob, Descriptor
from build.oci.image import Image, Index
from build.oci.media_types import FORMATS, OCI
from build.oci.parse import parse_manifest
from build.oci.reference import Repository, Tag
from build.release.reference.referrers import Referring, referring
from build.stores.store import Source

# What refers to a release: in the repository of its list (None), and in those of its arches if these are others.
Attached = Mapping[tuple[Repository, Arch | None], Referring]


async def fetch_release(source: Source, release: Release, spool: Path, *, on_disk: bool) -> Index:
    """The published manifest list of a release, unchanged, with the images of the arches' tags.

    Large layers are files in `spool`. Raises PublishError if a part is missing, ImageError or ElfError if the release
    is inconsistent, or can't be stored `on_disk`, in a layout or an archive.
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
    if on_disk:
        _refuse_docker_format(manifest, tag)
    return Index(manifest, tuple(images))


async def attached_to(source: Source, release: Release, index: Index, spool: Path) -> Attached:
    """What refers to a release; raise PublishError or ImageError if a part is missing, or is not as it should be."""
    home = release.list_tag().repository
    wanted: dict[tuple[Repository, Arch | None], list[str]] = {
        (home, None): [index.digest, *(each.digest for each in index.images)]
    }
    for arch, image in zip(release.arches, index.images, strict=True):
        if (own := release.arch_tag(arch).repository) != home:
            wanted[own, arch] = [image.digest]
    found = await all_of(referring(source, place, digests, spool) for (place, _), digests in wanted.items())
    return dict(zip(wanted, found, strict=True))


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


def _refuse_docker_format(manifest: Blob, tag: Tag) -> None:
    """Raise ImageError for Docker media types, which a layout or an archive can't have."""
    if manifest.media_type != OCI.index:
        raise ImageError(
            f"{tag}: found format docker, expected oci: OCI layouts always use OCI media types"
            "\n  copy it to a registry, or build it with --format oci"
        )


def _line(entry: Descriptor) -> str:
    """An entry of a manifest list as one line for comparisons and messages."""
    return f"{entry.digest} ({entry.media_type}, {entry.size} bytes, {entry.platform or 'no platform'})"
