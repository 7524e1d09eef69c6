"""Runs parts of a task concurrently, so that the failure of one does not stop the others."""

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
    """Start each part as a task. A failure does not stop the others; all are cancelled when the context ends."""
    tasks = {name: asyncio.create_task(part) for name, part in parts.items()}
    try:
        yield tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def each_separately(kind: str, parts: Mapping[str, Awaitable[Sequence[T]]], report: Report) -> list[T]:
    """The results of several parts by name; `kind` is the plural noun for messages. A failure does not stop the others.

    Each part is reported as done or failed. Raises BuildError with all failures; a single part raises its own error.
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
        failed = (f"\n{name}: {failures[name]}".replace(_RETRY, "") for name in parts if name in failures)
        lines = "".join(text.replace("\n", "\n  ") for text in failed)
        raise BuildError(f"{len(failures)} of {len(parts)} {kind} failed{lines}{_RETRY}")
    return [result for each in results for result in each]
