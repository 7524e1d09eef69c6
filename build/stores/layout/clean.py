"""Removes what `put_tag` made from a layout, and nothing that others may need.

What others put there may be of any kind: artifacts, schema 1, something with a `subject`. So whatever looks like a
digest in it is needed, and where one of their manifests can't be read, no blob is removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build.errors import ImageError, PublishError
from build.oci.descriptor import DIGEST
from build.oci.image import dump
from build.oci.strict import FREE, parse
from build.report import Event, Report, silent
from build.stores.image_layout import blob_path
from build.stores.layout.blob import read
from build.stores.layout.index import LOCK, locked, read_index
from build.stores.layout.tag import is_ours, reachable, replaced, without_ours
from build.system import leftovers, write_whole

# Members of manifests that `put_tag` never writes.
_FOREIGN = {"artifactType", "blobs", "fsLayers", "subject"}


@dataclass(frozen=True)
class _Plan:
    """The files to remove, the index to write instead of the present one, and why something is left."""

    gone: tuple[Path, ...] = ()
    index: Mapping[str, Any] | None = None
    left: str = ""


def clean_layout(folder: Path, dry: bool, report: Report = silent) -> list[Path]:
    """Remove our tags, and the blobs that nothing else needs; return the folder if anything is removed.

    A note in `report` says what is left, and why. Raises PublishError if index.json is malformed, or if another run
    holds the lock of the layout for 30 s.
    """
    plan = _plan(folder)
    if plan != _Plan() and not dry:
        with locked(folder):
            plan = _plan(folder)
            _carry_out(folder, plan)
    if plan.left:
        report(Event(f"note: oci:{folder}: left: {plan.left}", note=True))
    return [folder] if plan.gone or plan.index else []


def _plan(folder: Path) -> _Plan:
    index = read_index(folder)
    ours = [each["digest"] for each in index["manifests"] if is_ours(each)]
    others = [each for each in index["manifests"] if not is_ours(each)]
    has_index = (folder / "index.json").exists()
    # Without an index, a run was killed before its first tag.
    if has_index and not ours:
        return _Plan()
    blobs = folder / "blobs" / "sha256"
    stored = {digest: path for path in blobs.glob("*") if DIGEST.fullmatch(digest := f"sha256:{path.name}")}
    made = {each for digest in (*ours, *replaced(index)) for each in reachable(folder, digest)}
    roots = [each["digest"] for each in others]
    roots += [each for each in stored if each not in made and _is_foreign(folder, each)]
    gone, left = _removable(folder, stored, made, roots)
    frame = [folder / "index.json", folder / "oci-layout"]
    rest = [path for each in frame for path in leftovers(each)]
    rest += [each for each in blobs.glob(".*.tmp") if re.fullmatch(r"\.[0-9a-f]{64}\.[0-9a-f]+\.tmp", each.name)]
    rest += [path for path in (folder / LOCK, *(() if roots else frame)) if path.exists()]
    return _Plan((*gone, *rest), without_ours(index) if roots and has_index else None, left)


def _removable(
    folder: Path, stored: Mapping[str, Path], made: Iterable[str], roots: Iterable[str]
) -> tuple[list[Path], str]:
    """The blobs to remove, and why others are left; `roots` are manifests of others, `made` is what tags led to."""
    blobs = folder / "blobs" / "sha256"
    if stored and (blobs.is_symlink() or blobs.parent.is_symlink()):
        return [], "the blobs, because their folder is a link, and other layouts may use it"
    if not roots:
        return list(stored.values()), ""
    needed, unread = _needed(folder, roots)
    if unread:
        return [], f"the blobs, because {unread[0]} is not readable here, and may need any of them"
    gone = [path for digest, path in stored.items() if digest in made and digest not in needed]
    unknown = stored.keys() - needed - set(made)  # of killed runs, or what others are about to tag
    return gone, f"blobs that no tag leads to: {len(unknown)}" if unknown else ""


def _needed(folder: Path, roots: Iterable[str]) -> tuple[set[str], list[str]]:
    """All digests that manifests lead to, and the manifests among them that can't be read.

    A subject need not be there (image-spec manifest.md, "subject"); the manifests of an index have to be.
    """
    seen, pending, manifests, unread = set(roots), list(roots), set(roots), set[str]()
    while pending:
        digest = pending.pop()
        try:
            members = parse(read(folder, digest), FREE)
            manifests.update(str(each["digest"]) for each in members.get("manifests") or ())
            subjects = DIGEST.findall(json.dumps(members.get("subject")))
            manifests.update(each for each in subjects if (folder / blob_path(each)).exists())
            new = {*DIGEST.findall(json.dumps(members)), *manifests} - seen
        except (PublishError, ImageError, TypeError, LookupError, AttributeError):
            unread.add(digest)
            continue
        seen |= new
        pending += new
    return seen, sorted(manifests & unread)


def _is_foreign(folder: Path, digest: str) -> bool:
    """Whether a blob is a manifest that `put_tag` would not write."""
    try:
        return bool(parse(read(folder, digest), FREE).keys() & _FOREIGN)
    except (PublishError, ImageError):
        return False


def _carry_out(folder: Path, plan: _Plan) -> None:
    if plan.index is not None:
        write_whole(folder / "index.json", dump(plan.index))
    for path in plan.gone:
        path.unlink()
    blobs = folder / "blobs" / "sha256"
    for emptied in (blobs, blobs.parent, folder, folder.parent):
        with suppress(OSError):  # not empty, or a link
            emptied.rmdir()
