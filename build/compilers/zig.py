"""zig, out of the `ziglang` wheel: one compiler for every CPU, on any machine that has Python."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from build.cache.installed import folder, version
from build.compilers.compiler import FREESTANDING, Compile, Job, Program, define_version, translation_units, written
from build.config.arches import Arch
from build.errors import CompileError
from build.system import run

# CPUs that zig spells otherwise than a GNU triple does.
_CPUS = {"i386": "x86", "i486": "x86", "i586": "x86", "i686": "x86"}
# The least CPU of a kind, where zig's `baseline` is more: LoongArch's base instructions include no vectors.
_LEAST = {"loongarch64": "baseline-lsx"}


@dataclass(frozen=True)
class Zig:
    """The `zig` of the wheel that is installed beside us. `cache` is where it keeps things, if it may."""

    cache: Path | None

    async def identity(self, arch: Arch) -> str:  # noqa: ARG002
        """`zig` and the version of the wheel, the same for every arch."""
        return _identity()

    @asynccontextmanager
    async def session(self, root: Path, jobs: Collection[Job], scratch: Path) -> AsyncIterator[Compile]:  # noqa: ARG002
        """See `Compiler`: zig needs no preparation."""
        yield partial(self._compile, root, scratch)

    async def _compile(self, root: Path, scratch: Path, program: Program, arch: Arch) -> bytes:
        output = scratch / f"{program.name}-{arch.name}"
        command = [str(self._binary), "cc", *self._flags(program, arch), "-o", str(output)]
        command += translation_units(program, arch)
        what = f"{program.name} for {arch.name}"
        try:
            ended = await run(command, root, self._environment(str(scratch)))
        except OSError as error:
            raise CompileError(f"{what}: can't run {self._binary}: {error}") from None
        if ended.status:
            raise CompileError(f"{what}: {_identity()} failed with exit status {ended.status}:\n  {ended.words}")
        return written(output, f"{what}: {_identity()}")

    def _flags(self, program: Program, arch: Arch) -> tuple[str, ...]:
        gnu_cpu, _, system = arch.triple.partition("-")
        cpu = _CPUS.get(gnu_cpu, gnu_cpu)
        least = f"-mcpu={_LEAST.get(cpu, 'baseline')}"
        # zig's own default is to trap what C leaves undefined.
        common = (least, "-fno-sanitize=all", *program.flags, define_version(program.version))
        if arch.runtime is None:
            return (
                "-target",
                f"{cpu}-{system.replace('gnu', 'musl')}",
                *common,
                "-static",
                "-s",
                "-Wl,--build-id=none",
            )
        return ("-target", f"{cpu}-{system}", *common, *FREESTANDING, *self._kernel_headers(cpu))

    def _kernel_headers(self, cpu: str) -> tuple[str, ...]:
        # zig adds these only together with a libc. A family's folder is named as its CPUs' names begin.
        include = folder("ziglang") / "lib" / "libc" / "include"
        families = (path.name.removesuffix("-linux-any") for path in include.glob("*-linux-any"))
        folders = (*(family for family in families if cpu.startswith(family)), "any")
        return tuple(part for family in folders for part in ("-isystem", str(include / f"{family}-linux-any")))

    def _environment(self, scratch: str) -> dict[str, str]:
        # Nothing of the user's but what Windows needs to start a process: CPATH or ZIG_LIB_DIR would change the bytes.
        kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
        cache = str(self.cache.absolute()) if self.cache else scratch
        return {**kept, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache, "TMPDIR": scratch, "TEMP": scratch}

    @property
    def _binary(self) -> Path:
        return folder("ziglang") / ("zig.exe" if os.name == "nt" else "zig")


def _identity() -> str:
    return f"zig {version('ziglang')}"
