"""A program, compiled or built elsewhere, and its inputs, which decide whether results have to be made again."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from build.cache.inputs import Inputs
from build.compilers import elf, variant
from build.compilers.compiler import Compile, Compiler, Program, files
from build.compilers.formats import pe
from build.compilers.formats import program as formats
from build.compilers.includes import reader
from build.config.arches import Arch
from build.errors import CompileError, ElfError
from build.oci.descriptor import digest_of


@dataclass(frozen=True)
class Binary:
    """An executable and its digest. It is held once: it is proved, hashed and put into a layer as a whole."""

    data: bytes = field(repr=False)
    digest: str

    @classmethod
    def of(cls, data: bytes) -> Binary:
        """A binary with these bytes."""
        return cls(data, digest_of(data))


@dataclass(frozen=True)
class Prebuilt:
    """A program that was built elsewhere, a script if `is_elf` is false.

    `template` is its path, relative to the checkout, with the placeholders of `Arch.spellings`.
    """

    name: str
    template: str
    is_elf: bool

    def path(self, arch: Arch) -> str:
        """The path of the program for `arch`, relative to the checkout."""
        return self.template.format_map(arch.spellings)

    def read(self, root: Path, arches: Iterable[Arch]) -> dict[Arch, Binary]:
        """The program for each arch, proved; raise CompileError for missing files, or ElfError, with all faults."""
        read: dict[Arch, Binary] = {}
        missing, faults = [], []
        for arch in arches:
            path = self.path(arch)
            try:
                if (root / path).exists() and not (root / path).is_file():  # a pipe might never end
                    raise OSError(errno.EINVAL, "not a file")
                data = (root / path).read_bytes()
                check_prebuilt(data, arch, f"{path} ({arch.name})", is_elf=self.is_elf)
                read[arch] = Binary.of(data)
            except OSError as error:
                found = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
                missing.append(f"{arch.name}: {path}: {found}")
            except ElfError as error:
                faults.append(str(error))
        if missing:
            lines = "".join(f"\n  {line}" for line in (*missing, *faults))
            raise CompileError(
                f"{len(missing)} of {len(missing) + len(faults) + len(read)} prebuilt programs can't be"
                f" read{lines}\n  build them first, as binary in arches.yaml says, or select other arches with --arch"
            )
        if faults:
            raise ElfError("\n  ".join(faults))
        return read

    def unproved(self, arch: Arch, binary: Binary) -> str:
        """Why it can't be proved that the program runs on every CPU of the platform; empty if that is proved."""
        why = variant.check(binary.data, arch.platform, self.path(arch)) if self.is_elf else ""
        return "" if variant.is_plain(arch.platform) else why

    def inputs(self, arch: Arch, binary: Binary) -> Inputs:
        """The inputs of a copy of the program."""
        return Inputs({"binary": self.template}, {self.path(arch): binary.digest})


AnyProgram = Program | Prebuilt
Job = tuple[AnyProgram, Arch]


def check_prebuilt(data: bytes, arch: Arch, name: str, *, is_elf: bool) -> None:
    """Raise ElfError unless a program that was built elsewhere is for `arch` or, if not `is_elf`, is a script."""
    if arch.platform.is_windows:
        if is_elf:
            formats.check_program(data, arch.header, name)
        elif pe.is_program(data):
            raise ElfError(f"{name}: found a PE file, expected a script\n  remove elf: none, so that it is proved")
    elif is_elf:
        if not data.startswith(elf.MAGIC):
            raise ElfError(
                f"{name}: not an ELF file: it begins with {data[:16]!r}\n  if it is a script, set elf: none in its row"
            )
        elf.check_program(data, arch.header, name)
        variant.check(data, arch.platform, name)
    elif data.startswith(elf.MAGIC):
        raise ElfError(f"{name}: found an ELF file, expected a script\n  remove elf: none, so that it is proved")


async def prove_compiled(data: bytes, path: str, program: Program, arch: Arch, compile_: Compile) -> str:
    """Raise ElfError unless the binary is what its arch requires; return why its variant can't be proved, or nothing.

    The record of the CPU is not in a binary that is linked with build/runtime, so it is read before linking.
    """
    formats.check(data, arch.header, path)
    if program.runtime(arch) and (arch.platform.variant or arch.cpu):
        data = await compile_(replace(program, relocatable=True), arch)
    try:
        unproved = variant.check(data, variant.with_variant(arch.platform) if arch.cpu else arch.platform, path)
    except ElfError as error:
        raise ElfError(f"{error}\n  name the least of these CPUs in arches.yaml: arches.{arch.name}.cpu") from None
    return unproved if arch.cpu or not variant.is_plain(arch.platform) else ""


async def binary_inputs(root: Path, program: Program, arches: Iterable[Arch], compiler: Compiler) -> dict[Arch, Inputs]:
    """The inputs of the binary for each arch: sources, headers, flags, compiler, VERSION, CPU and runtime."""
    read = reader(root)
    inputs = {}
    # Arches with the same sources and the same runtime read the same files.
    by_runtime: dict[tuple[tuple[str, ...], str | None], Mapping[str, str]] = {}
    for arch in arches:
        runtime = program.runtime(arch)
        read_for = program.sources_for(arch), runtime
        if read_for not in by_runtime:
            by_runtime[read_for] = {path: digest_of(data) for path, data in files(read, program, arch).items()}
        settings = {
            "compiler": await compiler.identity(arch),
            "VERSION": program.version,
            "CFLAGS": shlex.join(program.flags),
            "triple": arch.triple,
            "platform": str(arch.platform),
            "cpu": arch.cpu,
            "runtime": runtime or "",
        }
        inputs[arch] = Inputs(settings, by_runtime[read_for])
    return inputs
