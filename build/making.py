"""How the binaries, images and archives of a release are made, each only if it is not there already."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future

from build import archive, elf
from build.arches import Arch
from build.binaries import keys
from build.compilers import Program
from build.crew import results
from build.files import differs, write_whole
from build.images import Plan, assembled
from build.oci import Image, digest_of
from build.release import Made, Workshop

BIN = "bin"
# One compiler fills one core. While some compile, what is compiled already becomes an image.
COMPILERS = os.cpu_count() or 1

Binaries = Mapping[Arch, Future[bytes]]


def start_binaries(shop: Workshop, program: Program, makers: Executor) -> Binaries:
    """The binary of every arch: compiled before, or under way. Each is yet to be checked against its row.

    The futures raise CompileError.
    """
    found = keys(shop.root, program, shop.release.arches, shop.compiler)
    return {arch: _binary(shop, program, arch, key, makers) for arch, key in found.items()}


def _binary(shop: Workshop, program: Program, arch: Arch, key: str, makers: Executor) -> Future[bytes]:
    report = shop.release.report
    known = shop.cache.get(key)
    if known is not None:
        report(f"{arch.name}: {program.name} is unchanged, {len(known)} bytes")
        finished: Future[bytes] = Future()
        finished.set_result(known)
        return finished

    def compiled() -> bytes:
        binary = shop.compiler(shop.root, program, arch)
        shop.cache.put(key, binary)
        report(f"{arch.name}: {program.name} is compiled, {len(binary)} bytes")
        return binary

    return makers.submit(compiled)


def leave_binaries(shop: Workshop, program: Program, binaries: Binaries) -> list[Made]:
    """`bin/NAME-A` for every arch, or none of them: raises CompileError, or ElfError for one that is not its row's."""
    results(list(binaries.values()))
    for arch, binary in binaries.items():
        elf.check(binary.result(), arch.elf, _path(program.name, arch))
    return [_leave_binary(shop, program, arch, binary.result()) for arch, binary in binaries.items()]


def finish_images(shop: Workshop, program: Program, binaries: Binaries) -> list[Image]:
    """The image of every arch, from its binary, which is left in `bin` once it has proved to be its row's.

    Raises CompileError, ElfError or ImageError.
    """
    release = shop.release
    images = []
    try:
        for arch, binary in binaries.items():
            path = _path(program.name, arch)
            plan = Plan(shop.root, release.image, arch, release.tag, shop.revision, shop.form, path)
            images.append(assembled(plan, binary, shop.cache))
            _leave_binary(shop, program, arch, binary.result())
    finally:
        results(list(binaries.values()))  # a failed compilation explains more than what followed from it
    return images


def leave_archives(shop: Workshop, images: Sequence[Image]) -> list[Made]:
    """`bin/NAME-A.tar` for every arch: its image, which loads under the name that it is published as."""
    release = shop.release
    made = []
    for arch, image in zip(release.arches, images, strict=True):
        repository = release.arch_tag(arch).repository
        name = repository.name.rpartition("/")[2] if repository.on_disk else str(repository)
        packed = archive.write(image, name, release.tag, shop.revision.time)
        made.append(_leave(shop, _path(release.image.name, arch) + ".tar", packed, image.digest, arch))
    return made


def _leave_binary(shop: Workshop, program: Program, arch: Arch, binary: bytes) -> Made:
    return _leave(shop, _path(program.name, arch), binary, digest_of(binary), arch, mode=0o777)


def _leave(shop: Workshop, path: str, data: bytes, digest: str, arch: Arch, mode: int = 0o666) -> Made:
    changed = differs(shop.root / path, data, mode)
    if changed and not shop.release.dry:
        write_whole(shop.root / path, data, mode)
    return Made(path, digest, str(arch.platform), "made" if changed else "kept")


def _path(program: str, arch: Arch) -> str:
    return f"{BIN}/{program}-{arch.name}"
