"""Connections whose answers are whole: http.client takes the end of a connection for the end of headers, too."""

from __future__ import annotations

from http.client import HTTPResponse, RemoteDisconnected
from io import BufferedIOBase

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


class _Plain(HTTPConnection):
    response_class = _Whole


class _Encrypted(HTTPSConnection):
    response_class = _Whole


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _EncryptedPool(HTTPSConnectionPool):
    ConnectionCls = _Encrypted


POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _PlainPool, "https": _EncryptedPool}
