"""What a pause program must do: each check runs it, and returns a figure or fails with a short reason."""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from build.compilers.formats import program
from build.errors import ElfError
from build.verify.driver import Ended, Method, Running, Site, Subject
from build.verify.processes import until

# Seconds within which a signal must end the program.
PROMPT = 0.1
# How often it may try, because the machine may be busy.
ATTEMPTS = 3
# Orphans in a row.
STORM = 1000
WARNING = "Warning: pause should be the first process\n"
ENDINGS = {signal.SIGINT: "Interrupt", signal.SIGTERM: "Terminated"}
NAMED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
# Without 32 and 33, which libcs reserve for themselves.
REST = [number for number in range(1, 65) if number not in {*ENDINGS, signal.SIGKILL, signal.SIGSTOP, 32, 33}]


# What a check found, for the table, and the same as numbers whose names have the unit.
Figure = tuple[str, Mapping[str, float]]


class FailedError(Exception):
    """A check failed; the message fits into a line."""


@dataclass(frozen=True)
class Trial:
    """A subject at its site.

    `direct` tells whether signals go straight to the program, with no engine in between. `patience` is the number of
    seconds to wait for what a correct program does at once.
    """

    subject: Subject
    site: Site
    method: Method
    direct: bool
    patience: float = 10.0

    async def wait_until_idle(self, running: Running, polls: int = 0) -> None:
        """Wait until the program sleeps, and nothing wakes it for so many polls; FailedError if it ends, or never does.

        An emulator pauses in its work while it starts, so it is watched for longer.
        """
        polls = polls or (25 if self.method.native else 100)
        before, same = running.process.activity(), 0

        def idle() -> bool:
            nonlocal before, same
            now = running.process.activity()
            same = same + 1 if now == before and now[0] == "S" else 0
            before = now
            return now[0] in ("Z", "X", "") or same >= polls

        is_idle = await until(idle, self.patience)
        if before[0] in ("Z", "X", ""):
            raise await self.exited(running)
        if not is_idle:
            raise FailedError(f"not idle after {self.patience:g} s")

    async def terminate(self, running: Running, number: int) -> tuple[Ended, float]:
        """How the program ended after a signal, and after how many seconds; FailedError if it did not end."""
        began = time.perf_counter()
        await running.send(number)
        if not await until(running.process.ended, self.patience):
            raise FailedError(f"still running {self.patience:g} s after {_name(number)}")
        seconds = time.perf_counter() - began
        ended = await running.ended(self.patience)
        if ended is None:
            raise FailedError(f"no exit status {self.patience:g} s after {_name(number)}")
        return ended, seconds

    async def exited(self, running: Running) -> FailedError:
        """The failure of a program that should still run."""
        return FailedError(f"exited unexpectedly: {await running.ended(self.patience)}")


async def _cpu(trial: Trial) -> Figure:
    try:
        program.check_program(trial.subject.program, trial.subject.arch.header, "its program")
    except ElfError as error:
        raise FailedError(str(error)) from None
    return trial.subject.arch.header.machine, {}


async def _version(trial: Trial) -> Figure:
    expected = Ended(0, f"{trial.subject.version}\n", "")
    async with trial.site.start("-v") as running:
        ended = await running.ended(trial.patience)
    if ended is None:
        raise FailedError(f"-v: still running after {trial.patience:g} s")
    if ended != expected:
        raise FailedError(f"-v: found {ended}, expected {expected}")
    return trial.subject.version.split()[-1], {}


async def _silent(trial: Trial) -> Figure:
    async with trial.site.start() as running:
        await trial.wait_until_idle(running)
        ended = await running.kill()
    _expect("output as PID 1", (ended.stdout, ended.stderr), ("", ""))
    return "yes", {}


async def _warns(trial: Trial) -> Figure:
    async with trial.site.start(first=False) as running:
        await trial.wait_until_idle(running)
        ended = await running.kill()
    _expect("output with another PID", (ended.stdout, ended.stderr), ("", WARNING))
    return "yes", {}


