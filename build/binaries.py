"""When is a binary the one that was compiled before? When nothing has changed that it is made from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from build.arches import Arch
from build.cache import key_of
from build.compilers import LINKER_SCRIPT, RUNTIME, Compiler, Program
from build.includes import inputs, named_by_flags, reader


def keys(root: Path, program: Program, arches: Iterable[Arch], compiler: Compiler) -> dict[Arch, str]:
    """For each arch a digest of all that its binary is made from: sources, headers, flags, compiler, VERSION, row."""
    read = reader(root)
    files, folders = named_by_flags(program.flags)
    made = {}
    for arch in arches:
        runtime = (f"{RUNTIME}/{arch.runtime}.c", LINKER_SCRIPT) if arch.runtime else ()
        ours = (f"{RUNTIME}/include", RUNTIME) if arch.runtime else ()
        sources = inputs(read, (*program.sources, *runtime, *files), (*folders, *ours))
        listed = [part for path, data in sources.items() for part in (path, data)]
        row = (arch.triple, arch.runtime or "")
        made[arch] = key_of("binary", compiler.identity, program.version, *row, *program.flags, "files", *listed)
    return made
