"""How the binaries, images and archives of a release are made, each only if it is not there already."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from build.cache.cache import Cache
from build.cache.inputs import Ingredients, changes, remember, remembered
from build.compilers import elf
from build.compilers.binary import Binary, ingredients
from build.compilers.compiler import Job, Program
from build.config.arches import Arch
from build.engines.embedded import Plan, assembled, recipe_of
from build.engines.embedded import ingredients as image_ingredients
from build.errors import CompileError
from build.events import COMPILE, DONE, FAILED, IMAGE, WAIT, Event
from build.files import differs, write_whole
from build.oci.oci import Image
from build.release.crew import results
from build.release.outcomes import Outcome, begun_in_turn, failed, finished
from build.release.release import Made, Workshop
from build.stores import archive

BIN = "bin"
# One compiler fills one core. While some compile, what is compiled already becomes an image.
COMPILERS = os.cpu_count() or 1

Binaries = Mapping[Arch, Outcome[Binary]]
Found = Mapping[Program, Binaries]


@contextmanager
def binaries(shops: Sequence[Workshop], programs: Sequence[Program]) -> Iterator[Found]:
    """The binary of every program and arch: compiled before, or under way. Each is yet to be checked against its row.

    They raise CompileError; whatever compiles is gone when the context ends.
    """
    shop = shops[0]  # in all that matters here they are alike
    found: dict[Job, str] = {}
    begun: dict[Job, Outcome[Binary]] = {}
    for program in programs:
        try:
            found |= _keys(shop, program)
        except CompileError as error:  # as where a source is not there
            if len(programs) == 1:
                raise
            begun |= {(program, arch): failed(error) for arch in shop.release.arches}
    known = {job: _compiled_before(shop.cache, key) for job, key in found.items()}
    missing = [job for job, binary in known.items() if binary is None]
    _tell_of_changes(shop)
    if missing:
        shop.cache.sign()  # zig keeps things there, too, and a run may be killed before it keeps any of ours

    def tell(program: Program, arch: Arch, stage: str, text: str = "") -> None:
        shop.release.report(Event(text, program.name, arch.name, stage))

    def compiled(job: Job) -> Binary:
        try:
            tell(*job, COMPILE)
            data = compile_for(*job)
            shop.cache.put(found[job], data)
        except BaseException:
            tell(*job, FAILED)
            raise
        tell(*job, DONE, f"{job[1].name}: {job[0].name} is compiled, {len(data)} bytes")
        return Binary.kept(shop.cache, found[job], data)

    def unchanged(program: Program, arch: Arch, binary: Binary) -> Outcome[Binary]:
        tell(program, arch, DONE, f"{arch.name}: {program.name} is unchanged, {binary.size} bytes")
        return finished(binary)

    # The compiler leaves first: what still compiles then, as after Ctrl-C, ends with it, and the makers have no wait.
    with ThreadPoolExecutor(COMPILERS) as makers, shop.compiler.at_work(shop.root, missing) as compile_for:
        for job in missing:
            tell(*job, WAIT)
        begun |= {job: unchanged(*job, binary) for job, binary in known.items() if binary is not None}
        begun |= zip(missing, begun_in_turn(makers, COMPILERS, compiled, missing), strict=True)
        yield {program: {arch: begun[program, arch] for arch in shop.release.arches} for program in programs}


def _keys(shop: Workshop, program: Program) -> dict[Job, str]:
    needed = ingredients(shop.root, program, shop.release.arches, shop.compiler)
    return {(program, arch): each.key for arch, each in needed.items()}


def _compiled_before(cache: Cache, key: str) -> Binary | None:
    data = cache.get(key)
    return None if data is None else Binary.kept(cache, key, data)


def _tell_of_changes(shop: Workshop) -> None:
    files = shop.revision.changed
    if files:
        named = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        words = (
            f"{named}: changed and not committed, so REV is {shop.revision.name}, and nobody else gets these digests"
        )
        shop.release.report(words)


def leave_binaries(shop: Workshop, program: Program, found: Binaries) -> list[Made]:
    """`bin/NAME-A` for every arch, or none of them: raises CompileError, or ElfError for one that is not its row's."""
    results(found.values())
    for arch, binary in found.items():
        elf.check(binary.result().read(), arch.elf, binary_path(program.name, arch))
    return [leave_binary(shop, program, arch, binary.result()) for arch, binary in found.items()]


