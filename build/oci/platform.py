"""Platforms; os and architecture are GOOS and GOARCH values (image-spec image-index.md, "platform")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PLATFORM = r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?"
# Variants that are implied, and the least of those that contain each other.
_IMPLIED = {"amd64": "v1", "arm": "v7", "arm64": "v8"}
_LEAST = {"amd64": 1, "arm": 5}
# The variable that chooses a variant of each GOARCH, and its value for a platform without one (`go help environment`).
_GO = {
    "386": ("GO386", "sse2"),
    "amd64": ("GOAMD64", "v1"),
    "arm": ("GOARM", "7"),
    "arm64": ("GOARM64", "v8.0"),
    **dict.fromkeys(("mips", "mipsle"), ("GOMIPS", "hardfloat")),
    **dict.fromkeys(("mips64", "mips64le"), ("GOMIPS64", "hardfloat")),
    **dict.fromkeys(("ppc64", "ppc64le"), ("GOPPC64", "power8")),
    "riscv64": ("GORISCV64", "rva20u64"),
}
# The latest version of ARM that GOARM knows.
_GOARM = 7


@dataclass(frozen=True)
class Platform:
    """The platform that an image runs on."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse `os/architecture[/variant]`; raise ValueError for anything else."""
        if not re.fullmatch(PLATFORM, text):
            raise ValueError(text)
        return cls(*text.split("/"))

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Platform:
        """The platform that an image config, or the `platform` of a descriptor, declares."""
        return cls(*(fields.get(name) or "" for name in ("os", "architecture", "variant")))

    @property
    def normal(self) -> Platform:
        """The platform with the variant that is implied if it names none, as in containerd's platforms.Normalize.

        Here the implied variant is written out, where containerd leaves out v1 and v8.
        """
        variant = self.variant or _IMPLIED.get(self.architecture, "")
        if self.architecture in _IMPLIED:
            variant = f"v{variant.removeprefix('v')}"
            if self.architecture == "arm64":
                variant = variant.removesuffix(".0")
        return Platform(self.os, self.architecture, variant)

    @property
    def go(self) -> dict[str, str]:
        """The variables of `go build` for the platform: GOOS, GOARCH and, if GOARCH has one, that of its variant."""
        name, value = _GO.get(self.architecture, ("", ""))
        if self.architecture == "arm" and self.variant:
            version = self.variant.removeprefix("v")
            value = str(min(int(version), _GOARM)) if version.isdecimal() else version
        elif self.architecture == "arm64" and self.variant:
            value = self.variant if "." in self.variant else f"{self.variant}.0"
        elif self.variant and not (self.architecture.startswith("mips") and self.variant != "softfloat"):
            value = self.variant
        return {"GOOS": self.os, "GOARCH": self.architecture, **({name: value} if name else {})}

    def fields(self) -> dict[str, str]:
        """The members of the JSON object; an empty variant is omitted."""
        fields = {"architecture": self.architecture, "os": self.os}
        return fields | {"variant": self.variant} if self.variant else fields

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def usable_on(platform: Platform) -> list[Platform]:
    """The normal platforms whose programs run on `platform`, the best first, as in containerd's platforms.Only.

    Those of another architecture, such as 386 on amd64, are left out: an image is for one architecture.
    """
    platform = platform.normal
    variants = [platform.variant]
    major, _, minor = platform.variant.removeprefix("v").partition(".")
    if major.isdecimal() and (not minor or (minor.isdecimal() and platform.architecture == "arm64")):
        if platform.architecture in _LEAST:
            variants += [f"v{each}" for each in range(int(major) - 1, _LEAST[platform.architecture] - 1, -1)]
        elif platform.architecture == "arm64" and int(major) in (8, 9):
            lesser = int(minor or 0)
            if major == "9":  # v9.x has what v8.(x+5) has
                variants += [_arm64(9, each) for each in range(lesser - 1, -1, -1)]
                variants.append(_arm64(8, lesser := lesser + 5))
            variants += [_arm64(8, each) for each in range(lesser - 1, -1, -1)]
    return [Platform(platform.os, platform.architecture, variant) for variant in variants]


def _arm64(major: int, minor: int) -> str:
    return f"v{major}.{minor}" if minor else f"v{major}"


# The platform that BuildKit gives attestations.
UNKNOWN = Platform("unknown", "unknown")
