"""How the binaries, images and archives of a release are made, each only if it is not there already."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from build import archive, elf
from build.arches import Arch
from build.binaries import keys
from build.compilers import Program
from build.crew import results
from build.events import COMPILE, DONE, IMAGE, WAIT, then
from build.files import differs, write_whole
from build.images import Plan, assembled
from build.oci import Image, digest_of
from build.release import Made, Workshop

BIN = "bin"
# One compiler fills one core. While some compile, what is compiled already becomes an image.
COMPILERS = os.cpu_count() or 1

Binaries = Mapping[Arch, Future[bytes]]


@contextmanager
def binaries(shop: Workshop, program: Program) -> Iterator[Binaries]:
    """The binary of every arch: compiled before, or under way. Each is yet to be checked against its row.

    The futures raise CompileError; whatever compiles is gone when the context ends.
    """
    found = keys(shop.root, program, shop.release.arches, shop.compiler)
    known = {arch: shop.cache.get(key) for arch, key in found.items()}
    missing = [arch for arch, binary in known.items() if binary is None]
    if missing:
        shop.cache.sign()  # zig keeps things there, too, and a run may be killed before it keeps any of ours

    release = shop.release

    def compiled(arch: Arch) -> bytes:
        release.tell(arch, COMPILE)
        binary = compile_for(arch)
        shop.cache.put(found[arch], binary)
        release.tell(arch, DONE, f"{arch.name}: {program.name} is compiled, {len(binary)} bytes")
        return binary

    def compiling(arch: Arch) -> Future[bytes]:
        release.tell(arch, WAIT)
        return then(makers.submit(compiled, arch), partial(release.tell, arch))

    # The compiler leaves first: what still compiles then, as after Ctrl-C, ends with it, and the makers have no wait.
    with ThreadPoolExecutor(COMPILERS) as makers, shop.compiler.at_work(shop.root, program, missing) as compile_for:
        yield {
            arch: compiling(arch) if binary is None else _unchanged(shop, program, arch, binary)
            for arch, binary in known.items()
        }


def _unchanged(shop: Workshop, program: Program, arch: Arch, binary: bytes) -> Future[bytes]:
    shop.release.tell(arch, DONE, f"{arch.name}: {program.name} is unchanged, {len(binary)} bytes")
    finished: Future[bytes] = Future()
    finished.set_result(binary)
    return finished


def leave_binaries(shop: Workshop, program: Program, found: Binaries) -> list[Made]:
    """`bin/NAME-A` for every arch, or none of them: raises CompileError, or ElfError for one that is not its row's."""
    results(list(found.values()))
    for arch, binary in found.items():
        elf.check(binary.result(), arch.elf, binary_path(program.name, arch))
    return [leave_binary(shop, program, arch, binary.result()) for arch, binary in found.items()]


def finish_images(shop: Workshop, program: Program, found: Binaries, pool: Executor) -> Mapping[Arch, Future[Image]]:
    """The image of every arch, from its binary, which is left in `bin` once it has proved to be its row's.

    The futures raise CompileError, ElfError or ImageError.
    """
    release = shop.release

    def finished(arch: Arch) -> Image:
        path = binary_path(program.name, arch)
        plan = Plan(shop.root, release.image, arch, release.tag, shop.revision, shop.form, path)
        image = assembled(plan, found[arch], shop.cache)
        leave_binary(shop, program, arch, found[arch].result())
        release.tell(arch, DONE)
        return image

    for arch, binary in found.items():
        then(binary, partial(release.tell, arch), IMAGE)
    return {arch: then(pool.submit(finished, arch), partial(release.tell, arch)) for arch in found}


def all_images(found: Binaries, images: Mapping[Arch, Future[Image]]) -> list[Image]:
    """Every image, once all are finished; a failed compilation explains more than what followed from it."""
    results(list(found.values()))
    return results(list(images.values()))


def leave_archives(shop: Workshop, images: Sequence[Image]) -> list[Made]:
    """`bin/NAME-A.tar` for every arch: its image, which loads under the name that it is published as."""
    release = shop.release
    made = []
    for arch, image in zip(release.arches, images, strict=True):
        entry = archive.Entry(image, f"{loadable_name(shop, arch)}:{release.tag}", release.tag)
        packed = archive.write([entry], shop.revision.time)
        made.append(_leave(shop, binary_path(release.image.name, arch) + ".tar", packed, image.digest, arch))
    return made


def loadable_name(shop: Workshop, arch: Arch) -> str:
    """What an arch's image is called in a daemon or a container engine, without its tag."""
    repository = shop.release.arch_tag(arch).repository
    return repository.name.rpartition("/")[2] if repository.on_disk else str(repository)


def leave_binary(shop: Workshop, program: Program, arch: Arch, binary: bytes) -> Made:
    """`bin/NAME-A`; the binary has proved to be its row's."""
    return _leave(shop, binary_path(program.name, arch), binary, digest_of(binary), arch, mode=0o777)


def _leave(shop: Workshop, path: str, data: bytes, digest: str, arch: Arch, mode: int = 0o666) -> Made:
    changed = differs(shop.root / path, data, mode)
    if changed and not shop.release.dry:
        write_whole(shop.root / path, data, mode)
    return Made(path, digest, str(arch.platform), "made" if changed else "kept")


def binary_path(program: str, arch: Arch) -> str:
    """Where a program's binary lies, seen from the checkout."""
    return f"{BIN}/{program}-{arch.name}"
