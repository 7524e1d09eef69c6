"""Retries of what may go away, and how many requests are in flight.

Retried until the deadline of the run are refused and lost connections, time-outs, 408, 429, and the 5xx of servers that
are busy or starting (RFC 9110, 15.5.9 and 15.6; RFC 6585, 4); a few times what is more likely to stay, such as damaged
content. The wait doubles each time, with jitter, or is the server's `Retry-After`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

from build.errors import PublishError
from build.report import Event, Report, silent, trace_retry
from build.stores.http.failures import TransientError

T = TypeVar("T")

# Seconds before the second try; twice as long before each further one.
FIRST_WAIT, LONGEST_WAIT = 0.2, 8
# Seconds of retries before the user is told.
_PATIENCE = 3
# Requests in flight: enough to keep a core busy with a registry nearby, and for a distant one.
_FEW, _MANY = 8, 256
# Seconds that every request to a distant registry takes.
_LONG = 0.02


class Retries:
    """The deadline of a run, and how many requests are in flight: at most `parallel`, or as many as suit the registry.

    `timeout` is in seconds, and only those count in which a request is under way or waits to be retried: not those that
    compilers take in between. `report` learns once that something is retried for long.
    """

    def __init__(self, timeout: float, parallel: int | None = None, report: Report = silent) -> None:
        self.timeout = timeout
        self.quickest = timeout
        self._report = report
        self._spent, self._began, self._under_way = 0.0, 0.0, 0
        self._last_failure: TransientError | None = None
        self._told = False
        self._in_flight = asyncio.Semaphore(parallel or _FEW)
        self._may_grow, self._made = parallel is None, 0
        self._since: tuple[float, float] | None = None

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.timeout - self._spent - (monotonic() - self._began if self._under_way else 0)

    @contextmanager
    def _counting(self) -> Iterator[None]:
        if not self._under_way:
            self._began = monotonic()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._spent += monotonic() - self._began

    async def retried(self, unit: Callable[[], Awaitable[T]]) -> T:
        """The result of `unit`, repeated while it raises TransientError; then PublishError with the number of tries."""
        async with self._in_flight:
            with self._counting():
                start, tried = monotonic(), 0
                last: TransientError | None = None
                while True:
                    tried += 1
                    try:
                        return await unit()
                    except TransientError as error:
                        # What the deadline cuts off says less than what failed before.
                        last = error if self.left() > 0 else last or self._last_failure or error
                        self._last_failure = last
                    wait = last.wait or 0
                    spent = f" (tried {tried} times in {monotonic() - start:.0f} s)" if tried > 1 else ""
                    if self.left() <= wait:
                        asked = f"; it asks to wait {wait:.0f} s" if wait else ""
                        late = f"timed out: --timeout {self.timeout:g} (seconds)"
                        raise PublishError(f"{last}{spent}{asked}\n  {late}", last.reason)
                    if tried >= last.tries:
                        hint = "check that the registry is running, then retry: finished work is kept"
                        raise PublishError(f"{last}{spent}\n  {hint}", last.reason)
                    wait = min(max(wait, _backoff(tried)), self.left())
                    self._tell(last, monotonic() + wait - start)
                    trace_retry(last, wait)
                    await asyncio.sleep(wait)

    def _tell(self, error: TransientError, waiting: float) -> None:
        if waiting > _PATIENCE and not self._told:
            self._told = True
            words = str(error).partition("\n")[0]
            self._report(Event(f"{words}: retrying for {self.left():.0f} s at most (--timeout)"))

    def observe(self, took: float) -> None:
        """Note that a request was answered after so many seconds.

        If none of the recent ones was quick, more may be in flight; but not while this process and its compilers keep a
        core busy, because then that may be the reason.
        """
        self.quickest = min(self.quickest, took)
        self._made += 1
        self._since = self._since or (monotonic() - took, _cpu_time())
        if self._made < _FEW or not self._may_grow:
            return
        (began, worked), self._since, self._made = self._since, (monotonic(), _cpu_time()), 0
        if self.quickest > _LONG and self._since[1] - worked < self._since[0] - began:
            self._may_grow = False
            for _ in range(_MANY - _FEW):
                self._in_flight.release()


def _cpu_time() -> float:
    """Seconds of CPU time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def _backoff(tried: int) -> float:
    import random

    # Half of it is jitter, so that clients that failed together do not return together.
    return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(tried - 1, 16)) * random.uniform(0.5, 1)  # noqa: S311


def retry_after(value: str) -> float | None:
    """Seconds, which a server gives as such or as a date (RFC 9110, 10.2.3); None for anything else."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(value)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):  # not a date, or with a time zone that Python can't have
        return None
