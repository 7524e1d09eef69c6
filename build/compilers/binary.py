"""A compiled program, and what it is made from: as long as none of that changes, the one of before is the right one."""

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
        """The binary of these bytes."""
        return cls(data, digest_of(data))


async def binary_inputs(root: Path, program: Program, arches: Iterable[Arch], compiler: Compiler) -> dict[Arch, Inputs]:
    """For each arch everything its binary is made from: sources, headers, flags, compiler, VERSION, row."""
    read = reader(root)
    made = {}
    read_for: dict[str | None, Mapping[str, str]] = {}  # rows with the same runtime read the same files
    for arch in arches:
        if arch.runtime not in read_for:
            read_for[arch.runtime] = {path: digest_of(data) for path, data in files(read, program, arch).items()}
        settings = {
            "compiler": await compiler.identity(arch),
            "VERSION": program.version,
            "CFLAGS": shlex.join(program.flags),
            "triple": arch.triple,
            "runtime": arch.runtime or "",
        }
        made[arch] = Inputs(settings, read_for[arch.runtime])
    return made
