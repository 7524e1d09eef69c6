"""What is stated about a release, and signed: the provenance of all of it, and an SBOM of each image."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.attest.attach import Subject
from build.attest.provenance import Provenance
from build.compilers.binary import Prebuilt
from build.config.arches import Arch
from build.config.revision import Checkout
from build.errors import UsageError, all_of
from build.oci.descriptor import digest_of
from build.oci.image import Image, Index
from build.oci.parse import parse_config, parse_time
from build.release.build import Build

if TYPE_CHECKING:
    from build.release.publish.destination import Describe


@dataclass(frozen=True)
class Run:
    """What is known of a run beside its builds: the task, what chose the tools, and where it runs.

    `given` has REV and SOURCE_DATE_EPOCH, if the user has set them.
    """

    task: str
    engine: str
    compiler: str
    builder: str
    checkout: Awaitable[Checkout | None]
    given: Mapping[str, str]


def stated(build: Build, run: Run) -> Describe:
    """Describes the release of a build, once for all registries."""
    known: dict[str, asyncio.Task[list[Subject]]] = {}

    async def describe(index: Index, images: Mapping[Arch, Image]) -> Sequence[Subject]:
        if index.digest not in known:
            known[index.digest] = asyncio.create_task(_stated(build, run, index, images))
        return await asyncio.shield(known[index.digest])

    return describe


async def signed_only(index: Index, images: Mapping[Arch, Image]) -> Sequence[Subject]:
    """Describes a release that was built elsewhere: nothing is stated but that it is signed."""
    created = created_of(images.values())
    descriptors = [index.descriptor, *(each.descriptor for each in images.values())]
    return [Subject(each, created) for each in descriptors]


def created_of(images: Iterable[Image]) -> str:
    """The latest time in the configs of images (config.md, "created"); empty if there is none."""
    times = [parse_config(each.config.data).created for each in images]
    return max(
        (each for each in times if parse_time(each) is not None), key=lambda each: parse_time(each) or 0, default=""
    )


async def _stated(build: Build, run: Run, index: Index, images: Mapping[Arch, Image]) -> list[Subject]:
    provenance = await _provenance(build, run, images)
    descriptors = [index.descriptor, *(each.descriptor for each in images.values())]
    statement = provenance.statement([each.digest for each in descriptors])
    return [Subject(each, build.revision.created, (statement,)) for each in descriptors]


async def _provenance(build: Build, run: Run, images: Mapping[Arch, Image]) -> Provenance:
    image, program = build.release.image, build.program()
    compiled = (
        {}
        if isinstance(program, Prebuilt)
        else {
            "cflags": [*build.cflags],
            "compiler": run.compiler,
            "libc": all(program.runtime(arch) is None for arch in build.arches),
        }
    )
    parameters = {
        "task": run.task,
        "image": image.name,
        "tag": build.release.tag,
        "arches": [arch.name for arch in build.arches],
        "engine": run.engine,
        "format": build.form.name,
        **compiled,
        **run.given,
    }
    paths = ["arches.yaml", image.dockerfile]
    if isinstance(program, Prebuilt):
        paths += [program.path(arch) for arch in build.arches]
    return Provenance(
        parameters=parameters,
        versions={"VERSION": build.version, "REV": build.revision.name, "SOURCE_DATE_EPOCH": build.revision.time},
        builder=run.builder,
        checkout=await run.checkout,
        tools=[]
        if isinstance(program, Prebuilt)
        else await all_of(build.compiler.tool(build.root, arch) for arch in build.arches),
        bases=[each.origin for each in images.values() if each.origin],
        files={path: _digest(build, path) for path in dict.fromkeys(paths)},
    )


def _digest(build: Build, path: str) -> str:
    try:
        return digest_of((build.root / path).read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from None
