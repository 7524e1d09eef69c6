"""The cross compilers of the machine itself: `TRIPLE-gcc` on PATH."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from build import trace
from build.compilers.children import Run, children
from build.compilers.compiler import Compile, Job, Program, gcc_flags
from build.config.arches import Arch
from build.errors import CompileError


@dataclass(frozen=True)
class Host:
    """Whatever gcc the machine has for a row's triple."""

    def identity(self, arch: Arch) -> str:
        """The first line of `TRIPLE-gcc --version`, which ends with the distribution's own revision."""
        command = [_gcc(arch), "--version"]
        trace.command(command)
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        return run.stdout.partition("\n")[0]

    @contextmanager
    def at_work(self, root: Path, jobs: Collection[Job]) -> Iterator[Compile]:
        """See `Compiler`. A missing compiler is named before any other starts."""
        for arch in dict.fromkeys(arch for _, arch in jobs):
            _gcc(arch)
        with children() as run:
            yield partial(_compile, run, root)


def _compile(run: Run, root: Path, program: Program, arch: Arch) -> bytes:
    with TemporaryDirectory(prefix=f"{program.name}-{arch.name}-") as scratch:
        output = Path(scratch, program.name)
        command = [_gcc(arch), *gcc_flags(program, arch), "-o", str(output)]
        status, words = run(command, root, None)
        if status:
            failure = f"{arch.triple}-gcc failed with exit status {status}"
            raise CompileError(f"{program.name} for {arch.name}: {failure}:\n{words}")
        return output.read_bytes()


def _gcc(arch: Arch) -> str:
    name = f"{arch.triple}-gcc"
    path = shutil.which(name)
    if path is None:
        raise CompileError(
            f"{arch.name}: {name}: not found on PATH"
            f"\n  on Debian: apt-get install gcc-{arch.triple.replace('_', '-')}; or compile with --compiler zig"
        )
    return path
