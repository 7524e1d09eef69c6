"""An HTTP proxy as sites have them: CONNECT for https, whole URLs for http, and perhaps a password."""

from __future__ import annotations

import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread
from urllib.parse import urlsplit

from tests.support.fronts import Handler, Said, listening, passed_on


@dataclass
class Proxy:
    """Passes on to `hosts`, names that it alone can resolve. `asked` are the request lines that came.

    With `login` (USER:PASSWORD) it lets nobody else through; with `refuses` nobody at all.
    """

    hosts: Mapping[str, str]
    login: str = ""
    refuses: int = 0
    host: str = ""
    asked: list[str] = field(default_factory=list)

    def admits(self, authorization: str) -> int:
        """The status for whom it does not let through, or 0."""
        wanted = "Basic " + b64encode(self.login.encode()).decode()
        return self.refuses or (407 if self.login and authorization != wanted else 0)


@contextmanager
def proxy(hosts: Mapping[str, str], login: str = "", tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """A proxy; its `host` is where it listens."""
    made = Proxy(hosts, login)

    class Between(Handler):
        def do_CONNECT(self) -> None:  # noqa: N802
            made.asked.append(f"CONNECT {self.path}")
            if not self.refused():
                with socket.create_connection(address_of(made.hosts[self.path])) as upstream:
                    self.send_response(200)
                    self.end_headers()
                    back = Thread(target=pour, args=(upstream, self.connection), daemon=True)
                    back.start()
                    pour(self.connection, upstream)
                    back.join()
            self.close_connection = True

        def do_GET(self) -> None:  # noqa: N802
            made.asked.append(f"{self.command} {self.path}")
            asked = self.read()
            parts = urlsplit(self.path)
            if not self.refused():
                asked.headers.pop("Proxy-Authorization", None)
                self.write(passed_on(parts._replace(netloc=made.hosts[parts.netloc]).geturl(), asked))

        do_HEAD = do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815

        def refused(self) -> bool:
            status = made.admits(self.headers.get("Proxy-Authorization", ""))
            if status:
                self.write(Said(status, [("Connection", "close")]))
            return bool(status)

    with listening(Between, tls=tls) as port:
        made.host = f"localhost:{port}"
        yield made


def address_of(host: str) -> tuple[str, int]:
    """HOST and PORT."""
    name, _, port = host.rpartition(":")
    return name, int(port)


def pour(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes, to its end."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
