"""A compiled program, and its inputs, which decide whether it has to be compiled again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from build.cache.inputs import Inputs
from build.compilers.compiler import Compiler, Program, files
from build.compilers.includes import reader
from build.config.arches import Arch
from build.oci.descriptor import digest_of


@dataclass(frozen=True)
class Binary:
    """An ELF executable and its digest."""

    data: bytes = field(repr=False)
    digest: str

    @classmethod
    def of(cls, data: bytes) -> Binary:
        """A binary with these bytes."""
        return cls(data, digest_of(data))


async def binary_inputs(root: Path, program: Program, arches: Iterable[Arch], compiler: Compiler) -> dict[Arch, Inputs]:
    """The inputs of the binary for each arch: sources, headers, flags, compiler, VERSION, CPU and runtime."""
    read = reader(root)
    inputs = {}
    by_runtime: dict[str | None, Mapping[str, str]] = {}  # arches with the same runtime read the same files
    for arch in arches:
        runtime = program.runtime(arch)
        if runtime not in by_runtime:
            by_runtime[runtime] = {path: digest_of(data) for path, data in files(read, program, arch).items()}
        settings = {
            "compiler": await compiler.identity(arch),
            "VERSION": program.version,
            "CFLAGS": shlex.join(program.flags),
            "triple": arch.triple,
            "platform": str(arch.platform),
            "cpu": arch.cpu,
            "runtime": runtime or "",
        }
        inputs[arch] = Inputs(settings, by_runtime[runtime])
    return inputs
