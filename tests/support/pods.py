"""What following docs/pods.md takes: its commands, a shell to run them in, and the images that they name."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.checkout import SOURCE, Checkout
from tests.support.components import need

PAGE = (SOURCE / "docs/pods.md").read_text()


def commands(section: str, kind: str = "sh") -> list[str]:
    """The code blocks of one kind below a heading of the page, in order."""
    _, found, text = PAGE.partition(f"\n## {section}\n")
    assert found, section
    return re.findall(rf"^```{kind}\n(.*?)^```$", text.partition("\n## ")[0], re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Shell:
    """A shell in a checkout; `enter` is its command prefix, and `folder` holds programs that hide the machine's."""

    checkout: Checkout
    enter: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path

    @classmethod
    def make(
        cls, checkout: Checkout, enter: Iterable[str], environment: Mapping[str, str], programs: Mapping[str, str]
    ) -> Shell:
        """`programs` maps names to the commands that they run, to which arguments are added."""
        folder = checkout.side / "programs"
        folder.mkdir()
        for name, command in {"invoke": f"{sys.executable} -m invoke", **programs}.items():
            (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            (folder / name).chmod(0o755)
        return cls(checkout, tuple(enter), environment, folder)

    def ends(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run the commands, and stop at the first that fails."""
        environment = self.checkout.environment(**self.environment)
        environment["PATH"] = f"{self.folder}:{os.environ['PATH']}"
        command = [*self.enter, "sh", "-e", "-c", f'cd "{self.checkout.root}"\n{script}']
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=120)

    def __call__(self, script: str) -> str:
        """The stdout of commands that must all succeed."""
        run = self.ends(script)
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout


@dataclass(frozen=True)
class Line:
    """A line of a container's `ps -o pid,stat,args`."""

    pid: int
    state: str
    command: str


def listed(text: str) -> list[Line]:
    """The last process listing in the output of some commands."""
    lines = text.rpartition("COMMAND\n")[2].splitlines()
    return [Line(int(pid), state, rest) for pid, state, rest in (line.split(maxsplit=2) for line in lines)]


def zombies(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if line.state.startswith("Z")]


def busybox() -> bytes:
    """A root filesystem as tar: Debian's static busybox, under all its names."""
    program = need("busybox", "busybox-static")
    names = subprocess.run([program, "--list"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    links = {f"bin/{name}": "busybox" for name in names if name != "busybox"}
    return _packed({"bin/busybox": Path(program).read_bytes()}, links)


def nginx() -> bytes:
    """A root filesystem as tar: Debian's nginx, and the libraries that it is linked with."""
    program = need("nginx", "nginx")
    linked = subprocess.run(["ldd", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    paths = re.findall(r"(/\S+) \(0x", linked)
    files = {path.removeprefix("/"): Path(path).read_bytes() for path in (program, *paths)}
    files["etc/passwd"] = b"root:x:0:0::/:/\nnobody:x:65534:65534::/:/\n"
    files["etc/group"] = b"root:x:0:\nnogroup:x:65534:\n"
    return _packed(files, folders=("run", "tmp", "var/lib/nginx", "var/log/nginx"))


def _packed(files: Mapping[str, bytes], links: Mapping[str, str] | None = None, folders: Iterable[str] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in folders:
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()
