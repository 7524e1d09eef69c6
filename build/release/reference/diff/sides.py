"""Reads what `diff` compares: the images that a reference leads to, by platform, and what else is in its list."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from build.errors import BuildError, ImageError
from build.oci.descriptor import Blob, Descriptor
from build.oci.media_types import ARTIFACT, INDEXES, LARGEST_MANIFEST, MANIFESTS
from build.oci.parse import Config, Manifest, parse_annotations, parse_config
from build.oci.platform import UNKNOWN, Platform
from build.oci.reference import Reference
from build.oci.strict import CONFIG, MANIFEST, parse
from build.release.reference.fetch import Kept, parsed_manifest, root_of
from build.release.reference.part import attested

# As in `check`.
_DEEPEST, _MOST_MANIFESTS = 4, 1000


@dataclass(frozen=True)
class Side:
    """What a reference refers to: `images` by platform, and the digests of `others`, such as attestations, by name."""

    kept: Kept
    reference: Reference
    root: Blob
    spool: Path
    images: dict[str, Blob] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return self.root.media_type in INDEXES


@dataclass(frozen=True)
class Described:
    """An image: its config, the members of that as text by name, its annotations, and its layers."""

    config: Config
    members: Mapping[str, str]
    annotations: Mapping[str, str]
    manifest: Manifest


async def read_side(kept: Kept, reference: Reference, spool: Path) -> Side:
    """Read what `reference` leads to but for layers; raise PublishError or ImageError if a part can't be read."""
    try:
        side = Side(kept, reference, await root_of(kept, reference), spool)
        await _descend(side, side.root, 0)
        return side
    except BuildError as error:
        raise error if str(error).startswith(str(reference)) else error.at(str(reference)) from None


async def _descend(side: Side, manifest: Blob, depth: int) -> None:
    parsed = parsed_manifest(manifest)
    if isinstance(parsed, Manifest):
        if parsed.artifact:
            side.others[parsed.artifact] = manifest.digest
        else:
            _, members = await _config(side, parsed)
            _add(side, Platform.of(members), members.get("os.version"), manifest)
        return
    if depth > _DEEPEST or len(side.images) + len(side.others) + len(parsed) > _MOST_MANIFESTS:
        raise ImageError(f"found more than {_DEEPEST} nested lists, or {_MOST_MANIFESTS} manifests")
    raw: list[Mapping[str, Any]] = parse(manifest.data, MANIFEST)["manifests"]
    for entry, members in zip(parsed, raw, strict=True):
        if entry.attests or entry.platform == UNKNOWN:
            names = [name for name, image in side.images.items() if image.digest == attested(members)]
            _add_other(side, f"attestation for {names[0]}" if names else "attestation", entry)
        elif entry.media_type not in INDEXES | MANIFESTS | {ARTIFACT}:
            _add_other(side, entry.media_type, entry)
        else:
            found = await root_of(side.kept, Reference(side.reference.repository, "", entry.digest))
            child = Blob(entry.media_type, found.digest, found.size, found.source)
            if entry.platform and entry.media_type in MANIFESTS:
                _add(side, entry.platform, (members.get("platform") or {}).get("os.version"), child)
            else:
                await _descend(side, child, depth + 1)


def _add(side: Side, platform: Platform, version: object, image: Blob) -> None:
    """Add an image under a name that is the same for the same platform: a variant that is implied is left out."""
    implied = Platform(platform.os, platform.architecture)
    name = str(implied if implied.normal == platform.normal else platform) + (f" {version}" if version else "")
    number = 2
    unique = name
    while unique in side.images:
        unique, number = f"{name} ({number})", number + 1
    side.images[unique] = image


def _add_other(side: Side, name: str, entry: Descriptor) -> None:
    unique, number = name, 2
    while unique in side.others:
        unique, number = f"{name} ({number})", number + 1
    side.others[unique] = entry.digest


async def described(side: Side, image: Blob) -> Described:
    """The image with this manifest; raise PublishError or ImageError if it can't be read."""
    try:
        parsed = parsed_manifest(image)
        if not isinstance(parsed, Manifest):
            raise ImageError("found a list, expected an image")
        config, members = await _config(side, parsed)
        return Described(config, _flat(members), parse_annotations(image.data), parsed)
    except BuildError as error:
        raise error.at(f"{side.reference.repository}@{image.digest}") from None


async def _config(side: Side, manifest: Manifest) -> tuple[Config, Mapping[str, Any]]:
    if manifest.config.size > LARGEST_MANIFEST:
        raise ImageError(f"config: found {manifest.config.size} bytes, expected at most {LARGEST_MANIFEST}")
    config = await side.kept.blob(side.reference.repository, manifest.config, side.spool)
    return parse_config(config.data), parse(config.data, CONFIG)


def _flat(members: Mapping[str, Any]) -> Mapping[str, str]:
    """The members of a config by name, those of its `config` one by one, and of that labels and variables, too.

    The steps of its history are numbered. The layers, in `rootfs`, are left out.
    """
    found = {name: _text(value) for name, value in members.items() if name not in ("config", "rootfs", "history")}
    history = members.get("history")
    found |= {f"history[{at}]": _text(each) for at, each in enumerate(history if isinstance(history, list) else ())}
    for name, value in (members.get("config") or {}).items():
        if name == "Labels" and isinstance(value, dict):
            found |= {f"config.Labels.{label}": _text(each) for label, each in value.items()}
        elif name == "Env" and isinstance(value, list):
            pairs = (str(each).partition("=") for each in value)
            found |= {f"config.Env.{variable}": text for variable, _, text in pairs}
        else:
            found[f"config.{name}"] = _text(value)
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
