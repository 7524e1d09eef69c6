"""How a task runs and ends: one event loop, which SIGINT, SIGTERM and SIGHUP cancel.

`invoke` loads this before anything else of ours: asyncio is imported when a task begins, not to list the tasks.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

T = TypeVar("T")
Handler = Callable[[int, FrameType | None], Any]

# Windows has no SIGHUP.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
# Seconds until a call that blocks the event loop is broken off.
BLOCKED = 0.3


class Interrupted(BaseException):
    """A signal has ended a run, and everything that was under way is undone. `status` is the exit status."""

    def __init__(self, number: int) -> None:
        super().__init__("interrupted\n  retry: finished work is kept")
        self.status = 128 + number


def exit_on_signals(name: str, document: Callable[[int, str], str] | None = None) -> None:
    """Let each of SIGNALS end the process with one message that begins with `name`, wherever nothing needs undoing.

    `document` makes the text for stdout from the exit status and the message.
    """

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        interrupted = Interrupted(number)
        # Not through sys.stdout or sys.stderr: the signal may have come while these were writing.
        for file, stream, text in (
            (1, sys.stdout, f"{document(interrupted.status, str(interrupted))}\n" if document else ""),
            (2, sys.stderr, f"{name}: {interrupted}\n"),
        ):
            if stream is not None:
                with suppress(OSError):
                    os.write(file, text.encode())
        end(interrupted.status)

    _handle(interrupt)


def end(status: int) -> NoReturn:
    """End the process. A blocking call in a thread is not waited for, as the interpreter's own exit would."""
    if threading.active_count() > 1:
        _kill_children()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, RuntimeError):  # unread, full, or in the middle of writing
                if stream is not None:
                    stream.flush()
        os._exit(status)
    raise SystemExit(status)


def _kill_children() -> None:
    """Kill the commands that libraries run in threads, such as credential helpers; ours have ended. Linux only."""
    for thread in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for child in thread.read_text().split():
                os.kill(int(child), signal.SIGKILL)


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of `main`, run in an event loop of its own.

    The first of SIGNALS cancels it; those that follow change nothing, so that undoing is never cut short. Raises
    Interrupted then, once all tasks of the loop have ended. Blocking calls in threads go on; see `end`.
    """
    import asyncio

    loop = asyncio.new_event_loop()
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1 and not loop.is_closed():
            loop.call_soon_threadsafe(cancel)
            _set_alarm(BLOCKED)

    def cancel() -> None:
        _set_alarm(0)
        task.cancel()

    def break_off(_number: int, _frame: FrameType | None) -> NoReturn:
        raise asyncio.CancelledError

    before = _handle(interrupt)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, break_off)
    try:
        _watch_children(loop)
        task = loop.create_task(main())
        try:
            return loop.run_until_complete(task)
        finally:
            _close(loop)
    finally:
        _set_alarm(0)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if received else handler)
        if received:
            raise Interrupted(received[0])


def _handle(handler: Handler) -> Mapping[int, Any]:
    """Set the handler of SIGNALS, except of those that are ignored, as nohup(1) asks for; return the former ones."""
    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in handled}


def _set_alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _watch_children(loop: AbstractEventLoop) -> None:
    """Make `loop` the current one, and have it wait for child processes without a thread for each of them."""
    import asyncio

    if sys.version_info < (3, 12) and hasattr(os, "pidfd_open"):  # later versions do so by themselves
        with suppress(OSError):  # refused in some sandboxes
            os.close(os.pidfd_open(os.getpid()))
            asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    asyncio.set_event_loop(loop)


def _close(loop: AbstractEventLoop) -> None:
    """Cancel what still runs, and close `loop`. asyncio.run does the same, but waits for blocking calls in threads."""
    import asyncio

    from build.system import FINISHING

    async def cancel() -> None:
        # Those that start a process have tasks of asyncio's own, which could never be undone.
        while finishing := [task for task in asyncio.all_tasks() if task.get_name() == FINISHING]:
            await asyncio.wait(finishing)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await loop.shutdown_asyncgens()

    try:
        loop.run_until_complete(cancel())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
