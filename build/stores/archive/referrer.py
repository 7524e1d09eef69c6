"""Referrers in an archive: in an index under a tag, as in registries without the Referrers API."""

from __future__ import annotations

from build.errors import ImageError
from build.oci.reference import Repository
from build.oci.referrer import Referrer, parse_referrers, referrers_tag
from build.stores.archive.manifest import read_manifest
from build.stores.archive.members import Members, damaged


def referrers(members: Members, repository: Repository, digest: str) -> tuple[Referrer, ...]:
    """The manifests that refer to `digest`; raise PublishError if their index can't be read."""
    tag = referrers_tag(digest)
    index = read_manifest(members, repository, tag)
    try:
        return parse_referrers(index.data) if index else ()
    except ImageError as error:
        raise damaged(members.file, f"{repository.name}:{tag}: {error}") from None
