"""The content of an image into repositories of a store: blobs, then the manifest by its digest. No tag moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from build.errors import all_of
from build.oci.image import Image
from build.oci.reference import Repository
from build.stores.store import Store

# Bytes. To a distant registry, sending a blob of this size twice is quicker than mounting it.
_SENT_TWICE = 1 << 16


async def transfer(
    store: Store, image: Image, home: Repository, places: Sequence[Repository], sent: Callable[[int], None]
) -> None:
    """Store `image` in each of `places`; what is not in `home`, its own repository, is mounted from there.

    `sent` is called with the number of bytes after each part. Raises PublishError.
    """
    to_mount = {n for n, blob in enumerate(image.blobs) if not store.is_distant or blob.size > _SENT_TWICE}

    async def send(place: Repository, number: int, mount_from: Repository | None = None) -> None:
        sent(await store.put_blob(place, image.blobs[number], mount_from))

    async def send_manifest(place: Repository) -> None:
        await store.put_manifest(place, image.manifest)
        sent(image.manifest.size)

    numbers = range(len(image.blobs))
    await all_of(send(place, n) for place in places for n in numbers if place == home or n not in to_mount)
    await all_of(send(place, n, home) for place in places if place != home for n in to_mount)
    await all_of(map(send_manifest, places))
