"""Compilers that are children of this process: none outlives what they were begun for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from build import trace
from build.errors import CompileError
from build.verify.processes import kill_group

# Of a command, in a folder, with an environment or with ours: exit status, and its words on stderr and stdout.
Run = Callable[[Sequence[str], Path, Mapping[str, str] | None], tuple[int, str]]


@contextmanager
def children() -> Iterator[Run]:
    """What runs commands, from any thread; what still runs when the context ends is killed.

    It raises OSError for a command that can't be run, and CompileError for one that comes too late.
    """
    lock = Lock()
    running: set[subprocess.Popen[bytes]] = set()
    over = False

    def run(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None) -> tuple[int, str]:
        trace.command(command)
        with lock:
            if over:
                raise CompileError(f"{command[0]}: not run: all is ending")
            child = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # A group of its own: Ctrl-C is for us to hear, and then the compiler ends with all that it has begun.
                process_group=None if os.name == "nt" else 0,
            )
            running.add(child)
        stdout, stderr = child.communicate()
        with lock:
            running.remove(child)
        return child.returncode, (stderr + stdout).decode(errors="replace").rstrip()

    try:
        yield run
    finally:
        with lock:
            over = True
            for child in running:
                kill_group(child)
