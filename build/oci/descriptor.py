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
    """A reference to content: media type, digest, size in bytes, and in an index the platform.

    `attests` is whether BuildKit has marked it as attestations for another entry of the index.
    """

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    attests: bool = field(default=False, compare=False)

    def fields(self) -> dict[str, Any]:
        """The members of the JSON object."""
        fields: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return fields | {"platform": self.platform.fields()} if self.platform else fields


@dataclass(frozen=True)
class Blob:
    """Content with media type, digest and size in bytes; `source` is the content, or for large content its file."""

    media_type: str
    digest: str
    size: int
    source: bytes | Path = field(repr=False, compare=False)

    @classmethod
    def of(cls, media_type: str, data: bytes) -> Blob:
        """A blob with these bytes."""
        return cls(media_type, digest_of(data), len(data), data)

    @property
    def data(self) -> bytes:
        """The whole content in memory; only for manifests, configs and other content that is known to be small."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    def open(self) -> BinaryIO:
        """The content as a stream, which the caller closes."""
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb")

    def descriptor(self, platform: Platform | None = None) -> Descriptor:
        """The descriptor of this blob."""
        return Descriptor(self.media_type, self.digest, self.size, platform)
