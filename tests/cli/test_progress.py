"""What is seen of a run: rows on a terminal, lines in a pipe, nothing where that is wanted, and results on stdout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import pytest

from tests.support.checkout import RELEASE, TIMEOUT, Checkout, Run
from tests.support.pidns import until
from tests.support.registries import Recorder
from tests.support.terminals import COLOUR, Terminal, terminal

Released = tuple[Checkout, Run]


@dataclass
class Held:
    """A registry that answers nothing until it is let go."""

    recorder: Recorder
    go: Event = field(default_factory=Event)

    @property
    def host(self) -> str:
        return self.recorder.host


@pytest.fixture
def held(recorder: Recorder) -> Iterator[Held]:
    made = Held(recorder)

    def hold(_: int) -> None:
        made.go.wait(TIMEOUT)

    recorder.on_request = hold
    yield made
    made.go.set()


def stages(run: Terminal) -> dict[str, str]:
    return {arch: cells[0] for arch, cells in run.rows().items()}


def every(stage: str) -> dict[str, str]:
    return dict.fromkeys(RELEASE, stage)


def break_s390x(checkout: Checkout) -> None:
    checkout.edit("pause.c", "int main(", "#ifdef __s390x__\n#error not on this one\n#endif\nint main(")


def test_a_row_for_every_arch(checkout: Checkout, held: Held) -> None:
    with terminal(checkout, "all-push", REGISTRY=held.host) as run:
        until("all images wait for the registry", lambda: stages(run) == every("push"), TIMEOUT)
        assert not run.cursor_is_shown
        held.go.set()
        assert run.ends() == 0
        rows, screen = run.rows(), run.screen
    assert {arch: rows[arch][0] for arch in RELEASE} == every("done")
    assert all(int(rows[arch][1]) > 2000 and rows[arch][2].endswith(" s") for arch in RELEASE)
    # The lines that are of no row stand above the table, the result below it.
    head = next(number for number, line in enumerate(screen) if line.startswith("arch "))
    assert screen[:head] == [f"{held.host}/pause:3.1: pushed"]
    result = screen[head + 1 + len(RELEASE) :]
    assert [line.partition("@")[0] for line in result] == [
        *(f"{held.host}/pause{arch}:3.1" for arch in ("", *(f"-{arch}" for arch in RELEASE))),
        "",
    ]
    assert run.cursor_is_shown


def test_stages_come_one_after_the_other(checkout: Checkout, held: Held) -> None:
    seen: list[str] = []

    def pushing(run: Terminal) -> bool:
        now = stages(run).get(RELEASE[-1], "")
        if now and seen[-1:] != [now]:
            seen.append(now)
        return now == "push"

    with terminal(checkout, "push", "--arch", "all", REGISTRY=held.host) as run:
        until("the last waits for the registry", lambda: pushing(run), TIMEOUT)
        held.go.set()
        assert run.ends() == 0
    order = ["wait", "compile", "done", "image", "push"]  # done: nobody has taken the binary yet
    assert [stage for stage in order if stage in seen] == seen


def test_one_that_fails_leaves_it_readable(checkout: Checkout, held: Held) -> None:
    break_s390x(checkout)
    with terminal(checkout, "all-push", REGISTRY=held.host) as run:
        others = {**every("push"), "s390x": "FAILED at compile"}
        until("s390x has failed", lambda: stages(run) == others, TIMEOUT)
        held.go.set()
        assert run.ends() == 1
        rows, screen = run.rows(), run.screen
    assert rows["s390x"][0] == "FAILED at compile"
    assert all(rows[arch][0] in ("stopped at push", "FAILED at compile") for arch in RELEASE)
    red = [line for line in run.output.split("\n") if "FAILED" in line]
    assert all("\x1b[1;31ms390x" in line for line in red)
    # The message comes below the table, as it does without one.
    found = screen.index(next(line for line in screen if line.startswith("all-push: ")))
    assert found > screen.index(next(line for line in screen if line.startswith("s390x ")))
    expected = checkout.refuses(1, "all-push", REGISTRY=held.host).splitlines()
    message = [screen[found].removeprefix("all-push: "), *screen[found + 1 :]]
    assert [line for line in message if line] == [line for line in expected if line]
    assert any("not on this one" in line for line in message)
    assert run.cursor_is_shown


def test_ctrl_c_gives_the_terminal_back(checkout: Checkout, held: Held) -> None:
    with terminal(checkout, "all-push", REGISTRY=held.host) as run:
        until("all images wait for the registry", lambda: stages(run) == every("push"), TIMEOUT)
        assert not run.cursor_is_shown
        run.process.send_signal(signal.SIGINT)
        assert run.ends() == 130
        assert run.cursor_is_shown
        assert run.screen[-3] == "all-push: interrupted"
        assert all(cells[0] == "stopped at push" for arch, cells in run.rows().items() if arch in RELEASE)


def test_no_color(checkout: Checkout, held: Held) -> None:
    break_s390x(checkout)
    with terminal(checkout, "all-push", REGISTRY=held.host, NO_COLOR="1") as run:
        until("s390x has failed", lambda: stages(run).get("s390x") == "FAILED at compile", TIMEOUT)
        held.go.set()
        assert run.ends() == 1
        assert "\x1b[?25l" in run.output
        assert not COLOUR.search(run.output)


def test_stdout_elsewhere_holds_the_result_alone(checkout: Checkout, held: Held, tmp_path: Path) -> None:
    with (
        (tmp_path / "out").open("w") as out,
        terminal(checkout, "all-push", stdout=out.fileno(), REGISTRY=held.host) as run,
    ):
        until("all images wait for the registry", lambda: stages(run) == every("push"), TIMEOUT)
        held.go.set()
        assert run.ends() == 0
        assert "sha256" not in run.output
        assert {arch: run.rows()[arch][0] for arch in RELEASE} == every("done")
    held.recorder.on_request = lambda _: None
    assert (tmp_path / "out").read_text() == checkout("all-push", REGISTRY=held.host).stdout


def test_nothing_to_do_is_plain_lines(checkout: Checkout) -> None:
    checkout("all-push")
    piped = checkout("all-push")
    with terminal(checkout, "all-push") as run:
        assert run.ends() == 0
        seen = run.screen
    # Only a machine that is very busy has the time to draw.
    if "\x1b" not in run.output:
        assert seen == [*piped.stderr.splitlines(), *piped.stdout.splitlines(), ""]


@pytest.mark.parametrize(("variable", "value"), [("CI", "true"), ("TERM", "dumb")])
def test_no_view_where_none_can_be_drawn(checkout: Checkout, variable: str, value: str) -> None:
    with terminal(checkout, "all-push", stdout=None, **{variable: value}) as run:
        assert run.ends() == 0
        assert "\x1b" not in run.output
        lines = run.screen
    for arch in RELEASE:
        assert any(line.startswith(f"{arch}: pause compiled, ") for line in lines)
        assert f"oci:dist/pause-{arch}:3.1: pushed" in lines


def test_quiet_says_nothing_but_what_is_wrong(released: Released, checkout: Checkout) -> None:
    run = checkout("all-push", "--quiet")
    assert (run.stdout, run.stderr) == (released[1].stdout, "")
    with terminal(checkout, "all-push", "--quiet") as again:
        assert again.ends() == 0
        assert again.screen == [*run.stdout.splitlines(), ""]
    break_s390x(checkout)
    run = checkout.ends("all-push", "--quiet")
    assert (run.code, run.stdout) == (1, "")
    assert run.stderr.startswith("all-push: pause for s390x: zig")


def test_quiet_and_verbose_contradict_each_other(checkout: Checkout) -> None:
    before = checkout.snapshot()
    message = checkout.refuses(2, "all-push", "--quiet", "--verbose")
    assert "--quiet and --verbose" in message
    assert checkout.snapshot() == before


def started(checkout: Checkout, *words: str, stdout: int, stderr: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "invoke", *words]
    return subprocess.Popen(
        command, cwd=checkout.root, env=checkout.environment(), stdout=stdout, stderr=stderr, text=True
    )


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reader_of_results_who_leaves(checkout: Checkout, unread: int, more: list[str]) -> None:
    process = started(checkout, "all-push", *more, stdout=unread, stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    assert said.splitlines()[-1] == "oci:dist/pause:3.1: pushed"
    assert ": pushed" not in checkout("all-push").stderr  # all was done


@pytest.mark.parametrize("more", [[], ["--verbose"], ["--quiet"]])
def test_a_reader_of_progress_who_leaves(released: Released, checkout: Checkout, unread: int, more: list[str]) -> None:
    process = started(checkout, "all-push", *more, stdout=subprocess.PIPE, stderr=unread)
    result, _ = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, result) == (0, released[1].stdout)
    process = started(checkout, "all-push", *more, "--tag", "not a tag", stdout=subprocess.PIPE, stderr=unread)
    assert (process.communicate(timeout=TIMEOUT)[0], process.returncode) == ("", 2)


def test_a_full_disk_for_results(checkout: Checkout) -> None:
    with Path("/dev/full").open("w") as full:
        process = started(checkout, "build", stdout=full.fileno(), stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert "build: stdout: can't be written: No space left on device" in said.splitlines()


def test_a_task_without_stderr_keeps_stdout_clean(released: Released, checkout: Checkout) -> None:
    command = 'exec "$@" 2>&-'
    run = subprocess.run(
        ["sh", "-c", command, "sh", sys.executable, "-m", "invoke", "all-push"],
        cwd=checkout.root,
        env=checkout.environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=TIMEOUT,
    )
    assert run.stdout == released[1].stdout


def test_a_pipe_loads_nothing_to_draw_with(checkout: Checkout) -> None:
    loaded = checkout("build", PYTHONPROFILEIMPORTTIME="1").stderr
    assert "build.cli.progress" in loaded
    assert "rich" not in loaded
