"""A terminal with a program in it: what the program wrote, and what of that can be seen."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread

from tests.support.checkout import TIMEOUT, Checkout
from tests.support.pidns import until

# Wide enough for every message, so that no line is broken.
ROWS, COLUMNS = 50, 300
_PIECES = re.compile(r"\x1b\[([?0-9;]*)([a-zA-Z])|\r|\n|[^\x1b\r\n]+|\x1b")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Terminal:
    """A terminal, `process` in it, and all that this wrote; its stdout may go elsewhere."""

    process: subprocess.Popen[str]
    master: int
    written: bytearray = field(default_factory=bytearray)

    @property
    def output(self) -> str:
        return bytes(self.written).decode(errors="replace")

    @property
    def screen(self) -> list[str]:
        """The lines that can be seen now; those that scrolled away, too."""
        lines, row, column = [""], 0, 0
        for piece in _PIECES.finditer(self.output):
            text, count = piece[0], int(piece[1]) if (piece[1] or "").isdigit() else 1
            if text == "\r":
                column = 0
            elif text == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif piece[2] == "A":
                row = max(0, row - count)
            elif piece[2] == "K":
                lines[row] = ""
            elif not piece[2]:
                lines[row] = lines[row].ljust(column)[:column] + text + lines[row][column + len(text) :]
                column += len(text)
            else:
                assert piece[2] in "mhl", f"not known here: {text!r}"
        return [line.rstrip() for line in lines]

    def rows(self) -> dict[str, list[str]]:
        """The cells behind each arch in the last table that can be seen; none before there is one."""
        screen = self.screen
        heads = [number for number, line in enumerate(screen) if line.split() == ["arch", "stage", "bytes", "time"]]
        table = screen[heads[-1] + 1 :] if heads else []
        return {cells[0]: cells[1:] for line in table if (cells := re.split(r" {2,}", line))[0]}

    @property
    def cursor_is_shown(self) -> bool:
        return self.output.rfind("\x1b[?25h") >= self.output.rfind("\x1b[?25l")

    def ends(self) -> int:
        """The exit status; all is read by then."""
        code = self.process.wait(TIMEOUT)
        until("the terminal is read to its end", lambda: not self._reader.is_alive())
        return code

    def hang_up(self) -> None:
        """Close the terminal: whoever writes to it gets EIO from now on."""
        self._closing = True
        until("nobody reads it any more", lambda: not self._reader.is_alive())
        os.close(self.master)
        self.master = -1

    def read(self) -> None:
        with suppress(OSError):  # EIO: nobody has it open any more
            while not self._closing:
                readable, _, _ = select.select([self.master], [], [], 0.01)
                if readable:
                    data = os.read(self.master, 1 << 16)
                    if not data:
                        return
                    self.written += data

    def __post_init__(self) -> None:
        self._closing = False
        self._reader = Thread(target=self.read, daemon=True)
        self._reader.start()


@contextmanager
def terminal(checkout: Checkout, *words: str, stdout: int | None = None, **environment: str) -> Iterator[Terminal]:
    """`invoke WORDS` in a terminal, which is killed in the end; stdout goes there, too, unless a file is given."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "invoke", *words],
            cwd=checkout.root,
            env=checkout.environment(**{"TERM": "xterm", **environment}),
            stdin=slave,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
            text=True,
            start_new_session=True,
        )
    finally:
        os.close(slave)
    running = Terminal(process, master)
    try:
        yield running
    finally:
        process.kill()
        process.wait()
        if running.master >= 0:
            os.close(master)
