"""Failures that a user can cause or mend. Each message says what, where, expected, found, and what to do."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import TypeVar

T = TypeVar("T")


class BuildError(Exception):
    """A failure that the user can understand and act on; shown as one message, never as a traceback."""


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

    Raises the first failure; if several parts failed for different reasons, its message lists them all. Anything but a
    BuildError cancels the other parts.
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
        raise type(failures[0])("\n  ".join(dict.fromkeys(map(str, failures)))) from None
    return [each for each in outcomes if not isinstance(each, BuildError)]
