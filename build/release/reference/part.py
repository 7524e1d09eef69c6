"""Takes a part of a list, by platform, as a new list (image-spec image-index.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from build.errors import ImageError
from build.oci.descriptor import Blob
from build.oci.image import dump
from build.oci.media_types import INDEXES
from build.oci.parse import parse_manifest
from build.oci.platform import UNKNOWN, Platform
from build.oci.reference import Reference
from build.oci.strict import MANIFEST, parse
from build.release.reference.fetch import Kept

# As in `check`.
_DEEPEST, _MOST_LISTS = 4, 1000


@dataclass(frozen=True)
class _Selection:
    """The platforms of nodes to take images for; those that there are, and the lists that were read so far."""

    wanted: Collection[Platform]
    there: dict[Platform, None] = field(default_factory=dict)
    lists: set[str] = field(default_factory=set)


async def part(kept: Kept, reference: Reference, root: Blob, platforms: Sequence[Platform]) -> Blob:
    """The list `root` with only the images for `platforms`, and BuildKit's attestations for these.

    Media type, annotations and the order of entries stay; a list of one stays a list, and nested lists are reduced in
    the same way. `kept` has the new lists. The same list and platforms give the same bytes; if nothing is left out, it
    is `root` itself. Raises ImageError if `root` is not a list, or if there is no image for one of the platforms.
    """
    if root.media_type not in INDEXES:
        raise ImageError(f"{reference}: found {root.media_type}, expected a list: --platform takes a part of one")
    selection = _Selection(platforms)
    try:
        new = await _part(kept, reference, root, selection, 0)
    except ImageError as error:
        raise ImageError(f"{reference}: {error}") from None
    missing = [str(each) for each in platforms if not any(there.runs_on(each) for there in selection.there)]
    if missing or new is None:
        names = ", ".join(map(str, selection.there)) or "none"
        raise ImageError(f"{reference}: found no image for {', '.join(missing)}\n  expected one of: {names}")
    return new


def attested(entry: Mapping[str, Any]) -> str:
    """The digest of the image that an entry has attestations for, as BuildKit says; empty if it has none."""
    return str((entry.get("annotations") or {}).get("vnd.docker.reference.digest") or "")


async def _part(kept: Kept, reference: Reference, manifest: Blob, selection: _Selection, depth: int) -> Blob | None:
    """The part of a list; None if there is nothing in it."""
    selection.lists.add(manifest.digest)
    if depth > _DEEPEST or len(selection.lists) > _MOST_LISTS:
        raise ImageError(f"found more than {_DEEPEST} nested lists, or {_MOST_LISTS} in all")
    members, entries = parse(manifest.data, MANIFEST), parse_manifest(manifest.data, manifest.media_type)
    raw: Sequence[Mapping[str, Any]] = members.get("manifests", ())
    taken: dict[int, Mapping[str, Any]] = {}
    for at, entry in enumerate(entries if isinstance(entries, tuple) else ()):
        if entry.platform and not (entry.attests or entry.platform == UNKNOWN):
            selection.there[entry.platform] = None
            if any(entry.platform.runs_on(each) for each in selection.wanted):
                taken[at] = raw[at]
        elif entry.media_type in INDEXES and not entry.platform:
            inner = await kept.manifest(reference.repository, entry.digest)
            if inner is None:
                raise ImageError(f"its list {entry.digest} is missing")
            inner = Blob(entry.media_type, inner.digest, inner.size, inner.source)
            if reduced := await _part(kept, reference, inner, selection, depth + 1):
                same = reduced.digest == entry.digest
                plain = {name: value for name, value in raw[at].items() if same or name != "data"}
                taken[at] = {**plain, "digest": reduced.digest, "size": reduced.size}
    digests = {each["digest"] for each in taken.values()}
    for at, each in enumerate(raw):
        if attested(each) in digests:
            taken.setdefault(at, each)
    if not taken:
        return None
    chosen = [taken[at] for at in sorted(taken)]
    if chosen == list(raw):
        return manifest
    new = Blob.of(manifest.media_type, dump({**members, "manifests": chosen}))
    kept.add(reference.repository, new)
    return new
