"""Writes images into one file for `docker load`, `podman load`, `ctr images import` and skopeo (both kinds of archive).

It is an OCI image layout (image-spec image-layout.md) in a tar archive, with the `manifest.json` of `docker save`
beside it; both name the same blobs. `docker save` has written the same form since Engine 25.

What only refers to content is in an index beside `index.json`: containerd, and Docker with its store, take every entry
of the latter for an image to load.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from build.oci.descriptor import Blob
from build.oci.image import Content, Image, Target, dump
from build.oci.reference import full_name
from build.oci.tar import write_tar
from build.stores.image_layout import OCI_LAYOUT, REF_NAME, REFERRERS, blob_path
from build.system import replacing


@dataclass(frozen=True)
class Entry:
    """An image, a manifest list or any other content in an archive.

    `name` is the [HOST/]NAME:TAG that it loads as, empty for what only refers to others; `reference` finds it in the
    layout (annotations.md, "ref.name").
    """

    target: Target
    name: str
    reference: str


def archive(entries: Sequence[Entry], time: int) -> bytes:
    """The archive as bytes, for images that are known to be small; see `write_archive`."""
    output = io.BytesIO()
    write_archive(output, entries, time)
    return output.getvalue()


def write_archive(output: BinaryIO, entries: Sequence[Entry], time: int) -> None:
    """Write the archive of `entries`, in their order, with modification time `time` (seconds since the epoch).

    The same entries give the same bytes.
    """
    blobs = [blob for entry in entries for blob in (entry.target.manifest, *_below(entry.target))]
    saved = [_saved(entry.target, entry.name) for entry in entries if isinstance(entry.target, Image)]
    files = {
        "oci-layout": _blob(OCI_LAYOUT),
        "index.json": _index(each for each in entries if each.name),
        **({REFERRERS: _index(referring)} if (referring := [each for each in entries if not each.name]) else {}),
        # `docker save` knew no manifest lists when this form was introduced.
        "manifest.json": _blob(dump(saved)),
        **{blob_path(blob.digest): blob for blob in blobs},
    }
    write_tar(output, files, time)


def write_archive_file(file: Path, entries: Sequence[Entry], time: int) -> None:
    """Write the archive to a file; see `write_archive`. Raises BuildError if the system refuses."""
    with replacing(file) as temporary, temporary.open("wb") as output:
        write_archive(output, entries, time)


def _index(entries: Iterable[Entry]) -> Blob:
    return _blob(dump({"schemaVersion": 2, "manifests": [_described(entry) for entry in entries]}))


def _described(entry: Entry) -> dict[str, object]:
    # containerd takes it as it is: with a short name, Docker finds no image after loading it, and nodes start no pod.
    loads_as = {"io.containerd.image.name": full_name(entry.name)} if entry.name else {}
    annotations = {**loads_as, REF_NAME: entry.reference}
    return entry.target.descriptor.fields() | {"annotations": annotations}


def _saved(image: Image, name: str) -> dict[str, object]:
    layers = [blob_path(layer.digest) for layer in image.layers]
    return {"Config": blob_path(image.config.digest), "RepoTags": [full_name(name)], "Layers": layers}


def _below(target: Target) -> Sequence[Blob]:
    if isinstance(target, Image):
        return target.blobs
    if isinstance(target, Content):
        return (*target.manifests, *target.blobs)
    return [blob for image in target.images for blob in (image.manifest, *image.blobs)]


def _blob(data: bytes) -> Blob:
    return Blob("", "", len(data), data)
