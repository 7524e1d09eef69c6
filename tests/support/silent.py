"""A server that accepts connections and never answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread


class SilentServer:
    """`accepted` is set once a client has connected."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.accepted = Event()

    def serve(self) -> None:
        while True:
            try:
                self._clients.append(self._listener.accept()[0])
            except OSError:
                return
            self.accepted.set()

    def close(self) -> None:
        """Close all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for each in (self._listener, *self._clients):
            each.close()


@contextmanager
def silent_server() -> Iterator[SilentServer]:
    """Serves until the context ends."""
    server = SilentServer()
    thread = Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        if server._listener.fileno() >= 0:
            server.close()
        thread.join()
