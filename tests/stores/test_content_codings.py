"""Content codings (RFC 9110, 8.4): decoded before size and digest are verified, bounded, and damaged ones refused."""

from __future__ import annotations

import asyncio
import gzip
import random
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from build.errors import PublishError
from build.oci.descriptor import Blob, digest_of
from build.oci.media_types import LARGEST_MANIFEST
from build.oci.reference import Repository
from build.stores.http import retries
from build.stores.http.access import Access
from build.stores.registry.registry import Registry
from build.stores.store import SMALL
from tests.support.fronts import Asked, Front, Said, front
from tests.support.registries import registry

MANIFEST = Blob.of("application/vnd.oci.image.index.v1+json", b'{"schemaVersion":2,"manifests":[]}')
BLOBS = [Blob.of("application/octet-stream", random.Random(5).randbytes(size)) for size in (1000, 2 * SMALL)]

CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "gzip, deflate": lambda data: zlib.compress(gzip.compress(data)),
    "identity": bytes,
}


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Front]:
    """A front before a registry that has the manifest and the blobs."""
    with registry(tmp_path / "registry") as real, front(real) as made:

        async def fill(store: Registry, repository: Repository) -> None:
            for blob in BLOBS:
                await store.put_blob(repository, blob)
            await store.put_manifest(repository, MANIFEST)

        run(made, fill)
        yield made


def run(server: Front, use: Callable[[Registry, Repository], Awaitable[object]], timeout: float = 30) -> None:
    async def ran() -> None:
        store = Registry(server.host, Access((), timeout=timeout))
        try:
            await use(store, Repository.parse(f"{server.host}/some/one"))
        finally:
            await store.close()

    asyncio.run(ran())


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come one after the other, so that the last try, and not the deadline, ends a request."""
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.01)


def coded(coding: str, encode: Callable[[bytes], bytes]) -> Callable[[Asked, Said], None]:
    def change(asked: Asked, said: Said) -> None:
        said.replace("Content-Encoding", coding)
        if asked.method != "HEAD":
            said.body = encode(said.body)
            said.replace("Content-Length", str(len(said.body)))

    return change


@pytest.mark.parametrize("coding", CODINGS)
def test_it_is_decoded(there: Front, tmp_path: Path, coding: str) -> None:
    there.change = coded(coding, CODINGS[coding])

    async def pull(store: Registry, repository: Repository) -> None:
        assert await store.digest(repository, MANIFEST.digest) == MANIFEST.digest
        assert await store.manifest(repository, MANIFEST.digest) == MANIFEST
        for blob in BLOBS:
            found = await store.blob(repository, blob.descriptor(), tmp_path)
            assert (found.digest, digest_of(found.data)) == (blob.digest, blob.digest)

    run(there, pull)


def test_what_a_registry_says_is_decoded(there: Front) -> None:
    there.instead = lambda _: Said(403, [], b'{"errors": [{"code": "DENIED", "message": "not on Sundays"}]}')
    there.change = coded("gzip", gzip.compress)

    async def pull(store: Registry, repository: Repository) -> None:
        await store.manifest(repository, MANIFEST.digest)

    with pytest.raises(PublishError, match="403 DENIED: not on Sundays"):
        run(there, pull)


@pytest.mark.parametrize("blob", BLOBS, ids=["small", "large"])
@pytest.mark.parametrize("change", [lambda data: data + b".", lambda data: data[:-1], lambda data: data[:-1] + b"?"])
def test_size_and_digest_are_those_of_the_content(
    there: Front, tmp_path: Path, blob: Blob, change: Callable[[bytes], bytes]
) -> None:
    there.change = coded("gzip", lambda data: gzip.compress(change(data)))

    async def pull(store: Registry, repository: Repository) -> None:
        await store.blob(repository, blob.descriptor(), tmp_path)

    with pytest.raises(PublishError, match=f"(bytes, expected {blob.size}|, expected {blob.digest})"):
        run(there, pull)


def test_a_bomb_is_bounded(there: Front, tmp_path: Path) -> None:
    """A gigabyte in a few kilobytes."""
    once = gzip.compress(bytes(1 << 30), 1)
    there.change = coded("gzip, gzip", lambda _: gzip.compress(once))

    async def pull(store: Registry, repository: Repository) -> None:
        for blob in BLOBS:
            with pytest.raises(PublishError, match=f"{blob.digest}: found more than {blob.size} bytes"):
                await store.blob(repository, blob.descriptor(), tmp_path)
        with pytest.raises(PublishError, match=f"found more than {LARGEST_MANIFEST} bytes"):
            await store.manifest(repository, MANIFEST.digest)

    tracemalloc.start()
    try:
        run(there, pull)
        assert tracemalloc.get_traced_memory()[1] < (64 << 20)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "gzip, deflate"])
@pytest.mark.parametrize("damage", [lambda _: b"no coding at all", lambda data: data[:30] + b"?????" + data[35:]])
def test_a_damaged_coding_costs_one_message(
    there: Front, tmp_path: Path, coding: str, damage: Callable[[bytes], bytes]
) -> None:
    there.change = coded(coding, lambda data: damage(CODINGS[coding](data)))

    async def pull(store: Registry, repository: Repository) -> None:
        await store.blob(repository, BLOBS[1].descriptor(), tmp_path)

    with pytest.raises(PublishError) as raised:
        run(there, pull)
    first, last = str(raised.value).splitlines()
    assert f"GET http://{there.host}/v2/some/one/blobs/{BLOBS[1].digest}: " in first
    assert "the answer's content coding is damaged" in first or f"expected {BLOBS[1].digest}" in first
    assert "then retry" in last


def test_more_codings_than_anyone_needs(there: Front, tmp_path: Path) -> None:
    there.change = coded(", ".join(["gzip"] * 1000), bytes)

    async def pull(store: Registry, repository: Repository) -> None:
        await store.blob(repository, BLOBS[0].descriptor(), tmp_path)

    with pytest.raises(PublishError, match="the answer's content coding is damaged"):
        run(there, pull)
