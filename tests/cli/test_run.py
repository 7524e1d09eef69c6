"""How a coroutine runs and ends: whatever it is doing when a signal comes, it undoes it, and the process ends."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from build.cli.run import SIGNALS, Interrupted, exit_on_signals, run
from tests.support.checkout import SOURCE, TIMEOUT
from tests.support.pidns import Process, until

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
MESSAGE = "task: interrupted\n  retry: finished work is kept\n"

# As tasks.py does it. `here` says that the program has reached a point.
PROLOGUE = """
import sys
from build.cli.run import Interrupted, end, exit_on_signals, run
exit_on_signals("task")
import asyncio, os, signal, socket, threading
from pathlib import Path
import build.system

def here(word):
    print(word, flush=True)

def task(main):
    try:
        run(main)
    except Interrupted as error:
        print(f"task: {error}", file=sys.stderr)
        end(error.status)
"""


@contextmanager
def program(text: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that runs until its end, or that of the context."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROLOGUE + textwrap.dedent(text)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "PYTHONWARNINGS": "always"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def reached(process: subprocess.Popen[str]) -> str:
    """The next word of `here`."""
    assert process.stdout
    return process.stdout.readline().strip()


def ends(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    return process.returncode, stdout, stderr


def interrupted(process: subprocess.Popen[str], number: int, stdout: str = "") -> None:
    """A signal ends it with one message, and nothing else on stderr."""
    process.send_signal(number)
    assert ends(process) == (STATUS[signal.Signals(number)], stdout, MESSAGE)


every_signal = pytest.mark.parametrize("number", SIGNALS, ids=[each.name for each in SIGNALS])


@every_signal
def test_what_is_under_way_is_undone(number: int, tmp_path: Path) -> None:
    text = """
    async def main():
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(work())
                await asyncio.sleep(0)
                here("at work")
        finally:
            await asyncio.sleep(0)
            here("undone")

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            here("part undone")

    task(main)
    """
    with program(text, tmp_path) as process:
        assert reached(process) == "at work"
        interrupted(process, number, 3 * "part undone\n" + "undone\n")


@every_signal
def test_a_blocking_call_in_a_thread_is_not_waited_for(number: int, tmp_path: Path) -> None:
    text = """
    one, other = socket.socketpair()

    def receive():
        here("blocked")
        one.recv(1)

    async def main():
        try:
            await asyncio.to_thread(receive)
        finally:
            here("undone")

    task(main)
    """
    with program(text, tmp_path) as process:
        assert reached(process) == "blocked"
        interrupted(process, number, "undone\n")


@every_signal
def test_a_command_that_a_library_runs_in_a_thread_ends(number: int, tmp_path: Path) -> None:
    text = """
    import subprocess

    async def main():
        await asyncio.to_thread(subprocess.run, ["sh", "-c", "echo $$ >pid; echo blocked; exec sleep 1000"])

    task(main)
    """
    with program(text, tmp_path) as process:
        assert reached(process) == "blocked"
        interrupted(process, number)
    until("it has gone", lambda: not runs((tmp_path / "pid").read_text()))


def test_a_failure_does_not_wait_for_a_blocking_call_in_a_thread(tmp_path: Path) -> None:
    text = """
    async def main():
        async with asyncio.timeout(0):
            await asyncio.to_thread(threading.Event().wait)

    try:
        run(main)
    except TimeoutError:
        print("timed out")
        end(1)
    """
    with program(text, tmp_path) as process:
        assert ends(process) == (1, "timed out\n", "")


@every_signal
def test_a_call_that_blocks_the_event_loop_is_broken_off(number: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    text = """
    async def main():
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(read())
        finally:
            here("undone")

    async def read():
        Path("pipe").read_bytes()

    task(main)
    """
    with program(text, tmp_path) as process, waiting_for(tmp_path / "pipe", process):
        interrupted(process, number, "undone\n")


@every_signal
def test_before_and_after_the_loop(number: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for text in ("", "async def main(): pass\nrun(main)\n"):
        with (
            program(f"{text}os.read(os.open('pipe', os.O_RDONLY), 1)", tmp_path) as process,
            waiting_for(tmp_path / "pipe", process),
        ):
            interrupted(process, number)


def test_what_blocks_before_the_loop_is_left_in_order(tmp_path: Path) -> None:
    text = """
    try:
        here("blocked")
        threading.Event().wait()
    finally:
        here("left")
    """
    with program(text, tmp_path) as process:
        assert reached(process) == "blocked"
        interrupted(process, signal.SIGTERM, "left\n")


@pytest.mark.parametrize("first", SIGNALS, ids=[each.name for each in SIGNALS])
@pytest.mark.parametrize("second", SIGNALS, ids=[each.name for each in SIGNALS])
def test_a_second_signal_does_not_cut_undoing_short(first: int, second: int, tmp_path: Path) -> None:
    text = """
    async def main():
        try:
            here("at work")
            await asyncio.Event().wait()
        finally:
            here("undoing")
            while not Path("go").exists():
                await asyncio.sleep(0.001)
            here("undone")

    task(main)
    """
    with program(text, tmp_path) as process:
        assert reached(process) == "at work"
        process.send_signal(first)
        assert reached(process) == "undoing"
        for _ in range(3):
            process.send_signal(second)
            until("the signal is taken", lambda: not pending(process))
        (tmp_path / "go").touch()
        assert ends(process) == (STATUS[signal.Signals(first)], "undone\n", MESSAGE)


@every_signal
def test_commands_end_with_the_run(number: int, tmp_path: Path) -> None:
    """Those that they started, too. One that has left their process group, with their pipes, does not hold it up."""
    script = """
    sleep 1000 & echo $! >>pids
    setsid sh -c 'echo $$ >left; exec sleep 1000' &
    echo $$ >>pids
    exec sleep 1000
    """
    text = f"""
    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(build.system.run(["sh", "-c", {script!r}]))
            while not Path("left").exists() or not Path("left").read_text().endswith("\\n"):
                await asyncio.sleep(0.001)
            here("at work")

    task(main)
    """
    try:
        with program(text, tmp_path) as process:
            assert reached(process) == "at work"
            interrupted(process, number)
        pids = (tmp_path / "pids").read_text().split()
        assert len(pids) == 2
        until("they have gone", lambda: not any(map(runs, pids)))
    finally:
        os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)


def test_commands_end_without_a_thread_for_each(tmp_path: Path) -> None:
    text = """
    async def main():
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(build.system.run(["sleep", "1000"]))
            children = Path(f"/proc/self/task/{os.getpid()}/children")
            while len(children.read_text().split()) < 5:
                await asyncio.sleep(0.001)
            here(threading.active_count())
            raise asyncio.CancelledError

    task(main)
    """
    if not hasattr(os, "pidfd_open"):
        pytest.skip("only Linux has pidfd_open(2)")
    with program(text, tmp_path) as process:
        assert reached(process) == "1"


@every_signal
def test_signals_that_are_ignored_stay_so(number: int, tmp_path: Path) -> None:
    """As nohup(1) and a shell's background jobs ask for."""
    text = """
    async def main():
        here("at work")
        while not Path("go").exists():
            await asyncio.sleep(0.001)

    task(main)
    """
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with program(text, tmp_path) as process:
            assert reached(process) == "at work"
            process.send_signal(number)
            (tmp_path / "go").touch()
            assert ends(process) == (0, "", "")
    finally:
        signal.signal(number, before)


