"""Where a run sends and receives: one thread, in which any number of exchanges wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread
from typing import Any, TypeVar

from build.errors import PublishError
from build.release.crew import all_or_failures
from build.release.outcomes import Outcome

T = TypeVar("T")


class Senders:
    """Runs coroutines for other threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop, over: asyncio.Event) -> None:
        self._loop = loop
        self._over = over
        self._lock = Lock()
        self._ended = False

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Outcome[T]:
        """Have it run; raise PublishError if the run is ending."""
        outcome: Outcome[T] = Outcome()
        with self._lock:  # what comes after the end would wait for ever
            if not self._ended:
                running = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
                running.add_done_callback(lambda done: outcome.settle(done.result))
                return outcome
        coroutine.close()
        raise PublishError("not sent: the run is ending")

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Its result, or what it raised, however long that takes."""
        return self.begin(coroutine).result()

    def end(self) -> None:
        """Begin nothing any more, and give up what is under way."""
        with self._lock:
            self._ended = True
            self._loop.call_soon_threadsafe(self._over.set)


@contextmanager
def at_work() -> Iterator[Senders]:
    """Senders; at the end, also a sudden one, whatever is still under way is given up."""
    ready: Outcome[Senders] = Outcome()

    async def until_over() -> None:
        over = asyncio.Event()
        senders = Senders(asyncio.get_running_loop(), over)
        ready.settle(lambda: senders)
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


async def made(running: Outcome[T]) -> T:
    """What a thread makes, once it is there."""
    if not running.is_there:
        loop, there = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # a loop that has ended waits for nothing
                loop.call_soon_threadsafe(there.set)

        running.when_there(tell)
        await there.wait()
    return running.result()


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
