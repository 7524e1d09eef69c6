"""What a measurement was taken on, so that its figures mean something elsewhere."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.running import ROOT

_TOOLS = {
    "git": ("git", "--version"),
    "docker": ("docker", "--version"),
    "docker buildx": ("docker", "buildx", "version"),
    "dockerd": ("dockerd", "--version"),
    "skopeo": ("skopeo", "--version"),
    "buildah": ("buildah", "--version"),
    "make": ("make", "--version"),
    "gcc": ("gcc", "--version"),
    "docker-registry": ("docker-registry", "--version"),
}


def description() -> dict[str, Any]:
    """CPU, cores, memory, kernel, versions of tools, date, commit, and how busy the machine is."""
    return {
        "cpu": _field("/proc/cpuinfo", r"^model name\s*:\s*(.+)$") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(_field("/proc/meminfo", r"^MemTotal:\s*(\d+)") or 0) >> 10,
        "kernel": platform.release(),
        "system": _field("/etc/os-release", r'^PRETTY_NAME="?([^"\n]+)'),
        "python": platform.python_version(),
        "tools": {"zig": version("ziglang"), **{name: _said(*words) for name, words in _TOOLS.items()}},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": _said("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"),
        "load": round(os.getloadavg()[0], 2),
    }


def line(machine: dict[str, Any]) -> str:
    """The same, as a line for people."""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_mib']} MiB, Linux {machine['kernel']}, "
        f"Python {machine['python']}, {machine['date']}, commit {machine['commit']}, load {machine['load']} before"
    )


def _field(path: str, pattern: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    except OSError:
        return ""
    return found[1] if found else ""


def _said(*command: str) -> str:
    if not shutil.which(command[0]):
        return "absent"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return "absent"
    said = (done.stdout or done.stderr).partition("\n")[0].strip()
    number = re.search(r"v?\d+\.\d[\w.+~-]*", said)
    return number[0] if (number and command[0] != "git") or (number and "--version" in command) else said
