"""The connections to a host: opened where one is wanted, and kept for its next exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from build.stores.registry.faults import Answer, TunnelError
from build.stores.registry.http1 import Connection
from build.stores.registry.trust import PORTS, Proxy, host_of
from build.stores.registry.wire import Address, Encrypted, Wire, addresses, connect

if TYPE_CHECKING:
    from ssl import SSLContext

# Seconds to connect: name, proxy and TLS included.
_CONNECT = 10
# Bytes of a proxy's words.
_REFUSAL = 1 << 20
# What stands in a request's target as it is; all else is percent-encoded (RFC 3986, 2.1).
_AS_IT_IS = "%/:?#[]@!$&'()*+,;=~|"


class Host:
    """A host, by the scheme and HOST[:PORT] of its URLs, and its connections: through a proxy, if there is one.

    `tls` are its TLS settings, and `proxy_tls` the proxy's.
    """

    def __init__(
        self,
        scheme: str,
        host: str,
        tls: SSLContext | None = None,
        proxy: Proxy | None = None,
        proxy_tls: SSLContext | None = None,
    ) -> None:
        self._scheme, self._host, self._tls = scheme, host, tls
        self._proxy, self._proxy_tls = proxy, proxy_tls
        self._idle: list[Connection] = []
        self._places: asyncio.Task[list[Address]] | None = None

    async def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, most: int
    ) -> Answer:
        """As a connection's; `url` is one of the host's. Raises TunnelError, too, if the proxy does not let us through.

        With `headers` go those that a host and a proxy want.
        """
        connection = self._kept() or await self._opened()
        known = {"Host": self._host, "Accept-Encoding": "identity", **self._to_proxy(), **headers}
        try:
            answer = await connection.exchange(method, self._target(url), known, body, most)
        except BaseException:
            connection.wire.close()
            raise
        if connection.may_stay:
            self._idle.append(connection)
        else:
            connection.wire.close()
        return answer

    def close(self) -> None:
        """Give up the connections that nobody uses."""
        while self._idle:
            self._idle.pop().wire.close()

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.wire.is_quiet():
                return connection
            connection.wire.close()  # the other side has hung up
        return None

    async def _opened(self) -> Connection:
        try:
            async with asyncio.timeout(_CONNECT):
                return Connection(await self._connected())
        except TimeoutError:
            raise TimeoutError("no connection in time") from None

    async def _connected(self) -> Wire:
        if self._proxy is None:
            return await self._reached(self._scheme, self._host, self._tls)
        wire = await self._reached(urlsplit(self._proxy.url).scheme, host_of(self._proxy.url), self._proxy_tls)
        if self._tls is None:
            return wire
        try:
            await self._let_through(Connection(wire), self._proxy)
            return await _encrypted(wire, self._tls, self._host)
        except BaseException:
            wire.close()
            raise

    async def _let_through(self, proxy: Connection, known: Proxy) -> None:
        """Have the proxy make a tunnel (RFC 9110, 9.3.6)."""
        target = ":".join(map(str, _place(self._scheme, self._host)))
        headers = {"Host": target, "Proxy-Authorization": known.authorization}
        answer = await proxy.exchange("CONNECT", target, {k: v for k, v in headers.items() if v}, None, _REFUSAL)
        if answer.status != 200:
            raise TunnelError(answer.status, answer.reason)

    async def _reached(self, scheme: str, host: str, tls: SSLContext | None) -> Wire:
        name, port = _place(scheme, host)
        if self._places is None:  # all connections ask once
            self._places = asyncio.ensure_future(addresses(name.strip("[]"), port))
        try:
            places = await asyncio.shield(self._places)
        except OSError:
            self._places = None
            raise
        wire = await connect(places)
        return await _encrypted(wire, tls, host) if tls else wire

    def _target(self, url: str) -> str:
        """How a request names what it is for (RFC 9112, 3.2)."""
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return quote(f"http://{self._host}{path}" if self._proxy and not self._tls else path, safe=_AS_IT_IS)

    def _to_proxy(self) -> Mapping[str, str]:
        tells = self._proxy and not self._tls and self._proxy.authorization
        return {"Proxy-Authorization": tells} if tells else {}


async def _encrypted(wire: Wire, tls: SSLContext, host: str) -> Wire:
    encrypted = Encrypted(wire, tls, _place("https", host)[0].strip("[]"))
    try:
        await encrypted.shake_hands()
    except BaseException:
        wire.close()
        raise
    return encrypted


def _place(scheme: str, host: str) -> tuple[str, int]:
    """The name and the port of HOST[:PORT]."""
    parts = urlsplit(f"{scheme}://{host}")
    name = parts.netloc.rpartition(":")[0] if parts.port else parts.netloc
    return name, parts.port or PORTS[scheme]
