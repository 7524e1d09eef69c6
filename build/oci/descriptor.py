"""Digests, descriptors and blobs (image-spec descriptor.md)."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from build.oci.platform import Platform

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    """`sha256:` and the lower-case hex digest of `data` (descriptor.md, "Digests")."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Descriptor:
    """How a manifest refers to content: media type, digest, size in bytes, and in an index the platform."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None

    def fields(self) -> dict[str, Any]:
        """The members of the JSON object."""
        named: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return named | {"platform": self.platform.fields()} if self.platform else named


@dataclass(frozen=True)
class Blob:
    """Content with its media type, digest and size in bytes: in memory if small, else in a file to be streamed."""

    media_type: str
    digest: str
    size: int
    source: bytes | Path = field(repr=False, compare=False)

    @classmethod
    def of(cls, media_type: str, data: bytes) -> Blob:
        """The blob of these bytes; their digest is taken once, here."""
        return cls(media_type, digest_of(data), len(data), data)

    @property
    def data(self) -> bytes:
        """All of its bytes: for manifests, configs and what else is known to be small."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    def open(self) -> BinaryIO:
        """A stream of its bytes, to be closed by the caller."""
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb")

    def descriptor(self, platform: Platform | None = None) -> Descriptor:
        """The descriptor of this blob."""
        return Descriptor(self.media_type, self.digest, self.size, platform)
