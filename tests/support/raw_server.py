"""A server below HTTP: it is given each connection as a socket, and says what it likes."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Event, Thread

Talk = Callable[[socket.socket], None]


@dataclass
class Talking:
    """`host` is where to go; `began` is set once something was sent, `left` once a client has gone away from it."""

    host: str = ""
    port: int = 0
    began: Event = field(default_factory=Event)
    left: Event = field(default_factory=Event)


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 100

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients go away at any time."""


@contextmanager
def raw_server(talk: Talk, tls: ssl.SSLContext | None = None) -> Iterator[Talking]:
    """A server that calls `talk` for each connection, in a thread of its own, and closes the connection after it."""
    made = Talking()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                talk(tls.wrap_socket(self.request, server_side=True) if tls else self.request)

    with _Server(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_address[1]
        made.host = f"localhost:{made.port}"
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield made
        finally:
            server.shutdown()


@contextmanager
def endless(begin: bytes, more: bytes, pause: float) -> Iterator[Talking]:
    """A server that answers each request with `begin`, and then with `more`, every `pause` seconds, without end."""
    over = Event()

    def talk(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(begin)
        try:
            while not over.wait(pause):
                connection.sendall(more)
                made.began.set()
        except OSError:
            made.left.set()

    with raw_server(talk) as made:
        try:
            yield made
        finally:
            over.set()


def head(connection: socket.socket) -> bytes:
    """The head of the next request, its last empty line included; empty if the client is gone."""
    found = b""
    while not found.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return b""
        found += byte
    return found