def test_a_signal_during_closing_ends_it_the_same(tmp_path: Path) -> None:
    text = """
    async def straggler():
        try:
            await asyncio.Event().wait()
        finally:
            here("closing")
            while not Path("go").exists():
                await asyncio.sleep(0.001)
            here("closed")

    async def main():
        global kept
        kept = asyncio.create_task(straggler())
        await asyncio.sleep(0)

    task(main)
    """
    with program(text, tmp_path) as process:
        assert reached(process) == "closing"
        process.send_signal(signal.SIGTERM)
        until("the signal is taken", lambda: not pending(process))
        (tmp_path / "go").touch()
        assert ends(process) == (143, "closed\n", MESSAGE)


def test_results_and_failures_pass() -> None:
    async def result() -> int:
        await asyncio.sleep(0)
        return 3

    async def failure() -> None:
        raise LookupError("mine")

    handlers = [signal.getsignal(number) for number in SIGNALS]
    assert run(result) == 3
    with pytest.raises(LookupError, match="mine"):
        run(failure)
    assert [signal.getsignal(number) for number in SIGNALS] == handlers


def test_nothing_goes_on_when_a_run_has_ended() -> None:
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("task")

    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            ended.append("generator")

    async def main() -> None:
        tasks.append(asyncio.create_task(background()))
        generators.append(numbers())
        async for _ in generators[0]:
            break

    tasks: list[asyncio.Task[None]] = []
    generators: list[AsyncIterator[int]] = []
    run(main)
    assert ended == ["task", "generator"]


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 10, 50])
def test_a_command_that_is_just_being_started_ends_with_a_failed_run(tmp_path: Path, turns: int) -> None:
    """However far asyncio has come with it, when something else fails."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
            import asyncio, sys
            from build import system
            from build.cli.run import run
            from build.errors import BuildError

            async def main():
                command = asyncio.create_task(system.run(["sleep", "100"]))
                for _ in range({turns}):
                    await asyncio.sleep(0)
                raise BuildError("something else")

            try:
                run(main)
            except BuildError as error:
                print(error)
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, str(program)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "something else\n", "")


def test_an_interrupted_run_says_how_it_ended() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]

    async def main() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    try:
        with pytest.raises(Interrupted) as caught:
            run(main)
        assert caught.value.status == 143
        assert isinstance(caught.value.__context__, asyncio.CancelledError)
        # The process is about to end: another signal must not add a second message.
        assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_IGN}
        exit_on_signals("task")
        assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_IGN}
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


def pending(process: subprocess.Popen[str]) -> bool:
    """Whether the kernel has yet to deliver a signal."""
    fields = Process(process.pid).status()
    return any(int(fields[name], 16) for name in ("SigPnd", "ShdPnd"))


@contextmanager
def waiting_for(pipe: Path, process: subprocess.Popen[str]) -> Iterator[None]:
    """Wait until `process` reads the named pipe, and keep it waiting."""

    def opened() -> bool:
        try:
            found.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody reads it
                return False
            raise
        return True

    found: list[int] = []
    until(f"{pipe} is opened", opened, TIMEOUT)
    try:
        # Python misses a signal that comes just before a system call.
        until(f"{pipe} is read", lambda: Process(process.pid).state() == "S", TIMEOUT)
        yield
    finally:
        os.close(found[0])


def runs(pid: str) -> bool:
    return Process(int(pid)).state() not in ("Z", "")
