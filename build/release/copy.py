"""Copies releases: fetches and checks a published release, and packs it into an archive."""

from __future__ import annotations

import asyncio
import filecmp
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from build.config.release import Release
from build.engines.moves import other_revision
from build.engines.published import fetch_image
from build.errors import ImageError, PublishError, all_of
from build.oci.descriptor import Blob, Descriptor
from build.oci.image import Image, Index
from build.oci.media_types import FORMATS, OCI
from build.oci.parse import parse_config, parse_manifest
from build.oci.reference import Tag
from build.oci.tar import LARGEST
from build.report import Report, Result
from build.stores.archive.archive import Archive
from build.stores.archive.write import Entry, write_archive
from build.stores.store import Source
from build.system import replacing


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
        raise ImageError(
            "the manifest list has other images than the arches' tags\n"
            + "\n".join(lines)
            + "\n  publish it again with invoke push-manifest, or select its arches with --arch"
        )
    if any(each.manifest.media_type != form.manifest for each in images):
        raise ImageError(f"the manifest list has format {form.name}, its images have another")


def refuse_docker_format(index: Index, tag: Tag) -> None:
    """Raise ImageError for Docker media types, which a layout or an archive can't have."""
    if index.manifest.media_type != OCI.index:
        raise ImageError(
            f"{tag}: found format docker, expected oci: OCI layouts always use OCI media types"
            "\n  copy it to a registry, or build it with --format oci"
        )


@dataclass(frozen=True)
class Destination:
    """The archive to write. Only with `overwrite` it replaces a file with other content; `dry` writes nothing."""

    file: Path
    overwrite: bool
    dry: bool
    report: Report


async def pack(releases: Sequence[Release], indexes: Sequence[Index], to: Destination, spool: Path) -> list[Result]:
    """Write the releases to one archive; the same releases from any source give the same bytes.

    Raises PublishError if the file exists with other content and `overwrite` is false.
    """
    wanted: list[tuple[Tag, Image | Index]] = []
    for release, index in zip(releases, indexes, strict=True):
        wanted.append((release.list_tag(), index))
        wanted += zip(map(release.arch_tag, release.arches), index.images, strict=True)
    entries = [Entry(each, *[f"{tag.repository.name}:{tag.name}"] * 2) for tag, each in wanted]
    time = max(_created(image) for index in indexes for image in index.images)
    packed = spool / "packed.tar"
    size = await asyncio.to_thread(_pack, entries, time, packed)
    change = await asyncio.to_thread(_change, to.file, packed)
    if change == "moved" and not to.overwrite:
        tag, first = releases[0].list_tag(), indexes[0].images[0]
        notes = await other_revision(Archive(to.file), tag.repository, tag.name, first)
        raise PublishError(
            f"{to.file}: found a file that is not this release, expected the same or none"
            + "".join(f"\n  {note}" for note in notes)
            + "\n  use another file, or replace this one with --overwrite"
        )
    if change != "kept" and not to.dry:
        await asyncio.to_thread(_move, packed, to.file)
    outcome = "unchanged" if change == "kept" else f"{'would be ' if to.dry else ''}{change}"
    to.report(f"{releases[0].registry}: {outcome}, {size} bytes")
    return [
        Result(str(tag), each.digest, str(each.platform) if isinstance(each, Image) else None, change)
        for tag, each in wanted
    ]


def _pack(entries: Sequence[Entry], time: int, packed: Path) -> int:
    """Write an archive to the new file `packed`; return its size in bytes."""
    with replacing(packed) as temporary, temporary.open("wb") as output:
        write_archive(output, entries, time)
    return packed.stat().st_size


def _move(packed: Path, file: Path) -> None:
    with replacing(file) as temporary:
        shutil.move(packed, temporary)


def _change(file: Path, packed: Path) -> str:
    """What writing `file` changes: "pushed" if there is none, "moved" if it differs, "kept" if it is the same."""
    if not file.exists() and not file.is_symlink():
        return "pushed"
    if not file.is_file():
        raise PublishError(f"{file}: found something that is not a file, expected an archive or nothing")
    return "kept" if filecmp.cmp(file, packed, shallow=False) else "moved"


def _line(entry: Descriptor) -> str:
    """An entry of a manifest list as one line for comparisons and messages."""
    return f"{entry.digest} ({entry.media_type}, {entry.size} bytes, {entry.platform or 'no platform'})"


def _created(image: Image) -> int:
    """The time in an image's config (config.md, "created"), in seconds since the epoch; 0 if there is none."""
    try:
        time = datetime.fromisoformat(parse_config(image.config.data).created)
    except ValueError:
        return 0
    return min(max(int(time.replace(tzinfo=time.tzinfo or UTC).timestamp()), 0), LARGEST)
