"""`copy`, `retag`, `tags` and `diff` of references, called as the tasks call them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from build.cli import references
from build.cli.commands import published
from build.cli.options import Options
from build.report import Event

T = TypeVar("T")


@dataclass
class Told:
    """The lines and notes that a task reported."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, event: str | Event) -> None:
        self.lines += filter(None, [str(event)])

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def task(root: Path, name: str, told: Told | None = None, *, dry: bool = False, **flags: Any) -> list[Any]:
    """The results of a task of `build.cli.commands.published`, in a checkout at `root`."""
    return asyncio.run(coroutine(root, name, told, dry=dry, **flags))


def coroutine(
    root: Path, name: str, told: Told | None = None, *, dry: bool = False, **flags: Any
) -> Coroutine[Any, Any, list[Any]]:
    command: Callable[[Options], Coroutine[Any, Any, list[Any]]] = getattr(published, name)
    flags = {"timeout": "30", **flags}
    return command(Options(root, flags, {"HOME": str(root)}, dry, told or Told()))


def copied(root: Path, source: str, target: str, told: Told | None = None, **flags: Any) -> Any:
    """The one result of `copy SRC DST`."""
    [result] = task(root, "copy", told, src=source, dst=target, **flags)
    return result


async def broken_off(root: Path, stop: asyncio.Event, source: str, target: str, **flags: Any) -> None:
    """`copy SRC DST`, cancelled as by a signal as soon as `stop` is set."""
    copying = asyncio.create_task(coroutine(root, "copy", src=source, dst=target, **flags))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({copying, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for each in (copying, stopping):
        each.cancel()
    with suppress(asyncio.CancelledError):
        await copying


def forms(root: Path, source: str, target: str, **flags: Any) -> Sequence[str] | None:
    """What `copy` takes SRC and DST for: references, or None for registries."""
    found = references.both(Options(root, flags, {}, False), source, target)
    return found and [str(each) for each in found]
