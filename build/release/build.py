"""Builds binaries from sources and images from binaries, each as soon as its inputs are ready, unless it is cached."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from build.cache.cache import Cache
from build.cache.inputs import Inputs
from build.compilers import elf, variant
from build.compilers.binary import Binary, binary_inputs
from build.compilers.compiler import Compile, Compiler, Job, Program
from build.config.arches import Arch
from build.config.release import Release
from build.config.revision import Revision
from build.engines.engine import Built, Engine
from build.engines.files import BIN, keep
from build.errors import CompileError, ElfError, all_of
from build.image.spec import Spec
from build.oci.media_types import Format
from build.oci.reference import Tag
from build.release.side_by_side import started
from build.report import COMPILE, DONE, FAILED, IMAGE, WAIT, Event, Report, Result
from build.system import scratch

# A compiler keeps one core busy.
_COMPILERS = os.cpu_count() or 1


@dataclass(frozen=True, eq=False)
class Build:
    """How one image is built: its releases, checkout, revision, compiler and engine.

    `releases` has the same release for each registry. The builds of a run differ only in `releases` and `cflags`.
    Temporary files go to the folder `scratch`. A `dry` run changes nothing.
    """

    releases: tuple[Release, ...]
    root: Path
    revision: Revision
    cflags: tuple[str, ...]
    form: Format
    compiler: Compiler
    engine: Engine
    cache: Cache
    scratch: Path
    report: Report
    dry: bool = False

    @property
    def release(self) -> Release:
        """The first release; the others differ only in the registry."""
        return self.releases[0]

    @property
    def arches(self) -> tuple[Arch, ...]:
        """The arches of the release."""
        return self.release.arches

    def program(self, companion: str = "") -> Program:
        """The image's program, or the named companion; the version is `vTAG-REV`."""
        image = self.release.image
        sources = image.companions[companion] if companion else image.sources
        version = f"v{self.release.tag}-{self.revision.name}"
        return Program(companion or image.name, sources, self.cflags, version, image.libc)

    def spec(self, arch: Arch) -> Spec:
        """The inputs of the image for `arch`, except its binary."""
        release = self.release
        named = [each.arch_tag(arch) for release in self.releases for each in (release, *release.further)]
        names = tuple(dict.fromkeys(map(_local_name, named)))
        path = binary_path(release.image.name, arch)
        return Spec(self.root, release.image, arch, release.tag, self.revision, self.form, path, names)

    def stage(self, arch: Arch, stage: str, text: str = "", size: int = 0) -> None:
        """Report the stage that an arch has reached."""
        self.report(Event(text, self.release.image.name, arch.name, stage, size))


Binaries = Mapping[Job, Awaitable[Binary]]
Images = Mapping[Arch, Awaitable[Built]]


def binary_path(program: str, arch: Arch) -> str:
    """The path of a program's binary, relative to the checkout."""
    return f"{BIN}/{program}-{arch.name}"


def _local_name(tag: Tag) -> str:
    """NAME:TAG in a daemon and in archives."""
    return f"{tag.repository.name.rpartition('/')[2]}:{tag.name}" if tag.repository.on_disk else str(tag)


async def prepare(builds: Sequence[Build]) -> None:
    """Before anything is compiled: raise BuildError for an image whose base can't be used."""
    for build in builds:
        if build.release.image.annotations is not None and not build.engine.annotates(build.form):
            name = build.release.image.name
            build.report(Event(f"note: {name}: annotations are left out: Docker's media types have none", note=True))
    await all_of(each.engine.prepare([each.spec(arch) for arch in each.arches]) for each in builds)


@asynccontextmanager
async def compiling(builds: Sequence[Build], programs: Sequence[Program]) -> AsyncIterator[Binaries]:
    """Compile every program for every arch, or take it from the cache.

    Awaiting a binary raises CompileError if it can't be compiled, and ElfError if it is not what its arch requires. No
    compiler outlives the context.
    """
    build = builds[0]  # for compiling, the builds of a run don't differ
    keys: dict[Job, str] = {}
    failures: dict[Job, CompileError] = {}
    for program in programs:
        try:
            inputs = await binary_inputs(build.root, program, build.arches, build.compiler)
            keys |= {(program, arch): each.key for arch, each in inputs.items()}
        except CompileError as error:  # for example a missing source
            if len(programs) == 1:
                raise
            failures |= {(program, arch): error for arch in build.arches}
    known = {job: build.cache.get(key) for job, key in keys.items()}
    missing = [job for job, data in known.items() if data is None]
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

        async def binary(job: Job) -> Binary:
            program, arch = job
            if job in failures:
                raise failures[job]
            if (data := known.pop(job)) is not None:
                report(job, DONE, f"{arch.name}: {program.name} unchanged, {len(data)} bytes")
                return Binary.of(data)
            async with idle:
                report(job, COMPILE)
                try:
                    data = await session[0](program, arch)
                    if unproved := await _prove(data, program, arch, session[0]):
                        build.report(f"{arch.name}: {program.name}: variant of {arch.platform} not proved: {unproved}")
                except Exception:
                    report(job, FAILED)
                    raise
            build.cache.put(keys[job], data)
            report(job, DONE, f"{arch.name}: {program.name} compiled, {len(data)} bytes")
            return Binary.of(data)

        for job in missing:
            report(job, WAIT)
        jobs = [(program, arch) for program in programs for arch in build.arches]
        yield await stack.enter_async_context(started({job: binary(job) for job in jobs}))


