"""Where repositories are read and written: sources and sinks mirror each other."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Protocol

from build.oci.oci import Blob, Image, Index
from build.oci.reference import Repository


class Source(Protocol):
    """Where repositories are read, in one event loop. Every digest that a source is told is checked against its own."""

    async def digest(self, repository: Repository, tag: str) -> str | None:
        """The digest under `tag`, or None."""

    async def manifest(self, repository: Repository, reference: str) -> Blob | None:
        """The manifest under a tag or digest, or None."""

    async def blob(self, repository: Repository, digest: str, most: int = sys.maxsize) -> bytes:
        """The bytes of a blob; no more than `most` of them are read."""

    def close(self) -> None:
        """Let go of what is kept for further use."""


class Sink(Source, Protocol):
    """Where repositories live: what can be read and written."""

    @property
    def keeps_tags(self) -> bool:
        """Whether a tag that exists is somebody's, and is not to be moved unasked."""

    @property
    def is_far(self) -> bool:
        """Whether a round trip costs more than sending a small blob twice, as far as it is known yet."""

    def at_once(self) -> int:
        """How many things are done at the same time, as far as it is known yet; more would only wait."""

    async def open_upload(self, repository: Repository) -> str:
        """Make ready to take a blob, before that is known; `put_blob` may then use what this returns, once."""

    async def put_blob(
        self, repository: Repository, blob: Blob, source: Repository | None = None, upload: str = ""
    ) -> int:
        """Store a blob, and return how many bytes were sent; `source` is a repository here that has it."""

    async def put_manifest(self, repository: Repository, manifest: Blob) -> None:
        """Store a manifest under its digest; what it refers to is there."""

    async def put_tag(self, repository: Repository, tag: str, target: Image | Index) -> None:
        """Let `tag` refer to `target`; its manifest is stored or comes along."""


@dataclass(frozen=True)
class Tag:
    """A tag of a repository: what gets published is known by it."""

    repository: Repository
    name: str

    def __str__(self) -> str:
        return f"{self.repository}:{self.name}"
