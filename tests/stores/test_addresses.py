"""A host with several addresses, of which the first does not answer, is reached long before a connection times out."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from build.oci.descriptor import Blob
from build.oci.reference import Repository
from build.stores.http.access import Access
from build.stores.registry.registry import Registry
from tests.support.certificates import papers
from tests.support.registries import registry

NAME = "registry.test"


@contextmanager
def silent(address: str, port: int) -> Iterator[None]:
    """An address where nothing answers: its queue is full, so the kernel drops who comes."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind((address, port))
        server.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect((address, port))
        probe = stack.enter_context(socket.socket())
        probe.settimeout(0.3)
        with pytest.raises(TimeoutError):
            probe.connect((address, port))
        yield


def test_the_first_address_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = papers(tmp_path / "papers", NAME)
    resolve = socket.getaddrinfo
    asked: list[str] = []

    def two_addresses(host: Any, port: Any, *rest: Any, **more: Any) -> list[Any]:
        asked.append(host.decode() if isinstance(host, bytes) else host)
        if asked[-1] != NAME:
            return resolve(host, port, *rest, **more)
        return [found for each in ("127.0.0.2", "127.0.0.1") for found in resolve(each, port, *rest, **more)]

    with registry(tmp_path / "registry", http={"tls": here.settings}) as real:
        port = int(real.rpartition(":")[2])
        folder = tmp_path / "certs.d" / f"{NAME}:{port}"
        folder.mkdir(parents=True)
        shutil.copy(here.authority, folder / "ca.crt")
        # Less than it takes to give up a connection.
        access = Access((), (folder.parent,), timeout=3)

        async def push() -> str | None:
            store, repository = Registry(f"{NAME}:{port}", access), Repository.parse(f"{NAME}:{port}/some/one")
            await store.put_blob(repository, Blob.of("application/octet-stream", b"small"))
            found = await store.digest(repository, "none")
            await store.close()
            return found

        with silent("127.0.0.2", port):
            monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
            assert asyncio.run(push()) is None
    assert NAME in asked
