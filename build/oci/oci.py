"""Images as values: platforms, descriptors, layers, images and indexes, each serialised once and never changed.

Follows the OCI image spec 1.1 (image-spec: descriptor.md, manifest.md, config.md, image-index.md) and, for the Docker
format, Docker's image manifest version 2, schema 2.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from build.errors import ImageError

PLATFORM = r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?"


@dataclass(frozen=True, slots=True)
class Platform:
    """Where an image runs: os, architecture and variant in Go's names (image-index.md, "platform")."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read `os/architecture[/variant]`; raise ValueError for anything else."""
        if not re.fullmatch(PLATFORM, text):
            raise ValueError(text)
        return cls(*text.split("/"))

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Platform:
        """The platform that an image config, or a descriptor's `platform`, declares."""
        return cls(*(fields.get(name) or "" for name in ("os", "architecture", "variant")))

    def fields(self) -> dict[str, str]:
        """The members of the JSON object, without an empty variant."""
        named = {"architecture": self.architecture, "os": self.os}
        return named | {"variant": self.variant} if self.variant else named

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@dataclass(frozen=True)
class Format:
    """One family of media types. A manifest list never mixes two."""

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
# In bytes: distribution-spec, "Pushing Manifests", has registries take so much. Nothing else that is no blob is larger.
LARGEST_MANIFEST = 4 << 20


def digest_of(data: bytes) -> str:
    """`sha256:` and the lower-case hex digest of `data` (descriptor.md, "Digests")."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def dump(value: Any) -> bytes:
    """JSON as we write it: sorted keys and no white space, so that equal values are equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True)
class Descriptor:
    """What a manifest says of a blob: media type, digest, size in bytes, and in an index the platform."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None

    def fields(self) -> dict[str, Any]:
        """The members of the JSON object."""
        named: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return named | {"platform": self.platform.fields()} if self.platform else named


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes and what they are. The digest is taken once, from the very bytes that are stored and sent."""

    media_type: str
    data: bytes = field(repr=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of(self.data))

    def descriptor(self, platform: Platform | None = None) -> Descriptor:
        """What a manifest that refers to this blob says of it."""
        return Descriptor(self.media_type, self.digest, len(self.data), platform)


@dataclass(frozen=True)
class Layer:
    """A gzip-compressed tar archive, and the digest of the archive before compression (config.md, "Layer DiffID")."""

    data: bytes = field(repr=False)
    diff_id: str


@dataclass(frozen=True, slots=True)
class Content:
    """What an image's manifest refers to."""

    config: Blob
    layers: tuple[Blob, ...]

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """What must be stored before the manifest is."""
        return (*self.layers, self.config)


@dataclass(frozen=True, slots=True)
class Image:
    """One platform's image: its manifest, and what reads its content.

    There may be hundreds of images, and content is in memory only as long as it is worked at.
    """

    platform: Platform
    manifest: Blob
    read: Callable[[], Content] = field(repr=False, compare=False)

    @property
    def digest(self) -> str:
        """The manifest's digest, which is the image's."""
        return self.manifest.digest

    @property
    def descriptor(self) -> Descriptor:
        """What an index says of this image."""
        return self.manifest.descriptor(self.platform)


@dataclass(frozen=True)
class Index:
    """An image index, or Docker's manifest list: one descriptor a platform."""

    manifest: Blob
    images: tuple[Image, ...]

    @property
    def digest(self) -> str:
        """The digest of the index itself."""
        return self.manifest.digest

    @property
    def descriptor(self) -> Descriptor:
        """What refers to this index."""
        return self.manifest.descriptor()


def image(config: Mapping[str, Any], layers: Sequence[Layer], form: Format) -> Image:
    """Assemble an image from the config's members (without `rootfs`, which the layers decide)."""
    rootfs = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    content = Content(
        Blob(form.config, dump({**config, "rootfs": rootfs})), tuple(Blob(form.layer, layer.data) for layer in layers)
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": form.manifest,
        "config": content.config.descriptor().fields(),
        "layers": [blob.descriptor().fields() for blob in content.layers],
    }
    return Image(Platform.of(config), Blob(form.manifest, dump(manifest)), lambda: content)


def index(images: Sequence[Image]) -> Index:
    """Assemble the manifest list, in the order of `images`; raise ImageError if they are of two formats or clash."""
    kinds = {each.manifest.media_type for each in images}
    form = next((form for form in FORMATS.values() if kinds == {form.manifest}), None)
    if form is None:
        raise ImageError(
            "manifest list: its images must share one format, but they are "
            + (", ".join(sorted(kinds)) or "none")
            + "\n  build them all again with one --format"
        )
    platforms = [each.platform for each in images]
    for platform in platforms:
        if platforms.count(platform) > 1:
            raise ImageError(f"manifest list: more than one image claims platform {platform}")
    manifest = {
        "schemaVersion": 2,
        "mediaType": form.index,
        "manifests": [each.descriptor.fields() for each in images],
    }
    return Index(Blob(form.index, dump(manifest)), tuple(images))


def media_type_of(manifest: bytes, otherwise: str) -> str:
    """The media type that a manifest names itself; `otherwise` if it names none, or is no manifest."""
    try:
        return json.loads(manifest).get("mediaType") or otherwise
    except (ValueError, AttributeError, RecursionError):
        return otherwise
