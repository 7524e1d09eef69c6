"""HTTP/2 with a registry that offers it: all on one connection, past limits and flow control, whatever ends it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from build.errors import PublishError
from build.oci.descriptor import Blob
from build.oci.reference import Repository
from build.stores.http.access import Access
from build.stores.registry.registry import Registry
from tests.support.certificates import Papers, certs_d, papers
from tests.support.checkout import Checkout
from tests.support.nginx import nginx
from tests.support.raw_server import raw_server
from tests.support.registries import registry, whole_tags

# More than the flow-control window of a connection (httpcore2: 16 MiB and 64 KiB).
LARGE = bytes(20 << 20) + b"."


@pytest.fixture
def here(tmp_path: Path) -> Papers:
    return papers(tmp_path / "papers", "localhost")


def access(folder: Path, host: str, here: Papers, timeout: float = 60) -> Access:
    """Access that trusts the authority of `host`."""
    (folder / "certs.d" / host).mkdir(parents=True)
    (folder / "certs.d" / host / "ca.crt").write_bytes(here.authority.read_bytes())
    return Access((), (folder / "certs.d",), timeout=timeout)


@pytest.mark.parametrize("settings", ["", "http2_max_concurrent_streams 2;", "keepalive_requests 50;"])
def test_push_and_pull(tmp_path: Path, here: Papers, settings: str) -> None:
    blobs = [Blob.of("application/octet-stream", b"%d" % each) for each in range(40)]
    blobs.append(Blob.of("application/octet-stream", LARGE))

    async def there_and_back(host: str) -> None:
        store, repository = Registry(host, access(tmp_path, host, here)), Repository.parse(f"{host}/some/one")
        assert await store.digest(repository, "none") is None
        await asyncio.gather(*(store.put_blob(repository, blob) for blob in blobs))
        found = await asyncio.gather(*(store.blob(repository, blob.descriptor(), tmp_path) for blob in blobs))
        assert [each.data for each in found] == [blob.data for blob in blobs]
        await store.close()

    with registry(tmp_path / "registry") as real, nginx(tmp_path / "nginx", real, here, settings) as front:
        asyncio.run(asyncio.wait_for(there_and_back(front.host), 100))
        # One exchange found out that the registry speaks TLS.
        plain, encrypted = front.exchanges[:1], front.exchanges[1:]
        assert {(each.protocol, each.status) for each in plain} == {("HTTP/1.1", 400)}
        assert {each.protocol for each in encrypted} == {"HTTP/2.0"}
        assert len(encrypted) >= 3 * len(blobs)
        if "keepalive" not in settings:
            assert len({each.connection for each in encrypted}) == 1


def test_a_release(checkout: Checkout, tmp_path: Path, here: Papers) -> None:
    with registry(tmp_path / "registry") as real, nginx(tmp_path / "nginx", real, here) as front:
        (certs_d(checkout, front.host) / "ca.crt").write_bytes(here.authority.read_bytes())
        pushed = checkout("all-push", REGISTRY=front.host)
        checkout("check", REGISTRY=front.host)
        checkout("copy", "--src", front.host, "--dst", f"{front.host}/copies")
        assert set(whole_tags(real, "copies/").values()) == set(pushed.digests.values())
        exchanges = [each for each in front.exchanges if each.status != 400]
        assert {each.protocol for each in exchanges} == {"HTTP/2.0"}
        assert {"HEAD", "GET", "POST", "PUT"} <= {each.method for each in exchanges}


Answer = Callable[[h2.connection.H2Connection, int], bytes]


def no_status(server: h2.connection.H2Connection, stream: int) -> bytes:
    server.send_headers(stream, [(":status", "abc")])
    return server.data_to_send()


def too_short(server: h2.connection.H2Connection, stream: int) -> bytes:
    server.send_headers(stream, [(":status", "200"), ("content-length", "10")])
    server.send_data(stream, b"abc", end_stream=True)
    return server.data_to_send()


def reset(server: h2.connection.H2Connection, stream: int) -> bytes:
    server.send_headers(stream, [(":status", "200")])
    server.send_data(stream, b"abc")
    server.reset_stream(stream)
    return server.data_to_send()


def going_away(server: h2.connection.H2Connection, _stream: int) -> bytes:
    server.close_connection(2)
    return server.data_to_send()


def no_frame(server: h2.connection.H2Connection, stream: int) -> bytes:
    server.send_headers(stream, [(":status", "200")])
    return server.data_to_send() + b"\0\0\5\x09" + bytes(20)


def no_headers(_server: h2.connection.H2Connection, _stream: int) -> bytes:
    return b"\0\0\4\1\4\0\0\0\1\xff\xff\xff\xff"


@pytest.mark.parametrize("answer", [no_status, too_short, reset, going_away, no_frame, no_headers])
def test_what_breaks_the_protocol_costs_one_message(tmp_path: Path, here: Papers, answer: Answer) -> None:
    def talk(connection: socket.socket) -> None:
        config = h2.config.H2Configuration(client_side=False, validate_outbound_headers=False)
        server = h2.connection.H2Connection(config)
        server.initiate_connection()
        connection.sendall(server.data_to_send())
        while data := connection.recv(65536):
            for event in server.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    connection.sendall(answer(server, event.stream_id))
            connection.sendall(server.data_to_send())

    async def ask(host: str) -> None:
        store, repository = Registry(host, access(tmp_path, host, here, 2)), Repository.parse(f"{host}/some/one")
        store._session.origin = f"https://{host}"  # the server speaks nothing else
        try:
            await store.manifest(repository, "1")
        finally:
            await store.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(here.certificate, here.key)
    context.set_alpn_protocols(["h2"])
    with raw_server(talk, context) as server, pytest.raises(PublishError) as raised:
        asyncio.run(asyncio.wait_for(ask(server.host), 20))
    told = str(raised.value)
    assert told.startswith(f"GET https://{server.host}/v2/some/one/manifests/1: the answer ")
    assert "--timeout 2 (seconds)" in told
    assert len(told.splitlines()) == 2
