"""An answer that never ends costs as much time as --timeout allows, and a cancelled task ends at once."""

from __future__ import annotations

import asyncio

import pytest

from build.errors import PublishError
from build.oci.reference import Repository
from build.stores.http.access import Access
from build.stores.registry.registry import Registry
from tests.support.raw_server import endless

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CODED = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"

# Blocks of deflate (RFC 1951, 3.2.4) in which there is nothing.
GZIP_HEAD, EMPTY_BLOCK = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", b"\x00\x00\x00\xff\xff"

# What comes first, what comes again and again, and the seconds between.
ENDLESS = {
    "1xx, as fast as can be": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" * 1000, 0),
    "1xx, now and then": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
    "a header that drips": (b"HTTP/1.1 200 OK\r\nServer: ", b"a", 0.05),
    "a header without end": (b"HTTP/1.1 200 OK\r\nServer: ", b"a" * 65536, 0),
    "headers without end": (b"HTTP/1.1 200 OK\r\n", b"Server: a\r\n" * 1000, 0),
    "a status line that drips": (b"HTTP/1.1 200 ", b"O", 0.05),
    "a chunk extension that drips": (CHUNKED + b"1;", b"a", 0.05),
    "a chunk extension without end": (CHUNKED + b"1;", b"a" * 65536, 0),
    "chunks with extensions": (CHUNKED, b"1;" + b"a" * 9000 + b"\r\n \r\n", 0.05),
    "trailers that drip": (CHUNKED + b"0\r\nA: ", b"a", 0.05),
    "a coding of nothing": (CODED + GZIP_HEAD, EMPTY_BLOCK * 1000, 0),
}


def pull(host: str, timeout: float) -> tuple[Registry, Repository]:
    return Registry(host, Access(timeout=timeout)), Repository.parse(f"{host}/some/one")


@pytest.mark.parametrize("name", ENDLESS)
def test_it_ends_at_the_timeout(name: str) -> None:
    async def ask(host: str) -> None:
        store, repository = pull(host, 1)
        try:
            await store.manifest(repository, "1")
        finally:
            await store.close()

    with endless(*ENDLESS[name]) as server, pytest.raises(PublishError) as raised:
        asyncio.run(asyncio.wait_for(ask(server.host), 20))
    error = str(raised.value)
    assert error.startswith(f"GET http://{server.host}/v2/some/one/manifests/1: ")
    assert "--timeout 1 (seconds)" in error
    assert len(error) < 500


@pytest.mark.parametrize("name", ENDLESS)
def test_it_ends_when_the_task_is_cancelled(name: str) -> None:
    async def ask(host: str) -> None:
        store, repository = pull(host, 600)
        task = asyncio.create_task(store.manifest(repository, "1"))
        while not server.began.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.left.wait, 20)
        await store.close()

    with endless(*ENDLESS[name]) as server:
        asyncio.run(asyncio.wait_for(ask(server.host), 20))
