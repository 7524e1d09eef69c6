"""Platforms; os and architecture are GOOS and GOARCH values (image-spec image-index.md, "platform")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PLATFORM = r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?"


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

    def fields(self) -> dict[str, str]:
        """The members of the JSON object; an empty variant is omitted."""
        fields = {"architecture": self.architecture, "os": self.os}
        return fields | {"variant": self.variant} if self.variant else fields

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


# The platform that BuildKit gives attestations.
UNKNOWN = Platform("unknown", "unknown")
