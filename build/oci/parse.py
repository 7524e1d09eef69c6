"""Parses untrusted indexes, manifests and configs strictly.

image-spec 1.1: descriptor.md, image-index.md, manifest.md, config.md; Docker's manifest list and schema 2 have the same
members. Errors are ImageErrors that say what was found and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from build.errors import ImageError
from build.oci.descriptor import DIGEST, Descriptor
from build.oci.media_types import ARTIFACT, CONFIGS, INDEXES, MANIFESTS, OCI
from build.oci.platform import WINDOWS_VERSION, Platform
from build.oci.strict import CONFIG, MANIFEST, parse, shown

_WORD = re.compile(r"[A-Za-z0-9._-]*")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")
# Stands for the config of a manifest that has none.
NO_CONFIG = Descriptor("", "", 0)
_JSON_TYPES = {dict: "an object", list: "an array", str: "a string", int: "a number"}


@dataclass(frozen=True)
class Manifest:
    """The descriptors in an image manifest, and for each layer whether it is stored elsewhere (`urls`).

    `artifact` says what it is if it is not an image: its type, or that of what it has.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    elsewhere: tuple[bool, ...]
    artifact: str = ""


@dataclass(frozen=True)
class Config:
    """The members of an image config that are used here.

    `created` is empty if there is none, `command` is Entrypoint and Cmd, `path` the PATH in Env, `folder` WorkingDir.
    """

    platform: Platform
    created: str
    diff_ids: tuple[str, ...]
    labels: Mapping[str, str]
    command: tuple[str, ...]
    path: str | None
    folder: str


def parse_manifest(data: bytes, media_type: str) -> tuple[Descriptor, ...] | Manifest:
    """The entries of an index, or the parsed image manifest.

    `media_type` is from the descriptor or the Content-Type header, or empty if there is none.
    """
    members = parse(data, MANIFEST)
    declared = _optional(members, "mediaType", str, "") or media_type
    if media_type and declared != media_type:
        raise ImageError(f"media type: found {shown(declared)}, expected {shown(media_type)}")
    if not declared:  # layouts may have neither
        declared = next(iter(sorted(INDEXES if "manifests" in members else MANIFESTS)))
    if declared not in INDEXES | MANIFESTS:
        raise ImageError(f"media type: found {shown(declared)}, expected an index or an image manifest")
    check_version(members)
    # Otherwise clients that go by the members and clients that go by the media type would disagree.
    for member in ("config", "layers", "fsLayers") if declared in INDEXES else ("manifests", "fsLayers"):
        if member in members:
            raise ImageError(f"found the member {member!r} in {declared}, expected none")
    if declared in INDEXES:
        entries = _required(members, "manifests", list)
        return tuple(parse_descriptor(each, f"manifests[{at}]") for at, each in enumerate(entries))
    config = parse_descriptor(_required(members, "config", dict), "config")
    kind = _optional(members, "artifactType", str, "")
    return _manifest(config, _required(members, "layers", list), "layers", kind)


def parse_annotations(data: bytes) -> Mapping[str, str]:
    """The annotations of a manifest or an index."""
    annotations = _optional(parse(data, MANIFEST), "annotations", dict, {})
    return {name: _optional(annotations, name, str, "") for name in annotations}


def parse_artifact(data: bytes) -> Manifest:
    """The parsed artifact manifest (image-spec 1.1.0-rc2, artifact.md); `layers` are its blobs."""
    members = parse(data, MANIFEST)
    if members.get("mediaType") != ARTIFACT:
        raise ImageError(f"media type: found {shown(members.get('mediaType'))}, expected {ARTIFACT!r}")
    blobs, kind = _optional(members, "blobs", list, []), _required(members, "artifactType", str)
    return _manifest(NO_CONFIG, blobs, "blobs", kind)


def _manifest(config: Descriptor, layers: list[Any], where: str, kind: str) -> Manifest:
    parsed = tuple(parse_descriptor(each, f"{where}[{at}]") for at, each in enumerate(layers))
    types = [each.media_type for each in parsed]
    # Signatures and attestations may have the config of an image (cosign), but none of its layers.
    is_image = config.media_type in CONFIGS and (any(".tar" in each for each in types) or not (types or kind))
    what = "" if is_image else kind or next(iter(types), config.media_type)
    elsewhere = tuple(bool(each.get("urls")) or "foreign" in each["mediaType"] for each in layers)
    return Manifest(config, parsed, elsewhere, what)


