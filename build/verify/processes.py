"""Processes as /proc of this machine shows them (proc(5)), and polling for what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from pathlib import Path

# Seconds between two polls.
_INTERVAL = 0.001
# What a container's first process is called until the runtime executes the container's program.
_RUNTIMES = ("runc", "crun", "exe")


async def until(true: Callable[[], bool | Awaitable[bool]], seconds: float) -> bool:
    """Poll until `true` is true, for at most `seconds`; return whether it became true."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        answer = true()
        if await answer if isawaitable(answer) else answer:
            return True
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(_INTERVAL)


@dataclass(frozen=True)
class Process:
    """A process, by its PID in the namespace of this process; PID 0 stands for one that was gone before it was seen."""

    pid: int

    def status(self) -> dict[str, str]:
        """The fields of /proc/PID/status; empty if the process is gone."""
        lines = self._read("status").splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def state(self) -> str:
        """S: sleeping, R: running, T: stopped, Z: zombie, empty: gone."""
        return self.status().get("State", "")[:1]

    def ended(self) -> bool:
        """Whether the process has ended, reaped or not."""
        return self.state() in ("Z", "X", "")

    def program(self) -> str:
        """The path of its executable, or an empty string if that can't be read."""
        try:
            return str(Path(f"/proc/{self.pid}/exe").readlink())
        except OSError:
            return ""

    def is_runtime(self) -> bool:
        """Whether this is still the container runtime, which has yet to execute the container's program."""
        return self.status().get("Name", "").startswith(_RUNTIMES)

    def activity(self) -> tuple[str, ...]:
        """Its state, and counters that grow as it runs: context switches, and CPU time in clock ticks."""
        status = self.status()
        ticks = self._read("stat").rpartition(")")[2].split()[11:13]
        return (status.get("State", "")[:1], *(status.get(f"{kind}_ctxt_switches", "") for kind in _SWITCHES), *ticks)

    def resident(self) -> int:
        """Its resident memory in kB, or 0 if that can't be read."""
        for line in self._read("smaps_rollup").splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1])
        # Some kernels have no smaps_rollup, and it may be off limits.
        return int(self.status().get("VmRSS", "0").split()[0])

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
