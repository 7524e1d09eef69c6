"""What does pause cost a node? Everything is read from /proc; nothing is estimated."""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.builds import NAMES, NATIVE, Built, build, lacking
from bench.figures import spread, table
from bench.running import Checkout, FailedError

# Seconds that anything here may take.
_PATIENCE = 60.0
_CLONE_NEWPID = 0x20000000
_MEMORY = ("Rss", "Pss", "Private_Clean", "Private_Dirty")


def measure(rounds: int, orphans: int, starts: int, only: Collection[str]) -> dict[str, Any]:
    """All that the report says; without words in `only` of all builds."""
    names = [name for name in NAMES if not only or name in only]
    left_out = lacking(names)
    if os.geteuid() != 0:
        left_out |= dict.fromkeys(names, "PID namespaces: need root")
    builds: dict[str, Any] = {}
    with TemporaryDirectory(prefix="bench") as folder:
        scratch = Path(folder)
        orphan = Checkout.clone(scratch, "orphan")
        if set(names) - set(left_out):
            orphan.invoke("orphan", "--arch", NATIVE)
        made: dict[str, Built] = {}
        for name in names:
            if name not in left_out:
                made[name], missing = build(name, scratch)
                left_out |= {f"{name} for {arch}": reason for arch, reason in missing.items()}
                print(f"{name} is built", file=sys.stderr)
        for name, built in made.items():
            builds[name] = {
                "bytes": built.bytes,
                "image bytes": built.image_bytes,
                **_at_rest(built.program),
                **_burdened(built.program, orphan.root / "bin" / f"orphan-{NATIVE}", orphans),
            }
        ended: dict[str, list[float]] = {name: [] for name in made}
        ready: dict[str, list[float]] = {name: [] for name in made}
        for number in range(rounds):  # all builds in turn, so that a machine whose speed varies varies for each
            for name, built in made.items():
                ended[name].append(_end(built.program) * 1000)
                if number < max(1, rounds // 4):
                    ready[name].append(starts / _start(built.program, starts))
    for name, build_ in builds.items():
        build_["ms from SIGTERM to exit"] = spread(ended[name])
        build_["ready per second"] = spread(ready[name], 0)
    return {"rounds": rounds, "orphans": orphans, "starts": starts, "builds": builds, "absent": left_out}


def shown(report: Mapping[str, Any]) -> str:
    """Tables for people."""
    builds: Mapping[str, Any] = report["builds"]
    arches = list(dict.fromkeys(arch for each in builds.values() for arch in each["bytes"]))
    sizes = [["bytes: program + image", *arches]]
    for name, each in builds.items():
        pairs = [(each["bytes"].get(arch), each["image bytes"].get(arch)) for arch in arches]
        sizes.append([name, *(" + ".join(str(part or "-") for part in pair) if any(pair) else "-" for pair in pairs)])
    rows = [["", "Rss kB", "Pss kB", "private kB", "wake-ups", "CPU ms", "SIGTERM ms", "ready per s"]]
    for name, each in builds.items():
        memory = (str(each[key]) for key in ("Rss", "Pss", "Private"))
        ended, ready = each["ms from SIGTERM to exit"], each["ready per second"]
        spent = (str(each["wake-ups"]), f"{each['CPU ms']:.2f}")
        last = (f"{ended['median']:.2f} ({ended['least']:.2f} to {ended['most']:.2f})", f"{ready['median']:.0f}")
        rows.append([name, *memory, *spent, *last])
    left_out = [f"{name}: left out: {reason}" for name, reason in report["absent"].items()]
    return "\n".join([table(sizes), "", f"wake-ups and CPU: of {report['orphans']} orphans", table(rows), *left_out])


def _at_rest(program: Path) -> dict[str, int]:
    """Memory in kB of a program that waits (proc_pid_smaps(5))."""
    with _Namespaces() as namespaces:
        pid = namespaces.start(program)
        namespaces.await_ready(pid, program)
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {key: int(re.findall(rf"^{key}:\s*(\d+) kB", text, re.MULTILINE)[0]) for key in _MEMORY}
    private = found.pop("Private_Clean") + found.pop("Private_Dirty")
    return {**found, "Private": private}


def _burdened(program: Path, orphan: Path, orphans: int) -> dict[str, float]:
    """How often it is woken by orphans, and the CPU time that they cost it (proc_pid_status(5), proc_pid_stat(5))."""
    with _Namespaces() as namespaces:
        pid = namespaces.start(program)
        namespaces.await_ready(pid, program)
        before = _work(pid)
        enter = ["nsenter", f"--target={pid}", "--pid", str(orphan), str(orphans)]
        done = subprocess.run(enter, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=600)
        if done.returncode or done.stdout.count(b"Child exiting: ") != orphans:
            raise FailedError(f"{' '.join(enter)}: exit status {done.returncode}")
        namespaces.until(lambda: not Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        after = _work(pid)
    found = {key: after[key] - value for key, value in before.items()}
    return {"wake-ups": found["wake-ups"], "CPU ms": round(found["ns"] / 1e6, 3), "CPU ticks": found["ticks"]}


def _work(pid: int) -> dict[str, int]:
    woken = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    spent = Path(f"/proc/{pid}/schedstat").read_text().split()[0]
    return {"wake-ups": int(woken[1]) if woken else 0, "ns": int(spent), "ticks": sum(map(int, ticks))}


def _end(program: Path) -> float:
    """Seconds from SIGTERM until the process has ended."""
    with _Namespaces() as namespaces:
        pid = namespaces.start(program)
        namespaces.await_ready(pid, program)
        watched = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(watched, select.POLLIN)
            began = time.perf_counter()
            os.kill(pid, signal.SIGTERM)
            if not poll.poll(_PATIENCE * 1000):
                raise FailedError(f"{program.name}: SIGTERM does not end it")
            return time.perf_counter() - began
        finally:
            os.close(watched)


def _start(program: Path, count: int) -> float:
    """Seconds until so many, started one after the other in a PID namespace each, are all ready."""
    with _Namespaces() as namespaces:
        began = time.perf_counter()
        for pid in [namespaces.start(program) for _ in range(count)]:
            namespaces.await_ready(pid, program)
        return time.perf_counter() - began


class _Namespaces:
    """PID namespaces, each with a program as its first process; all end with this."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY)
        self._pids: list[int] = []

    def __enter__(self) -> _Namespaces:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._own)
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
        for pid in self._pids:
            os.waitpid(pid, 0)

    def start(self, program: Path) -> int:
        """The number, here, of a new namespace's first process (pid_namespaces(7)). It says nothing to anybody."""
        self._call("unshare", _CLONE_NEWPID)
        quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
        try:
            pid = os.posix_spawn(program, [str(program)], {}, file_actions=quiet)
        finally:
            self._call("setns", self._own, _CLONE_NEWPID)
        self._pids.append(pid)
        return pid

    def await_ready(self, pid: int, program: Path) -> None:
        """Until it runs `program` and sleeps, which pause does only where it waits for signals."""

        def ready() -> bool:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state in "ZX":
                raise FailedError(f"{program.name} ended by itself")
            return state == "S" and Path(f"/proc/{pid}/exe").readlink() == program

        self.until(ready)

    @staticmethod
    def until(true: Any) -> None:
        """Poll; FailedError if it takes too long."""
        deadline = time.monotonic() + _PATIENCE
        while not true():
            if time.monotonic() > deadline:
                raise FailedError(f"not so after {_PATIENCE} s")
            time.sleep(0.0001)

    def _call(self, name: str, *arguments: int) -> None:
        if getattr(self._libc, name)(*arguments):
            raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
