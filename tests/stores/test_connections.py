"""A connection carries one exchange after another, whatever their size, and one that the other side ends is missed."""

from __future__ import annotations

import asyncio
import random
import shutil
from http.server import BaseHTTPRequestHandler
from itertools import count
from pathlib import Path
from threading import Barrier, Event
from typing import ClassVar

import pytest

from build.oci.descriptor import Blob, digest_of
from build.oci.reference import Repository
from build.stores.http.access import Access
from build.stores.registry.registry import Registry
from tests.support.certificates import papers
from tests.support.registries import registry, serving

# More than any buffer on the way takes at once, and no multiple of one.
LARGE = random.Random(7).randbytes((5 << 20) + 3)


def store(host: str, *certificates: Path) -> tuple[Registry, Repository]:
    return Registry(host, Access(certificates=certificates, timeout=60)), Repository.parse(f"{host}/some/one")


@pytest.mark.parametrize("speaks", ["http", "https"])
def test_a_large_blob_comes_back_whole(tmp_path: Path, speaks: str) -> None:
    made = papers(tmp_path / "papers", "localhost")
    settings = {"tls": made.settings} if speaks == "https" else {}
    with registry(tmp_path / "registry", http=settings) as host:
        folder = tmp_path / "certs.d" / host
        folder.mkdir(parents=True)
        shutil.copy(made.authority, folder / "ca.crt")
        there, repository = store(host, tmp_path / "certs.d")
        blob = Blob.of("application/octet-stream", LARGE)

        async def there_and_back() -> bytes:
            assert await there.put_blob(repository, blob) == len(LARGE)
            found = await there.blob(repository, blob.descriptor(), tmp_path)
            await there.close()
            return found.data

        assert digest_of(asyncio.run(there_and_back())) == blob.digest


class Counter(BaseHTTPRequestHandler):
    """Has every tag, and notes who asks; after `patience` answers it hangs up and says nothing of it."""

    patience = 1 << 30
    came: ClassVar[list[tuple[str, int]]]

    def setup(self) -> None:
        super().setup()
        self.answered = 0

    def do_HEAD(self) -> None:
        self.came.append(self.client_address)
        self.send_response(200)
        self.send_header("Docker-Content-Digest", digest_of(b""))
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.answered += 1
        self.close_connection = self.answered >= self.patience


def counter(answers: int) -> type[Counter]:
    class Fresh(Counter):
        patience = answers
        came: ClassVar[list[tuple[str, int]]] = []

    return Fresh


@pytest.mark.parametrize(("patience", "connections"), [(1 << 30, 1), (2, 3), (1, 6)])
def test_a_connection_is_kept_as_long_as_it_lasts(patience: int, connections: int) -> None:
    handler = counter(patience)
    with serving(handler) as host:
        there, repository = store(host)

        async def ask() -> None:
            for _ in range(6):
                assert await there.digest(repository, "any") == digest_of(b"")

        asyncio.run(ask())
        assert len(set(handler.came)) == connections


@pytest.mark.parametrize(("seconds", "waves"), [(0, (8, 8, 8)), (0.5, (8, 256, 256))])
def test_as_many_are_in_flight_as_a_registry_far_away_keeps_waiting(seconds: float, waves: tuple[int, ...]) -> None:
    """Those of a wave are answered once all of it have come."""
    gates, numbers = [gate for wave in waves for gate in [Barrier(wave)] * wave], count()

    class Gathering(Counter):
        came: ClassVar[list[tuple[str, int]]] = []

        def do_HEAD(self) -> None:
            gates[next(numbers)].wait(30)
            Event().wait(seconds)
            super().do_HEAD()

    with serving(Gathering) as host:
        there, repository = store(host)

        async def ask() -> list[str | None]:
            return await asyncio.gather(*(there.digest(repository, f"t{each}") for each in range(sum(waves))))

        assert set(asyncio.run(ask())) == {digest_of(b"")}
    assert len(set(Gathering.came)) >= max(waves)
