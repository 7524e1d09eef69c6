"""The content of an image out of repositories and into them: blobs, then the manifest by its digest. No tag moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from build.errors import ImageError, PublishError, all_of
from build.oci.descriptor import Blob, Descriptor
from build.oci.image import Image
from build.oci.media_types import INDEXES, LARGEST_MANIFEST, MANIFESTS
from build.oci.parse import Manifest, parse_config, parse_manifest
from build.oci.platform import UNKNOWN
from build.oci.reference import Repository
from build.stores.store import Source, Store

# Bytes. To a distant registry, sending a blob of this size twice is quicker than mounting it.
_SENT_TWICE = 1 << 16


async def fetch(
    source: Source, repository: Repository, reference: str, spool: Path, *, attested: bool = False
) -> Image | None:
    """The image that a tag or digest refers to, or None; large layers are files in `spool`.

    If `attested`, that may be an index of one image and BuildKit's attestations for it. Raises PublishError if a part
    is missing, and ImageError if it is not an image.
    """
    manifest, index, entry = await source.manifest(repository, reference), None, None
    if manifest and attested and (entry := _attested(manifest)):
        index, manifest = manifest, await source.manifest(repository, entry.digest)
        if manifest is None:
            raise PublishError(f"{index.digest}: its image {entry.digest} is missing")
    if manifest is None:
        return None
    if manifest.media_type not in MANIFESTS:
        raise ImageError(f"found {manifest.media_type or 'no media type'}, expected an image manifest")
    parsed = parse_manifest(manifest.data, manifest.media_type)
    if not isinstance(parsed, Manifest):
        raise ImageError("found an index, expected an image manifest")
    if parsed.config.size > LARGEST_MANIFEST:
        raise ImageError(f"config: found {parsed.config.size} bytes, expected at most {LARGEST_MANIFEST}")
    config, *layers = await all_of(source.blob(repository, each, spool) for each in (parsed.config, *parsed.layers))
    image = Image(parse_config(config.data).platform, manifest, config, tuple(layers), index)
    if index and entry and entry != image.descriptor:
        raise ImageError(f"{index.digest}: found the entry {entry.fields()}, expected {image.descriptor.fields()}")
    return image


def _attested(manifest: Blob) -> Descriptor | None:
    """The only image of an index with BuildKit's attestations, or None."""
    parsed = parse_manifest(manifest.data, manifest.media_type) if manifest.media_type in INDEXES else ()
    entries = parsed if isinstance(parsed, tuple) else ()
    images = [each for each in entries if not (each.attests and each.platform == UNKNOWN)]
    return images[0] if len(images) == 1 < len(entries) else None


async def transfer(
    store: Store, image: Image, home: Repository, places: Sequence[Repository], sent: Callable[[int], None]
) -> None:
    """Store `image` in each of `places`; what is not in `home`, its own repository, is mounted from there.

    The layers of its base are mounted from the base's repository, if that is in the same registry. `sent` is called
    with the number of bytes after each part. Raises PublishError.
    """
    to_mount = {n for n, blob in enumerate(image.blobs) if not store.is_distant or blob.size > _SENT_TWICE}
    origin = image.origin
    of_base = range(origin.layers) if origin and origin.repository.host == home.host else ()
    to_mount -= {*of_base}

    async def send(place: Repository, number: int, mount_from: Repository | None = None) -> None:
        if origin and number in of_base and place != origin.repository:
            mount_from = origin.repository
        sent(await store.put_blob(place, image.blobs[number], mount_from))

    async def send_manifest(place: Repository) -> None:
        await store.put_manifest(place, image.manifest)
        sent(image.manifest.size)

    numbers = range(len(image.blobs))
    await all_of(send(place, n) for place in places for n in numbers if place == home or n not in to_mount)
    await all_of(send(place, n, home) for place in places if place != home for n in to_mount)
    await all_of(map(send_manifest, places))
