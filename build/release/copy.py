"""A release as it is somewhere: fetched and proved, to be published elsewhere or packed into one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from build.errors import ImageError, PublishError
from build.system import write_whole
from build.image.layer import LARGEST
from build.oci.descriptor import Blob
from build.oci.image import Image, Index
from build.oci.media_types import FORMATS, OCI
from build.release.crew import results
from build.release.release import Made, Release
from build.release.senders import Senders
from build.stores import archive
from build.stores.store import Source, Tag


def fetched(source: Source, origin: Release, senders: Senders) -> Index:
    """The manifest list of a release, byte for byte, with the images that it and the arches' tags name.

    Raises PublishError if a part of it is missing, ImageError or ElfError if it contradicts itself.
    """
    from build.release.published import image_of

    tag = origin.list_tag()
    manifest = senders.run(source.manifest(tag.repository, tag.name))
    if manifest is None:
        raise PublishError(
            f"{tag}: no such manifest list\n  push it first (invoke push-manifest), or name another --tag"
        )
    images = results([senders.begin(image_of(source, origin.arch_tag(arch), arch)) for arch in origin.arches])
    try:
        _prove_list(manifest, images)
    except ImageError as error:
        raise ImageError(f"{tag}: {error}") from None
    return Index(manifest, tuple(images))


def _prove_list(manifest: Blob, images: Sequence[Image]) -> None:
    """Raise ImageError unless `manifest` is a list that names `images` and nothing else (image-spec image-index.md)."""
    form = next((form for form in FORMATS.values() if form.index == manifest.media_type), None)
    if form is None:
        raise ImageError(f"found {manifest.media_type or 'no media type'}, expected a manifest list's")
    try:
        claims = json.loads(manifest.data)
        found = sorted(map(_line, claims["manifests"]))
        kind = claims.get("mediaType", form.index)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ImageError(f"its manifest list is not well-formed: {error!r}") from None
    if kind != form.index:
        raise ImageError(f"found media type {kind}, expected {form.index}")
    expected = sorted(_line(each.descriptor.fields()) for each in images)
    if found != expected:
        lines = [f"  found {line}" for line in found if found.count(line) != expected.count(line)]
        lines += [f"  expected {line}" for line in expected if line not in found]
        raise ImageError(
            "the manifest list names other images than the arches' tags\n"
            + "\n".join(lines)
            + "\n  make it anew with invoke push-manifest, or name its arches with --arch"
        )
    if any(each.manifest.media_type != form.manifest for each in images):
        raise ImageError(f"the manifest list is of format {form.name}, its images are not")


def refuse_docker_format(listed: Index, tag: Tag) -> None:
    """Raise ImageError unless readers of an image layout know the media types of the release."""
    if listed.manifest.media_type != OCI.index:
        raise ImageError(
            f"{tag}: found format docker, expected oci: readers of a layout know no other"
            "\n  copy it to a registry, or build it with --format oci"
        )


def pack(targets: Sequence[Release], listed: Sequence[Index], file: Path) -> list[Made]:
    """Write the releases into `file`, an archive; the same ones give the same bytes, wherever they come from.

    Raises PublishError if there is a file that holds anything else, and they are not to overwrite it.
    """
    target = targets[0]  # to be asked for what all have in common
    wanted: list[tuple[Tag, Image | Index]] = []
    for each, index in zip(targets, listed, strict=True):
        wanted.append((each.list_tag(), index))
        wanted += zip(map(each.arch_tag, each.arches), index.images, strict=True)
    entries = [archive.Entry(each, *[f"{tag.repository.name}:{tag.name}"] * 2) for tag, each in wanted]
    packed = archive.write(entries, max(_created(image) for index in listed for image in index.images))
    change = _change(file, packed)
    if change == "moved" and not target.order.overwrite:
        raise PublishError(
            f"{file}: found a file that is not this release, expected the same or none"
            "\n  name another file, or replace this one with --overwrite"
        )
    if change != "kept" and not target.dry:
        write_whole(file, packed)
    target.report(f"{target.registry}, {len(packed)} bytes, {'would be' if target.dry else 'is'} {change}")
    return [
        Made(str(tag), each.digest, str(each.platform) if isinstance(each, Image) else None, change)
        for tag, each in wanted
    ]


def _change(file: Path, packed: bytes) -> str:
    """What writing it is: "pushed" into nothing, "moved" over another file, or "kept" where the same is there."""
    if not file.exists() and not file.is_symlink():
        return "pushed"
    if not file.is_file():
        raise PublishError(f"{file}: found something that is not a file, expected an archive or nothing")
    return "moved" if file.stat().st_size != len(packed) or file.read_bytes() != packed else "kept"


def _line(entry: dict[str, object]) -> str:
    """A list's entry as one line: what tells an image from every other."""
    fields = entry["platform"]
    if not isinstance(fields, dict):
        raise TypeError("platform")
    platform = ", ".join(f"{key} {fields[key]}" for key in sorted(fields))
    return f"{entry['digest']} ({entry['mediaType']}, {entry['size']} bytes, {platform})"


def _created(image: Image) -> int:
    """When an image says it was made (config.md, "created"), in seconds since the epoch; 0 if it says no such time."""
    try:
        time = datetime.fromisoformat(json.loads(image.read().config.data)["created"])
    except (ValueError, KeyError, TypeError):
        return 0
    return min(max(int(time.replace(tzinfo=time.tzinfo or UTC).timestamp()), 0), LARGEST)
