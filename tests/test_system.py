"""Work that runs to its end although the task is cancelled, and commands that are started at that moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from build import system
from tests.support.components import need
from tests.support.pidns import until


async def pass_round(times: int) -> str:
    for _ in range(times):
        await asyncio.sleep(0)
    return "done"


def mentions(pid: int, text: str) -> bool:
    try:
        return text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_cancelled_work_is_finished_first() -> None:
    steps = []

    async def task() -> None:
        steps.append(await system.finish(pass_round(5)))
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("undone")

    async def main() -> None:
        running = asyncio.create_task(task())
        for _ in range(3):  # more than one request to cancel changes nothing
            await asyncio.sleep(0)
            running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert steps == ["done", "undone"]


def test_work_that_nobody_cancels_just_returns_or_fails() -> None:
    async def fail() -> None:
        raise ValueError("no")

    async def main() -> str:
        with pytest.raises(ValueError, match="no"):
            await system.finish(fail())
        return await system.finish(pass_round(1))

    assert asyncio.run(main()) == "done"


def test_a_deadline_still_becomes_a_timeout() -> None:
    async def main() -> None:
        async with asyncio.timeout(0):
            await system.finish(pass_round(5))
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(main())


@pytest.mark.parametrize("passes", range(6))
def test_a_command_cancelled_while_it_starts_leaves_no_children(tmp_path: Path, passes: int) -> None:
    marker = tmp_path / "marker"

    async def main() -> None:
        command = [need("sh", "dash"), "-c", f"sh -c 'sleep 1000; :' {marker} & wait"]
        running = asyncio.create_task(system.run(command))
        await pass_round(passes)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())

    def left() -> list[int]:
        found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [pid for pid in found if mentions(pid, str(marker))]

    until("no child is left", lambda: left() == [])
