"""Where a release is published, and by which rules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from build.config.arches import Arch
from build.config.release import Release
from build.report import Event, Report
from build.stores.store import Store

if TYPE_CHECKING:
    from build.attest.attach import Signing, Subject
    from build.oci.image import Image, Index

    # What is stated about the list of a release, and about its images: a subject for each, that of the list first.
    Describe = Callable[[Index, Mapping[Arch, Image]], Awaitable[Sequence[Subject]]]


async def no_condition() -> None:
    """No condition: tags may move as soon as the content is stored."""


@dataclass(frozen=True)
class Sign:
    """How a release is signed, and what is stated about it; `spool` is a folder for what has to be read.

    With `statements`, it has provenance, and an SBOM of each image.
    """

    signing: Signing
    describe: Describe
    spool: Path
    statements: bool = False

    def blobs(self, images: int) -> int:
        """How many blobs the signatures of a release with so many images are."""
        each_form = 1 + images + (1 + images if self.statements else 0)
        return len(self.signing.forms) * each_form + 1


@dataclass(frozen=True)
class Destination:
    """A release and the store to publish it to.

    `before_tags` is awaited when the store has all content, before the first tag moves; if it raises, no tag moves.
    Existing tags move only if `overwrite`, or if they are meant to. With `sign`, no tag refers to what is not signed. A
    `dry` run changes nothing.
    """

    release: Release
    store: Store
    report: Report
    overwrite: bool = False
    dry: bool = False
    before_tags: Callable[[], Awaitable[None]] = no_condition
    sign: Sign | None = None

    def stage(self, arch: Arch, stage: str, text: str = "", size: int = 0) -> None:
        """Report the stage that an arch has reached."""
        self.report(Event(text, self.release.image.name, arch.name, stage, size))
