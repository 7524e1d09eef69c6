"""Package URLs, which name packages across tools (ECMA-427, and the definition of the type oci)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from build.oci.image import Origin
from build.oci.platform import Platform


def purl(kind: str, name: str, version: str, qualifiers: Mapping[str, str]) -> str:
    """`pkg:KIND/NAME@VERSION?KEY=VALUE&…` in its canonical form; what is empty is left out."""
    pairs = "&".join(f"{key}={_encoded(value)}" for key, value in sorted(qualifiers.items()) if value)
    versioned = f"pkg:{kind}/{_encoded(name)}" + (f"@{_encoded(version)}" if version else "")
    return f"{versioned}?{pairs}" if pairs else versioned


def of_image(name: str, digest: str, platform: Platform, tag: str) -> str:
    """The image of one platform, wherever it is stored; `name` is the last part of its repository's."""
    parts = {"arch": platform.architecture, "os": platform.os, "variant": platform.variant, "tag": tag}
    return purl("oci", name.lower(), digest, parts)


def of_base(base: Origin) -> str:
    """A base by its digest, with its repository if that is in a registry."""
    url = str(base.repository) if base.repository.is_remote else ""
    return purl("oci", name_of(base).lower(), base.digest, {"repository_url": url})


def name_of(base: Origin) -> str:
    """The last part of the name of a base's repository, or that of its layout's folder."""
    return base.repository.name.rstrip("/").rpartition("/")[2] or "base"


def _encoded(text: str) -> str:
    # ECMA-427, "Character encoding": a colon is never encoded, and a slash within a component always.
    return quote(text, safe=":")
