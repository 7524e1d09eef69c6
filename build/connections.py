"""Connections that can be ended while someone waits for an answer, and whose answers are whole or an error.

http.client takes the end of a connection for the end of an answer's headers, too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPResponse, RemoteDisconnected
from io import BufferedIOBase
from socket import SHUT_RDWR, socket
from threading import Lock
from weakref import WeakSet

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


class _Lines:
    """A file, and the line that was last read from it."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self.close = file.close
        self.last = b""

    def readline(self, limit: int = -1) -> bytes:
        self.last = self._file.readline(limit)
        return self.last


class _Whole(HTTPResponse):
    """An answer whose headers end with an empty line (RFC 9112, 2.1). Its body is urllib3's to check."""

    def begin(self) -> None:
        """Read status and headers; raise RemoteDisconnected if they do not come to their end."""
        file, lines = self.fp, _Lines(self.fp)
        self.fp = lines  # type: ignore[assignment]
        try:
            super().begin()
        finally:
            self.fp = file
        if lines.last not in {b"\r\n", b"\n"}:
            raise RemoteDisconnected("the answer was cut short")


class Connections:
    """The open ones of a run. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._closed = False
        self._open: WeakSet[HTTPConnection] = WeakSet()
        # By URL scheme, as urllib3's PoolManager takes them.
        self.pools: dict[str, type[HTTPConnectionPool]] = _pools(self._opened)

    def close(self) -> None:
        """End all of them, and all to come: whoever waits for an answer is told that there is none."""
        with self._lock:
            self._closed = True
            for each in self._open:
                _end(each)

    def _opened(self, connection: HTTPConnection) -> None:
        with self._lock:
            self._open.add(connection)
            if self._closed:
                _end(connection)


def _end(connection: HTTPConnection) -> None:
    # Not closed: that is for the thread that uses it.
    if isinstance(connection.sock, socket):
        with suppress(OSError):
            socket.shutdown(connection.sock, SHUT_RDWR)


def _pools(opened: Callable[[HTTPConnection], None]) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        response_class = _Whole

        def connect(self) -> None:
            super().connect()
            opened(self)

    class Encrypted(HTTPSConnection):
        response_class = _Whole

        def connect(self) -> None:
            super().connect()
            opened(self)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    return {"http": PlainPool, "https": EncryptedPool}
