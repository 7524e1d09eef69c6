"""Processes as /proc of this machine shows them (proc(5)), and waiting for what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from build.errors import BuildError

# Seconds between two looks.
_PACE = 0.001


class StoppedError(BuildError):
    """Nobody waits for an answer any more, as after Ctrl-C."""


@dataclass(frozen=True)
class Watch:
    """Polls, until somebody sets `stop`."""

    stop: Event = field(default_factory=Event)

    def until(self, true: Callable[[], bool], seconds: float) -> bool:
        """Poll until `true`, for so long at most; return whether it came to that. Raises StoppedError."""
        deadline = time.monotonic() + seconds
        while not true():
            if self.stop.is_set():
                raise StoppedError("stopped")
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PACE)
        return True


@dataclass(frozen=True)
class Process:
    """A running process, by its number here."""

    pid: int

    def status(self) -> dict[str, str]:
        """The fields of /proc/PID/status; none when the process is gone."""
        lines = self._read("status").splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def state(self) -> str:
        """S: sleeps, R: runs, T: stopped, Z: a zombie, empty: gone."""
        return self.status().get("State", "")[:1]

    def ended(self) -> bool:
        """Whether nothing runs any more, though nobody may have asked yet how it ended."""
        return self.state() in ("Z", "X", "")

    def program(self) -> str:
        """The path of its executable, or nothing if that can't be seen."""
        try:
            return str(Path(f"/proc/{self.pid}/exe").readlink())
        except OSError:
            return ""

    def work(self) -> tuple[str, ...]:
        """Its state, and what only grows as it runs: switches to and from it, and its CPU time (clock ticks)."""
        status = self.status()
        ticks = self._read("stat").rpartition(")")[2].split()[11:13]
        return (status.get("State", "")[:1], *(status.get(f"{kind}_ctxt_switches", "") for kind in _SWITCHES), *ticks)

    def resident(self) -> int:
        """Its resident memory in kB."""
        for line in self._read("smaps_rollup").splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1])
        return int(self.status().get("VmRSS", "0").split()[0])  # of a kernel without it, or if we may not look

    def children(self) -> dict[int, str]:
        """PID and state of each child, zombies included."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                status = Process(int(entry.name)).status()
                if status.get("PPid") == str(self.pid):
                    found[int(entry.name)] = status["State"][:1]
        return found

    def _read(self, name: str) -> str:
        try:
            return Path(f"/proc/{self.pid}/{name}").read_text()
        except OSError:
            return ""


_SWITCHES = ("voluntary", "nonvoluntary")


def kill_group(leader: subprocess.Popen[Any]) -> None:
    """Kill a process that leads a group of its own, with all that is in it, unless it has ended."""
    if leader.poll() is not None:
        return
    if os.name == "nt":
        leader.kill()
    else:
        with suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(leader.pid, signal.SIGKILL)
