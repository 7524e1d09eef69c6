"""What stands before a registry and says other things than it would: servers that write down and change exchanges."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import urllib3

_NOT_PASSED_ON = {"connection", "transfer-encoding", "keep-alive", "content-length"}
Headers = list[tuple[str, str]]


@dataclass
class Asked:
    """A request as it came; what goes on upstream is what is left here."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def authorization(self) -> str:
        return next((value for name, value in self.headers.items() if name.lower() == "authorization"), "")

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Said:
    """An answer."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def replace(self, name: str, *values: str) -> None:
        """Give the header these values, each in a line of its own."""
        self.headers = [each for each in self.headers if each[0].lower() != name.lower()]
        self.headers += [(name, value) for value in values]


@dataclass
class Front:
    """A server before `upstream` (HOST:PORT). `instead` may answer for it, `change` alters its answers."""

    upstream: str = ""
    host: str = ""
    asked: list[Asked] = field(default_factory=list)
    instead: Callable[[Asked], Said | None] = lambda _: None
    change: Callable[[Asked, Said], None] = lambda _, __: None

    @property
    def authorizations(self) -> set[str]:
        return {each.authorization for each in self.asked}

    def answer(self, asked: Asked) -> Said:
        # A record of what came, as `instead` may change it.
        self.asked.append(Asked(asked.method, asked.path, dict(asked.headers)))
        said = self.instead(asked) or passed_on(f"http://{self.upstream}{asked.path}", asked)
        self.change(asked, said)
        return said


def passed_on(url: str, asked: Asked) -> Said:
    """What the server of `url` says."""
    headers = {name: value for name, value in asked.headers.items() if name.lower() not in _NOT_PASSED_ON}
    answer = urllib3.request(
        asked.method, url, body=asked.body or None, headers=headers, redirect=False, retries=False, timeout=30
    )
    length = [("Content-Length", answer.headers.get("Content-Length", "0"))] if asked.method == "HEAD" else []
    kept = [each for each in answer.headers.items() if each[0].lower() not in _NOT_PASSED_ON]
    return Said(answer.status, kept + length, answer.data)


class Handler(BaseHTTPRequestHandler):
    """Reads whole requests and writes whole answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def read(self) -> Asked:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return Asked(self.command, self.path, dict(self.headers.items()), body)

    def write(self, said: Said) -> None:
        self.send_response(said.status)
        for name, value in said.headers:
            self.send_header(name, value)
        if not said.header("Content-Length"):
            self.send_header("Content-Length", str(len(said.body)))
        self.end_headers()
        self.wfile.write(said.body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, *_: object) -> None:
        """Say nothing: whoever asked may go away at any time."""


@contextmanager
def listening(
    handler: type[BaseHTTPRequestHandler], address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """A server on a free port; gives the port."""
    with _Server((address, 0), handler) as server:
        if tls:  # the handshake is left to the connection's own thread
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


@contextmanager
def front(
    upstream: str = "", name: str = "localhost", address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[Front]:
    """A front before `upstream`; its `host` is where to go."""
    made = Front(upstream)

    class Between(Handler):
        def do_GET(self) -> None:
            self.write(made.answer(self.read()))

        do_HEAD = do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815

    with listening(Between, address, tls) as port:
        made.host = f"{name}:{port}"
        yield made
