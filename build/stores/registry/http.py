"""The one door to HTTP: requests through httpx2, redirects, bounds on size and time, and the trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from build.errors import PublishError
from build.oci.descriptor import Blob
from build.oci.media_types import LARGEST_MANIFEST
from build.report import trace_failure, trace_request
from build.stores.registry.access import Access, host_of, redacted, resolved
from build.stores.registry.explain import TransientError, explained, proxy_refusal, refusal
from build.stores.registry.retry import Retries, retry_after

if TYPE_CHECKING:
    import httpx2

# Seconds: to connect, name and TLS included; and for each further part of a request or its answer.
_CONNECT, _STALLED = 10, 60
_CHUNK = 1 << 18
_BUSY = (429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
_HOPS = 5

Body = bytes | Blob | None


@dataclass(frozen=True)
class Response:
    """A server's answer: headers by lower-case name, and its body unless that went elsewhere."""

    status: int
    reason: str
    headers: Mapping[str, str]
    data: bytes = field(repr=False)


class Http:
    """Requests to any number of hosts. Connections are kept; TLS settings and proxies follow from `access`."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.retries = Retries(access.timeout)
        self._clients: dict[tuple[str, str], httpx2.AsyncClient] = {}

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    async def request(
        self,
        method: str,
        url: str,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        most: int = LARGEST_MANIFEST,
        receive: Callable[[bytes], object] | None = None,
    ) -> Response:
        """Send a request and return the answer, with at most `most` bytes of body.

        Redirects are followed: on GET and HEAD all, on other methods 307 and 308 (RFC 9110, 15.4); credentials are not
        sent to another origin. The body of a 200 goes to `receive`, chunk by chunk, if that is given. Raises
        TransientError for what may go away, PublishError for what won't.
        """
        named = dict(headers or {})
        for _ in range(_HOPS):
            response = await self._once(method, url, body, named, most, receive)
            location = response.headers.get("location", "")
            followed = method in ("GET", "HEAD") or response.status in (307, 308)
            if response.status not in _REDIRECTS or not followed or not location:
                return response
            target = resolved(url, location, "Location")
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                named = {name: value for name, value in named.items() if name != "Authorization"}
            url = target
        raise PublishError(f"{method} {redacted(url)}: redirected more than {_HOPS} times")

    async def _once(
        self,
        method: str,
        url: str,
        body: Body,
        headers: Mapping[str, str],
        most: int,
        receive: Callable[[bytes], object] | None,
    ) -> Response:
        self.access.check(url)
        if (left := self.retries.left()) <= 0:
            timeout = f"--timeout {self.access.timeout:g} (seconds)"
            raise PublishError(f"{method} {redacted(url)}: not sent: no time left\n  allow more: {timeout}")
        proxy = self.access.proxy(url)
        what = f"{method} {redacted(url)}" + (f" through the proxy {redacted(proxy)}" if proxy else "")
        began = monotonic()
        try:
            with _explaining(what, host_of(url)):
                async with asyncio.timeout(left):
                    response, received = await self._exchange(method, url, body, headers, most, receive)
        except PublishError as failure:
            trace_failure(failure, monotonic() - began)
            raise
        except _TooLargeError:
            raise PublishError(f"{what}: found more than {most} bytes, expected {most} at most") from None
        took = monotonic() - began
        self.retries.observe(took)
        trace_request(what, response.status, _size(body), received, took)
        if response.status == 407:
            raise PublishError(f"{what}: {proxy_refusal(urlsplit(url).scheme, f'407 {response.reason}')}")
        if response.status in _BUSY:
            wait = retry_after(response.headers.get("retry-after", ""))
            raise TransientError(refusal(method, url, response), wait)
        return response

    async def _exchange(
        self,
        method: str,
        url: str,
        body: Body,
        headers: Mapping[str, str],
        most: int,
        receive: Callable[[bytes], object] | None,
    ) -> tuple[Response, int]:
        client = self._client(url)
        named = {"User-Agent": "pause", **headers}
        if body is not None:
            named["Content-Length"] = str(_size(body))
        content = body if body is None or isinstance(body, bytes) else _chunks(body)
        request = client.build_request(method, url, content=content, headers=named)
        response = await client.send(request, stream=True)
        try:
            received, kept = 0, bytearray()
            async for chunk in response.aiter_bytes():
                received += len(chunk)
                if received > most:
                    raise _TooLargeError
                if receive and response.status_code == 200:
                    receive(chunk)
                else:
                    kept += chunk
        finally:
            await response.aclose()
        found = Response(response.status_code, response.reason_phrase, _joined(response.headers), bytes(kept))
        return found, received

    def _client(self, url: str) -> httpx2.AsyncClient:
        """Each origin has connections and TLS settings of its own."""
        origin = scheme, host = urlsplit(url).scheme, host_of(url)
        if origin not in self._clients:
            self._clients[origin] = _new_client(self.access, url, scheme, host)
        return self._clients[origin]


def _new_client(access: Access, url: str, scheme: str, host: str) -> httpx2.AsyncClient:
    import httpx2

    proxy_url = access.proxy(url)
    proxy = None
    if proxy_url:
        secure = proxy_url.startswith("https:")
        proxy = httpx2.Proxy(proxy_url, ssl_context=access.tls(host_of(proxy_url)) if secure else None)
    transport = httpx2.AsyncHTTPTransport(
        verify=access.tls(host) if scheme == "https" else _no_tls(),
        http2=scheme == "https",
        trust_env=False,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
        proxy=proxy,
    )
    timeout = httpx2.Timeout(_STALLED, connect=_CONNECT, pool=None)
    return httpx2.AsyncClient(transport=transport, trust_env=False, timeout=timeout, follow_redirects=False)


def _no_tls() -> Any:
    """A context that trusts nothing, for origins that speak plain HTTP: loading the trust store takes time."""
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def _chunks(blob: Blob) -> AsyncIterator[bytes]:
    with blob.open() as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _size(body: Body) -> int:
    return body.size if isinstance(body, Blob) else len(body or b"")


def _joined(headers: httpx2.Headers) -> dict[str, str]:
    """Headers by lower-case name; repeated ones are joined by commas (RFC 9110, 5.3)."""
    return {name.lower(): value for name, value in headers.items()}


@contextmanager
def _explaining(what: str, host: str) -> Iterator[None]:
    """Turn what httpx2 raises into one PublishError."""
    import httpx2

    try:
        yield
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, UnicodeError):
        raise PublishError(f"{what}: not a valid address") from None
    except httpx2.DecodingError:
        raise TransientError(f"{what}: the answer's content coding is damaged") from None
    except (httpx2.HTTPError, OSError) as error:
        raise explained(what, host, error) from None


class _TooLargeError(Exception):
    """An answer with more bytes than were asked for."""
