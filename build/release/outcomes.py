"""What another thread makes: there once that is done.

A future of Python's own has a lock and a queue to itself, 1.5 KB of them; an arch has several outcomes, and a release
may have hundreds of arches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, NoReturn, TypeVar

S = TypeVar("S")
T = TypeVar("T")

# Seconds. The kernel may give Ctrl-C to another thread than the main one, which then hears of it when it wakes.
_NAP = 1


class Outcome(Generic[T]):
    """A result, or what was raised in its place, as soon as it `is_there`; it is settled once.

    There is no lock that a sudden end could leave closed: each call is taken from its list by one thread.
    """

    __slots__ = ("_calls", "_failure", "_result", "is_there")

    _result: T

    def __init__(self) -> None:
        self.is_there = False
        self._failure: BaseException | None = None
        self._calls: list[Callable[[], object]] = []

    def settle(self, make: Callable[[], T]) -> None:
        """Let it be what `make` returns or raises, which is called now."""
        try:
            self._result = make()
        except BaseException as error:  # noqa: BLE001
            self._failure = error
        self.is_there = True
        self._tell()

    def when_there(self, call: Callable[[], object]) -> None:
        """Have it called, now or then, by whichever thread; it raises nothing."""
        self._calls.append(call)
        if self.is_there:
            self._tell()

    def failure(self) -> BaseException | None:
        """What was raised, if anything was, however long that takes."""
        if not self.is_there:
            there: SimpleQueue[None] = SimpleQueue()
            self.when_there(partial(there.put, None))
            while not self.is_there:
                with suppress(Empty):
                    there.get(timeout=_NAP)
        return self._failure

    def result(self) -> T:
        """The result, however long that takes; or raise what was raised."""
        if failure := self.failure():
            raise failure
        return self._result

    def _tell(self) -> None:
        while self._calls:
            with suppress(IndexError):
                call = self._calls.pop()
                call()


def finished(result: T) -> Outcome[T]:
    """What is done already, for those who would wait."""
    outcome: Outcome[T] = Outcome()
    outcome.settle(lambda: result)
    return outcome


def failed(error: BaseException) -> Outcome[Any]:
    """What has failed already, the same way."""
    outcome: Outcome[Any] = Outcome()

    def fail() -> NoReturn:
        raise error

    outcome.settle(fail)
    return outcome


def begun(pool: Executor, do: Callable[[], T]) -> Outcome[T]:
    """Have a thread of the pool do it."""
    outcome: Outcome[T] = Outcome()
    pool.submit(outcome.settle, do)
    return outcome


def begun_in_turn(pool: Executor, at_once: int, do: Callable[[S], T], things: Iterable[S]) -> list[Outcome[T]]:
    """Have as many threads of the pool do it for all things, each for one after another."""
    left: deque[tuple[S, Outcome[T]]] = deque((thing, Outcome()) for thing in things)
    outcomes = [outcome for _, outcome in left]

    def work() -> None:
        while left:
            with suppress(IndexError):  # another thread has taken the last
                thing, outcome = left.popleft()
                outcome.settle(partial(do, thing))

    for _ in range(min(at_once, len(outcomes))):
        pool.submit(work)
    return outcomes
