"""A wire to a Docker daemon: TCP on this side, the daemon's own socket on the other; it counts what goes through."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Lock, Thread

from tests.support.daemons import Docker


@dataclass
class Wire:
    """Passes bytes on, both ways, and counts the pieces that clients send, before they are passed on."""

    host: str = ""
    sent: int = 0
    _at: int = 0
    _do: Callable[[], None] = lambda: None
    _lock: Lock = field(default_factory=Lock)

    def watch(self, at: int, do: Callable[[], None]) -> None:
        """Count anew, and `do` something before piece number `at`."""
        with self._lock:
            self.sent, self._at, self._do = 0, at, do

    def count(self) -> None:
        with self._lock:
            self.sent += 1
            if self.sent == self._at:
                self._do()


class _Server(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 100


@contextmanager
def wire(docker: Docker) -> Iterator[Wire]:
    """A wire to `docker`; its `host` is a DOCKER_HOST."""
    scheme, _, path = docker.host.partition("://")
    assert scheme == "unix"
    made = Wire()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as daemon:
                daemon.connect(path)
                back = Thread(target=_pass_on, args=(daemon, self.request, lambda: None), daemon=True)
                back.start()
                _pass_on(self.request, daemon, made.count)
                back.join()

    with _Server(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        made.host = f"tcp://127.0.0.1:{server.server_address[1]}"
        try:
            yield made
        finally:
            server.shutdown()


def _pass_on(source: socket.socket, target: socket.socket, count: Callable[[], None]) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            count()
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
