"""Compiles the programs of a run, side by side and with one session of the compiler; reads what was built elsewhere."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from build.compilers.binary import AnyProgram, Binary, Job, Prebuilt, binary_inputs, prove_compiled
from build.compilers.compiler import Compile, Program
from build.config.arches import Arch
from build.errors import BuildError, CompileError, ElfError
from build.release.build import Binaries, Build, binary_path
from build.release.side_by_side import started
from build.report import COMPILE, DONE, FAILED, WAIT, Event
from build.system import scratch

# A compiler keeps one core busy.
_COMPILERS = os.cpu_count() or 1


@asynccontextmanager
async def compiling(programs: Mapping[Build, Sequence[AnyProgram]]) -> AsyncIterator[Binaries]:
    """Compile the programs of each build for its arches, or take them from the cache; read what was built elsewhere.

    Awaiting a binary raises CompileError if it can't be compiled or read, and ElfError if it is not what its arch
    requires. No compiler outlives the context, and none is started if there is nothing to compile.
    """
    build, *_ = programs  # the builds of a run have the same checkout, compiler and cache
    wanted = [(program, each.arches_of(program)) for each in programs for program in programs[each]]
    keys, known, failures = await _known(build, wanted)
    cached = {job: build.cache.get(key) for job, key in keys.items()}
    missing = [job for job, data in cached.items() if data is None]
    _warn_if_dirty(build)

    async with AsyncExitStack() as stack:
        session: list[Compile] = []
        if missing:
            build.cache.sign()  # before zig writes to the folder
            folder = stack.enter_context(scratch(build.scratch))
            session.append(await stack.enter_async_context(build.compiler.session(build.root, missing, folder)))
        idle = asyncio.Semaphore(_COMPILERS)

        def report(job: Job, stage: str, text: str = "") -> None:
            build.report(Event(text, job[0].name, job[1].name, stage))

        def unproved(program: AnyProgram, arch: Arch, why: str) -> None:
            if why:
                build.report(f"{arch.name}: {program.name}: variant of {arch.platform} not proved: {why}")

        async def binary(program: AnyProgram, arch: Arch) -> Binary:
            if (program, arch) in failures:
                raise failures[program, arch]
            if isinstance(program, Prebuilt):
                found = known[program, arch]
                unproved(program, arch, program.unproved(arch, found))
                text = f"{arch.name}: {program.name} is {program.path(arch)}, {len(found.data)} bytes"
                report((program, arch), DONE, text)
                return found
            job = program, arch
            if (data := cached.pop(job)) is not None:
                report(job, DONE, f"{arch.name}: {program.name} unchanged, {len(data)} bytes")
                return Binary.of(data)
            async with idle:
                report(job, COMPILE)
                try:
                    data = await session[0](program, arch)
                    path = binary_path(program.name, arch)
                    unproved(program, arch, await prove_compiled(data, path, *job, session[0]))
                except Exception:
                    report(job, FAILED)
                    raise
            build.cache.put(keys[job], data)
            report(job, DONE, f"{arch.name}: {program.name} compiled, {len(data)} bytes")
            return Binary.of(data)

        for job in missing:
            report(job, WAIT)
        jobs = [(program, arch) for program, arches in wanted for arch in arches]
        yield await stack.enter_async_context(started({job: binary(*job) for job in jobs}))


async def _known(
    build: Build, wanted: Sequence[tuple[AnyProgram, tuple[Arch, ...]]]
) -> tuple[Mapping[tuple[Program, Arch], str], Mapping[Job, Binary], Mapping[Job, BuildError]]:
    """The keys of what is compiled, what was built elsewhere, and why a program can't be had.

    The failure of a single program is raised.
    """
    keys: dict[tuple[Program, Arch], str] = {}
    prebuilt: dict[Job, Binary] = {}
    failures: dict[Job, BuildError] = {}
    for program, arches in wanted:
        try:
            if isinstance(program, Prebuilt):
                read = await asyncio.to_thread(program.read, build.root, arches)
                prebuilt |= {(program, arch): binary for arch, binary in read.items()}
            else:
                inputs = await binary_inputs(build.root, program, arches, build.compiler)
                keys |= {(program, arch): each.key for arch, each in inputs.items()}
        except (CompileError, ElfError) as error:  # for example a missing source
            if len(wanted) == 1:
                raise
            failures |= {(program, arch): error for arch in arches}
    return keys, prebuilt, failures


def _warn_if_dirty(build: Build) -> None:
    files = build.revision.changed
    if files:
        listed = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        rev = build.revision.name
        build.report(f"{listed}: uncommitted changes: REV is {rev}, and these digests can't be reproduced elsewhere")
