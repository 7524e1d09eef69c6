"""Images and indexes, and their serialisation (image-spec manifest.md, config.md, image-index.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from build.errors import ImageError
from build.oci.descriptor import Blob, Descriptor
from build.oci.media_types import FORMATS, OCI, Format, layer_type
from build.oci.parse import parse_config
from build.oci.platform import Platform
from build.oci.reference import Repository


def dump(value: Any) -> bytes:
    """Canonical JSON: sorted keys and no white space, so equal values have equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True)
class Layer:
    """A gzip-compressed tar archive, and the digest of the archive before compression (config.md, "Layer DiffID")."""

    data: bytes = field(repr=False)
    diff_id: str


@dataclass(frozen=True)
class Origin:
    """Where the first layers of an image are from, as many as `layers` says: the image `name` in `repository`.

    `digest` is what `name`, a full reference, refers to: the digest of an index or of a manifest.
    """

    name: str
    digest: str
    repository: Repository
    layers: int

    def fields(self) -> dict[str, str]:
        """The base in results."""
        return {"reference": self.name, "digest": self.digest}

    @property
    def annotations(self) -> dict[str, str]:
        """The annotations of an image on this base (annotations.md, "Pre-Defined Annotation Keys")."""
        base = "org.opencontainers.image.base"
        return {f"{base}.name": self.name, f"{base}.digest": self.digest}


@dataclass(frozen=True)
class Image:
    """The image of one platform: manifest, config and layers.

    `index` is the index of BuildKit that its tag refers to, None if the tag refers to the image itself.
    `origin` is its base, if it was built here upon one.
    """

    platform: Platform
    manifest: Blob
    config: Blob
    layers: tuple[Blob, ...]
    index: Blob | None = field(default=None, compare=False)
    origin: Origin | None = field(default=None, compare=False)

    @property
    def digest(self) -> str:
        """The digest of the manifest, which identifies the image."""
        return self.manifest.digest

    @property
    def tagged(self) -> str:
        """The digest that its tag refers to."""
        return self.index.digest if self.index else self.digest

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """The blobs that must be stored before the manifest."""
        return (*self.layers, self.config)

    @property
    def own_layers(self) -> tuple[Blob, ...]:
        """Its layers, without those of its base."""
        return self.layers[self.origin.layers if self.origin else 0 :]

    def layers_as(self, form: Format) -> tuple[Blob, ...]:
        """Its layers with the media types that `form` has for the same bytes."""
        return tuple(replace(each, media_type=layer_type(each.media_type, form)) for each in self.layers)

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of this image in an index."""
        return self.manifest.descriptor(self.platform)


@dataclass(frozen=True)
class Index:
    """An image index, or Docker's manifest list: one descriptor for each platform."""

    manifest: Blob
    images: tuple[Image, ...]

    @property
    def digest(self) -> str:
        """The digest of the index."""
        return self.manifest.digest

    @property
    def tagged(self) -> str:
        """The digest that its tag refers to."""
        return self.digest

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of this index in a layout's index.json."""
        return self.manifest.descriptor()


# Docker's media types have no annotations.
_NONE: Mapping[str, str] = {}
# The keys of annotations.md, "Pre-Defined Annotation Keys", that say the same of a list as of its images.
_SHARED = frozenset(
    f"org.opencontainers.image.{key}"
    for key in (
        *("created", "description", "documentation", "licenses", "revision", "source", "title", "url", "vendor"),
        "version",
    )
)


@dataclass(frozen=True)
class Content:
    """A manifest of any kind, with all that it leads to.

    `manifests` are those below it, of which each comes after what it refers to, and `blobs` is the rest, each once.
    """

    manifest: Blob
    manifests: tuple[Blob, ...]
    blobs: tuple[Blob, ...]

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return self.manifest.digest

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor in a layout's index.json."""
        return self.manifest.descriptor()


# What a tag may refer to.
Target = Image | Index | Content


def image_of(
    config: Mapping[str, Any],
    layers: Sequence[Layer],
    form: Format,
    base: Image | None = None,
    annotations: Mapping[str, str] = _NONE,
) -> Image:
    """Assemble an image from its layers, which are on those of `base`, and its config, to which `rootfs` is added.

    The manifest has `annotations`, and those of its base, if the format is OCI.
    """
    below, origin = (base.layers_as(form), base.origin) if base else ((), None)
    diff_ids = parse_config(base.config.data).diff_ids if base else ()
    rootfs = {"type": "layers", "diff_ids": [*diff_ids, *(layer.diff_id for layer in layers)]}
    config_blob = Blob.of(form.config, dump({**config, "rootfs": rootfs}))
    layer_blobs = (*below, *(Blob.of(form.layer, layer.data) for layer in layers))
    manifest = {
        "schemaVersion": 2,
        "mediaType": form.manifest,
        "config": config_blob.descriptor().fields(),
        "layers": [blob.descriptor().fields() for blob in layer_blobs],
    }
    annotations = {**(origin.annotations if origin else {}), **annotations}
    if annotations and form is OCI:
        manifest["annotations"] = annotations
    manifest_blob = Blob.of(form.manifest, dump(manifest))
    return Image(Platform.of(config), manifest_blob, config_blob, layer_blobs, origin=origin)


def index_of(images: Sequence[Image], annotations: Mapping[str, str] | None = None) -> Index:
    """Assemble the manifest list in the order of `images`.

    With `annotations`, even if there are none, it has what the labels of all images say of the list, too; they are also
    those of its entries. Only in the format OCI there are any.

    Raises ImageError if the images have different formats, or two have the same platform.
    """
    media_types = {each.manifest.media_type for each in images}
    form = next((form for form in FORMATS.values() if media_types == {form.manifest}), None)
    if form is None:
        raise ImageError(
            "manifest list: all images must have the same format, found "
            + (", ".join(sorted(media_types)) or "none")
            + "\n  rebuild all of them with the same --format"
        )
    platforms = [each.platform for each in images]
    for platform in platforms:
        if platforms.count(platform) > 1:
            raise ImageError(f"manifest list: more than one image for platform {platform}")
    own = {"annotations": dict(annotations)} if annotations and form is OCI else {}
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": form.index,
        "manifests": [{**each.descriptor.fields(), **own} for each in images],
    }
    if annotations is not None and form is OCI and (found := {**_shared_labels(images), **annotations}):
        manifest["annotations"] = found
    return Index(Blob.of(form.index, dump(manifest)), tuple(images))


def _shared_labels(images: Sequence[Image]) -> dict[str, str]:
    """The labels that all images have with the same value, and that say something of the list."""
    first, *others = [parse_config(each.config.data).labels for each in images]
    return {
        key: value for key, value in first.items() if key in _SHARED and all(each.get(key) == value for each in others)
    }
