"""HTTP that does not give up at once: what may pass is tried again, until the run's one deadline.

Tried again are lost connections, time-outs, cut answers, 429 and the 5xx of servers that are busy or starting
(RFC 9110, 15.6; RFC 6585, 4), after a wait that doubles, is never twice the same, or is the server's own `Retry-After`.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import TypeVar
from urllib.parse import urlsplit

import h11

from build import trace
from build.errors import PublishError
from build.oci.media_types import LARGEST_MANIFEST
from build.stores.registry.connections import Host
from build.stores.registry.faults import (
    Answer,
    CutShortError,
    TooLargeError,
    TransientError,
    TunnelError,
    explained,
    proxy_refuses,
    refusal,
)
from build.stores.registry.trust import Proxy, Trust, host_of, redacted, seen_from

T = TypeVar("T")

# Exchanges in flight: at first, which is what keeps a core busy if the registry is nearby, and at most.
_FEW, _MANY = 32, 256
# Seconds for an exchange from which on so few do not.
_LONG = 0.05
TRIES = 7
# Seconds before a second try (then twice as long, and so on).
FIRST_WAIT, LONGEST_WAIT = 0.2, 8
_BUSY = (429, 500, 502, 503, 504)
_MOVED = (301, 302, 303, 307, 308)
_HOPS = 5


class Transport:
    """Exchanges with any number of hosts, from one event loop. `timeout` (seconds) starts to run now.

    `quickest` is how long the shortest exchange so far took, in seconds; `at_once` how many are in flight at most.
    """

    def __init__(self, trust: Trust, timeout: float) -> None:
        self.trust = trust
        self.quickest = timeout
        self._timeout = timeout
        self._end = monotonic() + timeout
        self.at_once = _FEW
        self._lanes = asyncio.Semaphore(_FEW)
        self._made = 0
        self._since: tuple[float, float] | None = None
        self._hosts: dict[tuple[str, str], Host] = {}

    def close(self) -> None:
        """Give up the connections that are kept."""
        for host in self._hosts.values():
            host.close()

    async def patiently(self, unit: Callable[[], Awaitable[T]]) -> T:
        """The result of `unit`, done again while it raises TransientError; then its PublishError, with the tries."""
        async with self._lanes:
            start = monotonic()
            for tried in range(1, TRIES + 1):
                try:
                    return await unit()
                except TransientError as error:
                    wait = max(error.wait or 0, _backoff(tried))
                    spent = f" (tried {tried} times in {monotonic() - start:.0f} s)" if tried > 1 else ""
                    if wait > self._left():
                        asked = f"; it asks to be left alone for {wait:.0f} s" if error.wait else ""
                        raise PublishError(
                            f"{error}{spent}{asked}\n  there is no time left: --timeout {self._timeout:g} (seconds)"
                        ) from None
                    if tried == TRIES:
                        hint = "see whether a registry is there, and run this again: it goes on where this ended"
                        raise PublishError(f"{error}{spent}\n  {hint}") from None
                    trace.again(error, wait)
                await asyncio.sleep(wait)
            raise AssertionError("the last try returns or raises")

    async def exchange(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], most: int = LARGEST_MANIFEST
    ) -> Answer:
        """One exchange; redirects of a GET or HEAD are followed, and credentials left behind where the host changes.

        At most `most` bytes of an answer are read.
        Raises TransientError for what may pass, PublishError for what will not.
        """
        for _ in range(_HOPS):
            answer = await self._once(method, url, body, headers, most)
            location = answer.headers.get("location", "")
            if answer.status not in _MOVED or method not in ("GET", "HEAD") or not location:
                return answer
            target = seen_from(url, location, "Location")
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = target
        raise PublishError(f"{method} {redacted(url)}: redirected more than {_HOPS} times")

    async def _once(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], most: int) -> Answer:
        self.trust.check(url)
        left = self._left()
        if left <= 0:
            raise PublishError(
                f"{method} {redacted(url)}: not sent: no time left\n  give more: --timeout {self._timeout:g} (seconds)"
            )
        proxy = self.trust.proxy(url)
        began = monotonic()
        self._since = self._since or (began, _worked())
        what = f"{method} {redacted(url)}" + (f" through the proxy {proxy.url}" if proxy else "")
        host = self._host(url, proxy)
        try:
            async with asyncio.timeout(left):
                answer = await host.exchange(method, url, {"User-Agent": "pause", **headers}, body, most)
        except TooLargeError:
            raise PublishError(f"{what}: found more than {most} bytes, expected {most} at most") from None
        except (UnicodeError, h11.LocalProtocolError):  # a host that can't be one, or can't be named in a header
            raise PublishError(f"{what}: no address to go to") from None
        except (OSError, CutShortError, TunnelError, h11.RemoteProtocolError) as error:
            failure = explained(what, host_of(url), error)
            trace.failed(failure, monotonic() - began)
            raise failure from None
        took = monotonic() - began
        self._learn(took)
        trace.exchange(what, answer.status, len(body or b""), len(answer.data), took)
        if answer.status == 407:
            raise PublishError(f"{what}: {proxy_refuses(urlsplit(url).scheme, f'407 {answer.reason}')}")
        if answer.status in _BUSY:
            raise TransientError(refusal(method, url, answer), _retry_after(answer))
        return answer

    def _learn(self, took: float) -> None:
        """Note how long an exchange took. If none of the last ones was quick, let more be in flight; but not while this
        process and its compilers keep a core busy, as then that may be the reason.
        """
        self.quickest = min(self.quickest, took)
        self._made += 1
        if self._made < _FEW or self._since is None or self.at_once == _MANY:
            return
        since, worked = self._since
        self._made, self._since = 0, (monotonic(), _worked())
        if self.quickest > _LONG and self._since[1] - worked < self._since[0] - since:
            self.at_once = _MANY
            for _ in range(_MANY - _FEW):
                self._lanes.release()

    def _left(self) -> float:
        return self._end - monotonic()

    def _host(self, url: str, proxy: Proxy | None) -> Host:
        """Each host has its own connections and its own TLS settings."""
        place = scheme, name = urlsplit(url).scheme, host_of(url)
        if place not in self._hosts:
            tls = self.trust.context(name) if scheme == "https" else None
            proxy_tls = self.trust.context(host_of(proxy.url)) if proxy and proxy.url.startswith("https:") else None
            self._hosts[place] = Host(scheme, name, tls, proxy, proxy_tls)
        return self._hosts[place]


def _worked() -> float:
    """Seconds of a core: this process, and its children that have ended."""
    return sum(os.times()[:4])


def _backoff(tried: int) -> float:
    # Half of it by chance: clients that failed together shall not come back together.
    return float(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tried - 1)) * random.uniform(0.5, 1))  # noqa: S311


def _retry_after(answer: Answer) -> float | None:
    """Seconds, which a server tells as such or as a date (RFC 9110, 10.2.3)."""
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
