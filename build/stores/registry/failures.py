"""What goes wrong on the way to a registry: one line for each failure, and the retries of those that may go away.

Retried until the deadline of the run are refused and lost connections, time-outs, 408, 429, and the 5xx of servers that
are busy or starting (RFC 9110, 15.5.9 and 15.6; RFC 6585, 4); a few times what is more likely to stay, such as damaged
content. The wait doubles each time, with jitter, or is the server's `Retry-After`. The lines contain no secret.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar
from urllib.parse import urlsplit

from build.errors import PublishError
from build.report import Event, Report, silent, trace_retry
from build.stores.registry.access import host_of

T = TypeVar("T")

TRIES = 7
# Seconds before the second try; twice as long before each further one.
FIRST_WAIT, LONGEST_WAIT = 0.2, 8
# Requests in flight: enough to keep a core busy with a registry nearby, and for a distant one.
_FEW, _MANY = 32, 256
# Libraries whose exceptions mean that the other side does not keep to HTTP/2 or SOCKS.
_PROTOCOLS = ("h2", "hpack", "hyperframe", "socksio")
# Words of httpcore2 for a connection, or a stream of HTTP/2, that the other side has ended.
_ENDED = ("disconnected", "closed", "<ConnectionTerminated", "<StreamReset")
# OpenSSL's reasons for what is not TLS.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
# Characters of an exception's words that are shown.
_LONGEST = 200
# Seconds of retries before the user is told.
_PATIENCE = 3
# Seconds that every request to a distant registry takes.
_LONG = 0.05


class TransientError(PublishError):
    """A failure that may go away; `wait` is the number of seconds that the server asks to wait, if it does."""

    # How often it is retried at most, while there is time.
    tries = TRIES

    def __init__(self, message: str, wait: float | None = None, status: int = 0) -> None:
        super().__init__(message)
        self.wait, self.status = wait, status


class UnavailableError(TransientError):
    """The registry, or the way to it, is not available at the moment: retried for as long as there is time."""

    tries = sys.maxsize


class NotVisibleError(UnavailableError):
    """What was pushed can't be seen yet: some registries take their time."""


class PlainHTTPError(PublishError):
    """A server does not speak TLS."""


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
                        raise PublishError(f"{last}{spent}{asked}\n  {late}")
                    if tried >= last.tries:
                        hint = "check that the registry is running, then retry: finished work is kept"
                        raise PublishError(f"{last}{spent}\n  {hint}")
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


def explained(what: str, url: str, proxy: str | None, error: Exception) -> PublishError:
    """The meaning of an exception during a request to `url`: TransientError if a retry may help."""
    causes = list(_causes(error))
    if breaks_protocol(error):
        return TransientError(f"{what}: the answer is not HTTP: {_line(causes[-1])}")
    if type(error).__name__ == "RemoteProtocolError" and not any(word in str(e) for e in causes for word in _ENDED):
        return TransientError(f"{what}: the answer is not HTTP: {_line(error)}")
    if type(error).__name__ == "LocalProtocolError":
        return PublishError(f"{what}: can't be sent: {_line(error)}")
    if any(isinstance(each, ssl.SSLError) and each.reason in _NOT_TLS for each in causes):
        host = host_of(url)
        return PlainHTTPError(f"{what}: {host} speaks plain HTTP\n  if that is intended: --insecure-registry {host}")
    if words := _permanent(causes, url, proxy):
        return PublishError(f"{what}: {words}")
    return UnavailableError(f"{what}: {_words(causes)}")


def breaks_protocol(error: Exception) -> bool:
    """Whether a server, or a SOCKS proxy, said what the libraries have no meaning for.

    They let some of their own exceptions through, and what Python raises for a status that is no number.
    """
    packages = {type(each).__module__.partition(".")[0] for each in _causes(error)}
    return not packages.isdisjoint(_PROTOCOLS) or (
        isinstance(error, ValueError | AssertionError) and not isinstance(error, UnicodeError)
    )


def _line(error: BaseException) -> str:
    """The words of an exception in one short line."""
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and everything that led to it, the outermost first."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        waiting.append(each.__cause__ or each.__context__)


def _permanent(causes: list[BaseException], url: str, proxy: str | None) -> str | None:
    """What is wrong and what to do, if a retry is of no use."""
    host = host_of(url)
    for error in causes:
        if proxy and type(error).__name__ == "ProxyError" and (_asks_for_password(error) or str(error)[:1] == "4"):
            return proxy_refusal(url, proxy, str(error))
        if isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN:
            # With a proxy, the only name that this machine resolves is the proxy's.
            hint = "" if proxy else ", and whether this machine needs HTTPS_PROXY"
            return f"no such host: {error.strerror}\n  check the spelling of {host_of(proxy or url)}{hint}"
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"{host}: certificate verification failed: {error.verify_message}"
                f"\n  add its CA as certs.d/{host}/ca.crt where Docker looks, or: --insecure-registry {host}"
            )
        reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
        if "ALERT" in reason:
            wanted = f"certs.d/{host}/client.cert and client.key"
            return f"{host} refuses the connection: {reason}\n  it may require a client certificate: {wanted}"
    return None


def proxy_refusal(url: str, proxy: str, words: str) -> str:
    """A proxy's own words about a request to `url`, and where its password goes if that is what it asks for."""
    wanted = f"{urlsplit(url).scheme.upper()}_PROXY={urlsplit(proxy).scheme}://USER:PASSWORD@HOST:PORT"
    hint = f"\n  it requires credentials: {wanted}" if _asks_for_password(words) else ""
    return f"the proxy refuses: {words}{hint}"


def _asks_for_password(words: object) -> bool:
    """Whether a proxy refuses for want of the right password: HTTP's status, or what httpcore2 says of SOCKS."""
    return str(words).startswith(("407", "Invalid username/password", "Requested "))


def _words(causes: list[BaseException]) -> str:
    names = {type(error).__name__ for error in causes}
    if any(isinstance(error, TimeoutError) for error in causes) or any("Timeout" in name for name in names):
        return "no connection in time" if {"ConnectTimeout"} & names else "no answer in time"
    for error in causes:
        if type(error).__name__ == "ProxyError":
            return f"the proxy refuses: {error}"
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and (error.errno or 0) > 0:
            return os.strerror(error.errno or 0)
    if names & {"RemoteProtocolError", "ReadError", "EndOfStream", "BrokenResourceError", "IncompleteRead"}:
        return "the answer was cut short"
    return str(causes[0]) or type(causes[0]).__name__
