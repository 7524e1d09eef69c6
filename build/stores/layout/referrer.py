"""Referrers in a layout: in an index under a tag, as in registries without the Referrers API, merged under its lock.

Others, such as oras, have each as an entry of index.json instead: those are read, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

from build.errors import ImageError, PublishError
from build.oci.descriptor import Blob
from build.oci.image import Content
from build.oci.referrer import Referrer, merged, parse_referrers, referrer_of, referrers_tag
from build.stores.image_layout import Entry, Referring, manifest_of, referrers_in, referring
from build.stores.layout.blob import read, write_blob
from build.stores.layout.index import locked, read_index
from build.stores.layout.manifest import read_manifest
from build.stores.layout.tag import put_entry


def referrers(folder: Path, digest: str) -> tuple[Referrer, ...]:
    """The manifests that refer to `digest`; raise PublishError if their index, or one that may be, can't be read."""
    index = read_manifest(folder, referrers_tag(digest))
    try:
        listed = parse_referrers(index.data) if index else ()
    except ImageError as error:
        raise _not_referrers(folder, digest, error) from None
    try:
        entries = [*referrers_in(read_index(folder)["manifests"], digest, partial(_referring, folder))]
    except ImageError as error:
        raise PublishError(f"oci:{folder}@{error}") from None
    return tuple({each.digest: each for each in (*entries, *listed)}.values())


def _referring(folder: Path, entry: Entry) -> Referring:
    return _by_digest(folder, entry["digest"], str(entry.get("mediaType") or ""))


@lru_cache(maxsize=10_000)
def _by_digest(folder: Path, digest: str, media_type: str) -> Referring:
    """What a manifest refers to; its digest proves that it stays so."""
    return referring(manifest_of({"mediaType": media_type}, read(folder, digest)))


def put_referrers(folder: Path, subject: str, manifests: Sequence[Blob]) -> None:
    """Store manifests that refer to `subject`, and add them to their index."""
    for each in manifests:
        write_blob(folder, each)
    with locked(folder):
        tag = referrers_tag(subject)
        current = read_manifest(folder, tag)
        try:
            index = merged(current, map(referrer_of, manifests))
        except ImageError as error:
            raise _not_referrers(folder, subject, error) from None
        if current is None or index.digest != current.digest:
            put_entry(folder, tag, Content(index, (), ()))


def _not_referrers(folder: Path, digest: str, error: ImageError) -> PublishError:
    return PublishError(
        f"oci:{folder}:{referrers_tag(digest)}: {error}\n  a tag of this name is for an index of referrers"
    )
