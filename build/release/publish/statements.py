"""What is stated about a release, and signed: the provenance of all of it, and an SBOM of each image."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build.attest.attach import Subject
from build.attest.dsse import SBOM, Statement
from build.attest.provenance import Provenance
from build.attest.sbom.described import Described, sources_of
from build.cache.cache import key_of
from build.compilers.binary import Prebuilt
from build.compilers.compiler import Program
from build.config.arches import Arch
from build.config.revision import Checkout
from build.engines.engine import Built
from build.errors import ImageError, UsageError, all_of
from build.oci.descriptor import digest_of
from build.oci.image import Image, Index, dump
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


def stated(build: Build, run: Run, contents: Mapping[Arch, Awaitable[Statement]]) -> Describe:
    """Describes the release of a build, once for all registries; `contents` are the SBOMs of its images."""
    known: dict[str, asyncio.Task[list[Subject]]] = {}

    async def describe(index: Index, images: Mapping[Arch, Image]) -> Sequence[Subject]:
        if index.digest not in known:
            known[index.digest] = asyncio.create_task(_stated(build, run, contents, index, images))
        return await asyncio.shield(known[index.digest])

    return describe


async def content(build: Build, arch: Arch, built: Awaitable[Built]) -> Statement:
    """What the image for an arch consists of, as soon as it is built: its SBOM, from the cache if it is there."""
    done = await asyncio.shield(built)  # others wait for it, too
    if done.image is None:
        raise ImageError(f"{arch.name}: only the daemon has the image, and so it has no SBOM")
    return Statement((done.image.digest,), SBOM, await _sbom(build, arch, done.image, done.binary.digest))


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


async def _stated(
    build: Build,
    run: Run,
    contents: Mapping[Arch, Awaitable[Statement]],
    index: Index,
    images: Mapping[Arch, Image],
) -> list[Subject]:
    digests = [index.digest, *(each.digest for each in images.values())]
    provenance, created = (await _provenance(build, run, images)).statement(digests), build.revision.created
    return [
        Subject(index.descriptor, created, (provenance,)),
        *[Subject(image.descriptor, created, (provenance, await contents[arch])) for arch, image in images.items()],
    ]


async def _sbom(build: Build, arch: Arch, image: Image, binary: str) -> Mapping[str, Any]:
    """The SBOM of an image whose program has the digest `binary`, from the cache if it is there."""
    program = build.program()
    labels = build.release.image.labels
    compiled: dict[str, Any] = {}
    if isinstance(program, Program):
        compiled = {
            "sources": sources_of(build.root, program, arch),
            "compiler": await build.compiler.identity(arch),
            "libc": program.runtime(arch) is None and not arch.platform.is_windows,
        }
    described = Described(
        image=image,
        name=build.release.image.name,
        tag=build.release.tag,
        arch=arch.name,
        version=build.version,
        created=build.revision.created,
        binary=binary,
        path=next(iter(build.release.image.on(arch.platform).entrypoint), ""),
        licenses=labels.get("org.opencontainers.image.licenses", ""),
        vendor=labels.get("org.opencontainers.image.vendor", ""),
        **compiled,
    )
    key = key_of("SBOM", repr(described))
    known = build.cache.get(key)
    if known is None:
        from build.attest.sbom.sbom import sbom

        known = dump(await asyncio.to_thread(sbom, described))
        build.cache.put(key, known)
    document: Mapping[str, Any] = json.loads(known)
    return document


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
    paths = ["arches.yaml", *(image.on(arch.platform).dockerfile for arch in build.arches)]
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
