"""Byte streams to a host: TCP, and TLS over any stream, also over another TLS, as through a proxy that speaks it.

Nothing here blocks a thread: hundreds of exchanges wait in one.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from ssl import SSLContext

T = TypeVar("T")

# Bytes that are taken at a time.
_PIECE = 1 << 16

# As getaddrinfo(3) tells them: family, and what connect(2) takes.
Address = tuple[int, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


class Wire(Protocol):
    """A stream of bytes, both ways. Its methods raise OSError."""

    async def send(self, data: bytes) -> None:
        """Send all of it."""

    async def receive(self) -> bytes:
        """What comes next, or nothing at the end."""

    def is_quiet(self) -> bool:
        """Whether nothing has come that was not asked for, not even the end."""

    def close(self) -> None:
        """Give it up."""


class Plain:
    """TCP."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def receive(self) -> bytes:
        """What comes next, or nothing at the end."""
        return await asyncio.get_running_loop().sock_recv(self._socket, _PIECE)

    def is_quiet(self) -> bool:
        """Whether nothing has come, not even the end."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Give it up."""
        self._socket.close()


class Encrypted:
    """TLS (RFC 8446, RFC 5246) over another stream."""

    def __init__(self, wire: Wire, context: SSLContext, host: str) -> None:
        from ssl import MemoryBIO

        self._wire = wire
        self._come, self._to_go = MemoryBIO(), MemoryBIO()
        self._tls = context.wrap_bio(self._come, self._to_go, server_hostname=host)

    async def shake_hands(self) -> None:
        """Agree upon keys; raise SSLError if the host does not prove who it is."""
        await self._through(self._tls.do_handshake)

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        while data:
            data = data[await self._through(partial(self._tls.write, data)) :]

    async def receive(self) -> bytes:
        """What comes next, or nothing at the end."""
        from ssl import SSLEOFError, SSLZeroReturnError

        try:
            return await self._through(partial(self._tls.read, _PIECE))
        except (SSLZeroReturnError, SSLEOFError):  # whether an answer ends here is for HTTP to say
            return b""

    def is_quiet(self) -> bool:
        """Whether nothing has come, not even the end."""
        return self._wire.is_quiet()

    def close(self) -> None:
        """Give it up."""
        self._wire.close()

    async def _through(self, step: Callable[[], T]) -> T:
        """The step's result, once what TLS wants to send is sent, and what it waits for has come."""
        from ssl import SSLError, SSLWantReadError

        while True:
            result: list[T] = []
            try:
                result = [step()]
            except SSLWantReadError:
                pass
            except SSLError:
                with suppress(OSError):  # it says why to the other side
                    await self._flush()
                raise
            await self._flush()
            if result:
                return result[0]
            if data := await self._wire.receive():
                self._come.write(data)
            else:
                self._come.write_eof()

    async def _flush(self) -> None:
        if data := self._to_go.read():
            await self._wire.send(data)


async def addresses(host: str, port: int) -> list[Address]:
    """Where a host is; raise socket.gaierror if nobody knows."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


async def connect(places: Iterable[Address]) -> Plain:
    """A connection to the first place that takes one; raise OSError, the last one's, if none does."""
    failure: OSError | None = None
    for family, address in places:
        opened = socket.socket(family, socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(opened, address)
        except OSError as error:
            opened.close()
            failure = error
        except BaseException:
            opened.close()
            raise
        else:
            return Plain(opened)
    raise failure or OSError("no address to go to")
