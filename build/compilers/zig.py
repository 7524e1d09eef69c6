"""zig, out of the `ziglang` wheel: one compiler for every CPU, on any machine that has Python."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from build.cache.cache import Cache
from build.cache.installed import folder, version
from build.compilers.compiler import (
    KERNEL32,
    Compile,
    Job,
    Program,
    Tool,
    define_version,
    failed,
    freestanding,
    translation_units,
    windows_flags,
    written,
)
from build.compilers.libc import proved
from build.config.arches import Arch
from build.errors import CompileError
from build.report import Report, silent
from build.system import Completed, run

# The system and ABI of Windows' triples, as zig calls it.
_SYSTEMS = {"w64-mingw32": "windows-gnu"}
# CPUs that zig spells otherwise than a GNU triple does.
_CPUS = {"i386": "x86", "i486": "x86", "i586": "x86", "i686": "x86"}
# The least CPU of a kind, where zig's `baseline` is more: LoongArch's base instructions include no vectors.
_LEAST = {"loongarch64": "baseline-lsx"}


@dataclass(frozen=True)
class Zig:
    """The `zig` of the wheel that is installed beside us; it keeps the libcs that it compiles in `cache`, if it may."""

    cache: Cache | None = None
    report: Report = silent

    async def identity(self, arch: Arch) -> str:  # noqa: ARG002
        """`zig` and the version of the wheel, the same for every arch."""
        return _identity()

    async def tool(self, root: Path, arch: Arch) -> Tool:  # noqa: ARG002
        """The wheel, with the digests that requirements.txt pins."""
        number = version("ziglang")
        return Tool("zig", number, f"pkg:pypi/ziglang@{number}", _pinned(root / "requirements.txt", number))

    @asynccontextmanager
    async def session(self, root: Path, jobs: Collection[Job], scratch: Path) -> AsyncIterator[Compile]:  # noqa: ARG002
        """See `Compiler`: zig needs no preparation."""
        yield partial(self._compile, root, scratch)

    async def _compile(self, root: Path, scratch: Path, program: Program, arch: Arch) -> bytes:
        output = scratch / f"{program.name}-{arch.name}"
        command = [str(self._binary), "cc", *self._flags(program, arch), "-o", str(output)]
        command += (*translation_units(program, arch), *(KERNEL32 if arch.platform.is_windows else ()))
        what = f"{program.name} for {arch.name}"
        try:
            ended = await self._run(command, root, scratch, program, arch)
        except OSError as error:
            raise CompileError(f"{what}: can't run {self._binary}: {error}") from None
        if ended.status:
            raise failed(program, arch, _identity(), ended.status, ended.words)
        return written(output, f"{what}: {_identity()}")

    async def _run(self, command: list[str], root: Path, scratch: Path, program: Program, arch: Arch) -> Completed:
        # Objects go to `scratch`, so nothing of another run is linked but a libc.
        if program.runtime(arch) or arch.platform.is_windows:
            return await run(command, root, self._environment(scratch, scratch))

        def missing(why: str) -> None:
            self.report(f"{arch.name}: {why}{_identity()} compiles a libc first, which takes about a minute")

        if self.cache is None or not self.cache.keep:
            missing("")
            return await run(command, root, self._environment(scratch, scratch))
        name = f"{_cpu(arch)}-{_musl(arch)}-{_least(arch)}"
        async with proved(self.cache, name, _identity(), missing) as libc:
            return await run(command, root, self._environment(scratch, libc))

    def _flags(self, program: Program, arch: Arch) -> tuple[str, ...]:
        cpu, system = _cpu(arch), _system(arch)
        # zig's own default is to trap what C leaves undefined.
        common = (f"-mcpu={_least(arch)}", "-fno-sanitize=all", *program.flags, define_version(program.version))
        if arch.platform.is_windows:  # its linker writes a hash in the place of a time stamp
            return ("-target", f"{cpu}-{system}", *common, *windows_flags(), *self._headers("any-windows-any"))
        if program.runtime(arch) is None:
            return ("-target", f"{cpu}-{_musl(arch)}", *common, "-static", "-s", "-Wl,--build-id=none")
        return ("-target", f"{cpu}-{system}", *common, *freestanding(program), *self._kernel_headers(cpu))

    def _kernel_headers(self, cpu: str) -> tuple[str, ...]:
        # zig adds these only together with a libc. A family's folder is named as its CPUs' names begin.
        families = (path.name.removesuffix("-linux-any") for path in self._include.glob("*-linux-any"))
        folders = (*(family for family in families if cpu.startswith(family)), "any")
        return self._headers(*(f"{family}-linux-any" for family in folders))

    def _headers(self, *folders: str) -> tuple[str, ...]:
        return tuple(part for each in folders for part in ("-isystem", str(self._include / each)))

    @property
    def _include(self) -> Path:
        return folder("ziglang") / "lib" / "libc" / "include"

    def _environment(self, scratch: Path, libc: Path) -> dict[str, str]:
        # Nothing of the user's but what Windows needs to start a process: CPATH or ZIG_LIB_DIR would change the bytes.
        kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
        temporary = str(scratch)
        folders = {"ZIG_GLOBAL_CACHE_DIR": str(libc.absolute()), "ZIG_LOCAL_CACHE_DIR": temporary}
        return {**kept, **folders, "TMPDIR": temporary, "TEMP": temporary}

    @property
    def _binary(self) -> Path:
        return folder("ziglang") / ("zig.exe" if os.name == "nt" else "zig")


def _cpu(arch: Arch) -> str:
    """The CPU of zig's target."""
    cpu = arch.triple.partition("-")[0]
    return _CPUS.get(cpu, cpu)


def _system(arch: Arch) -> str:
    """The rest of zig's target: operating system and ABI."""
    system = arch.triple.partition("-")[2]
    return _SYSTEMS.get(system, system)


def _musl(arch: Arch) -> str:
    return _system(arch).replace("gnu", "musl")


def _least(arch: Arch) -> str:
    """The least CPU that programs run on, as zig calls it."""
    return arch.cpu.replace("-", "_") or _LEAST.get(_cpu(arch), "baseline")


def _identity() -> str:
    return f"zig {version('ziglang')}"


def _pinned(requirements: Path, number: str) -> tuple[str, ...]:
    """The digests of the wheels of ziglang in a file for `pip install --require-hashes`."""
    try:
        lines = requirements.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    found, named = list[str](), None
    for line in lines:
        if line[:1] not in (" ", "#", ""):
            named = re.match(r"([\w.-]+)==([\w.+-]+)", line)
        if named and named.groups() == ("ziglang", number):
            found += re.findall(r"--hash=(sha256:[0-9a-f]{64})", line)
    return tuple(found)
