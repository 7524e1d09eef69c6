"""HTTP that does not give up at once: what may pass is tried again, until the run's one deadline.

Tried again are lost connections, time-outs, cut answers, 429 and the 5xx of servers that are busy or starting
(RFC 9110, 15.6; RFC 6585, 4), after a wait that doubles, is never twice the same, or is the server's own `Retry-After`.
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable, Mapping
from threading import Event, Lock
from time import monotonic
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3
from urllib3 import exceptions as lost

from build import trace
from build.connections import Connections
from build.errors import PublishError
from build.faults import Answer, TransientError, explained, proxy_refuses, refusal
from build.oci import LARGEST_MANIFEST
from build.trust import Proxy, Trust, host_of, redacted, seen_from

T = TypeVar("T")

AT_ONCE = 256
TRIES = 7
# Seconds: to connect, between two pieces of an answer, and before a second try (then twice as long, and so on).
CONNECT, READ, FIRST_WAIT, LONGEST_WAIT = 10, 60, 0.2, 8
_BUSY = (429, 500, 502, 503, 504)
# Its debug lines show whole URLs, and in a query stands what lets one write.
logging.getLogger("urllib3").propagate = False
_MOVED = (301, 302, 303, 307, 308)
_HOPS = 5
# It would say of every connection what the user has said before.
urllib3.disable_warnings(lost.InsecureRequestWarning)


class Transport:
    """Exchanges with any number of hosts, from several threads. `timeout` (seconds) starts to run now.

    `quickest` is how long the shortest exchange so far took, in seconds.
    """

    def __init__(self, trust: Trust, timeout: float) -> None:
        self.trust = trust
        self._timeout = timeout
        self._end = monotonic() + timeout
        self.quickest = timeout
        self._closed = Event()
        self._connections = Connections()
        self._lock = Lock()
        self._openers: dict[tuple[str, str], Callable[..., urllib3.BaseHTTPResponse]] = {}

    def close(self) -> None:
        """End all waiting and all exchanges, and refuse every further one: after Ctrl-C no thread goes on."""
        self._closed.set()
        self._connections.close()

    def patiently(self, unit: Callable[[], T]) -> T:
        """The result of `unit`, done again while it raises TransientError; then its PublishError, with the tries."""
        start = monotonic()
        for tried in range(1, TRIES + 1):
            try:
                return unit()
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
                self._closed.wait(wait)
        raise AssertionError("the last try returns or raises")

    def exchange(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], most: int = LARGEST_MANIFEST
    ) -> Answer:
        """One exchange; redirects of a GET or HEAD are followed, and credentials left behind where the host changes.

        At most `most` bytes of an answer are read.
        Raises TransientError for what may pass, PublishError for what will not.
        """
        for _ in range(_HOPS):
            answer = self._once(method, url, body, headers, most)
            location = answer.headers.get("Location", "")
            if answer.status not in _MOVED or method not in ("GET", "HEAD") or not location:
                return answer
            target = seen_from(url, location, "Location")
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = target
        raise PublishError(f"{method} {redacted(url)}: redirected more than {_HOPS} times")

    def _once(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], most: int) -> Answer:
        self.trust.check(url)
        if self._closed.is_set():
            raise PublishError(f"{method} {redacted(url)}: not sent: the run is ending")
        left = self._left()
        if left <= 0:
            raise PublishError(
                f"{method} {redacted(url)}: not sent: no time left\n  give more: --timeout {self._timeout:g} (seconds)"
            )
        proxy = self.trust.proxy(url)
        began = monotonic()
        what = f"{method} {redacted(url)}" + (f" through the proxy {proxy.url}" if proxy else "")
        try:
            response = self._opener(url, proxy)(
                method,
                url,
                body=body,
                headers={"User-Agent": "pause", **headers},
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=min(CONNECT, left), read=min(READ, left)),
            )
            data = response.read(most + 1) if most < sys.maxsize else response.read()
        except (lost.HTTPError, OSError) as error:
            failure = explained(what, host_of(url), error)
            trace.failed(failure, monotonic() - began)
            raise failure from None
        if len(data) > most:
            response.close()  # the rest is not read, so that the connection is of no more use
            raise PublishError(f"{what}: found more than {most} bytes, expected {most} at most")
        response.release_conn()
        took = monotonic() - began
        self.quickest = min(self.quickest, took)
        trace.exchange(what, response.status, len(body or b""), len(data), took)
        answer = Answer(response.status, response.reason, response.headers, data)
        if answer.status == 407:
            raise PublishError(f"{what}: {proxy_refuses(urlsplit(url).scheme, f'407 {answer.reason}')}")
        if answer.status in _BUSY:
            raise TransientError(refusal(method, url, answer), _retry_after(answer))
        return answer

    def _left(self) -> float:
        return self._end - monotonic()

    def _opener(self, url: str, proxy: Proxy | None) -> Callable[..., urllib3.BaseHTTPResponse]:
        """The connections to a host, kept for its next exchange. Each host has its own TLS settings."""
        place = (urlsplit(url).scheme, host_of(url))
        with self._lock:
            if place not in self._openers:
                self._openers[place] = self._opened(*place, proxy)
            return self._openers[place]

    def _opened(self, scheme: str, host: str, proxy: Proxy | None) -> Callable[..., urllib3.BaseHTTPResponse]:
        tls = self.trust.context(host) if scheme == "https" else None
        if proxy is None:
            manager = urllib3.PoolManager(maxsize=AT_ONCE, ssl_context=tls)
            manager.pool_classes_by_scheme = self._connections.pools
            pool = manager.connection_from_url(f"{scheme}://{host}")
            return lambda method, url, **settings: pool.urlopen(method, _target(url), **settings)
        known = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else None
        proxied = urllib3.ProxyManager(proxy.url, proxy_headers=known, maxsize=AT_ONCE, ssl_context=tls)
        proxied.pool_classes_by_scheme = self._connections.pools
        return proxied.urlopen


def _target(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _backoff(tried: int) -> float:
    # Half of it by chance: clients that failed together shall not come back together.
    return float(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tried - 1)) * random.uniform(0.5, 1))  # noqa: S311


def _retry_after(answer: Answer) -> float | None:
    value = answer.headers.get("Retry-After")
    try:
        return urllib3.Retry().parse_retry_after(value) if value else None
    except lost.InvalidHeader:
        return None
