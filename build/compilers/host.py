"""The cross compilers of the machine itself: `TRIPLE-gcc` on PATH."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from build.compilers.compiler import Compile, Job, Program, Tool, failed, gcc_flags, written
from build.config.arches import Arch
from build.errors import CompileError
from build.system import run


@dataclass(frozen=True)
class Host:
    """Whatever gcc the machine has for a row's triple."""

    async def identity(self, arch: Arch) -> str:
        """The first line of `TRIPLE-gcc --version`, which ends with the distribution's own revision."""
        ended = await run([_gcc(arch), "--version"])
        return ended.stdout.decode(errors="replace").partition("\n")[0]

    async def tool(self, root: Path, arch: Arch) -> Tool:  # noqa: ARG002
        """The compiler as it names itself: what it was installed from is not known."""
        return Tool(f"{arch.triple}-gcc", await self.identity(arch))

    @asynccontextmanager
    async def session(self, root: Path, jobs: Collection[Job], scratch: Path) -> AsyncIterator[Compile]:
        """See `Compiler`. A missing compiler is reported before any other starts."""
        for arch in dict.fromkeys(arch for _, arch in jobs):
            _gcc(arch)
        yield partial(_compile, root, scratch)


async def _compile(root: Path, scratch: Path, program: Program, arch: Arch) -> bytes:
    output = scratch / f"{program.name}-{arch.name}"
    command = [_gcc(arch), *gcc_flags(program, arch), "-o", str(output)]
    ended = await run(command, root)
    what = f"{program.name} for {arch.name}"
    if ended.status:
        raise failed(program, arch, f"{arch.triple}-gcc", ended.status, ended.words)
    return written(output, f"{what}: {arch.triple}-gcc")


def _gcc(arch: Arch) -> str:
    name = f"{arch.triple}-gcc"
    path = shutil.which(name)
    if path is None:
        package = "mingw-w64-x86-64-win32" if arch.platform.is_windows else arch.triple.replace("_", "-")
        raise CompileError(
            f"{arch.name}: {name}: not found on PATH"
            f"\n  on Debian: apt-get install gcc-{package}; or compile with --compiler zig"
        )
    return path
