"""Images in one file that `docker load`, `podman load` and skopeo (`oci-archive:`, `docker-archive:`) all take.

It is an OCI image layout (image-spec image-layout.md) in a tar archive, with the `manifest.json` of `docker save`
beside it; both name the same blobs. `docker save` has written the same shape since Engine 25.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from build.image.layer import File, tar
from build.oci.descriptor import Blob
from build.oci.image import Image, Index, dump

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
REFERENCE = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Entry:
    """An image or a manifest list in an archive.

    `name` is the NAME:TAG that it loads as, `reference` what finds it in the layout (annotations.md, "ref.name").
    """

    target: Image | Index
    name: str
    reference: str


def archive(entries: Sequence[Entry], time: int) -> bytes:
    """The archive that holds `entries`, in their order; `time` (seconds since the epoch) dates the files in it."""
    images = [image for entry in entries for image in _images(entry.target)]
    blobs = [each.target.manifest for each in entries] + [image.manifest for image in images]
    blobs += [blob for image in images for blob in image.blobs]
    saved = [_saved(each.target, each.name) for each in entries if isinstance(each.target, Image)]
    contents = {
        "oci-layout": LAYOUT,
        "index.json": dump({"schemaVersion": 2, "manifests": [_described(entry) for entry in entries]}),
        # `docker save` had no manifest lists when this form came up.
        "manifest.json": dump(saved),
        **{_path(blob): blob.data for blob in blobs},
    }
    return tar([File(f"/{path}", 0o644, data) for path, data in contents.items()], time)


def _described(entry: Entry) -> dict[str, object]:
    # containerd wants the whole name.
    annotations = {"io.containerd.image.name": entry.name, REFERENCE: entry.reference}
    return entry.target.descriptor.fields() | {"annotations": annotations}


def _saved(image: Image, name: str) -> dict[str, object]:
    return {"Config": _path(image.config), "RepoTags": [name], "Layers": [_path(layer) for layer in image.layers]}


def _images(target: Image | Index) -> Sequence[Image]:
    return target.images if isinstance(target, Index) else (target,)


def _path(blob: Blob) -> str:
    return "blobs/" + blob.digest.replace(":", "/")
