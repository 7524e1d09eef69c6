"""Sources to binaries, binaries to images: each is made only if it does not exist yet, and as early as possible."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from build.cache.cache import Cache
from build.cache.inputs import Inputs
from build.compilers import elf
from build.compilers.binary import Binary, binary_inputs
from build.compilers.compiler import Compile, Compiler, Job, Program
from build.config.arches import Arch
from build.config.release import Release
from build.config.revision import Revision
from build.engines.engine import Built, Engine
from build.engines.files import BIN, keep
from build.errors import CompileError, all_of
from build.image.spec import Spec
from build.oci.media_types import Format
from build.release.side_by_side import started
from build.report import COMPILE, DONE, FAILED, IMAGE, WAIT, Event, Report, Result
from build.system import scratch

# A compiler keeps one core busy.
_COMPILERS = os.cpu_count() or 1


@dataclass(frozen=True, eq=False)
class Build:
    """How one image of a run is built: from which checkout and revision, by which compiler and engine.

    The images of a run differ only in their `releases` (the same one for each registry) and `cflags`. Temporary files
    go below the folder `scratch`. In a `dry` run nothing is changed.
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
        """The first release: they differ only in their registries."""
        return self.releases[0]

    @property
    def arches(self) -> tuple[Arch, ...]:
        """The arches of the release."""
        return self.release.arches

    def program(self, companion: str = "") -> Program:
        """The image's program, or one of its companions; both have the version `vTAG-REV`."""
        image = self.release.image
        sources = image.companions[companion] if companion else image.sources
        return Program(companion or image.name, sources, self.cflags, f"v{self.release.tag}-{self.revision.name}")

    def spec(self, arch: Arch) -> Spec:
        """What the image of `arch` is made from, but for its binary."""
        release = self.release
        names = tuple(dict.fromkeys(f"{_loadable(each, arch)}:{each.tag}" for each in self.releases))
        path = binary_path(release.image.name, arch)
        return Spec(self.root, release.image, arch, release.tag, self.revision, self.form, path, names)

    def stage(self, arch: Arch, stage: str, text: str = "", size: int = 0) -> None:
        """Report the stage that an arch has reached."""
        self.report(Event(text, self.release.image.name, arch.name, stage, size))


Binaries = Mapping[Job, Awaitable[Binary]]
Images = Mapping[Arch, Awaitable[Built]]


def binary_path(program: str, arch: Arch) -> str:
    """Where a program's binary is, relative to the checkout."""
    return f"{BIN}/{program}-{arch.name}"


def _loadable(release: Release, arch: Arch) -> str:
    repository = release.arch_tag(arch).repository
    return repository.name.rpartition("/")[2] if repository.on_disk else str(repository)


@asynccontextmanager
async def compiling(builds: Sequence[Build], programs: Sequence[Program]) -> AsyncIterator[Binaries]:
    """The binary of every program for every arch, compiled before or now; each is yet to be checked against its row.

    Awaiting one raises CompileError if it can't be compiled. When the context ends, no compiler is left running.
    """
    build = builds[0]  # for compiling, the builds of a run are all alike
    keys: dict[Job, str] = {}
    failures: dict[Job, CompileError] = {}
    for program in programs:
        try:
            inputs = await binary_inputs(build.root, program, build.arches, build.compiler)
            keys |= {(program, arch): each.key for arch, each in inputs.items()}
        except CompileError as error:  # such as a missing source
            if len(programs) == 1:
                raise
            failures |= {(program, arch): error for arch in build.arches}
    known = {job: build.cache.get(key) for job, key in keys.items()}
    missing = [job for job, data in known.items() if data is None]
    _warn_of_changes(build)

    async with AsyncExitStack() as stack:
        session: list[Compile] = []
        if missing:
            build.cache.sign()  # zig writes there, too
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


def _warn_of_changes(build: Build) -> None:
    files = build.revision.changed
    if files:
        named = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        rev = build.revision.name
        build.report(f"{named}: uncommitted changes: REV is {rev}, and these digests can't be reproduced elsewhere")


async def keep_binaries(build: Build, program: Program, binaries: Binaries) -> list[Result]:
    """Write `bin/NAME-ARCH` for every arch, or for none.

    Raises CompileError, or ElfError for a binary that is not what its row requires.
    """
    compiled = dict(zip(build.arches, await all_of(binaries[program, arch] for arch in build.arches), strict=True))
    for arch, binary in compiled.items():
        elf.check(binary.data, arch.elf, binary_path(program.name, arch))
    return [await keep_binary(build, program, arch, binary) for arch, binary in compiled.items()]


async def keep_binary(build: Build, program: Program, arch: Arch, binary: Binary) -> Result:
    """Write `bin/NAME-ARCH`; the binary has been checked."""
    made_from = (await binary_inputs(build.root, program, [arch], build.compiler))[arch]

    def inputs(_: Collection[str]) -> Inputs:
        # Users know TAG and REV, of which VERSION is made.
        settings = {"TAG": build.release.tag, "REV": build.revision.name, **made_from.settings}
        return replace(made_from, settings={name: value for name, value in settings.items() if name != "VERSION"})

    result = Result(binary_path(program.name, arch), binary.digest, str(arch.platform), "made")
    return keep(build.root, build.cache, result, binary.data, inputs, build.dry, executable=True)


@asynccontextmanager
async def imaging(builds: Sequence[Build], binaries: Binaries) -> AsyncIterator[Mapping[Build, Images]]:
    """The image of every arch of every build, made as soon as its binary is there; the binary is kept in `bin`.

    Awaiting one raises CompileError, ElfError or ImageError.
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


async def export(build: Build, images: Images) -> list[Result]:
    """Every image where the user finds it, once all of them are made."""
    return [await build.engine.export(built) for built in await all_of(images.values())]
