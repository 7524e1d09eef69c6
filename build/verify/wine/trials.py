"""What a pause program for Windows must do, as far as wine can show it."""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from build.verify import trials
from build.verify.trials import FailedError, Figure, Trial

# How long the program has to be at rest, in polls: wine's own start has pauses, too.
_POLLS = (500, 1500, 4000)
_STOPPED = (0, "", "Shutting down, got signal: Interrupt\n")


async def _silent(trial: Trial) -> Figure:
    async with trial.site.start() as running:
        await _patient(trial).wait_until_idle(running, _POLLS[1])
        ended = await running.kill()
    if written := ended.stdout + ended.stderr:
        raise FailedError(f"output: found {written!r}, expected none")
    return "yes", {}


async def _ends_on_ctrl_c(trial: Trial) -> Figure:
    """SIGINT is Ctrl-C to what runs under wine. It may come before the program has got as far as to wait for it."""
    found: object = None
    for polls in _POLLS:
        async with trial.site.start() as running:
            await _patient(trial).wait_until_idle(running, polls)
            began = time.perf_counter()
            ended, _ = await trial.terminate(running, signal.SIGINT)
            seconds = time.perf_counter() - began
        found = (ended.status, ended.stdout, ended.stderr)
        if found == _STOPPED:
            return f"{seconds * 1000:.1f} ms", {"seconds": round(seconds, 6)}
    raise FailedError(f"exit status, stdout and stderr after Ctrl-C: found {found!r}, expected {_STOPPED!r}")


def _patient(trial: Trial) -> Trial:
    """The same trial, for what takes several seconds even on a machine that has nothing else to do."""
    return replace(trial, patience=6 * trial.patience)


# In the order of the table. Wine has no way to send the other events, and no pods.
CHECKS: Mapping[str, Callable[[Trial], Awaitable[Figure]]] = {
    **{name: trials.CHECKS[name] for name in ("cpu", "version")},
    "silent": _silent,
    "SIGINT": _ends_on_ctrl_c,
}
