"""Referrers in an archive: in an index under a tag, or entries of index.json, as in a layout."""

from __future__ import annotations

from functools import partial

from build.errors import ImageError
from build.oci.reference import Repository
from build.oci.referrer import Referrer, parse_referrers, referrers_tag
from build.stores.archive.blob import read
from build.stores.archive.manifest import read_manifest
from build.stores.archive.members import Members, damaged
from build.stores.image_layout import Entry, Referring, manifest_of, referrers_in, referring


def referrers(members: Members, repository: Repository, digest: str) -> tuple[Referrer, ...]:
    """The manifests that refer to `digest`; raise PublishError if their index, or one that may be, can't be read."""
    tag = referrers_tag(digest)
    index = read_manifest(members, repository, tag)
    try:
        listed = parse_referrers(index.data) if index else ()
    except ImageError as error:
        raise damaged(members.file, f"{repository.name}:{tag}: {error}") from None
    try:
        entries = [*referrers_in(members.index, digest, partial(_referring, members))]
    except ImageError as error:
        raise damaged(members.file, str(error)) from None
    return tuple({each.digest: each for each in (*entries, *listed)}.values())


def _referring(members: Members, entry: Entry) -> Referring:
    return referring(manifest_of(entry, read(members, entry["digest"])))