async def _prove(data: bytes, program: Program, arch: Arch, compile_: Compile) -> str:
    """Raise ElfError unless the binary is what its arch requires; return why its variant can't be proved, or nothing.

    The record of the CPU is not in a binary that is linked with build/runtime, so it is read before linking.
    """
    path = binary_path(program.name, arch)
    elf.check(data, arch.elf, path)
    if program.runtime(arch) and (arch.platform.variant or arch.cpu):
        data = await compile_(replace(program, relocatable=True), arch)
    try:
        unproved = variant.check(data, variant.with_variant(arch.platform) if arch.cpu else arch.platform, path)
    except ElfError as error:
        raise ElfError(f"{error}\n  name the least of these CPUs in arches.yaml: arches.{arch.name}.cpu") from None
    return unproved if arch.cpu or not variant.is_plain(arch.platform) else ""


def _warn_if_dirty(build: Build) -> None:
    files = build.revision.changed
    if files:
        listed = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        rev = build.revision.name
        build.report(f"{listed}: uncommitted changes: REV is {rev}, and these digests can't be reproduced elsewhere")


async def keep_binaries(build: Build, program: Program, binaries: Binaries) -> list[Result]:
    """Write `bin/NAME-ARCH` for every arch, once all of them are compiled and checked.

    Raises CompileError, or ElfError for a binary with another ELF header than its arch.
    """
    compiled = dict(zip(build.arches, await all_of(binaries[program, arch] for arch in build.arches), strict=True))
    for arch, binary in compiled.items():
        elf.check(binary.data, arch.elf, binary_path(program.name, arch))
    results = []
    for arch, binary in compiled.items():
        results.append(await keep_binary(build, program, arch, binary))
        build.report(Event(result=results[-1]))
    return results


async def keep_binary(build: Build, program: Program, arch: Arch, binary: Binary) -> Result:
    """Write `bin/NAME-ARCH` with a binary that has been checked."""
    compiled_from = (await binary_inputs(build.root, program, [arch], build.compiler))[arch]

    def inputs(_: Collection[str]) -> Inputs:
        # Users set TAG and REV, not VERSION, which consists of them.
        settings = {"TAG": build.release.tag, "REV": build.revision.name, **compiled_from.settings}
        return replace(compiled_from, settings={name: value for name, value in settings.items() if name != "VERSION"})

    result = Result(binary_path(program.name, arch), binary.digest, str(arch.platform), "made", arch=arch.name)
    return keep(build.root, build.cache, result, binary.data, inputs, build.dry, executable=True)


@asynccontextmanager
async def imaging(builds: Sequence[Build], binaries: Binaries) -> AsyncIterator[Mapping[Build, Images]]:
    """Build the image of every arch of every build as soon as its binary is compiled, and write the binary to `bin`.

    Awaiting an image raises CompileError, ElfError or ImageError.
    """

    async def image(build: Build, arch: Arch) -> Built:
        program = build.program()
        try:
            binary = await binaries[program, arch]
            build.stage(arch, IMAGE)
            built = await build.engine.make(build.spec(arch), binary)
            await keep_binary(build, program, arch, binary)
        except Exception:
            build.stage(arch, FAILED)
            raise
        build.stage(arch, DONE)
        return built

    parts = {(at, arch): image(build, arch) for at, build in enumerate(builds) for arch in build.arches}
    async with started(parts) as tasks:
        yield {build: {arch: tasks[at, arch] for arch in build.arches} for at, build in enumerate(builds)}


async def export(build: Build, images: Images, report: Report) -> list[Result]:
    """Export every image, once all of them are built; each result is reported."""
    results = []
    for built in await all_of(images.values()):
        results.append(await build.engine.export(built))
        report(Event(result=results[-1]))
    return results
