"""Every arch run as pods run it: each check of each program, by a driver, before it is published."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from secrets import token_hex
from threading import Lock

from build.config.arches import Arch
from build.errors import BuildError
from build.report import DONE, FAILED, VERIFY
from build.oci.image import Image
from build.release.build import Binaries, all_images, binaries, finish_images
from build.release.crew import results, side_by_side
from build.release.everywhere import in_each
from build.release.outcomes import Outcome
from build.release.release import ORPHAN, Made, Verifying, Workshop
from build.stores.archive import Entry, write
from build.verify.driver import Driver, NotRunError, Subject, Way
from build.verify.processes import Watch
from build.verify.trials import CHECKS, FailedError, Trial
from build.verify.verdicts import Finding, Verdict, plain, refuse

# The checks of several images would slow each other down, and some are held to a time.
_ONE_AT_A_TIME = Lock()
Packed = Callable[[Arch], bytes]
Gate = Callable[[], None]


def verify(shops: Sequence[Workshop], wanted: Verifying) -> list[Verdict]:
    """Build what is to be published, and run all checks on every arch, one image after another.

    Raises what `build` raises, and BuildError.
    """
    with ThreadPoolExecutor(1) as finisher, binaries(shops, [shop.program() for shop in shops]) as found:

        def verified(shop: Workshop) -> list[Verdict]:
            compiled = found[shop.program()]
            if shop.daemon:
                from build.engines.docker import build_images

                packed = saved(shop, build_images(shop, shop.daemon, compiled))
            else:
                images = finish_images(shop, compiled, finisher)
                all_images(compiled, images)
                packed = archived(shop, images)
            with trying(shop, wanted, compiled, packed) as verdicts:
                return verdicts()

        return in_each(shops, verified)


@contextmanager
def gate(shop: Workshop, wanted: Verifying, found: Binaries, packed: Packed) -> Iterator[Gate]:
    """What raises VerifyError unless every arch passes. However often it is asked, from any thread, they run once."""
    with trying(shop, wanted, found, packed) as verdicts:

        @cache
        def once() -> list[Verdict]:
            ran = verdicts()
            shop.release.report(f"{shop.release.image.name}, run as pods run it:\n{plain(ran)}")
            return ran

        def gate() -> None:
            with _ONE_AT_A_TIME:
                ran = once()
            refuse(ran, wanted.allow_not_run)

        yield gate


@contextmanager
def trying(shop: Workshop, wanted: Verifying, found: Binaries, packed: Packed) -> Iterator[Callable[[], list[Verdict]]]:
    """What runs all checks. When the context ends, also a sudden end, so does what still runs."""
    watch = Watch()
    try:
        yield partial(_try_all, shop, wanted.driver(), wanted.orphan, found, packed, watch)
    finally:
        watch.stop.set()


def archived(shop: Workshop, images: Mapping[Arch, Outcome[Image]]) -> Packed:
    """An archive with the image of an arch, under a name that nobody else has."""
    name = f"localhost/verify-{token_hex(6)}"

    def packed(arch: Arch) -> bytes:
        return write([Entry(images[arch].result(), f"{name}:{arch.name}", arch.name)], shop.revision.time)

    return packed


def saved(shop: Workshop, made: Sequence[Made]) -> Packed:
    """An archive with the image of an arch out of the daemon, under no name."""
    named = dict(zip(shop.release.arches, made, strict=True))

    def packed(arch: Arch) -> bytes:
        from build.daemon.client import explained

        image = named[arch]
        if shop.daemon is None or image.digest is None:
            raise BuildError(f"{image.name}: the daemon has yet to build it")
        with explained(f"{image.name}: docker save"):
            return b"".join(shop.daemon.client().get_image(image.digest))

    return packed


def _try_all(
    shop: Workshop, driver: Driver, orphan: tuple[str, ...], found: Binaries, packed: Packed, watch: Watch
) -> list[Verdict]:
    image = shop.release.image.name
    ways = {arch: _way(driver, arch) for arch in shop.release.arches}
    runnable = [arch for arch, way in ways.items() if isinstance(way, Way)]
    if shop.release.dry:
        return [
            _not_run(image, arch, way) if isinstance(way, str) else Verdict(arch.name, way.name, image=image)
            for arch, way in ways.items()
        ]
    subjects = _subjects(shop, orphan, runnable, found, packed)
    if runnable:
        driver.prepare()

    def tried(arch: Arch) -> Verdict:
        way = ways[arch]
        if isinstance(way, str):
            return _not_run(image, arch, way)
        shop.release.tell(arch, VERIFY)
        verdict = replace(try_one(subjects[arch], driver, watch), image=image)
        failed = ", ".join(each.check for each in verdict.failures)
        words = f"{arch.name}: {'failed: ' + failed if failed else 'passed'} ({way.name})"
        shop.release.tell(arch, FAILED if failed else DONE, words)
        return verdict

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            return side_by_side(pool, tried, ways)
        except BaseException:
            watch.stop.set()  # before the pool waits for those who still try
            raise


def try_one(subject: Subject, driver: Driver, watch: Watch, patience: float = 10.0) -> Verdict:
    """All checks of one arch; each waits `patience` seconds for what a sound program does at once."""
    findings, way = [], driver.way(subject.arch)
    with driver.site(subject, watch) as site:
        trial = Trial(subject, site, way, driver.direct, watch, patience)
        for name, check in CHECKS.items():
            try:
                findings.append(Finding(name, True, check(trial)))
            except FailedError as error:
                findings.append(Finding(name, False, str(error)))
                if name == "cpu":
                    break  # what it does is no news of this arch
    return Verdict(subject.arch.name, way.name, tuple(findings))


def _subjects(
    shop: Workshop, sources: tuple[str, ...], arches: Sequence[Arch], found: Binaries, packed: Packed
) -> dict[Arch, Subject]:
    orphan = replace(shop.program(), name=ORPHAN, sources=sources)
    heard = replace(shop, revision=replace(shop.revision, changed=()))
    with binaries([heard], [orphan]) as orphans:
        results(orphans[orphan].values())
        version = shop.program().version
        return {
            arch: Subject(
                arch,
                found[arch].result().read(),
                version,
                orphans[orphan][arch].result().read(),
                partial(packed, arch),
            )
            for arch in arches
        }


def _way(driver: Driver, arch: Arch) -> Way | str:
    try:
        return driver.way(arch)
    except NotRunError as error:
        return str(error)


def _not_run(image: str, arch: Arch, why: str) -> Verdict:
    return Verdict(arch.name, None, hint=why, image=image)
