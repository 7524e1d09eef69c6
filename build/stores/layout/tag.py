"""Tags in a layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from build.errors import ImageError, PublishError
from build.oci.image import Image, Index, dump
from build.oci.layout import OCI_LAYOUT, REF_NAME, name_of
from build.oci.strict import MANIFEST, parse
from build.stores.layout.blob import read, verify_blob, write_blob
from build.stores.layout.index import locked, read_index
from build.system import write_if_changed, write_whole

# Distinguishes the tags that `clean` may remove from those that somebody else put into the same folder.
OURS = {"io.k8s.pause.made-by": "invoke"}


def digest(folder: Path, tag: str) -> str | None:
    """The digest that `tag` refers to, or None if anything that it leads to is missing or damaged."""
    found = {str(each["digest"]) for each in read_index(folder)["manifests"] if name_of(each) == tag}
    return next((each for each in found if len(found) == 1 and _is_complete(folder, each)), None)


def put_tag(folder: Path, tag: str, target: Image | Index) -> None:
    """Make `tag` refer to `target`."""
    with locked(folder):
        write_blob(folder, target.manifest)
        write_if_changed(folder / "oci-layout", OCI_LAYOUT)
        index = read_index(folder)
        others = [entry for entry in index["manifests"] if name_of(entry) != tag]
        annotations = {REF_NAME: tag, **OURS}
        index["manifests"] = [*others, target.descriptor.fields() | {"annotations": annotations}]
        write_whole(folder / "index.json", dump(index))


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
        blobs = [each["digest"] for each in (manifest.get("config"), *manifest.get("layers", ())) if each]
        manifests = [each["digest"] for each in manifest.get("manifests", ())]
        if not all(isinstance(each, str) for each in (*blobs, *manifests)):
            raise TypeError
    except (PublishError, ImageError, AttributeError, KeyError, TypeError):
        return [], []
    return blobs, manifests


def _is_complete(folder: Path, digest: str) -> bool:
    try:
        for each in reachable(folder, digest):
            verify_blob(folder, each)
        return True
    except PublishError:
        return False
