"""Programs that run as PID 1 of their own PID namespace, and their state as /proc shows it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from build.verify import processes as proc
from tests.support.components import need

PATIENCE = 10.0


def until(what: str, true: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Poll until `true`; AssertionError after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, f"not so after {patience} s: {what}"
        time.sleep(0.001)


@dataclass(frozen=True)
class Process(proc.Process):
    """A process as /proc shows it, with what only these tests need."""

    def signals(self, field: str) -> set[int]:
        """The signals of SigBlk, SigIgn, SigPnd or ShdPnd."""
        mask = int(self.status().get(field, "0"), 16)
        return {number for number in range(1, 65) if mask >> (number - 1) & 1}

    def naps(self) -> int:
        """How often it has gone to sleep so far: while this is unchanged, nothing has woken it."""
        return int(self.status()["voluntary_ctxt_switches"])

    def await_ready(self, program: Path) -> None:
        """Wait until it executes `program` and sleeps (pause sleeps only while it waits for signals), or has ended.

        SigBlk is no help: the kernel shows a signal that a process waits for as not blocked.
        """

        def ready() -> bool:
            state = self.state()
            return state in ("Z", "") or (state == "S" and self.program() == str(program))

        until(f"{program} waits", ready)


@dataclass(frozen=True)
class Pod:
    """PID 1 of a namespace, its parent outside, and the command prefix that runs others inside."""

    parent: subprocess.Popen[str]
    init: Process
    enter: tuple[str, ...]

    def run(self, *command: str) -> str:
        """The stdout of a command in the namespace, once every process that inherited it has closed it."""
        return subprocess.run([*self.enter, *command], check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout

    def kill(self, number: signal.Signals) -> None:
        try:
            os.kill(self.init.pid, number)
        except ProcessLookupError:
            raise AssertionError(f"PID 1 was gone before {number.name}") from None

    def outcome(self, patience: float = PATIENCE) -> tuple[int, str, str]:
        """Exit status, stdout and stderr, once PID 1 has ended."""
        try:
            stdout, stderr = self.parent.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"PID 1 still runs after {patience} s") from None
        return self.parent.returncode, stdout, stderr


@cache
def _unshare() -> tuple[str, ...]:
    as_user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    command = (need("unshare", "util-linux"), *as_user, "--pid", "--fork", "--mount-proc", "--kill-child")
    probe = subprocess.run([*command, "true"], check=False, capture_output=True, text=True)
    if probe.returncode:
        reason = f"no PID namespace for us: {probe.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return command


@contextmanager
def pod(*command: str, program: Path | None = None) -> Iterator[Pod]:
    """Run `command` as PID 1, and wait until it executes `program` and is ready for signals."""
    parent = subprocess.Popen(
        [*_unshare(), *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        outside = Process(parent.pid)
        until(f"{command[0]} is started", lambda: parent.poll() is not None or bool(outside.children()))
        assert parent.poll() is None, f"{command[0]} ended at once: {parent.communicate()}"
        init = Process(next(iter(outside.children())))
        as_user = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
        enter = (need("nsenter", "util-linux"), f"--target={init.pid}", *as_user, "--pid", "--mount")
        if program:
            init.await_ready(program)
        yield Pod(parent, init, enter)
    finally:
        parent.kill()  # --kill-child: PID 1 goes too, and with it its namespace
        parent.communicate()