def parse_config(data: bytes) -> Config:
    """The parsed image config."""
    members = parse(data, CONFIG)
    rootfs = _required(members, "rootfs", dict)
    settings = _optional(members, "config", dict, {})
    environment = dict(each.partition("=")[::2] for each in _strings(settings, "Env"))
    labels = _optional(settings, "Labels", dict, {})
    diff_ids = _strings(rootfs, "diff_ids")
    for each in diff_ids:
        if not DIGEST.fullmatch(each):
            raise ImageError(f"diff_ids: found {shown(each)}, expected sha256: and 64 hexadecimal digits")
    return Config(
        platform=_platform(members),
        created=_optional(members, "created", str, ""),
        diff_ids=tuple(diff_ids),
        labels={name: _optional(labels, name, str, "") for name in labels},
        command=(*_strings(settings, "Entrypoint"), *_strings(settings, "Cmd")),
        path=environment.get("PATH", environment.get("Path")),
        folder=_optional(settings, "WorkingDir", str, "") or "/",
    )


def parse_time(text: str) -> int | None:
    """A time of RFC 3339, as in `created`, in seconds since the epoch; None if it is something else."""
    try:
        time = datetime.fromisoformat(text)
        return int(time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC).timestamp())
    except (ValueError, OverflowError):
        return None


def check_version(members: Mapping[str, Any]) -> None:
    """Raise ImageError unless these are the members of a manifest or an index of the version that there is."""
    if _required(members, "schemaVersion", int) != 2:
        raise ImageError(f"schemaVersion: found {shown(members['schemaVersion'])}, expected 2")


def parse_descriptor(value: object, where: str) -> Descriptor:
    """The descriptor at `where` in a manifest (descriptor.md)."""
    if not isinstance(value, dict):
        raise ImageError(f"{where}: found {shown(value)}, expected an object")
    try:
        media_type = _required(value, "mediaType", str)
        digest, size = _required(value, "digest", str), _required(value, "size", int)
        platform = _optional(value, "platform", dict, {})
        if not _MEDIA_TYPE.fullmatch(media_type):
            raise ImageError(f"mediaType: found {shown(media_type)}, expected a media type")
        if not DIGEST.fullmatch(digest):
            raise ImageError(f"digest: found {shown(digest)}, expected sha256: and 64 hexadecimal digits")
        if size < 0:
            raise ImageError(f"size: found {shown(size)}, expected a number of bytes")
        marks = _optional(value, "annotations", dict, {})
        attests = marks.get("vnd.docker.reference.type") == "attestation-manifest"
        return Descriptor(media_type, digest, size, _platform(platform) if platform else None, attests)
    except ImageError as error:
        raise ImageError(f"{where}: {error}") from None


def _platform(fields: Mapping[str, Any]) -> Platform:
    words = {name: _optional(fields, name, str, "") for name in ("os", "architecture", "variant", "os.version")}
    for name, word in words.items():
        if not _WORD.fullmatch(word):
            raise ImageError(f"{name}: found {shown(word)}, expected letters and digits")
    version = words["os.version"]
    if version and words["os"] == "windows" and not WINDOWS_VERSION.fullmatch(version):
        raise ImageError(f"os.version: found {shown(version)}, expected a version of Windows such as 10.0.20348.2227")
    return Platform.of(words)


def _strings(members: Mapping[str, Any], name: str) -> list[str]:
    strings: list[str] = _optional(members, name, list, [])
    for string in strings:
        if not isinstance(string, str):
            raise ImageError(f"{name}: found {shown(string)}, expected a string")
    return strings


def _required(members: Mapping[str, Any], name: str, kind: type) -> Any:
    value = members.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ImageError(f"{name}: found {shown(value)}, expected {_JSON_TYPES[kind]}")
    return value


def _optional(members: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    return default if members.get(name) is None else _required(members, name, kind)


def media_type_of(manifest: bytes, otherwise: str) -> str:
    """The media type of a manifest: its `mediaType`; else `otherwise` if that names one; else by its members, if any.

    `otherwise` is from a Content-Type header, which some registries fill with a generic type, or from a descriptor.
    """
    try:
        members = parse(manifest, MANIFEST)
        declared = members.get("mediaType")
    except ImageError:  # whoever reads the manifest says why
        return otherwise
    if isinstance(declared, str) and declared:
        return declared
    if otherwise.startswith("application/vnd."):
        return otherwise
    if "manifests" in members:
        return OCI.index
    return OCI.manifest if {"config", "layers"} <= members.keys() else otherwise
