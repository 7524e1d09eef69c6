"""Where a release is published, and by which rules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from build.config.arches import Arch
from build.config.release import Release
from build.report import Event, Report
from build.stores.store import Store


async def no_condition() -> None:
    """No condition: tags may move as soon as the content is stored."""


@dataclass(frozen=True)
class Destination:
    """A release and the store to publish it to.

    `before_tags` is awaited when the store has all content, before the first tag moves; if it raises, no tag moves.
    Existing tags move only if `overwrite`, or if they are meant to. A `dry` run changes nothing.
    """

    release: Release
    store: Store
    report: Report
    overwrite: bool = False
    dry: bool = False
    before_tags: Callable[[], Awaitable[None]] = no_condition

    def stage(self, arch: Arch, stage: str, text: str = "", size: int = 0) -> None:
        """Report the stage that an arch has reached."""
        self.report(Event(text, self.release.image.name, arch.name, stage, size))