def _ends_on(number: signal.Signals) -> Callable[[Trial], Awaitable[Figure]]:
    """Only native programs without an engine in between are held to PROMPT, and fail if they are slow every time."""

    async def check(trial: Trial) -> Figure:
        is_timed = trial.direct and trial.method.native
        best = float("inf")
        for _ in range(ATTEMPTS if is_timed else 1):
            best = min(best, await _seconds(trial))
            if best <= PROMPT:
                break
        if is_timed and best > PROMPT:
            raise FailedError(f"took {best * 1000:.0f} ms, expected at most {PROMPT * 1000:.0f} ms")
        return f"{best * 1000:.1f} ms", {"seconds": round(best, 6)}

    async def _seconds(trial: Trial) -> float:
        async with trial.site.start() as running:
            await trial.wait_until_idle(running)
            ended, seconds = await trial.terminate(running, number)
        _expect("exit status", ended.status, 0)
        last = (ended.stderr.splitlines() or [""])[-1]
        _expect("last line on stderr", last, f"Shutting down, got signal: {ENDINGS[number]}")
        return seconds

    return check


async def _survives_others(trial: Trial) -> Figure:
    """With an emulator each signal gets a new program.

    An emulator takes the signal, tries to die of it, and hangs for good, because PID 1 can't die of a signal.
    """
    sent = REST if trial.direct and trial.method.native else list(NAMED)
    for group in [sent] if trial.method.native else [[number] for number in sent]:
        async with trial.site.start() as running:
            await trial.wait_until_idle(running)
            for number in group:
                await running.send(number)
                delivered = await until(partial(_is_delivered, running), trial.patience)
                if not delivered or running.process.ended():
                    raise FailedError(f"{_name(number)} ends the program, or stays pending")
            await trial.wait_until_idle(running)
            if trial.method.native:
                ended, _ = await trial.terminate(running, signal.SIGTERM)
                _expect("exit status after other signals", ended.status, 0)
    return f"{len(sent)} of {len(sent)}", {"signals": len(sent)}


def _is_delivered(running: Running) -> bool:
    status = running.process.status()
    return running.process.ended() or not int(status.get("ShdPnd", "0"), 16) | int(status.get("SigPnd", "0"), 16)


async def _reaps_orphans(trial: Trial) -> Figure:
    async with trial.site.start() as running:
        await trial.wait_until_idle(running)
        for count in (1, STORM):
            orphan = await running.leave_orphans(count, 12 * trial.patience)
            _expect("orphan's exit status and stderr", (orphan.status, orphan.stderr), (0, ""))
            _expect("orphans", orphan.stdout.count("Parent exiting: "), count)
            if not await until(lambda: not running.process.children(), trial.patience):
                states = list(running.process.children().values())
                raise FailedError(f"{states.count('Z')} of {count} orphans are zombies")
            if running.process.ended():
                raise await trial.exited(running)
    return str(1 + STORM), {"orphans": 1 + STORM}


async def _rests(trial: Trial) -> Figure:
    async with trial.site.start() as running:
        await trial.wait_until_idle(running)
        before = running.process.activity()
        await trial.wait_until_idle(running, polls=200)
        _expect("state, context switches and CPU time", running.process.activity(), before)
    return "yes", {}


async def _memory(trial: Trial) -> Figure:
    async with trial.site.start() as running:
        await trial.wait_until_idle(running)
        resident = running.process.resident()
    if not resident:
        raise FailedError("/proc does not show it")
    figure = f"{resident} kB" + ("" if trial.method.native else " with emulator")
    return figure, {"resident_bytes": resident * 1024}


# In the order of the table.
CHECKS: Mapping[str, Callable[[Trial], Awaitable[Figure]]] = {
    "cpu": _cpu,
    "version": _version,
    "silent": _silent,
    "warns": _warns,
    "SIGINT": _ends_on(signal.SIGINT),
    "SIGTERM": _ends_on(signal.SIGTERM),
    "other signals": _survives_others,
    "orphans": _reaps_orphans,
    "rests": _rests,
    "memory": _memory,
}


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise FailedError(f"{what}: found {found!r}, expected {expected!r}")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
