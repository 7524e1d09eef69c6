"""The seam to the compilers: what is asked of one, and what it answers with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from build.arches import Arch

RUNTIME = "build/runtime"
LINKER_SCRIPT = f"{RUNTIME}/link.ld"


@dataclass(frozen=True, slots=True)
class Program:
    """One C program of the checkout.

    `sources` are POSIX paths relative to the checkout. `version` is what the program prints for `-v`; it reaches the
    compiler as the string literal VERSION.
    """

    name: str
    sources: tuple[str, ...]
    flags: tuple[str, ...]
    version: str


class Compiler(Protocol):
    """Turns a program into one static ELF executable, and says which compiler it is."""

    @property
    def identity(self) -> str:
        """Name and version: two compilers with the same identity give the same bytes for the same input."""

    def __call__(self, root: Path, program: Program, arch: Arch) -> bytes:
        """Compile `program` of the checkout `root` for `arch`; raise CompileError with the compiler's own words."""


def define_version(version: str) -> str:
    """The flag that makes VERSION a C string literal, whatever is in `version`."""
    plain = b"-+._0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    literal = "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in version.encode())
    return f'-DVERSION="{literal}"'


def translation_units(program: Program, arch: Arch) -> tuple[str, ...]:
    """The sources to compile, the arch's runtime among them, relative to the checkout.

    Before a single source the runtime joins its translation unit: one run of the compiler less, and it can inline a
    system call into the program.
    """
    if arch.runtime is None:
        return program.sources
    runtime = f"{RUNTIME}/{arch.runtime}.c"
    if len(program.sources) == 1:
        return ("-include", runtime, *program.sources)
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
