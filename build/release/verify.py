"""Runs every arch the way pods do, and optionally keeps tags from moving until all checks have passed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from secrets import token_hex

from build.compilers.compiler import Program
from build.config.arches import Arch, Expected
from build.engines.engine import Built
from build.errors import all_of
from build.release.build import Binaries, Build, Images, imaging, prepare
from build.release.compile import compiling
from build.release.side_by_side import each_separately
from build.report import Event, indented
from build.verify.driver import Driver, Method, Subject
from build.verify.verdicts import Verdict, plain, refuse
from build.verify.verify import methods, run_checks, unverified

# The companion that creates orphaned processes.
ORPHAN = "orphan"
# The check that runs it.
ORPHAN_CHECK = "orphans"


@dataclass(frozen=True)
class Verification:
    """The driver that runs programs, the sources of `orphan`, and whether arches that can't be run here may pass."""

    driver: Callable[[], Driver]
    orphan: tuple[str, ...]
    allow_not_run: bool


async def verify(builds: Sequence[Build], verification: Verification) -> list[Verdict]:
    """Build every image and run all checks on every arch, one image after another."""
    await prepare(builds)
    one_at_a_time = asyncio.Lock()  # the checks of two images would slow each other down
    async with compiling({b: [b.program()] for b in builds}) as binaries, imaging(builds, binaries) as images:

        async def verified(build: Build) -> list[Verdict]:
            await all_of(images[build].values())
            async with one_at_a_time:
                return await _checked(build, verification, images[build])

        parts = {build.release.image.name: verified(build) for build in builds}
        return await each_separately("images", parts, builds[0].report)


def gate(
    build: Build, verification: Verification, images: Images, one_at_a_time: asyncio.Lock
) -> Callable[[], Awaitable[None]]:
    """A condition for publishing: it raises VerifyError unless every arch passes. The programs run only once."""
    runs: list[list[Verdict]] = []

    def progress(event: str | Event) -> None:
        """The results of the run are tags."""
        build.report(event if isinstance(event, str) else replace(event, result=None))

    async def passed() -> None:
        async with one_at_a_time:
            if not runs:
                runs.append(await _checked(replace(build, report=progress), verification, images))
                if runs[0]:
                    build.report(f"{build.release.image.name}, run the way pods do:\n  {indented(plain(runs[0]))}")
        refuse(runs[0], verification.allow_not_run)

    return passed


async def _checked(build: Build, verification: Verification, images: Images) -> list[Verdict]:
    image, expected = build.release.image.name, build.release.image.verify
    if expected is None:
        build.report(f"{image}: not run, because its row in arches.yaml asks for no checks (key verify)")
        return []
    driver = verification.driver()
    found = methods(driver, build.arches)
    runnable = [arch for arch, method in found.items() if isinstance(method, Method)]
    if build.dry:
        return unverified(image, found)
    orphan = build.compiled(ORPHAN, verification.orphan)
    clean = replace(build, revision=replace(build.revision, changed=()))  # uncommitted changes were reported before
    async with compiling({clean: [orphan] if ORPHAN_CHECK in expected.checks else []}) as orphans:
        built = dict(zip(runnable, await all_of(images[arch] for arch in runnable), strict=True))
        subjects = {arch: await _subject(build, expected, arch, built[arch], orphans, orphan) for arch in runnable}
    return await run_checks(image, driver, found, subjects, build.report)


async def _subject(
    build: Build, expected: Expected, arch: Arch, built: Built, orphans: Binaries, orphan: Program
) -> Subject:
    name = f"localhost/verify-{token_hex(6)}:{arch.name}"
    return Subject(
        arch,
        built.binary.data,
        expected.version.replace("{version}", build.version),
        (await orphans[orphan, arch]).data if (orphan, arch) in orphans else b"",
        partial(build.engine.archive, built, name),
        expected.checks,
    )
