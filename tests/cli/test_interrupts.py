"""SIGINT, SIGTERM and SIGHUP at every point of a run: one message, the exit status, and nothing left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest

from tests.cli.test_run import waiting_for
from tests.support.checkout import RELEASE, TIMEOUT, Checkout, ended
from tests.support.components import need
from tests.support.faults import Fault, Faulty, faulty, stalled
from tests.support.pidns import Process, until
from tests.support.registries import Recorder
from tests.support.terminals import terminal

MESSAGE = "{}: interrupted\n  retry: finished work is kept\n"
STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
GCC = "x86_64-linux-gnu-gcc"
COMPILERS = os.cpu_count() or 1
# What a run may leave in a checkout in which it has finished nothing.
KEPT = {".cache", ".cache/pause", ".cache/pause/CACHEDIR.TAG", ".cache/pause/tmp"}

every_signal = pytest.mark.parametrize("name", STATUS)
Hold = Callable[..., dict[str, str]]


@pytest.fixture
def hold(checkout: Checkout) -> Hold:
    """Holds a program up: it writes a line to the file `begun`, and has a child if it `forks`."""

    def hold(program: str, forks: bool = True) -> dict[str, str]:
        folder = checkout.side / "programs"
        folder.mkdir()
        script = folder / program
        version = f'[ "$1" = --version ] && exec {need(program, "gcc")} --version\n' if program.endswith("gcc") else ""
        child = "sleep 1000 &\n" if forks else ""
        script.write_text(f"#!/bin/sh\n{version}{child}echo $$ >>{checkout.side}/begun\nexec sleep 1000\n")
        script.chmod(0o755)
        return {"PATH": f"{folder}:{checkout.environment()['PATH']}"}

    return hold


def begun(checkout: Checkout) -> list[str]:
    """The lines of the programs that are held up."""
    file = checkout.side / "begun"
    return file.read_text().splitlines() if file.exists() else []


def processes(checkout: Checkout) -> set[str]:
    """The processes that were started, by themselves or by others, with the checkout's home in their environment."""
    home = f"HOME={checkout.side}".encode()

    def ours(folder: Path) -> bool:
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # gone
            return False
        return home in environment and Process(int(folder.name)).state() not in ("Z", "")

    return {(each / "comm").read_text() for each in Path("/proc").glob("[0-9]*") if ours(each)}


def nothing_is_left(checkout: Checkout) -> None:
    until("all processes have gone", lambda: not processes(checkout))
    assert list((checkout.side / "tmp").iterdir()) == []
    folder = checkout.root / ".cache/pause/tmp"
    assert not folder.exists() or list(folder.iterdir()) == []
    assert list(checkout.root.rglob(".*.tmp")) == []


def interrupt(checkout: Checkout, name: str, *words: str, when: Callable[[], bool], **environment: str) -> None:
    """Send a signal to `invoke WORDS` alone once `when` is true, and see how that ends."""
    process = checkout.start(*words, **environment)
    until("it is time", lambda: when() or process.poll() is not None, TIMEOUT)
    process.send_signal(getattr(signal, name))
    run = ended(process)
    assert (run.code, run.stdout) == (STATUS[name], "")
    assert run.stderr.endswith(f"\n{MESSAGE.format(words[0])}") or run.stderr == MESSAGE.format(words[0])
    assert run.stderr.count("interrupted") == 1
    assert "Traceback" not in run.stderr
    nothing_is_left(checkout)


@every_signal
@pytest.mark.parametrize(("program", "words"), [("git", ()), (GCC, ("--compiler", "host"))])
def test_before_and_while_it_compiles(
    checkout: Checkout, hold: Hold, name: str, program: str, words: tuple[str, ...]
) -> None:
    before = checkout.snapshot()
    held = hold(program)
    interrupt(checkout, name, "all-push", "--arch", "amd64", *words, when=lambda: bool(begun(checkout)), **held)
    assert set(checkout.snapshot()) - set(before) <= KEPT
    checkout("all-push", "--arch", "amd64")


@every_signal
def test_while_it_reads_a_table_that_never_comes(checkout: Checkout, name: str) -> None:
    """Reading it blocks the event loop."""
    table = checkout.root / "arches.yaml"
    table.unlink()
    os.mkfifo(table)
    process = checkout.start("build")
    with waiting_for(table, process):
        process.send_signal(getattr(signal, name))
        run = ended(process)
    assert (run.code, run.stdout, run.stderr) == (STATUS[name], "", MESSAGE.format("build"))
    nothing_is_left(checkout)


@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["its group", "Invoke only"])
@every_signal
def test_no_compiler_goes_on_and_none_begins(
    checkout: Checkout, hold: Hold, name: str, send: Callable[[int, int], None]
) -> None:
    names = [f"x{number}" for number in range(2 * COMPILERS)]
    checkout.edit("arches.yaml", "arches:\n", "arches:\n" + "".join(map(ROW.format, names)))
    words = [word for each in names for word in ("--arch", each)]
    process = checkout.start("build", "--compiler", "host", *words, **hold(GCC))
    until("all compilers are at work", lambda: len(begun(checkout)) == COMPILERS)
    send(process.pid, getattr(signal, name))
    run = ended(process)
    assert (run.code, run.stdout) == (STATUS[name], "")
    assert run.stderr.endswith(MESSAGE.format("build"))
    assert len(begun(checkout)) == COMPILERS
    nothing_is_left(checkout)


