"""The Compiler protocol, and the flags that all compilers share."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from build.compilers.includes import Reader, inputs, named_by_flags
from build.config.arches import Arch
from build.errors import CompileError

RUNTIME = "build/runtime"
LINKER_SCRIPT = f"{RUNTIME}/link.ld"


@dataclass(frozen=True)
class Program:
    """A C program of the checkout.

    `sources` are POSIX paths relative to the checkout. `version` is the value of the macro VERSION, a string literal
    that the program prints for `-v`. With `libc` it links the compiler's libc on every arch. A `relocatable` program
    is an object file instead, which still has the compiler's record of the CPU that it was compiled for. `windows` are
    the sources for Windows, where programs are linked with kernel32 and nothing else; there may be none.
    """

    name: str
    sources: tuple[str, ...]
    flags: tuple[str, ...]
    version: str
    libc: bool = False
    relocatable: bool = False
    windows: tuple[str, ...] = ()

    def sources_for(self, arch: Arch) -> tuple[str, ...]:
        """The sources for this arch; empty if there is no such program."""
        return self.windows if arch.platform.is_windows else self.sources

    def runtime(self, arch: Arch) -> str | None:
        """NAME in build/runtime/NAME.c, or None to link a libc."""
        return None if self.libc else arch.runtime


Job = tuple[Program, Arch]
Compile = Callable[[Program, Arch], Awaitable[bytes]]


@dataclass(frozen=True)
class Tool:
    """What a compiler is, for those who want to have the same one.

    `uri` is a package URL or the name of an image, empty if there is none; of `digests`, sha256:HEX, it has one: a
    package has several files, one for each kind of machine.
    """

    name: str
    version: str
    uri: str = ""
    digests: tuple[str, ...] = ()


class Compiler(Protocol):
    """Compiles programs to static ELF executables."""

    async def identity(self, arch: Arch) -> str:
        """Name and version of the compiler for `arch`. The same identity and input always give the same bytes.

        Raises CompileError or BuildError if they can't be determined.
        """

    async def tool(self, root: Path, arch: Arch) -> Tool:
        """What the compiler for `arch` is; `root` is the checkout, which pins it. Raises as `identity`."""

    def session(self, root: Path, jobs: Collection[Job], scratch: Path) -> AbstractAsyncContextManager[Compile]:
        """Prepare to compile `jobs`, programs of the checkout `root`, each for an arch.

        The context yields a function that compiles one job. It may be called concurrently, and raises CompileError with
        the compiler's output. Temporary files go to `scratch`. No process outlives the context.
        """


def files(read: Reader, program: Program, arch: Arch) -> Mapping[str, bytes]:
    """The content by path of every file of the checkout that compiling `program` for `arch` may read."""
    named, folders = named_by_flags(program.flags)
    if program.runtime(arch) is None:
        return inputs(read, (*program.sources_for(arch), *named), folders)
    runtime = (f"{RUNTIME}/{program.runtime(arch)}.c", LINKER_SCRIPT)
    return inputs(read, (*program.sources, *runtime, *named), (*folders, f"{RUNTIME}/include", RUNTIME))


def gcc_flags(program: Program, arch: Arch) -> tuple[str, ...]:
    """The arguments of `TRIPLE-gcc` except `-o`: flags, then sources."""
    if arch.platform.is_windows:
        libraries = (*translation_units(program, arch), *KERNEL32)
        return (*_cpu(arch), *program.flags, define_version(program.version), *windows_flags(), *_NO_STAMP, *libraries)
    linked = freestanding(program) if program.runtime(arch) else ("-static", "-s", "-Wl,--build-id=none")
    if program.relocatable and arch.header.machine == "EM_X86_64":
        linked += ("-Wa,-mx86-used-note=yes",)  # on other CPUs, there is a record without asking
    return (*_cpu(arch), *program.flags, define_version(program.version), *linked, *translation_units(program, arch))


def _cpu(arch: Arch) -> tuple[str, ...]:
    """gcc's flags for the row's CPU: -march where -mcpu only tunes (GCC manual, "Machine-Dependent Options")."""
    if not arch.cpu:
        return ()
    if arch.header.machine == "EM_ARM":
        # Thumb-1, all that CPUs before ARMv7 have, can't pass floating-point arguments in registers.
        return (f"-mcpu={arch.cpu}", "-marm")
    option = "-mcpu" if arch.header.machine in ("EM_AARCH64", "EM_PPC", "EM_PPC64", "EM_RISCV") else "-march"
    return (f"{option}={arch.cpu}",)


def failed(program: Program, arch: Arch, compiler: str, status: int, words: str) -> CompileError:
    """The error of a compiler that ended with `status`, and wrote `words`; a missing header gets advice."""
    text = f"{program.name} for {arch.name}: {compiler} failed with exit status {status}:\n  {words}"
    missing = re.search(r"error: '?([\w./+-]+)'?(?: file not found|: No such file)", words)
    if missing and program.runtime(arch):
        text += (
            f"\n  {missing[1]} is not in {RUNTIME}/include: to link a libc, set libc: true in arches.yaml (or --libc)"
        )
    return CompileError(text)


def written(output: Path, compiler: str) -> bytes:
    """The binary that `compiler`, as messages call it, has written; raise CompileError if there is none."""
    try:
        return output.read_bytes()
    except OSError as error:
        raise CompileError(
            f"{compiler} succeeded, but left no binary: {error.strerror}"
            "\n  remove flags that stop it before the linker, such as -E or -fsyntax-only, from CFLAGS"
        ) from None


def define_version(version: str) -> str:
    """The flag that defines VERSION as a C string literal, with every special character escaped."""
    plain = b"-+._0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    literal = "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in version.encode())
    return f'-DVERSION="{literal}"'


def translation_units(program: Program, arch: Arch) -> tuple[str, ...]:
    """The sources to compile, including the arch's runtime, relative to the checkout, with the flags that they need.

    If there is only one source, the runtime is included in its translation unit: that saves one compiler run, and lets
    the compiler inline system calls and drop functions that the program does not call.
    """
    if program.runtime(arch) is None:
        return program.sources_for(arch)
    runtime = f"{RUNTIME}/{program.runtime(arch)}.c"
    if len(program.sources) == 1:
        return ("-DRUNTIME_INCLUDED", "-include", runtime, *program.sources)
    return (*program.sources, runtime)


def freestanding(program: Program) -> tuple[str, ...]:
    """The flags of gcc and clang that replace libc with the runtime; paths are relative to the checkout."""
    return (*_COMPILE, "-nostdlib", *(("-r",) if program.relocatable else _LINK))


def windows_flags() -> tuple[str, ...]:
    """The flags of gcc and clang for a console program that needs no C runtime; it begins at mainCRTStartup."""
    return (*_PLAIN, "-nostdlib", "-static", "-s", "-Wl,--entry=mainCRTStartup", "-Wl,--subsystem,console")


# Behind the sources. kernel32 is in every process.
KERNEL32 = ("-lkernel32",)
# GNU ld writes the time of the link, but for this.
_NO_STAMP = ("-Wl,--no-insert-timestamp",)
_PLAIN = (
    "-ffreestanding",
    "-fomit-frame-pointer",
    "-fno-stack-protector",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-ffunction-sections",
)
_COMPILE = (*_PLAIN, "-fno-pie", f"-I{RUNTIME}/include")
_LINK = (
    "-static",
    "-s",
    "-Wl,--build-id=none",
    "-Wl,--gc-sections",
    f"-Wl,-T,{LINKER_SCRIPT}",
)
