"""Media types: the OCI family, and Docker's image manifest version 2, schema 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """One family of media types. All manifests of a manifest list have the same."""

    name: str
    index: str
    manifest: str
    config: str
    layer: str


OCI = Format(
    name="oci",
    index="application/vnd.oci.image.index.v1+json",
    manifest="application/vnd.oci.image.manifest.v1+json",
    config="application/vnd.oci.image.config.v1+json",
    layer="application/vnd.oci.image.layer.v1.tar+gzip",
)
DOCKER = Format(
    name="docker",
    index="application/vnd.docker.distribution.manifest.list.v2+json",
    manifest="application/vnd.docker.distribution.manifest.v2+json",
    config="application/vnd.docker.container.image.v1+json",
    layer="application/vnd.docker.image.rootfs.diff.tar.gzip",
)
FORMATS: Mapping[str, Format] = {form.name: form for form in (OCI, DOCKER)}
INDEXES = frozenset(form.index for form in FORMATS.values())
MANIFESTS = frozenset(form.manifest for form in FORMATS.values())
# An artifact manifest of image-spec 1.1.0-rc2, which registries may still have.
ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
CONFIGS = frozenset(form.config for form in FORMATS.values())
# Docker's type of layers that are not compressed.
DOCKER_PLAIN = "application/vnd.docker.image.rootfs.diff.tar"
# Bytes: the size up to which registries should accept manifests (distribution-spec, "Pushing Manifests").
LARGEST_MANIFEST = 4 << 20


def is_gzip(media_type: str) -> bool | None:
    """Whether layers of this type are gzip (True) or plain tar (False); None for any other compression."""
    if media_type.endswith(("tar+gzip", "tar.gzip")):
        return True
    return False if media_type.endswith(".tar") else None


def layer_type(media_type: str, form: Format) -> str:
    """The media type in `form` of a layer of this type, which is gzip or plain tar."""
    if is_gzip(media_type):
        return form.layer
    return form.layer.removesuffix("+gzip") if form is OCI else DOCKER_PLAIN
