"""What is a binary made from? As long as that stays as it is, the one that was compiled before is the right one."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from build.arches import Arch
from build.compilers import Compiler, Program, files
from build.includes import reader
from build.ingredients import Ingredients
from build.oci import digest_of


def ingredients(root: Path, program: Program, arches: Iterable[Arch], compiler: Compiler) -> dict[Arch, Ingredients]:
    """For each arch all that its binary is made from: sources, headers, flags, compiler, VERSION, row."""
    read = reader(root)
    made = {}
    read_for: dict[str | None, Mapping[str, str]] = {}  # rows of one runtime read the same
    for arch in arches:
        if arch.runtime not in read_for:
            read_for[arch.runtime] = {path: digest_of(data) for path, data in files(read, program, arch).items()}
        settings = {
            "compiler": compiler.identity(arch),
            "VERSION": program.version,
            "CFLAGS": shlex.join(program.flags),
            "triple": arch.triple,
            "runtime": arch.runtime or "",
        }
        made[arch] = Ingredients(settings, read_for[arch.runtime])
    return made
