"""Platforms; os and architecture are GOOS and GOARCH values (image-spec image-index.md, "platform")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

PLATFORM = r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?"
# With the version of the operating system, as in containerd's platforms.FormatAll.
_WITH_VERSION = re.compile(r"([a-z0-9]+)(?:\(([A-Za-z0-9._-]+)\))?/([a-z0-9]+)(?:/([a-z0-9]+))?")
# Windows' own: major, minor and build, and as a rule the revision.
WINDOWS_VERSION = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,5}(\.[0-9]{1,9})?")
# The build from which on Windows runs containers of earlier ones, as far back as this one: Windows Server 2022.
_STABLE = 20348
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
    """The platform that an image runs on; of Windows, `os_version` says which, such as 10.0.20348.2227."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse `os[(version)]/architecture[/variant]`; raise ValueError for anything else."""
        found = _WITH_VERSION.fullmatch(text)
        if not found:
            raise ValueError(text)
        os, version, architecture, variant = found.groups(default="")
        return cls(os, architecture, variant, version)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Platform:
        """The platform that an image config, or the `platform` of a descriptor, declares."""
        return cls(*(fields.get(name) or "" for name in ("os", "architecture", "variant", "os.version")))

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
        return replace(self, variant=variant)

    @property
    def unversioned(self) -> Platform:
        """The platform without the version of its operating system, as a row of the arch table has it."""
        return replace(self, os_version="")

    @property
    def is_windows(self) -> bool:
        """Whether its programs are Windows'."""
        return self.os == "windows"

    def runs_on(self, node: Platform) -> bool:
        """Whether a node takes an image for this platform for its own, as in containerd's platforms.OnlyStrict.

        Where one of the two doesn't say which Windows it is, any will do.
        """
        if self.unversioned.normal != node.unversioned.normal:
            return False
        if not (self.is_windows and self.os_version and node.os_version):
            return True
        (*here, build), (*there, host) = _windows(self.os_version), _windows(node.os_version)
        return here == there and (build == host if host < _STABLE else _STABLE <= build <= host)

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
        """The members of the JSON object; what is empty is omitted."""
        fields = {"architecture": self.architecture, "os": self.os}
        optional = {"variant": self.variant, "os.version": self.os_version}
        return fields | {name: value for name, value in optional.items() if value}

    def __str__(self) -> str:
        system = f"{self.os}({self.os_version})" if self.os_version else self.os
        return "/".join(filter(None, (system, self.architecture, self.variant)))


def _windows(version: str) -> tuple[int, ...]:
    """Major, minor and build; zeros for what is no version of Windows, as containerd has it."""
    return tuple(map(int, version.split(".")[:3])) if WINDOWS_VERSION.fullmatch(version) else (0, 0, 0)


def usable_on(platform: Platform) -> list[Platform]:
    """The normal platforms whose programs run on `platform`, the best first, as in containerd's platforms.Only.

    Those of another architecture, such as 386 on amd64, are left out: an image is for one architecture. So is the
    version of the operating system.
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
