"""Referrers in an archive: in an index under a tag, or entries of index.json, as in a layout."""

from __future__ import annotations

from collections.abc import Iterator

from build.errors import ImageError, PublishError
from build.oci.reference import Repository
from build.oci.referrer import Referrer, parse_referrers, referrer_of, referrers_tag, subject_of
from build.stores.archive.blob import read
from build.stores.archive.manifest import read_manifest
from build.stores.archive.members import Members, damaged
from build.stores.image_layout import is_artifact, manifest_of, may_refer


def referrers(members: Members, repository: Repository, digest: str) -> tuple[Referrer, ...]:
    """The manifests that refer to `digest`; raise PublishError if their index, or one that may be, can't be read."""
    tag = referrers_tag(digest)
    index = read_manifest(members, repository, tag)
    try:
        listed = parse_referrers(index.data) if index else ()
    except ImageError as error:
        raise damaged(members.file, f"{repository.name}:{tag}: {error}") from None
    return tuple({each.digest: each for each in (*_entries(members, digest), *listed)}.values())


def _entries(members: Members, digest: str) -> Iterator[Referrer]:
    """Those that index.json has as entries of their own."""
    for entry in filter(may_refer, members.index):
        try:
            manifest = manifest_of(entry, read(members, entry["digest"]))
            if subject_of(manifest.data) == digest:
                yield referrer_of(manifest)
        except (PublishError, ImageError) as error:
            if is_artifact(entry):  # what is no artifact is as likely an image, and whoever needs that reads it
                raise damaged(members.file, f"{entry['digest']}: {error}") from None
