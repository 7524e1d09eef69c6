"""Referrers in a layout: in an index under a tag, as in registries without the Referrers API, merged under its lock.

Others, such as oras, have each as an entry of index.json instead: those are read, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from build.errors import ImageError, PublishError
from build.oci.descriptor import Blob
from build.oci.image import Content
from build.oci.referrer import Referrer, merged, parse_referrers, referrer_of, referrers_tag, subject_of
from build.stores.image_layout import is_artifact, manifest_of, may_refer
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
    return tuple({each.digest: each for each in (*_entries(folder, digest), *listed)}.values())


def _entries(folder: Path, digest: str) -> Iterator[Referrer]:
    """Those that index.json has as entries of their own."""
    for entry in filter(may_refer, read_index(folder)["manifests"]):
        try:
            found = _subject(folder, entry["digest"], str(entry.get("mediaType") or ""))
        except (PublishError, ImageError) as error:
            if is_artifact(entry):  # what is no artifact is as likely an image, and whoever needs that reads it
                raise PublishError(f"oci:{folder}@{entry['digest']}: {error}") from None
        else:
            if found and found[0] == digest:
                yield found[1]


@lru_cache(maxsize=10_000)
def _subject(folder: Path, digest: str, media_type: str) -> tuple[str, Referrer] | None:
    """The subject of a manifest, and its entry in an index; None if it has none. Its digest proves that it stays so."""
    manifest = manifest_of({"mediaType": media_type}, read(folder, digest))
    subject = subject_of(manifest.data)
    return (subject, referrer_of(manifest)) if subject else None


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
