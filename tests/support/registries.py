"""Real registries on free ports, and what stands between them and us: a recorder, and a server of tokens."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import urllib3

from tests.support.checkout import REPOSITORIES
from tests.support.components import need
from tests.support.pidns import until
from tests.support.reading import Read, complete, digest

_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


@contextmanager
def registry(folder: Path, **config: Any) -> Iterator[str]:
    """A docker-registry that keeps everything in `folder`; gives its HOST:PORT."""
    command = need("docker-registry", "docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    log, settings = folder / "log", folder / "config.yml"
    defaults = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
    }
    http = {"addr": "127.0.0.1:0", "secret": "any", **config.pop("http", {})}
    settings.write_text(json.dumps({**defaults, **config, "http": http}))  # JSON is YAML, too
    listening = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
    with log.open("w") as out, subprocess.Popen([command, "serve", settings], stdout=out, stderr=out) as process:
        try:
            ready = lambda: process.poll() is not None or bool(listening.search(log.read_text()))  # noqa: E731
            until("the registry listens", ready)
            found = listening.search(log.read_text())
            assert found, log.read_text()
            yield f"localhost:{found[1]}"
        finally:
            process.kill()


def fetch(host: str, path: str) -> tuple[int, bytes]:
    """Status and body of a GET below /v2/, by nobody in particular."""
    answer = urllib3.request("GET", f"http://{host}/v2/{path}", headers={"Accept": _ACCEPT}, retries=False)
    return answer.status, answer.data


def registry_reader(host: str, repository: str) -> Read:
    """Manifests and blobs of a repository, by their digests; the other side of `layout_reader`."""

    def read(wanted: str) -> bytes:
        for kind in ("manifests", "blobs"):
            status, data = fetch(host, f"{repository}/{kind}/{wanted}")
            if status == 200:
                return data
        raise AssertionError(f"{repository} has no {wanted}")

    return read


def registry_tags(host: str, place: str = "") -> dict[str, str]:
    """The digests under the release's tags below `place`, by repository; those that are not there are left out."""
    answers = {name: fetch(host, f"{place}{name}/manifests/3.1") for name in REPOSITORIES}
    assert {status for status, _ in answers.values()} <= {200, 404}
    return {name: digest(data) for name, (status, data) in answers.items() if status == 200}


def whole_tags(host: str, place: str = "") -> dict[str, str]:
    """The same, where all that each tag leads to is there."""
    found = registry_tags(host, place)
    for name, published in found.items():
        complete(registry_reader(host, f"{place}{name}"), published)
    return found


@dataclass
class Exchange:
    """A request that went through a recorder. `began` and `ended` count the beginnings and ends of all of them."""

    method: str
    path: str
    began: int
    ended: int = 0
    status: int = 0

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Recorder:
    """A reverse proxy before `upstream` (HOST:PORT) that writes down what goes through.

    `on_request` is called with the number of each request, counted from 1, before that is passed on.
    """

    upstream: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    on_request: Callable[[int], None] = lambda _: None
    host: str = ""
    _clock: int = 0
    _lock: Lock = field(default_factory=Lock)

    @property
    def lines(self) -> list[str]:
        return [str(each) for each in self.exchanges]

    @property
    def idle(self) -> bool:
        """Whether all requests are answered, even those whose sender is gone."""
        return all(each.ended for each in self.exchanges)

    def forget(self) -> None:
        self.exchanges = []

    def begin(self, method: str, path: str) -> Exchange:
        with self._lock:
            self._clock += 1
            exchange = Exchange(method, path, self._clock)
            self.exchanges.append(exchange)
            number = len(self.exchanges)
        self.on_request(number)
        return exchange

    def end(self, exchange: Exchange, status: int) -> None:
        with self._lock:
            self._clock += 1
            exchange.status, exchange.ended = status, self._clock


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, *_: object) -> None:
        """Say nothing: whoever asked may be killed at any time."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """An HTTP server on a free port; gives its HOST:PORT."""
    handler.protocol_version = "HTTP/1.1"
    handler.disable_nagle_algorithm = True
    handler.log_message = lambda *_: None  # type: ignore[method-assign]
    with _Server(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"localhost:{server.server_port}"
        finally:
            server.shutdown()


@contextmanager
def recording(upstream: str = "") -> Iterator[Recorder]:
    """A recorder before `upstream`; its `host` is where to go."""
    recorder = Recorder(upstream)

    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            assert isinstance(self.rfile, BufferedReader)
            if self.rfile.peek(1)[:1] == b"\x16":  # TLS: the answer is that of Go's servers, which daemons know
                self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            else:
                super().handle()

        def pass_on(self) -> None:
            exchange, status = recorder.begin(self.command, self.path), 0
            try:
                answer, data = self.forwarded()
                status = answer.status
            except (OSError, HTTPException, ValueError):  # either side is gone
                self.close_connection = True
                return
            finally:
                recorder.end(exchange, status)
            with suppress(ConnectionError):
                self.send_response(status)
                for key, value in answer.getheaders():
                    if key.lower() not in {*_HOP_BY_HOP, "content-length"}:
                        self.send_header(key, value)
                self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def forwarded(self) -> tuple[HTTPResponse, bytes]:
            chunked = self.headers.get("Transfer-Encoding") == "chunked"  # as the Docker daemon sends blobs
            body = b"".join(self.chunks()) if chunked else self.exactly(int(self.headers.get("Content-Length", 0)))
            upstream = HTTPConnection(recorder.upstream, timeout=30)
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for key, value in self.headers.items():
                if key != "Transfer-Encoding":
                    upstream.putheader(key, value)
            if chunked:
                upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body)
            with closing(upstream), upstream.getresponse() as answer:
                return answer, answer.read()

        def chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline(), 16):
                yield self.exactly(size)
                self.exactly(2)
            self.rfile.readline()

        def exactly(self, size: int) -> bytes:
            data = self.rfile.read(size)
            if len(data) < size:
                raise ConnectionError
            return data

        do_HEAD = do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on  # noqa: N815

    with serving(Handler) as host:
        recorder.host = host
        yield recorder
