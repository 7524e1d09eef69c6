"""Programs compiled by a compiler of ours, as the tests need them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from build.compilers.binary import binary_inputs
from build.compilers.compiler import Compiler, Program
from build.config.arches import Arch


def compiled(compiler: Compiler, root: Path, program: Program, arch: Arch) -> bytes:
    """The binary of a program of the checkout `root`."""

    async def compile_() -> bytes:
        with TemporaryDirectory() as scratch:
            async with compiler.session(root, [(program, arch)], Path(scratch)) as compile_job:
                return await compile_job(program, arch)

    return asyncio.run(compile_())


def key(compiler: Compiler, root: Path, program: Program, arch: Arch) -> str:
    """The key of its binary."""
    return asyncio.run(binary_inputs(root, program, [arch], compiler))[arch].key
