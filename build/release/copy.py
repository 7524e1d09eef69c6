"""A release as it is somewhere: fetched and proved, to be published elsewhere or packed into one file."""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from build.config.release import Release
from build.errors import ImageError, PublishError, all_of
from build.oci.descriptor import Blob
from build.oci.image import Image, Index
from build.oci.media_types import FORMATS, OCI
from build.oci.reference import Tag
from build.oci.tar import LARGEST
from build.release.prove import fetch_image
from build.report import Report, Result
from build.stores.archive.write import Entry, write_archive
from build.stores.store import Source
from build.system import replacing


async def fetch_release(source: Source, release: Release, spool: Path) -> Index:
    """The manifest list of a release, byte for byte, with the images that it and the arches' tags name.

    Large layers are files in `spool`. Raises PublishError if a part is missing, ImageError or ElfError if the release
    contradicts itself.
    """
    tag = release.list_tag()
    manifest = await source.manifest(tag.repository, tag.name)
    if manifest is None:
        raise PublishError(
            f"{tag}: no such manifest list\n  push it first (invoke push-manifest), or name another --tag"
        )
    images = await all_of(fetch_image(source, release.arch_tag(arch), arch, spool) for arch in release.arches)
    try:
        _prove_list(manifest, images)
    except ImageError as error:
        raise ImageError(f"{tag}: {error}") from None
    return Index(manifest, tuple(images))


def _prove_list(manifest: Blob, images: Sequence[Image]) -> None:
    """Raise ImageError unless `manifest` is a list of `images` and nothing else (image-spec image-index.md)."""
    form = next((form for form in FORMATS.values() if form.index == manifest.media_type), None)
    if form is None:
        raise ImageError(f"found {manifest.media_type or 'no media type'}, expected a manifest list's")
    try:
        parsed = json.loads(manifest.data)
        found = sorted(map(_line, parsed["manifests"]))
        kind = parsed.get("mediaType", form.index)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ImageError(f"its manifest list is malformed: {error!r}") from None
    if kind != form.index:
        raise ImageError(f"found media type {kind}, expected {form.index}")
    expected = sorted(_line(each.descriptor.fields()) for each in images)
    if found != expected:
        lines = [f"  found {line}" for line in found if found.count(line) != expected.count(line)]
        lines += [f"  expected {line}" for line in expected if line not in found]
        raise ImageError(
            "the manifest list names other images than the arches' tags\n"
            + "\n".join(lines)
            + "\n  create it again with invoke push-manifest, or name its arches with --arch"
        )
    if any(each.manifest.media_type != form.manifest for each in images):
        raise ImageError(f"the manifest list is of format {form.name}, its images are not")


def refuse_docker_format(index: Index, tag: Tag) -> None:
    """Raise ImageError unless readers of an image layout support the media types of the release."""
    if index.manifest.media_type != OCI.index:
        raise ImageError(
            f"{tag}: found format docker, expected oci: OCI layouts always use OCI media types"
            "\n  copy it to a registry, or build it with --format oci"
        )


@dataclass(frozen=True)
class Destination:
    """The archive to write; an existing file with other content is replaced only if `overwrite`, and never if `dry`."""

    file: Path
    overwrite: bool
    dry: bool
    report: Report


def pack(releases: Sequence[Release], indexes: Sequence[Index], to: Destination, spool: Path) -> list[Result]:
    """Write the releases into one archive; the same ones give the same bytes, wherever they come from.

    Raises PublishError if there is a file with other content, and it is not to be overwritten.
    """
    wanted: list[tuple[Tag, Image | Index]] = []
    for release, index in zip(releases, indexes, strict=True):
        wanted.append((release.list_tag(), index))
        wanted += zip(map(release.arch_tag, release.arches), index.images, strict=True)
    entries = [Entry(each, *[f"{tag.repository.name}:{tag.name}"] * 2) for tag, each in wanted]
    time = max(_created(image) for index in indexes for image in index.images)
    packed = spool / "packed.tar"
    with packed.open("wb") as output:
        write_archive(output, entries, time)
    change = _change(to.file, packed)
    size = packed.stat().st_size
    if change == "moved" and not to.overwrite:
        raise PublishError(
            f"{to.file}: found a file that is not this release, expected the same or none"
            "\n  name another file, or replace this one with --overwrite"
        )
    if change != "kept" and not to.dry:
        with replacing(to.file) as temporary:
            shutil.move(packed, temporary)
    what = "unchanged" if change == "kept" else f"{'would be ' if to.dry else ''}{change}"
    to.report(f"{releases[0].registry}: {what}, {size} bytes")
    return [
        Result(str(tag), each.digest, str(each.platform) if isinstance(each, Image) else None, change)
        for tag, each in wanted
    ]


def _change(file: Path, packed: Path) -> str:
    """What writing it means: "pushed" into nothing, "moved" over another file, or "kept" where the same is there."""
    if not file.exists() and not file.is_symlink():
        return "pushed"
    if not file.is_file():
        raise PublishError(f"{file}: found something that is not a file, expected an archive or nothing")
    return "kept" if filecmp.cmp(file, packed, shallow=False) else "moved"


def _line(entry: dict[str, object]) -> str:
    """A list's entry as one line, which identifies the image."""
    fields = entry["platform"]
    if not isinstance(fields, dict):
        raise TypeError("platform")
    platform = ", ".join(f"{key} {fields[key]}" for key in sorted(fields))
    return f"{entry['digest']} ({entry['mediaType']}, {entry['size']} bytes, {platform})"


def _created(image: Image) -> int:
    """When an image was created (config.md, "created"), in seconds since the epoch; 0 if it does not say."""
    try:
        time = datetime.fromisoformat(json.loads(image.config.data)["created"])
    except (ValueError, KeyError, TypeError):
        return 0
    return min(max(int(time.replace(tzinfo=time.tzinfo or UTC).timestamp()), 0), LARGEST)
