"""Tags in a layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from build.errors import ImageError, PublishError
from build.oci.image import Target, dump
from build.oci.media_types import OCI
from build.oci.referrer import is_referrers_tag
from build.oci.strict import MANIFEST, parse
from build.stores.image_layout import OCI_LAYOUT, REF_NAME, name_of
from build.stores.layout.blob import read, verify_blob, write_blob
from build.stores.layout.frame import check_entry, check_frame
from build.stores.layout.index import locked, read_index
from build.system import write_if_changed, write_whole

# Distinguishes the tags that `clean` may remove from those that somebody else put into the same folder.
OURS = {"io.k8s.pause.made-by": "invoke"}
# An annotation of the index: the digests that tags of ours referred to before, for `clean`.
REPLACED = "io.k8s.pause.replaced"


def digest(folder: Path, tag: str) -> str | None:
    """The digest that `tag` refers to, or None if anything that it leads to is missing or damaged.

    So it is if readers would not take the folder for a layout: the next push mends that.
    """
    index = read_index(folder)
    found = [each for each in index["manifests"] if name_of(each) == tag]
    unambiguous = len({each["digest"] for each in found}) == 1
    return str(found[0]["digest"]) if unambiguous and _is_complete(folder, index, found[0]) else None


def put_tag(folder: Path, tag: str, target: Target) -> None:
    """Make `tag` refer to `target`."""
    with locked(folder):
        put_entry(folder, tag, target)


def put_entry(folder: Path, tag: str, target: Target) -> None:
    """The same, for a caller that holds the lock of the layout."""
    write_blob(folder, target.manifest)
    write_if_changed(folder / "oci-layout", OCI_LAYOUT)
    index = read_index(folder) | {"schemaVersion": 2, "mediaType": OCI.index}
    before = [entry for entry in index["manifests"] if name_of(entry) == tag]
    others = [entry for entry in index["manifests"] if name_of(entry) != tag]
    if gone := {str(each["digest"]) for each in before if is_ours(each)} - {target.digest}:
        index["annotations"] = {**_annotations(index), REPLACED: " ".join(sorted({*replaced(index), *gone}))}
    # Of what refers to content, that of others is kept in ours: then `clean` has to leave it.
    is_theirs = is_referrers_tag(tag) and before and not any(map(is_ours, before))
    annotations = {REF_NAME: tag, **({} if is_theirs else OURS)}
    index["manifests"] = [*others, target.descriptor.fields() | {"annotations": annotations}]
    write_whole(folder / "index.json", dump(index))


def is_ours(entry: Mapping[str, Any]) -> bool:
    """Whether `put_tag` wrote this entry of index.json."""
    return bool(OURS.items() <= entry.get("annotations", {}).items())


def replaced(index: Mapping[str, Any]) -> list[str]:
    """The digests that tags of ours referred to before."""
    found = _annotations(index).get(REPLACED)
    return found.split() if isinstance(found, str) else []


def without_ours(index: Mapping[str, Any]) -> dict[str, Any]:
    """The index without what `put_tag` has added."""
    annotations = {name: value for name, value in _annotations(index).items() if name != REPLACED}
    kept = {name: value for name, value in index.items() if name != "annotations"}
    kept["manifests"] = [each for each in index["manifests"] if not is_ours(each)]
    return kept | ({"annotations": annotations} if annotations else {})


def _annotations(index: Mapping[str, Any]) -> Mapping[str, Any]:
    found = index.get("annotations")
    return found if isinstance(found, dict) else {}


def reachable(folder: Path, digest: str) -> Iterator[str]:
    """The digest, and those of everything that it leads to, each once. A manifest that can't be read leads nowhere."""
    seen, pending = {digest}, [digest]
    yield digest
    while pending:
        blobs, manifests = _referenced(folder, pending.pop())
        new = [each for each in dict.fromkeys((*blobs, *manifests)) if each not in seen]
        seen.update(new)
        pending += [each for each in new if each in manifests]
        yield from new


def _referenced(folder: Path, digest: str) -> tuple[list[str], list[str]]:
    """The digests of the blobs and of the manifests that a manifest refers to."""
    try:
        manifest = parse(read(folder, digest), MANIFEST)
        parts = (manifest.get("config"), *manifest.get("layers", ()), *(manifest.get("blobs") or ()))
        blobs = [each["digest"] for each in parts if each]
        manifests = [each["digest"] for each in manifest.get("manifests", ())]
        if not all(isinstance(each, str) for each in (*blobs, *manifests)):
            raise TypeError
    except (PublishError, ImageError, AttributeError, KeyError, TypeError):
        return [], []
    return blobs, manifests


def _is_complete(folder: Path, index: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    digest = str(entry["digest"])
    try:
        check_frame(folder, index)
        check_entry(folder, entry, read(folder, digest))
        for each in reachable(folder, digest):
            verify_blob(folder, each)
        return True
    except PublishError:
        return False
