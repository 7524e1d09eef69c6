"""When is a binary the one that was compiled before? When nothing has changed that it is made from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from build.arches import Arch
from build.cache import key_of
from build.compilers import Compiler, Program, files
from build.includes import reader


def keys(root: Path, program: Program, arches: Iterable[Arch], compiler: Compiler) -> dict[Arch, str]:
    """For each arch a digest of all that its binary is made from: sources, headers, flags, compiler, VERSION, row."""
    read = reader(root)
    made = {}
    for arch in arches:
        listed = [part for path, data in files(read, program, arch).items() for part in (path, data)]
        named = (compiler.identity(arch), program.version, arch.triple, arch.runtime or "")
        made[arch] = key_of("binary", *named, *program.flags, "files", *listed)
    return made
