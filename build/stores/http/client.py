"""The one door to HTTP: requests through httpx2, redirects, bounds on size and time, and the trace."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from build.errors import PublishError
from build.oci.descriptor import Blob
from build.report import trace_failure, trace_request
from build.stores.http.access import Access
from build.stores.http.failures import TransientError, UnavailableError, breaks_protocol, explained, proxy_refusal
from build.stores.http.messages import Request, Response, answered, refusal, size_of
from build.stores.http.proxies import proxy_for
from build.stores.http.retries import Retries, retry_after
from build.stores.http.tls import tls_context
from build.stores.http.urls import host_of, origin_of, redacted, resolved

if TYPE_CHECKING:
    import httpx2

# Seconds: to connect, name and TLS included; and for each further part of a request or its answer.
_CONNECT, _STALLED = 10, 60
_CHUNK = 1 << 18
_BUSY = (408, 429, 500, 501, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
_HOPS = 5


class Http:
    """Requests to any number of hosts. Connections are kept; TLS settings and proxies follow from `access`."""

    def __init__(self, access: Access) -> None:
        import httpx2  # noqa: F401  (which takes time, before any is counted)

        self.access = access
        self.retries = Retries(access.timeout, access.parallel, access.report)
        self._clients: dict[tuple[str, str], httpx2.AsyncClient] = {}
        self._replaced: list[httpx2.AsyncClient] = []
        # Origins that have answered, and those that are spoken to in HTTP/1.1 because in HTTP/2 they have not.
        self._answered, self._http1 = set[tuple[str, str]](), set[tuple[str, str]]()

    async def close(self) -> None:
        """Close all connections."""
        for client in (*self._clients.values(), *self._replaced):
            await client.aclose()

    async def request(self, request: Request) -> Response:
        """Send a request and return the answer.

        Redirects are followed: on GET and HEAD all, on other methods 307 and 308 (RFC 9110, 15.4); credentials are not
        sent to another origin, and a body with credentials is sent to no other address. Raises TransientError for what
        may go away, PublishError for what won't.
        """
        for _ in range(_HOPS):
            response = await self._once(request)
            location = response.headers.get("location", "")
            followed = request.method in ("GET", "HEAD") or response.status in (307, 308)
            if response.status not in _REDIRECTS or not followed or not location:
                return response
            target = resolved(request.url, location, "Location")
            if request.secret:
                raise PublishError(
                    f"{request}: found a redirect to {redacted(target)}, expected an answer: the request contains"
                    " credentials and is sent to no other address"
                )
            headers = request.headers
            if origin_of(target) != origin_of(request.url):
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            request = replace(request, url=target, headers=headers)
        raise PublishError(f"{request}: redirected more than {_HOPS} times")

    async def _once(self, request: Request) -> Response:
        self.access.check(request.url)
        if (left := self.retries.left()) <= 0:
            raise UnavailableError(f"{request}: not sent", f"{host_of(request.url)}: not sent")
        proxy = proxy_for(self.access, request.url)
        what = f"{request}" + (f" through the proxy {redacted(proxy)}" if proxy else "")
        began = monotonic()
        try:
            with _explaining(what, request.url, proxy):
                async with asyncio.timeout(left):
                    response, received = await self._exchange(request)
        except PublishError as failure:
            trace_failure(failure, monotonic() - began)
            raise
        trace_request(what, response.status, size_of(request.body), received, monotonic() - began)
        if response.status == 407 and proxy:
            raise PublishError(f"{what}: {proxy_refusal(request.url, proxy, f'407 {response.reason}')}")
        if response.status in _BUSY and (request.method, response.status) != ("HEAD", 501):
            wait = retry_after(response.headers.get("retry-after", ""))
            reason = f"{host_of(request.url)}: {answered(response)}"
            raise UnavailableError(refusal(request, response), reason, wait, response.status)
        return response

    async def _exchange(self, request: Request) -> tuple[Response, int]:
        import httpx2

        origin = urlsplit(request.url).scheme, host_of(request.url)
        client, body = self._client(request.url, origin), request.body
        headers = {"User-Agent": "pause", **request.headers}
        if body is not None:
            headers["Content-Length"] = str(size_of(body))
        content = _File(body) if isinstance(body, Blob) else body
        sent = client.build_request(request.method, request.url, content=content, headers=headers)
        began = monotonic()
        try:
            response = await client.send(sent, stream=True)
        except (httpx2.ReadError, httpx2.WriteError):
            if not self._falls_back(origin, client):
                raise
            return await self._exchange(request)
        self._answered.add(origin)
        self.retries.observe(monotonic() - began)
        try:
            received, kept = 0, bytearray()
            async for chunk in response.aiter_bytes():
                received += len(chunk)
                if received > request.most:
                    found = f"found more than {request.most} bytes, expected {request.most} at most"
                    raise PublishError(f"{request}: {found}")
                if request.receive and response.status_code == 200:
                    request.receive(chunk)
                else:
                    kept += chunk
        finally:
            await response.aclose()
        # Repeated headers are joined by commas, but the same one twice is one.
        named = {name.lower(): ", ".join(dict.fromkeys(response.headers.get_list(name))) for name in response.headers}
        answer = Response(request.url, response.status_code, response.reason_phrase, named, bytes(kept))
        return answer, received

    def _client(self, url: str, origin: tuple[str, str]) -> httpx2.AsyncClient:
        """Each origin has connections and TLS settings of its own."""
        if origin not in self._clients:
            http2 = origin[0] == "https" and origin not in self._http1
            self._clients[origin] = _new_client(self.access, url, *origin, http2=http2)
        return self._clients[origin]

    def _falls_back(self, origin: tuple[str, str], client: httpx2.AsyncClient) -> bool:
        """Whether HTTP/1.1 is used instead, because a TLS server hung up on `client` instead of its first answer.

        HTTP/2 writes more before it reads: why a server hangs up, such as for want of a client certificate, gets lost.
        """
        if origin[0] != "https" or origin in self._answered:
            return False
        if self._clients.get(origin) is not client:  # another request has found out
            return True
        if origin in self._http1:
            return False
        self._http1.add(origin)
        self._replaced.append(self._clients.pop(origin))
        return True


def _new_client(access: Access, url: str, scheme: str, host: str, *, http2: bool) -> httpx2.AsyncClient:
    import httpx2

    for library in ("httpx2", "httpcore2", "hpack"):  # their debug lines contain URLs and headers
        logging.getLogger(library).setLevel(logging.WARNING)
    proxy_url = proxy_for(access, url)
    proxy = None
    if proxy_url:
        secure = proxy_url.startswith("https:")
        proxy = httpx2.Proxy(proxy_url, ssl_context=tls_context(access, host_of(proxy_url)) if secure else None)
    transport = httpx2.AsyncHTTPTransport(
        # For plain HTTP a context that trusts nothing: loading the trust store takes time.
        verify=tls_context(access, host) if scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        http2=http2,
        trust_env=False,
        # Idle connections are kept while the compilers are at work; if the server has closed one, another is opened.
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=None),
        proxy=proxy,
    )
    timeout = httpx2.Timeout(_STALLED, connect=_CONNECT, pool=None)
    return httpx2.AsyncClient(transport=transport, trust_env=False, timeout=timeout, follow_redirects=False)


@dataclass(frozen=True)
class _File:
    """The body of a request. It may be read again: on a redirect, and after a server has ended an HTTP/2 connection."""

    blob: Blob

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self.blob.open() as file:
            while chunk := file.read(_CHUNK):
                yield chunk


@contextmanager
def _explaining(what: str, url: str, proxy: str | None) -> Iterator[None]:
    """Turn what httpx2 raises, and what it lets through, into one PublishError."""
    import httpx2

    try:
        yield
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError):
        raise PublishError(f"{what}: not a valid address") from None
    except httpx2.DecodingError:
        raise TransientError(f"{what}: the answer's content coding is damaged") from None
    except Exception as error:
        if isinstance(error, httpx2.HTTPError | OSError) or breaks_protocol(error):
            raise explained(what, url, proxy, error) from None
        raise
