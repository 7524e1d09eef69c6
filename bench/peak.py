"""Runs Invoke, and writes down what memory it came to: `python bench/peak.py FILE WORDS…`."""

from __future__ import annotations

import atexit
import json
import re
import resource
import sys
from pathlib import Path

from invoke.main import program


def write_down(file: str) -> None:
    """The process's own peak, and the largest of its children's, in KiB (proc(5), getrusage(2))."""
    own = re.search(r"^VmHWM:\s*(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    Path(file).write_text(json.dumps({"own": int(own[1]) if own else 0, "children": children}))


if __name__ == "__main__":
    sys.path.pop(0)  # modules of ours that lie beside this file are not Invoke's
    _, file, *words = sys.argv
    sys.argv = ["invoke", *words]
    atexit.register(write_down, file)
    program.run()
