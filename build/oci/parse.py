"""The one strict parser of indexes, manifests and configs that others wrote.

image-spec 1.1: descriptor.md, image-index.md, manifest.md, config.md; Docker's manifest list and schema 2 have the same
members. Every function raises ImageError that says what was found and what was expected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from build.errors import ImageError
from build.oci.descriptor import DIGEST, Descriptor
from build.oci.media_types import INDEXES, MANIFESTS
from build.oci.platform import Platform

_WORD = re.compile(r"[A-Za-z0-9._-]*")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")
_KINDS = {dict: "an object", list: "a list", str: "a text", int: "a number"}


@dataclass(frozen=True)
class Manifest:
    """What an image's manifest refers to, and for each layer whether it is to be fetched from elsewhere (`urls`)."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    elsewhere: tuple[bool, ...]


@dataclass(frozen=True)
class Config:
    """The parts of a config that matter here: platform, diff_ids, labels, and the command with its PATH and folder."""

    platform: Platform
    diff_ids: tuple[str, ...]
    labels: Mapping[str, str]
    command: tuple[str, ...]
    path: str | None
    folder: str


def parse_manifest(data: bytes, media_type: str) -> tuple[Descriptor, ...] | Manifest:
    """The entries of an index, or an image's manifest. `media_type` is what the descriptor or header says, or empty."""
    members = _object(data)
    named = _optional(members, "mediaType", str, "") or media_type
    if media_type and named != media_type:
        raise ImageError(f"media type: found {_shown(named)}, expected {_shown(media_type)}")
    if not named:  # layouts may have neither: the shape decides
        named = next(iter(sorted(INDEXES if "manifests" in members else MANIFESTS)))
    if named not in INDEXES | MANIFESTS:
        raise ImageError(f"media type: found {_shown(named)}, expected an index or an image's manifest")
    if members.get("schemaVersion") != 2:
        raise ImageError(f"schemaVersion: found {_shown(members.get('schemaVersion'))}, expected 2")
    # Readers that go by the shape and readers that go by the media type must see the same thing.
    strangers = ("config", "layers") if named in INDEXES else ("manifests",)
    for member in strangers:
        if members.get(member):
            raise ImageError(f"found the member {member!r} in {named}, expected none")
    if named in INDEXES:
        entries = _required(members, "manifests", list)
        return tuple(_descriptor(each, f"manifests[{at}]") for at, each in enumerate(entries))
    layers = _required(members, "layers", list)
    return Manifest(
        config=_descriptor(_required(members, "config", dict), "config"),
        layers=tuple(_descriptor(each, f"layers[{at}]") for at, each in enumerate(layers)),
        elsewhere=tuple(bool(each.get("urls")) or "foreign" in each["mediaType"] for each in layers),
    )


def parse_config(data: bytes) -> Config:
    """An image's config."""
    members = _object(data)
    rootfs = _required(members, "rootfs", dict)
    settings = _optional(members, "config", dict, {})
    environment = dict(each.partition("=")[::2] for each in _texts(settings, "Env"))
    labels = _optional(settings, "Labels", dict, {})
    return Config(
        platform=_platform(members),
        diff_ids=tuple(_texts(rootfs, "diff_ids")),
        labels={key: value for key, value in labels.items() if isinstance(value, str)},
        command=(*_texts(settings, "Entrypoint"), *_texts(settings, "Cmd")),
        path=environment.get("PATH"),
        folder=_optional(settings, "WorkingDir", str, "") or "/",
    )


def _object(data: bytes) -> dict[str, Any]:
    try:
        members = json.loads(data, object_pairs_hook=_unique)
    except RecursionError:
        raise ImageError("not valid JSON: nested too deeply") from None
    except ValueError as error:
        raise ImageError(f"not JSON: {error}") from None
    if not isinstance(members, dict):
        raise ImageError(f"found {_shown(members)}, expected an object")
    return members


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):  # some readers take the first, others the last
        raise ValueError("a member occurs twice")
    return members


def _descriptor(value: object, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise ImageError(f"{where}: found {_shown(value)}, expected an object")
    try:
        media_type = _required(value, "mediaType", str)
        digest, size = _required(value, "digest", str), _required(value, "size", int)
        platform = _optional(value, "platform", dict, {})
        if not _MEDIA_TYPE.fullmatch(media_type):
            raise ImageError(f"mediaType: found {_shown(media_type)}, expected a media type")
        if not DIGEST.fullmatch(digest):
            raise ImageError(f"digest: found {_shown(digest)}, expected sha256: and 64 hexadecimal digits")
        if size < 0:
            raise ImageError(f"size: found {_shown(size)}, expected a number of bytes")
        return Descriptor(media_type, digest, size, _platform(platform) if platform else None)
    except ImageError as error:
        raise ImageError(f"{where}: {error}") from None


def _platform(fields: Mapping[str, Any]) -> Platform:
    words = {name: _optional(fields, name, str, "") for name in ("os", "architecture", "variant")}
    for name, word in words.items():
        if not _WORD.fullmatch(word):
            raise ImageError(f"{name}: found {_shown(word)}, expected letters and digits")
    return Platform.of(words)


def _texts(members: Mapping[str, Any], name: str) -> list[str]:
    texts: list[str] = _optional(members, name, list, [])
    for text in texts:
        if not isinstance(text, str):
            raise ImageError(f"{name}: found {_shown(text)}, expected a text")
    return texts


def _required(members: Mapping[str, Any], name: str, kind: type) -> Any:
    value = members.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        found = _shown(value) if name in members else "nothing"
        raise ImageError(f"{name}: found {found}, expected {_KINDS[kind]}")
    return value


def _optional(members: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    return default if members.get(name) is None else _required(members, name, kind)


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:80] + "…"


def media_type_of(manifest: bytes, otherwise: str) -> str:
    """The media type that a manifest declares; `otherwise` if it declares none, or is not a manifest."""
    try:
        return json.loads(manifest).get("mediaType") or otherwise
    except (ValueError, AttributeError, RecursionError):
        return otherwise
