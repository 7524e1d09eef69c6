"""A compiled program. As long as all that it is made from stays as it is, the one of before is the right one."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from build.cache.cache import Cache
from build.cache.inputs import Ingredients
from build.compilers.compiler import Compiler, Program, files
from build.compilers.includes import reader
from build.config.arches import Arch
from build.oci.oci import digest_of


@dataclass(frozen=True, slots=True)
class Binary:
    """An ELF executable: its digest, its size in bytes, and what reads it."""

    digest: str
    size: int
    read: Callable[[], bytes] = field(repr=False, compare=False)

    @classmethod
    def kept(cls, cache: Cache, key: str, data: bytes) -> Binary:
        """The binary in the cache's entry under `key`, which is `data`."""
        return cls(digest_of(data), len(data), cache.later(key, data))


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
