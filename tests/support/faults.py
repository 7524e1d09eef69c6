"""A registry that fails: a proxy before a real one, which spoils the requests or the answers that a plan names."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from ssl import SSLContext
from threading import Event, Lock
from urllib.parse import urlsplit

from tests.support.registries import serving

_SET_ANEW = {"connection", "transfer-encoding", "content-length"}


class ResetConnectionError(Exception):
    """Instead of an answer, the connection is reset."""


@dataclass(frozen=True)
class Request:
    """What came: `over` is set when the proxy ends."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    over: Event


@dataclass(frozen=True)
class Answer:
    """What goes back. With `cut` the connection is closed after that part of its headers or its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    chunked: bool = False
    cut: str = ""

    def bytes(self, method: str) -> bytes:
        framing = {"Transfer-Encoding": "chunked"} if self.chunked else {"Content-Length": str(len(self.body))}
        lines = [f"{key}: {value}" for key, value in {**framing, **self.headers}.items()]
        head = "\r\n".join([f"HTTP/1.1 {self.status} So", *lines]).encode()
        if self.cut == "headers":
            return head.partition(b"\n")[0] + b"\n"
        if self.cut == "header":
            return head[:-10]
        body = self.body if method != "HEAD" else b""
        sent = body[: len(body) // 2] if self.cut else body
        if self.chunked and method != "HEAD":
            sent = (
                b"%x\r\n%b\r\n" % (len(body), sent) + b"0\r\n\r\n" if not self.cut else b"%x\r\n%b" % (len(body), sent)
            )
        return head + b"\r\n\r\n" + sent

    def but(self, **headers: str) -> Answer:
        """With other headers; an underscore in a name is a hyphen, and nothing means none."""
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={name: value for name, value in {**self.headers, **changed}.items() if value})


# What a TLS connection begins with, and what web servers say to what begins otherwise.
_HANDSHAKE = b"\x16"
_NOT_TLS = Answer(400, {}, b"Client sent an HTTP request to an HTTPS server.\n")

Registry = Callable[[Request], Answer]
Fault = Callable[[Request, Registry], Answer]
# By the number of the request, counted from 1, its method and its path.
Plan = Callable[[int, str, str], Fault | None]


def no_fault(number: int, method: str, path: str) -> None:
    """Everything passes."""


def at(faults: Mapping[int, Fault]) -> Plan:
    """Faults by the number of the request."""
    return lambda number, _method, _path: faults.get(number)


def matching(fault: Fault, method: str, path: str, times: float = float("inf")) -> Plan:
    """The fault, for the first `times` requests of this method whose path has this pattern in it; both are patterns."""
    seen: list[int] = []
    lock = Lock()

    def plan(number: int, found_method: str, found_path: str) -> Fault | None:
        with lock:
            if not re.fullmatch(method, found_method) or not re.search(path, found_path) or len(seen) >= times:
                return None
            seen.append(number)
            return fault

    return plan


def refused(_request: Request, _registry: Registry) -> Answer:
    raise ResetConnectionError


def lost(request: Request, registry: Registry) -> Answer:
    """The registry does what it is asked, and nobody hears of it."""
    registry(request)
    raise ResetConnectionError


def stalled(request: Request, _registry: Registry) -> Answer:
    request.over.wait()
    raise ResetConnectionError


def cut_in_headers(request: Request, registry: Registry) -> Answer:
    return replace(registry(request), cut="headers")


def cut_in_telling_header(request: Request, registry: Registry) -> Answer:
    """The header that matters comes last, and not to its end."""
    answer = registry(request)
    name = next((name for name in ("Location", "Docker-Content-Digest") if name in answer.headers), "Date")
    headers = {key: value for key, value in answer.headers.items() if key != name} | {name: answer.headers[name]}
    return replace(answer, headers=headers, cut="header")


def cut_in_body(request: Request, registry: Registry) -> Answer:
    return replace(registry(request), cut="body")


def cut_in_chunk(request: Request, registry: Registry) -> Answer:
    return replace(registry(request), cut="body", chunked=True)


def corrupted(request: Request, registry: Registry) -> Answer:
    answer = registry(request)
    return replace(answer, body=answer.body[:-1] + b"?")


def wrong_digest(request: Request, registry: Registry) -> Answer:
    return registry(request).but(Docker_Content_Digest="sha256:" + 64 * "0")


def no_digest(request: Request, registry: Registry) -> Answer:
    return registry(request).but(Docker_Content_Digest="")


def no_location(request: Request, registry: Registry) -> Answer:
    return registry(request).but(Location="")


def relative_location(request: Request, registry: Registry) -> Answer:
    answer = registry(request)
    parts = urlsplit(answer.headers.get("Location", ""))
    return answer.but(Location=parts._replace(scheme="", netloc="").geturl())


def location_at(host: str) -> Fault:
    """The upload goes on at HOST[:PORT]."""

    def fault(request: Request, registry: Registry) -> Answer:
        answer = registry(request)
        return answer.but(Location=urlsplit(answer.headers["Location"])._replace(netloc=host).geturl())

    return fault


def location(url: str) -> Fault:
    """The upload goes on at this URL."""
    return lambda request, registry: registry(request).but(Location=url)


def mount_not_done(request: Request, registry: Registry) -> Answer:
    """The registry opens an upload in place of a mount, as it may."""
    return registry(replace(request, path=request.path.partition("?")[0]))


def answering(status: int, code: str = "", text: str = "", **headers: str) -> Fault:
    """The registry is not asked: this status, and the words of the distribution spec if there is a `code`."""
    body = json.dumps({"errors": [{"code": code, "message": text}]}).encode() if code else b"<html>so</html>"
    answer = Answer(status, {}, body).but(**headers)
    return lambda _request, _registry: answer


def busy_until(seconds: int, status: int = 429) -> Fault:
    """A Retry-After with a date so many seconds from then."""

    def fault(_request: Request, _registry: Registry) -> Answer:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
        return Answer(status, {"Retry-After": date})

    return fault


@dataclass
class Faulty:
    """The proxy; `host` is where to go. `seen` are the requests that came, `spoilt` counts those that met a fault."""

    upstream: str
    plan: Plan = no_fault
    host: str = ""
    seen: list[Request] = field(default_factory=list)
    given: list[Answer] = field(default_factory=list)
    spoilt: int = 0
    over: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)

    @property
    def lines(self) -> list[str]:
        return [f"{each.method} {each.path}" for each in self.seen]

    def follow(self, plan: Plan) -> None:
        """Forget what came, and count anew."""
        with self._lock:
            self.seen, self.given, self.spoilt, self.plan = [], [], 0, plan

    def answer(self, request: Request) -> Answer:
        with self._lock:
            self.seen.append(request)
            fault = self.plan(len(self.seen), request.method, request.path)
            self.spoilt += fault is not None
        answer = fault(request, self.passed_on) if fault else self.passed_on(request)
        self.given.append(answer)
        return answer

    def passed_on(self, request: Request) -> Answer:
        with closing(HTTPConnection(self.upstream, timeout=30)) as registry:
            registry.request(request.method, request.path, request.body, dict(request.headers))
            answer = registry.getresponse()
            kept = {key: value for key, value in answer.getheaders() if key.lower() not in _SET_ANEW}
            if request.method == "HEAD":
                return Answer(answer.status, kept)
            return Answer(answer.status, kept, answer.read())


@contextmanager
def faulty(upstream: str, tls: SSLContext | None = None) -> Iterator[Faulty]:
    """A proxy that fails as planned, before `upstream` (HOST:PORT), which never learns of `tls`."""
    proxy = Faulty(upstream)

    class Handler(BaseHTTPRequestHandler):
        def setup(self) -> None:
            self.in_the_open = bool(tls) and self.request.recv(1, socket.MSG_PEEK) != _HANDSHAKE
            if tls and not self.in_the_open:
                self.request = tls.wrap_socket(self.request, server_side=True)
            super().setup()

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(self.command, self.path, dict(self.headers.items()), body, proxy.over)
            try:
                answer = _NOT_TLS if self.in_the_open else proxy.answer(request)
            except ResetConnectionError:
                self.reset()
                return
            with suppress(ConnectionError):
                self.wfile.write(answer.bytes(self.command))
            self.close_connection = bool(answer.cut)

        def reset(self) -> None:
            # Closed with nothing to linger for, the kernel sends no end, but a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
            self.close_connection = True

        do_HEAD = do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on  # noqa: N815

    with serving(Handler) as proxy.host:
        try:
            yield proxy
        finally:
            proxy.over.set()
