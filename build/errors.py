"""Failures that a user can cause or mend. Each message says what, where, expected, found, and what to do."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Self, TypeVar

T = TypeVar("T")


class BuildError(Exception):
    """A failure that the user can understand and act on; shown as one message, never as a traceback.

    `reason` is what the failures of several requests have in common; by default, the whole message.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message

    def at(self, where: str) -> Self:
        """The same failure, with `where` in front of its message."""
        return type(self)(f"{where}: {self}", self.reason if self.reason != str(self) else "")


class UsageError(BuildError):
    """The command line, the environment or arches.yaml contains something invalid."""


class CompileError(BuildError):
    """A compiler failed or is missing. Carries the compiler's own words."""


class ElfError(BuildError):
    """A binary is not what its row in the arch table requires."""


class ImageError(BuildError):
    """An image, index or Dockerfile is invalid or contradicts itself."""


class PublishError(BuildError):
    """A registry or layout failed, returned something wrong, or holds something else under the tag."""


async def all_of(parts: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all parts, in their order, once none is running.

    Raises the first failure; if several parts failed for different reasons, its message has one of each, and how many
    more there are. Anything but a BuildError cancels the other parts.
    """

    import asyncio

    async def outcome(part: Awaitable[T]) -> T | BuildError:
        try:
            return await part
        except BuildError as error:
            return error

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(outcome(part)) for part in parts]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    outcomes = [task.result() for task in tasks]
    failures = [each for each in outcomes if isinstance(each, BuildError)]
    if failures:
        raise _joined(failures) from None
    return [each for each in outcomes if not isinstance(each, BuildError)]


def _joined(failures: Sequence[BuildError]) -> BuildError:
    told = once((each.reason, str(each)) for each in failures)
    return type(failures[0])("\n  ".join(told), "\n  ".join(dict.fromkeys(each.reason for each in failures)))


def once(failures: Iterable[tuple[str, str]]) -> list[str]:
    """Of messages with the same reason, the first one and how many more there are; each failure is reason, message."""
    by_reason: dict[str, dict[str, None]] = {}
    for reason, message in failures:
        by_reason.setdefault(reason, {})[message] = None
    return [
        first + (f"\n  {len(more)} more failed for the same reason" if more else "")
        for first, *more in by_reason.values()
    ]
