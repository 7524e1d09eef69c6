"""Compilers end with the run, and so do all processes that they have started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from build.compilers.compiler import Compiler, Program
from build.compilers.host import Host
from build.compilers.zig import Zig
from tests.support.checkout import SETTINGS, SOURCE
from tests.support.components import need
from tests.support.pidns import until

AMD64 = SETTINGS.arches["amd64"]
PROGRAM = Program("pause", ("pause.c",), ("-Os",), "v3.1")


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A compiler that starts two children and waits for them; all their command lines name this folder."""
    program = tmp_path / "slow"
    (tmp_path / "sleep").symlink_to(need("sleep", "coreutils"))
    program.write_text('#!/bin/sh\n"${0%/*}/sleep" 1000 & "${0%/*}/sleep" 1000 & wait\n')
    program.chmod(0o755)
    return program


@pytest.fixture(params=[Host, Zig], ids=["host", "zig"])
def compiler(request: pytest.FixtureRequest, slow: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """A compiler whose executable is the slow one."""
    make: Callable[[], Compiler] = request.param
    (slow.parent / f"{AMD64.triple}-gcc").symlink_to(slow)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(Zig, "_binary", slow)
    return make()


def running(folder: Path) -> list[int]:
    """The processes whose command line names a file in the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_cancelled_compiler_ends_with_its_children(compiler: Compiler, tmp_path: Path) -> None:
    async def compile_() -> None:
        async with compiler.session(SOURCE, [(PROGRAM, AMD64)], tmp_path) as compile_job:
            await compile_job(PROGRAM, AMD64)

    async def main() -> None:
        task = asyncio.create_task(compile_())
        await asyncio.to_thread(until, "it has children", lambda: len(running(tmp_path)) >= 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    until("no process is left", lambda: running(tmp_path) == [])


KILLED = """
import asyncio, sys
from pathlib import Path
from build.compilers.host import Host
from tests.compilers.test_cancellation import AMD64, PROGRAM, SOURCE

async def main():
    async with Host().session(SOURCE, [(PROGRAM, AMD64)], Path(sys.argv[1])) as compile_job:
        await compile_job(PROGRAM, AMD64)

asyncio.run(main())
"""


def test_a_compiler_ends_with_a_run_that_is_killed(tmp_path: Path) -> None:
    need("setpriv", "util-linux")
    gcc = tmp_path / f"{AMD64.triple}-gcc"
    gcc.write_text("#!/bin/sh\nexec sleep 1000 0\n")
    gcc.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(SOURCE)}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=SOURCE, env=environment)
    children: list[int] = []

    def started() -> bool:
        assert process.poll() is None
        path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        children[:] = [int(pid) for pid in path.read_text().split()]
        return any(b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children)

    try:
        until("it compiles", started)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    until("the compiler is gone", lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
