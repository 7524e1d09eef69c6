"""Parts of a run that go on side by side, where the failure of one stops no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from build.errors import BuildError, all_of
from build.report import Report

T = TypeVar("T")
_RETRY = "\n  retry: finished work is kept"


@asynccontextmanager
async def started(parts: Mapping[T, Coroutine[Any, Any, Any]]) -> AsyncIterator[dict[T, asyncio.Task[Any]]]:
    """Each part as a running task. The failure of one affects no other; when the context ends, so do they all."""
    tasks = {name: asyncio.create_task(part) for name, part in parts.items()}
    try:
        yield tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def each_separately(kind: str, parts: Mapping[str, Awaitable[Sequence[T]]], report: Report) -> list[T]:
    """The results of several parts of one `kind` (plural), by name; the failure of one stops no other.

    The outcome of each is reported. Raises BuildError with all failures; a single part fails with its own message.
    """
    if len(parts) == 1:
        return [result for part in parts.values() for result in await part]
    failures: dict[str, BuildError] = {}

    async def outcome(name: str, part: Awaitable[Sequence[T]]) -> Sequence[T]:
        try:
            results = await part
        except BuildError as error:
            failures[name] = error
            results = []
        report(f"{name}: {'failed' if name in failures else 'done'}")
        return results

    results = await all_of([outcome(name, part) for name, part in parts.items()])
    if failures:
        lines = "\n".join(f"{name}: {failures[name]}" for name in parts if name in failures).replace(_RETRY, "")
        raise BuildError(f"{len(failures)} of {len(parts)} {kind} failed\n{lines}{_RETRY}")
    return [result for each in results for result in each]
