"""What a pause program must do, each as a check that runs it: a figure, or a failure in a few words."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from build.compilers import elf
from build.errors import ElfError
from build.verify.driver import Ended, Running, Site, Subject, Way
from build.verify.processes import Watch

# Seconds that a signal to end may take to be answered.
PROMPT = 0.1
ATTEMPTS = 3
STORM = 1000
WARNING = "Warning: pause should be the first process\n"
ENDINGS = {signal.SIGINT: "Interrupt", signal.SIGTERM: "Terminated"}
NAMED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
# 32 and 33 are a libc's own.
REST = [number for number in range(1, 65) if number not in {*ENDINGS, signal.SIGKILL, signal.SIGSTOP, 32, 33}]


class FailedError(Exception):
    """A check that failed; the message is for a table's cell and for a list of failures."""


@dataclass(frozen=True)
class Trial:
    """A subject at its site. `direct`: nobody between us and the program takes time; `patience` is in seconds."""

    subject: Subject
    site: Site
    way: Way
    direct: bool
    watch: Watch
    patience: float = 10.0

    @property
    def calm(self) -> int:
        """So many looks that find no change tell sleep from a pause in the work: an emulator's start has such."""
        return 25 if self.way.native else 100

    def settle(self, running: Running, looks: int = 0) -> None:
        """Until it sleeps and is not woken from one look to the next; FailedError if it ends or never rests."""
        before, same = running.process.work(), 0

        def rested() -> bool:
            nonlocal before, same
            now = running.process.work()
            same = same + 1 if now == before and now[0] == "S" else 0
            before = now
            return now[0] in ("Z", "X", "") or same >= (looks or self.calm)

        rests = self.watch.until(rested, self.patience)
        if before[0] in ("Z", "X", ""):
            raise FailedError(f"it ended by itself: {running.outcome(self.patience)}")
        if not rests:
            raise FailedError(f"it does not come to rest in {self.patience:g} s")

    def end(self, running: Running, number: int) -> tuple[Ended, float]:
        """How it ends after a signal, and seconds until then; FailedError if it does not."""
        began = time.perf_counter()
        running.send(number)
        if not self.watch.until(running.process.ended, self.patience):
            raise FailedError(f"{_name(number)} does not end it in {self.patience:g} s")
        took = time.perf_counter() - began
        ended = running.outcome(self.patience)
        if ended is None:
            raise FailedError(f"nobody tells how it ended after {_name(number)}")
        return ended, took


def _cpu(trial: Trial) -> str:
    try:
        elf.check(trial.subject.program, trial.subject.arch.elf, "its program")
    except ElfError as error:
        raise FailedError(str(error)) from None
    return trial.subject.arch.elf.machine


def _version(trial: Trial) -> str:
    expected = Ended(0, f"pause.c {trial.subject.version}\n", "")
    with trial.site.start("-v") as running:
        ended = running.outcome(trial.patience)
    if ended is None:
        raise FailedError(f"-v does not end in {trial.patience:g} s")
    if ended != expected:
        raise FailedError(f"found {ended}, expected {expected}")
    return trial.subject.version


def _silent(trial: Trial) -> str:
    with trial.site.start() as running:
        trial.settle(running)
        ended = running.cut()
    _expect("as PID 1 it says", (ended.stdout, ended.stderr), ("", ""))
    return "yes"


def _warns(trial: Trial) -> str:
    with trial.site.start(first=False) as running:
        trial.settle(running)
        ended = running.cut()
    _expect("where it is not PID 1 it says", (ended.stdout, ended.stderr), ("", WARNING))
    return "yes"


def _ending(number: signal.Signals) -> Callable[[Trial], str]:
    """Native programs that nobody stands before are held to the time: slow is what is slow each time."""

    def check(trial: Trial) -> str:
        judged = trial.direct and trial.way.native
        best = min(_prompt(_lasted(trial) for _ in range(ATTEMPTS if judged else 1)))
        if judged and best > PROMPT:
            raise FailedError(f"it takes {best * 1000:.0f} ms, expected at most {PROMPT * 1000:.0f} ms")
        return f"{best * 1000:.1f} ms"

    def _lasted(trial: Trial) -> float:
        with trial.site.start() as running:
            trial.settle(running)
            ended, took = trial.end(running, number)
        _expect("its exit status is", ended.status, 0)
        said = (ended.stderr.splitlines() or [""])[-1]
        _expect("it says", said, f"Shutting down, got signal: {ENDINGS[number]}")
        return took

    return check


def _prompt(times: Iterable[float]) -> list[float]:
    """The times until one is short enough: others may have kept the machine busy."""
    taken = []
    for each in times:
        taken.append(each)
        if each <= PROMPT:
            break
    return taken


def _others(trial: Trial) -> str:
    """A program that an emulator runs hangs for good after such a signal, so there each one gets a fresh program.

    The emulator takes the signal, means to die of it, and as PID 1 can't.
    """
    sent = REST if trial.direct and trial.way.native else list(NAMED)
    for group in [sent] if trial.way.native else [[number] for number in sent]:
        with trial.site.start() as running:
            trial.settle(running)
            for number in group:
                running.send(number)
                if not trial.watch.until(lambda: _dealt_with(running), trial.patience) or running.process.ended():
                    raise FailedError(f"{_name(number)} ends it, or is never dealt with")
            trial.settle(running)
            if trial.way.native:
                ended, _ = trial.end(running, signal.SIGTERM)
                _expect("after them its exit status is", ended.status, 0)
    return f"{len(sent)} of {len(sent)}"


def _dealt_with(running: Running) -> bool:
    status = running.process.status()
    return running.process.ended() or not int(status.get("ShdPnd", "0"), 16) | int(status.get("SigPnd", "0"), 16)


def _orphans(trial: Trial) -> str:
    with trial.site.start() as running:
        trial.settle(running)
        for count in (1, STORM):
            left = running.leave_orphans(count, 12 * trial.patience)
            _expect("orphan's exit status is", (left.status, left.stderr), (0, ""))
            _expect("orphans left are", left.stdout.count("Parent exiting: "), count)
            if not trial.watch.until(lambda: not running.process.children(), trial.patience):
                states = list(running.process.children().values())
                raise FailedError(f"{states.count('Z')} of {count} orphans are zombies")
            if running.process.ended():
                raise FailedError(f"it ended by itself: {running.outcome(trial.patience)}")
    return str(1 + STORM)


def _rests(trial: Trial) -> str:
    with trial.site.start() as running:
        trial.settle(running)
        before = running.process.work()
        trial.settle(running, looks=200)
        _expect("state, switches and CPU time go on to", running.process.work(), before)
    return "yes"


def _memory(trial: Trial) -> str:
    with trial.site.start() as running:
        trial.settle(running)
        resident = running.process.resident()
    if not resident:
        raise FailedError("the kernel does not tell")
    return f"{resident} kB" + ("" if trial.way.native else " with emulator")


# In the order of the table.
CHECKS: Mapping[str, Callable[[Trial], str]] = {
    "cpu": _cpu,
    "version": _version,
    "silent": _silent,
    "warns": _warns,
    "SIGINT": _ending(signal.SIGINT),
    "SIGTERM": _ending(signal.SIGTERM),
    "other signals": _others,
    "orphans": _orphans,
    "rests": _rests,
    "memory": _memory,
}


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise FailedError(f"{what} {found!r}, expected {expected!r}")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
