"""The door to docker-py: deadlines, errors in streams, and what is undone when a run is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from docker import APIClient

from build.daemon import client as module
from build.daemon.client import Daemon, connect
from build.errors import BuildError
from tests.support.silent import silent_server


@pytest.fixture
def daemon() -> Daemon:
    return Daemon(APIClient("unix:///nonexistent", version="1.41"))


def test_what_is_created_is_removed_at_the_end(daemon: Daemon) -> None:
    steps = []

    async def main() -> None:
        creation = daemon.call("create", lambda _: steps.append("created"))
        async with daemon.created(creation, "remove", lambda _: steps.append("removed")):
            steps.append("used")

    asyncio.run(main())
    assert steps == ["created", "used", "removed"]


def test_what_could_not_be_created_is_removed_too_because_it_may_be_there(daemon: Daemon) -> None:
    steps = []

    def create(_: APIClient) -> None:
        raise ConnectionResetError("reset")

    async def main() -> None:
        async with daemon.created(daemon.call("create", create), "remove", lambda _: steps.append("removed")):
            steps.append("used")

    with pytest.raises(BuildError, match=r"^create: the Docker daemon went away\n"):
        asyncio.run(main())
    assert steps == ["removed"]


def test_a_creation_that_is_under_way_ends_before_it_is_undone(daemon: Daemon) -> None:
    steps, begun, may_end = list[str](), threading.Event(), threading.Event()

    def create(_: APIClient) -> None:
        begun.set()
        may_end.wait()
        steps.append("created")

    async def use() -> None:
        async with daemon.created(daemon.call("create", create), "remove", lambda _: steps.append("removed")):
            steps.append("used")

    async def main() -> None:
        task = asyncio.create_task(use())
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await asyncio.sleep(0)
        assert steps == []
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert steps == ["created", "removed"]


def test_a_daemon_that_hangs_does_not_hold_a_cancelled_run(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_UNDO", 0.01)
    begun, may_end = threading.Event(), threading.Event()

    def create(_: APIClient) -> None:
        begun.set()
        may_end.wait()

    async def use() -> None:
        async with daemon.created(daemon.call("create", create), "c1 can't be removed", lambda _: None):
            pass

    async def main() -> None:
        task = asyncio.create_task(use())
        await asyncio.to_thread(begun.wait)
        task.cancel()
        try:
            with pytest.raises(
                BuildError, match=r"^c1 can't be removed: the Docker daemon has not answered in 0.01 s\n"
            ):
                await task
        finally:
            may_end.set()

    asyncio.run(main())


def test_a_call_has_a_deadline(daemon: Daemon) -> None:
    may_end = threading.Event()

    async def main() -> None:
        try:
            await daemon.call("c1: docker tag", lambda _: may_end.wait(), timeout=0.01)
        finally:
            may_end.set()

    with pytest.raises(BuildError, match=r"^c1: docker tag: the Docker daemon has not answered in 0.01 s\n"):
        asyncio.run(main())


def test_a_daemon_that_never_answers_does_not_hold_a_cancelled_connection() -> None:
    async def main(host: str) -> None:
        connecting = asyncio.create_task(connect({"DOCKER_HOST": host}))
        await asyncio.to_thread(server.accepted.wait)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        server.close()  # and the thread ends, for which this loop, unlike a run's, waits

    with silent_server() as server:
        asyncio.run(main(f"tcp://{server.host}"))


def test_lines_are_reported_in_the_event_loop(daemon: Daemon) -> None:
    lines = [{"id": "a"}, {"id": "b"}]
    reported, threads = [], set()

    def report(line: Mapping[str, Any]) -> None:
        reported.append(line)
        threads.add(threading.current_thread())

    assert asyncio.run(daemon.stream("pull", lambda _: iter(lines), report)) == reported == lines
    assert threads == {threading.main_thread()}


@pytest.mark.parametrize("line", [{"error": "denied"}, {"errorDetail": {"message": "denied"}}])
def test_a_line_with_an_error_ends_the_stream(daemon: Daemon, line: Mapping[str, Any]) -> None:
    def lines(_: APIClient) -> Iterator[Mapping[str, Any]]:
        yield {"status": "fine"}
        yield line
        raise AssertionError("read on")

    with pytest.raises(BuildError, match=r"^push: .*denied"):
        asyncio.run(daemon.stream("push", lines))


def test_streams_leave_threads_for_short_calls(daemon: Daemon) -> None:
    may_end = threading.Event()

    def lines(_: APIClient) -> Iterator[Mapping[str, Any]]:
        may_end.wait()
        yield {"status": "end"}

    async def main() -> str:
        streams = [asyncio.create_task(daemon.stream("push", lines)) for _ in range(40)]
        try:
            await asyncio.sleep(0)
            return await daemon.call("ping", lambda _: "pong")
        finally:
            may_end.set()
            await asyncio.gather(*streams)

    assert asyncio.run(main()) == "pong"