def finish_images(shop: Workshop, found: Binaries, pool: Executor) -> Mapping[Arch, Outcome[Image]]:
    """The image of every arch, from its binary, which is left in `bin` once it has proved to be its row's.

    They raise CompileError, ElfError or ImageError.
    """

    tell = shop.release.tell

    def assembling(arch: Arch) -> Image:
        plan = image_plan(shop, arch)
        try:
            # While a compiler works there is time for this; with no compiler there is a cached image as a rule.
            recipe = None if found[arch].is_there else recipe_of(plan)
            binary = found[arch].result()
            tell(arch, IMAGE)
            image = assembled(plan, binary, shop.cache, recipe)
            leave_binary(shop, shop.program(), arch, binary)
        except BaseException:
            tell(arch, FAILED)
            raise
        tell(arch, DONE)
        return image

    return dict(zip(found, begun_in_turn(pool, 1, assembling, found), strict=True))


def all_images(found: Binaries, images: Mapping[Arch, Outcome[Image]]) -> list[Image]:
    """Every image, once all are finished; a failed compilation explains more than what followed from it."""
    results(found.values())
    return results(images.values())


def leave_archives(shop: Workshop, found: Binaries, images: Sequence[Image]) -> list[Made]:
    """`bin/NAME-A.tar` for every arch: its image, which loads under the name that it is published as."""
    release = shop.release
    made = []
    for arch, image in zip(release.arches, images, strict=True):
        name = f"{loadable_name(shop, arch)}:{release.tag}"
        packed = archive.write([archive.Entry(image, name, release.tag)], shop.revision.time)

        def needed(before: Collection[str], arch: Arch = arch, name: str = name) -> Ingredients:
            used = image_ingredients(image_plan(shop, arch), found[arch].result(), shop.cache, before)
            return replace(used, settings={**used.settings, "it loads as": name})

        path = binary_path(release.image.name, arch) + ".tar"
        made.append(_leave(shop, path, packed, image.digest, arch, needed))
    return made


def loadable_name(shop: Workshop, arch: Arch) -> str:
    """What an arch's image is called in a daemon or a container engine, without its tag."""
    repository = shop.release.arch_tag(arch).repository
    return repository.name.rpartition("/")[2] if repository.on_disk else str(repository)


def leave_binary(shop: Workshop, program: Program, arch: Arch, binary: Binary) -> Made:
    """`bin/NAME-A`; the binary has proved to be its row's."""

    def needed(_: Collection[str]) -> Ingredients:
        found = ingredients(shop.root, program, [arch], shop.compiler)[arch]
        # Users know TAG and REV, of which VERSION is made.
        settings = {"TAG": shop.release.tag, "REV": shop.revision.name, **found.settings}
        return replace(found, settings={name: value for name, value in settings.items() if name != "VERSION"})

    path = binary_path(program.name, arch)
    return _leave(shop, path, binary.read(), binary.digest, arch, needed, mode=0o777)


Needed = Callable[[Collection[str]], Ingredients]


def _leave(shop: Workshop, path: str, data: bytes, digest: str, arch: Arch, needed: Needed, mode: int = 0o666) -> Made:
    """Write a file unless it is there, and note what it was made from, as `needed` tells of the files of before."""
    target = shop.root / path
    if not differs(target, data, mode):
        return Made(path, digest, str(arch.platform), "kept")
    before = remembered(shop.cache, path)
    now = needed(before.files if before else ())
    why = changes(before, now) or (f"{path} {'is another' if target.exists() else 'is not there'}",)
    if not shop.release.dry:
        write_whole(target, data, mode)
        remember(shop.cache, path, now)
    return Made(path, digest, str(arch.platform), "made", why)


def image_plan(shop: Workshop, arch: Arch) -> Plan:
    """What an arch's image is made from, but for its binary."""
    release = shop.release
    path = binary_path(release.image.name, arch)
    return Plan(shop.root, release.image, arch, release.tag, shop.revision, shop.form, path)


def binary_path(program: str, arch: Arch) -> str:
    """Where a program's binary lies, seen from the checkout."""
    return f"{BIN}/{program}-{arch.name}"
