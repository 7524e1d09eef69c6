"""The protocols of stores: layouts and registries are read and written, archives are read, and written as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from build.oci.descriptor import Blob, Descriptor
from build.oci.image import Target
from build.oci.reference import Reference, Repository
from build.oci.referrer import Referrer

# Bytes. A larger blob is never held in memory: it is streamed to and from a file.
SMALL = 1 << 20


class Source(Protocol):
    """Where repositories are read. Content is verified against its digest as it is read.

    Every method raises PublishError for what the source, or the way to it, does wrong.
    """

    async def digest(self, repository: Repository, name: str, *, certain: bool = False) -> str | None:
        """The digest that the tag `name` refers to, or None; with `certain`, a store asks twice before it says None."""

    async def manifest(self, repository: Repository, reference: str) -> Blob | None:
        """The manifest that a tag or digest refers to, or None."""

    async def referrers(self, repository: Repository, digest: str) -> tuple[Referrer, ...]:
        """The manifests whose `subject` is `digest`, as far as the source lists them."""

    async def blob(self, repository: Repository, descriptor: Descriptor, spool: Path) -> Blob:
        """The content of a descriptor, with its size and digest verified; if larger than SMALL, in a file.

        The file is the source's own, or a new one in the folder `spool`.
        """

    def listing(self, registry: str) -> list[tuple[str, str]]:
        """Name and tag of everything in `registry`; empty where that can't be listed, as in registries."""

    async def close(self) -> None:
        """Close connections and files that are kept open."""


@runtime_checkable
class Listing(Protocol):
    """Where it is known what there is."""

    async def references(self, repository: Repository) -> list[Reference]:
        """Everything in a layout or an archive, or the tags of a registry's repository; none if there is none.

        Raises PublishError if the index can't be read, or the registry does not list its tags.
        """


class Store(Source, Protocol):
    """Where repositories are read and written."""

    @property
    def keeps_tags(self) -> bool:
        """Whether an existing tag is not to be moved without --overwrite."""

    @property
    def is_distant(self) -> bool:
        """Whether a round trip costs more than sending a small blob twice, as far as is known yet."""

    async def settled_digest(self, repository: Repository, name: str, wanted: str, before: str | None) -> str | None:
        """The digest that the tag `name` refers to after it was moved from `before` to `wanted`.

        Where writes take time to be seen, it is asked for again while it is `before` or there is no tag.
        """

    def will_write(self, repositories: Iterable[Repository]) -> None:
        """Say which repositories will be written, before anything is asked about them."""

    def expect(self, repository: Repository, blobs: int) -> None:
        """Prepare to receive this many blobs, which saves a round trip while the compilers are at work."""

    async def put_blob(self, repository: Repository, blob: Blob, mount_from: Repository | None = None) -> int:
        """Store a blob, and return how many bytes were sent; `mount_from` is a repository here that has it."""

    async def put_manifest(self, repository: Repository, content: Blob) -> None:
        """Store a manifest under its digest; what it refers to is stored already."""

    async def put_referrers(self, repository: Repository, subject: str, manifests: Sequence[Blob]) -> None:
        """Store manifests whose `subject` is `subject`, and have them listed; their blobs are stored already."""

    async def settle_referrers(self) -> None:
        """List again what `put_referrers` has listed, where another run has overwritten that meanwhile."""

    async def put_tag(self, repository: Repository, name: str, target: Target) -> None:
        """Make the tag `name` refer to `target`; what its manifest refers to is stored already."""
