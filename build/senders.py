"""Where a run sends and receives: one thread, in which any number of exchanges wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Lock, Thread
from typing import Any, TypeVar

from build.crew import all_or_failures, result_of
from build.errors import PublishError

T = TypeVar("T")


class Senders:
    """Runs coroutines for other threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop, over: asyncio.Event) -> None:
        self._loop = loop
        self._over = over
        self._lock = Lock()
        self._ended = False

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Have it run; raise PublishError if the run is ending."""
        with self._lock:  # what comes after the end would wait for ever
            if not self._ended:
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        raise PublishError("not sent: the run is ending")

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Its result, or what it raised, however long that takes."""
        return result_of(self.begin(coroutine))

    def end(self) -> None:
        """Begin nothing any more, and give up what is under way."""
        with self._lock:
            self._ended = True
            self._loop.call_soon_threadsafe(self._over.set)


@contextmanager
def at_work() -> Iterator[Senders]:
    """Senders; at the end, also a sudden one, whatever is still under way is given up."""
    ready: Future[Senders] = Future()

    async def until_over() -> None:
        over = asyncio.Event()
        ready.set_result(Senders(asyncio.get_running_loop(), over))
        await over.wait()

    # A daemon: Ctrl-C may come as it starts, and then nobody tells it to end.
    thread = Thread(target=lambda: asyncio.run(until_over()), name="senders", daemon=True)
    try:
        thread.start()
        yield ready.result()
    finally:
        if thread.is_alive():
            ready.result().end()
            thread.join()


async def made(running: Future[T]) -> T:
    """What a thread makes, once it is there. A future keeps whoever has waited for it, so it is not asked in vain."""
    return running.result() if running.done() else await asyncio.wrap_future(running)


async def together(things: Iterable[Awaitable[T]]) -> list[T]:
    """Await them all at once; return the results in the things' order, or raise as `crew.results` does."""
    return all_or_failures(await asyncio.gather(*things, return_exceptions=True))


async def together_at_most(at_once: Callable[[], int], things: Iterable[Awaitable[T]]) -> list[T]:
    """The same, but no more are begun than `at_once` says, which may change its mind, and at least one.

    Only then are they taken from `things`: what has to wait takes no memory.
    """
    numbered = enumerate(things)
    ends: dict[int, T | BaseException] = {}
    workers = 1

    async def work() -> None:
        nonlocal workers
        for number, thing in numbered:
            if workers < at_once():
                workers += 1
                group.create_task(work())
            try:
                ends[number] = await thing
            except Exception as error:  # noqa: BLE001
                ends[number] = error

    async with asyncio.TaskGroup() as group:
        await work()
    return all_or_failures([ends[number] for number in sorted(ends)])
