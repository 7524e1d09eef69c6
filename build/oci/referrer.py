"""Referrers: manifests with a `subject`, and how they are found (distribution-spec, "Listing Referrers").

A registry without the Referrers API has them in an index under a tag, the Referrers Tag Schema. Layouts and archives
have that, too. cosign's tags (`.sig`, `.att`, `.sbom`) are of an older convention, and have no `subject`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from build.errors import ImageError
from build.oci.descriptor import Blob, Descriptor
from build.oci.image import dump
from build.oci.media_types import INDEXES, OCI
from build.oci.parse import check_version, parse_annotations, parse_descriptor
from build.oci.strict import MANIFEST, parse, shown

# What cosign's tags for a digest end with.
COSIGN = (".sig", ".att", ".sbom")
# A tag of either convention, and the digest that it is for.
_TAG = re.compile(r"sha256-([0-9a-f]{64})(\.(?:sig|att|sbom))?")
# Descriptors of an index of referrers.
_MOST = 10_000


@dataclass(frozen=True)
class Referrer:
    """The entry of a manifest in an index of referrers; `members` is the JSON object."""

    descriptor: Descriptor
    artifact_type: str
    annotations: Mapping[str, str] = field(compare=False)
    members: Mapping[str, Any] = field(compare=False, repr=False)

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return self.descriptor.digest


def referrers_tag(digest: str, end: str = "") -> str:
    """The tag of what refers to `digest`: the index of referrers or, with an `end` in COSIGN, cosign's."""
    return digest.replace(":", "-") + end


def is_referrers_tag(tag: str) -> bool:
    """Whether a tag is for what refers to a digest, by either convention."""
    return bool(_TAG.fullmatch(tag))


def tagged_subject(tag: str) -> str:
    """The digest that such a tag is for; empty for any other tag."""
    found = _TAG.fullmatch(tag)
    return f"sha256:{found[1]}" if found else ""


def referrer_of(manifest: Blob) -> Referrer:
    """The entry of a manifest in an index of referrers; raise ImageError if it has no `subject`.

    Type and annotations are those of the manifest (distribution-spec, "Listing Referrers").
    """
    members = parse(manifest.data, MANIFEST)
    if not isinstance(members.get("subject"), dict):
        raise ImageError(f"{manifest.digest}: found no subject, expected one")
    kind, config = members.get("artifactType"), members.get("config")
    if not kind and isinstance(config, dict):
        kind = config.get("mediaType")
    annotations = parse_annotations(manifest.data)
    entry: dict[str, Any] = {**manifest.descriptor().fields(), "artifactType": str(kind or "")}
    if not kind:
        del entry["artifactType"]
    return _referrer(entry | ({"annotations": dict(annotations)} if annotations else {}), "referrer")


def subject_of(manifest: bytes) -> str:
    """The digest of the `subject` of a manifest, empty if it has none; raise ImageError if it is malformed."""
    subject = parse(manifest, MANIFEST).get("subject")
    return parse_descriptor(subject, "subject").digest if subject is not None else ""


def parse_referrers(data: bytes) -> tuple[Referrer, ...]:
    """The entries of an index of referrers; raise ImageError if it is something else."""
    members = parse(data, MANIFEST)
    check_version(members)
    if members.get("mediaType", OCI.index) not in INDEXES:
        raise ImageError(f"media type: found {shown(members.get('mediaType'))}, expected {OCI.index!r}")
    entries = members.get("manifests")
    entries = [] if entries is None else entries
    if not isinstance(entries, list) or len(entries) > _MOST:
        raise ImageError(f"manifests: found {shown(entries)}, expected an array of at most {_MOST}")
    return tuple(_referrer(each, f"manifests[{at}]") for at, each in enumerate(entries))


def merged(current: Blob | None, new: Iterable[Referrer]) -> Blob:
    """The index of referrers `current` with `new` entries; those that it has stay as they are, in their order.

    Raises ImageError if `current` is no such index.
    """
    members: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI.index, "manifests": []}
    known: Sequence[Referrer] = ()
    if current:
        known = parse_referrers(current.data)
        members = {**parse(current.data, MANIFEST), "manifests": [each.members for each in known]}
    digests = {each.digest for each in known}
    added = {each.digest: each.members for each in new if each.digest not in digests}
    if current and not added:
        return current
    return Blob.of(OCI.index, dump({**members, "manifests": [*members["manifests"], *added.values()]}))


def _referrer(entry: object, where: str) -> Referrer:
    descriptor = parse_descriptor(entry, where)
    members: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
    kind, annotations = members.get("artifactType") or "", members.get("annotations") or {}
    if not isinstance(kind, str) or not all(isinstance(each, str) for each in annotations.values()):
        raise ImageError(f"{where}: found {shown(entry)}, expected strings for its type and annotations")
    return Referrer(descriptor, kind, annotations, members)
