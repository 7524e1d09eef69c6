"""A SOCKS 5 proxy (RFC 1928), perhaps with a password (RFC 1929)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread

from tests.support.forward_proxy import address_of, pour
from tests.support.raw_server import raw_server

NAME, IPV4, IPV6 = 3, 1, 4
_NO_LOGIN, _LOGIN, _NONE = 0, 2, 255
SUCCEEDED, UNREACHABLE = 0, 4


@dataclass
class Socks:
    """Passes on to `hosts`, names that it alone can resolve. `asked` are the addresses that came, with their types.

    With `login` (USER:PASSWORD) it lets nobody else through, and refuses each connection with `reply` unless that is 0.
    With `noise`, that is its answer to everything.
    """

    hosts: Mapping[str, str]
    login: str = ""
    reply: int = SUCCEEDED
    noise: bytes = b""
    host: str = ""
    asked: list[tuple[int, str]] = field(default_factory=list)


@contextmanager
def socks(hosts: Mapping[str, str], login: str = "") -> Iterator[Socks]:
    """A SOCKS 5 proxy; its `host` is where it listens."""
    made = Socks(hosts, login)

    def talk(client: socket.socket) -> None:
        if made.noise:
            client.recv(100)
            client.sendall(made.noise)
            return
        if not _admitted(client, made.login):
            return
        kind, host = _wanted(client)
        made.asked.append((kind, host))
        reply = made.reply or (SUCCEEDED if host in made.hosts else UNREACHABLE)
        client.sendall(bytes([5, reply, 0, IPV4]) + bytes(6))
        if reply == SUCCEEDED:
            with socket.create_connection(address_of(made.hosts[host])) as upstream:
                back = Thread(target=pour, args=(upstream, client), daemon=True)
                back.start()
                pour(client, upstream)
                back.join()

    with raw_server(talk) as server:
        made.host = server.host
        yield made


def _admitted(client: socket.socket, login: str) -> bool:
    version, count = _exactly(client, 2)
    assert version == 5
    method = _LOGIN if login else _NO_LOGIN
    if method not in _exactly(client, count):
        client.sendall(bytes([5, _NONE]))
        return False
    client.sendall(bytes([5, method]))
    if not login:
        return True
    assert _exactly(client, 1) == b"\x01"
    user, password = (_exactly(client, _exactly(client, 1)[0]).decode() for _ in range(2))
    admitted = f"{user}:{password}" == login
    client.sendall(bytes([1, 0 if admitted else 1]))
    return admitted


def _wanted(client: socket.socket) -> tuple[int, str]:
    version, command, _, kind = _exactly(client, 4)
    assert (version, command) == (5, 1)
    if kind == NAME:
        name = _exactly(client, _exactly(client, 1)[0]).decode()
    elif kind == IPV4:
        name = socket.inet_ntop(socket.AF_INET, _exactly(client, 4))
    else:
        name = f"[{socket.inet_ntop(socket.AF_INET6, _exactly(client, 16))}]"
    return kind, f"{name}:{struct.unpack('>H', _exactly(client, 2))[0]}"


def _exactly(client: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = client.recv(size - len(found))
        if not piece:
            raise ConnectionError
        found += piece
    return found
