"""What a run tells of its progress: lines, and what becomes of each arch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# What an arch is at. After `done` another stage may follow, after `failed` none.
WAIT, COMPILE, IMAGE, VERIFY, PUSH, DONE, FAILED = "wait", "compile", "image", "verify", "push", "done", "failed"


@dataclass(frozen=True)
class Event:
    """A line of progress, `text`; or what an arch of an image is at, of which there may be a line as well.

    `size` counts bytes that a registry or layout has taken since the last event. `note` is for what the user has to
    know, even if asking for quiet.
    """

    text: str = ""
    image: str = ""
    arch: str = ""
    stage: str = ""
    size: int = 0
    note: bool = False

    def __str__(self) -> str:
        return self.text


# Takes what is told, from any thread: a mere line may be a string.
Report = Callable[[str | Event], None]


def silent(_: str | Event) -> None:
    """A Report that nobody reads."""
