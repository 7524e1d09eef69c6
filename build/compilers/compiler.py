"""The protocol of all compilers, and the flags that they have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from build.compilers.includes import Reader, inputs, named_by_flags
from build.config.arches import Arch

RUNTIME = "build/runtime"
LINKER_SCRIPT = f"{RUNTIME}/link.ld"


@dataclass(frozen=True)
class Program:
    """One C program of the checkout.

    `sources` are POSIX paths relative to the checkout. `version` is what the program prints for `-v`; it reaches the
    compiler as the string literal VERSION.
    """

    name: str
    sources: tuple[str, ...]
    flags: tuple[str, ...]
    version: str


Job = tuple[Program, Arch]
Compile = Callable[[Program, Arch], Awaitable[bytes]]


class Compiler(Protocol):
    """Turns programs into static ELF executables."""

    async def identity(self, arch: Arch) -> str:
        """Name and version of the compiler for `arch`: with the same identity, the same input gives the same bytes.

        Raises CompileError or BuildError if that can't be told.
        """

    def session(self, root: Path, jobs: Collection[Job], scratch: Path) -> AbstractAsyncContextManager[Compile]:
        """Prepare to compile `jobs`, which are programs of the checkout `root`, each for an arch.

        The context yields a function that compiles one job, and may be called concurrently; it raises CompileError with
        the compiler's own words. Temporary files go into `scratch`. When the context ends, nothing is left running.
        """


def files(read: Reader, program: Program, arch: Arch) -> Mapping[str, bytes]:
    """Path and content of every file of the checkout that compiling `program` for `arch` may read."""
    named, folders = named_by_flags(program.flags)
    if arch.runtime is None:
        return inputs(read, (*program.sources, *named), folders)
    runtime = (f"{RUNTIME}/{arch.runtime}.c", LINKER_SCRIPT)
    return inputs(read, (*program.sources, *runtime, *named), (*folders, f"{RUNTIME}/include", RUNTIME))


def gcc_flags(program: Program, arch: Arch) -> tuple[str, ...]:
    """The arguments of any `TRIPLE-gcc`, but for `-o`: flags, then sources."""
    linked = FREESTANDING if arch.runtime else ("-static", "-s", "-Wl,--build-id=none")
    return (*program.flags, define_version(program.version), *linked, *translation_units(program, arch))


def define_version(version: str) -> str:
    """The flag that makes VERSION a C string literal, whatever is in `version`."""
    plain = b"-+._0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    literal = "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in version.encode())
    return f'-DVERSION="{literal}"'


def translation_units(program: Program, arch: Arch) -> tuple[str, ...]:
    """The sources to compile, the arch's runtime among them, relative to the checkout.

    Before a single source the runtime joins its translation unit: one run of the compiler less, it can inline a system
    call into the program, and it skips what the program does not call.
    """
    if arch.runtime is None:
        return program.sources
    runtime = f"{RUNTIME}/{arch.runtime}.c"
    if len(program.sources) == 1:
        return ("-DRUNTIME_JOINS", "-include", runtime, *program.sources)
    return (*program.sources, runtime)


# Flags, the same for gcc and clang, that put the runtime in the place of a libc. Relative to the checkout.
FREESTANDING = (
    "-static",
    "-nostdlib",
    "-ffreestanding",
    "-fno-pie",
    "-fomit-frame-pointer",
    "-fno-stack-protector",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-ffunction-sections",
    f"-I{RUNTIME}/include",
    "-s",
    "-Wl,--build-id=none",
    "-Wl,--gc-sections",
    f"-Wl,-T,{LINKER_SCRIPT}",
)
