"""Uploads that are started ahead, and disks that are full."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from build.errors import PublishError
from build.oci.descriptor import Blob
from build.oci.media_types import OCI
from build.oci.reference import Repository
from build.stores.http.access import Access
from build.stores.registry.registry import Registry
from build.stores.store import SMALL
from tests.support.faults import answering, faulty, matching
from tests.support.fronts import Said, front
from tests.support.registries import recording, registry

T = TypeVar("T")

LARGE = Blob.of(OCI.layer, random.Random(11).randbytes(SMALL + 5))
LITTLE = Blob.of(OCI.config, b"{}")


def exchange(host: str, work: Callable[[Registry, Repository], Awaitable[T]]) -> T:
    """What `work` returns for a store that is closed afterwards."""

    async def main() -> T:
        store = Registry(host, Access(timeout=60))
        try:
            return await work(store, Repository.parse(f"{host}/some/one"))
        finally:
            await store.close()

    return asyncio.run(main())


def started(lines: list[str]) -> int:
    return len([line for line in lines if line.startswith("POST")])


def test_what_is_expected_is_started_once(tmp_path: Path) -> None:
    async def push(store: Registry, repository: Repository) -> None:
        store.expect(repository, 2)
        await asyncio.gather(store.put_blob(repository, LARGE), store.put_blob(repository, LITTLE))

    with registry(tmp_path / "registry") as host, recording(host) as between:
        exchange(between.host, push)
        assert started(between.lines) == 2


def test_more_may_be_expected_than_requests_are_in_flight(tmp_path: Path) -> None:
    blobs = [Blob.of(OCI.layer, b"%d" % number) for number in range(100)]

    async def push(store: Registry, repository: Repository) -> None:
        pushes = [asyncio.create_task(store.put_blob(repository, blob)) for blob in blobs]
        await asyncio.sleep(0)
        store.expect(repository, len(blobs))
        await asyncio.gather(*pushes, *(store.put_blob(repository, blob) for blob in blobs))

    with registry(tmp_path / "registry") as host:
        exchange(host, push)


def test_another_is_started_for_one_that_fails(tmp_path: Path) -> None:
    async def push(store: Registry, repository: Repository) -> int:
        store.expect(repository, 1)
        return await store.put_blob(repository, LITTLE)

    with registry(tmp_path / "registry") as host, faulty(host) as between:
        between.follow(matching(answering(403, "DENIED", "not yet"), "POST", "/uploads/", times=1))
        assert exchange(between.host, push) == LITTLE.size
        assert started(between.lines) == 2


@pytest.mark.parametrize("status", [202, 403])
def test_those_that_are_not_used_end_quietly(status: int) -> None:
    complaints: list[dict[str, Any]] = []

    async def expect(store: Registry, repository: Repository) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        store.expect(repository, 3)
        while len(between.asked) < 3:
            await asyncio.sleep(0)
        store.expect(repository, 3)

    with front() as between:
        between.instead = lambda asked: Said(status, [("Location", asked.path)])
        exchange(between.host, expect)
    assert complaints == []


def test_a_disk_that_takes_nothing_is_not_the_registrys_fault(tmp_path: Path) -> None:
    """A folder where there can be no new files."""

    async def pull(store: Registry, repository: Repository) -> None:
        await store.put_blob(repository, LARGE)
        await store.blob(repository, LARGE.descriptor(), Path("/proc"))

    with registry(tmp_path / "registry") as host, pytest.raises(PublishError) as refused:
        exchange(host, pull)
    assert str(refused.value).startswith("/proc/")
    assert "can't be written: " in str(refused.value)
    assert "tried" not in str(refused.value)


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full says so at the first write."""
    monkeypatch.setattr("os.urandom", lambda _: bytes.fromhex("f0" * 8))
    (tmp_path / ("f0" * 8)).symlink_to("/dev/full")

    async def pull(store: Registry, repository: Repository) -> None:
        await store.put_blob(repository, LARGE)
        await store.blob(repository, LARGE.descriptor(), tmp_path)

    with registry(tmp_path / "registry") as host, pytest.raises(PublishError) as refused:
        exchange(host, pull)
    assert "can't be written: No space left on device" in str(refused.value)
    assert "tried" not in str(refused.value)
