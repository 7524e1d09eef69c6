"""How an image is built: programs into `bin`, and images from them, each as soon as its inputs are ready."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from build.cache.cache import Cache
from build.compilers.binary import AnyProgram, Binary, Job, Prebuilt, binary_inputs
from build.compilers.compiler import Compiler, Program
from build.compilers.formats import program as formats
from build.config.arches import Arch
from build.config.release import Release
from build.config.revision import Revision
from build.engines.engine import Built, Engine
from build.engines.files import BIN, keep
from build.errors import all_of
from build.image.spec import Spec
from build.oci.media_types import Format
from build.oci.reference import Tag
from build.release.side_by_side import started
from build.report import DONE, FAILED, IMAGE, Event, Report, Result


@dataclass(frozen=True, eq=False)
class Build:
    """How one image is built: its releases, checkout, revision, compiler and engine.

    `releases` has the same release for each registry. The builds of a run differ only in `releases`, and so
    in arches, and in `cflags`. Temporary files go to the folder `scratch`. A `dry` run changes nothing.
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

    @property
    def version(self) -> str:
        """VERSION, which is `vTAG-REV`."""
        return f"v{self.release.tag}-{self.revision.name}"

    def program(self) -> AnyProgram:
        """The image's program."""
        image = self.release.image
        if image.binary:
            return Prebuilt(image.name, image.binary, image.elf)
        return self.compiled(image.name, image.sources, image.windows.sources if image.windows else ())

    def compiled(self, name: str, sources: tuple[str, ...], windows: tuple[str, ...] = ()) -> Program:
        """A program of `sources`, or `windows` for Windows; for example a companion of the image."""
        return Program(name, sources, self.cflags, self.version, self.release.image.libc, windows=windows)

    def arches_of(self, program: AnyProgram) -> tuple[Arch, ...]:
        """The arches of the release that there is such a program for; companions are not for Windows."""
        return tuple(arch for arch in self.arches if isinstance(program, Prebuilt) or program.sources_for(arch))

    def spec(self, arch: Arch) -> Spec:
        """The inputs of the image for `arch`, except its binary."""
        release = self.release
        named = [each.arch_tag(arch) for release in self.releases for each in (release, *release.further)]
        names = tuple(dict.fromkeys(map(_local_name, named)))
        path = binary_path(release.image.name, arch)
        settings = release.image.on(arch.platform)
        return Spec(self.root, settings, arch, release.tag, self.revision, self.form, path, names)

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


async def keep_binaries(build: Build, program: AnyProgram, binaries: Binaries) -> list[Result]:
    """Write `bin/NAME-ARCH` for every arch, once all of them are there and checked.

    Raises CompileError, or ElfError for a binary with another ELF header than its arch.
    """
    arches = build.arches_of(program)
    found = dict(zip(arches, await all_of(binaries[program, arch] for arch in arches), strict=True))
    for arch, binary in found.items():
        if isinstance(program, Program):
            formats.check(binary.data, arch.header, binary_path(program.name, arch))
    results = []
    for arch, binary in found.items():
        results.append(await keep_binary(build, program, arch, binary))
        build.report(Event(result=results[-1]))
    return results


async def keep_binary(build: Build, program: AnyProgram, arch: Arch, binary: Binary) -> Result:
    """Write `bin/NAME-ARCH` with a binary that has been checked."""
    if isinstance(program, Prebuilt):
        made_from = program.inputs(arch, binary)
    else:
        [compiled_from] = (await binary_inputs(build.root, program, [arch], build.compiler)).values()
        # Users set TAG and REV, not VERSION, which consists of them.
        settings = {"TAG": build.release.tag, "REV": build.revision.name, **compiled_from.settings}
        del settings["VERSION"]
        made_from = replace(compiled_from, settings=settings)
    result = Result(binary_path(program.name, arch), binary.digest, str(arch.platform), "made", arch=arch.name)
    return keep(build.root, build.cache, result, binary.data, lambda _: made_from, build.dry, executable=True)


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
