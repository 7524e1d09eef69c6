"""nginx with TLS and HTTP/2 in front of a registry, as many sites have it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.certificates import Papers
from tests.support.components import need
from tests.support.pidns import until

_CONFIG = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error;
events {{ worker_connections 1000; }}
http {{
  log_format exchanges '$server_protocol $connection $status $request_method $uri';
  access_log {folder}/exchanges exchanges;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_max_body_size 0;
  {settings}
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    location / {{
      proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_request_buffering off;
      proxy_buffering off;
      proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto https;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Exchange:
    """A line of nginx's log; `connection` is the number of the one that carried it."""

    protocol: str
    connection: int
    status: int
    method: str
    path: str


@dataclass(frozen=True)
class Nginx:
    """`host` is where to go."""

    host: str
    log: Path

    @property
    def exchanges(self) -> list[Exchange]:
        lines = [line.split(maxsplit=4) for line in self.log.read_text().splitlines()]
        return [Exchange(protocol, int(number), int(status), *rest) for protocol, number, status, *rest in lines]


@contextmanager
def nginx(folder: Path, upstream: str, papers: Papers, settings: str = "") -> Iterator[Nginx]:
    """An nginx before `upstream` (HOST:PORT), with more `settings` for `http`, that keeps its files in `folder`."""
    command = need("nginx", "nginx")
    folder.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    values = {"folder": folder, "port": port, "upstream": upstream, "settings": settings}
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(**values, certificate=papers.certificate, key=papers.key))
    output = folder / "output"
    with (
        output.open("w") as out,
        subprocess.Popen([command, "-p", folder, "-c", config], stdout=out, stderr=out) as process,
    ):
        try:
            until("nginx listens", lambda: process.poll() is not None or _listens(port))
            assert process.poll() is None, output.read_text()
            yield Nginx(f"localhost:{port}", folder / "exchanges")
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
