"""One image in one file that `docker load`, `podman load` and skopeo (`oci-archive:`, `docker-archive:`) all take.

It is an OCI image layout (image-spec image-layout.md) in a tar archive, with the `manifest.json` of `docker save`
beside it; both name the same blobs. `docker save` has written the same shape since Engine 25.
"""

from __future__ import annotations

from build.layer import File, tar
from build.oci import Blob, Image, dump

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def write(image: Image, name: str, tag: str, time: int) -> bytes:
    """The archive of `image`, which loads as `name:tag`; `time` (seconds since the epoch) dates its entries."""
    blobs = {blob.digest: blob for blob in (*image.blobs, image.manifest)}
    descriptor = image.descriptor.fields()
    # containerd wants the whole name, the OCI spec the tag alone.
    annotations = {"io.containerd.image.name": f"{name}:{tag}", "org.opencontainers.image.ref.name": tag}
    index = {"schemaVersion": 2, "manifests": [descriptor | {"annotations": annotations}]}
    save = {
        "Config": _path(image.config),
        "RepoTags": [f"{name}:{tag}"],
        "Layers": [_path(layer) for layer in image.layers],
    }
    contents = {
        "oci-layout": LAYOUT,
        "index.json": dump(index),
        "manifest.json": dump([save]),
        **{_path(blob): blob.data for blob in blobs.values()},
    }
    return tar([File(f"/{path}", 0o644, data) for path, data in contents.items()], time)


def _path(blob: Blob) -> str:
    return "blobs/" + blob.digest.replace(":", "/")