ROW = """\
  {0}:
    triple: x86_64-linux-gnu
    platform: linux/amd64/{0}
    elf: {{machine: EM_X86_64, class: 64, order: little}}
    qemu: x86_64
    runtime: x86_64
"""


@pytest.fixture
def proxy(recorder: Recorder) -> Iterator[Faulty]:
    """A registry that answers as planned."""
    with faulty(recorder.host) as made:
        yield made


@every_signal
@pytest.mark.parametrize("method", ["GET|HEAD", "POST|PATCH|PUT"])
def test_while_a_registry_answers_nothing(checkout: Checkout, proxy: Faulty, name: str, method: str) -> None:
    def plan(_number: int, found: str, _path: str) -> Fault | None:
        return stalled if found in method.split("|") else None

    proxy.follow(plan)
    words = ("all-push", "--arch", "amd64", "--arch", "arm")
    interrupt(checkout, name, *words, when=lambda: proxy.spoilt > 0, REGISTRY=proxy.host)
    proxy.over.set()
    proxy.follow(lambda *_: None)
    checkout(*words, REGISTRY=proxy.host)


@every_signal
def test_while_a_credential_helper_answers_nothing(checkout: Checkout, basic: str, hold: Hold, name: str) -> None:
    (checkout.side / ".docker").mkdir()
    (checkout.side / ".docker/config.json").write_text('{"credsStore": "held"}')
    held = hold("docker-credential-held")
    interrupt(checkout, name, "push", when=lambda: bool(begun(checkout)), REGISTRY=basic, **held)


@every_signal
def test_the_live_view_gives_the_terminal_back(checkout: Checkout, proxy: Faulty, name: str) -> None:
    def plan(_number: int, method: str, _path: str) -> Fault | None:
        return None if method in ("GET", "HEAD") else stalled

    proxy.follow(plan)
    with terminal(checkout, "all-push", REGISTRY=proxy.host) as run:
        until(
            "all images wait", lambda: [cells[0] for cells in run.rows().values()] == ["push"] * len(RELEASE), TIMEOUT
        )
        assert not run.cursor_is_shown
        run.process.send_signal(getattr(signal, name))
        assert run.ends() == STATUS[name]
        assert run.cursor_is_shown
        assert "\n".join(run.screen[-3:]) == MESSAGE.format("all-push")
        assert run.output.count("interrupted") == 1
        assert {cells[0] for arch, cells in run.rows().items() if arch in RELEASE} == {"stopped at push"}
    nothing_is_left(checkout)


@every_signal
def test_the_live_view_while_it_compiles(checkout: Checkout, hold: Hold, name: str) -> None:
    with terminal(checkout, "all-push", "--arch", "amd64", "--compiler", "host", stdout=None, **hold(GCC)) as run:
        until("it compiles", lambda: run.rows().get("amd64", [""])[0] == "compile" and bool(begun(checkout)), TIMEOUT)
        run.process.send_signal(getattr(signal, name))
        assert run.ends() == STATUS[name]
        assert run.cursor_is_shown
        assert run.screen[-3] == "all-push: interrupted"
        assert run.rows()["amd64"][0] == "stopped at compile"
    nothing_is_left(checkout)


def test_a_closed_terminal_ends_the_run(checkout: Checkout, hold: Hold) -> None:
    """As when its window is closed: there is nobody left to read the message."""
    with terminal(checkout, "all-push", "--arch", "amd64", "--compiler", "host", stdout=None, **hold(GCC)) as run:
        until("it compiles", lambda: run.rows().get("amd64", [""])[0] == "compile" and bool(begun(checkout)), TIMEOUT)
        run.hang_up()
        run.process.send_signal(signal.SIGHUP)
        assert run.process.wait(TIMEOUT) == STATUS["SIGHUP"]
    nothing_is_left(checkout)


@pytest.mark.parametrize(("number", "name"), list(zip(range(1, 25, 3), cycle(STATUS), strict=False)))
def test_while_it_publishes(checkout: Checkout, recorder: Recorder, number: int, name: str) -> None:
    words = ("all-push", "--arch", "amd64", "--arch", "arm")
    process = checkout.start(*words, REGISTRY=recorder.host)
    sent = getattr(signal, name)
    recorder.on_request = lambda request: process.send_signal(sent) if request == number else None
    run = ended(process)
    recorder.on_request = lambda _: None
    assert (run.code, run.stdout) in ((STATUS[name], ""), (0, run.stdout))
    if run.code:
        assert run.stderr.endswith(MESSAGE.format("all-push"))
    nothing_is_left(checkout)
    checkout(*words, REGISTRY=recorder.host)
    checkout("check", *words[1:], REGISTRY=recorder.host)
