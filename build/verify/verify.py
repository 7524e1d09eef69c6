"""Runs every arch of an image as pods run it: all checks of each program, several arches at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

from build.config.arches import Arch
from build.report import DONE, FAILED, VERIFY, Event, Report
from build.verify.driver import Driver, Method, NotRunError, Subject
from build.verify.trials import CHECKS, FailedError, Trial
from build.verify.verdicts import Finding, Verdict
from build.verify.wine import trials as wine


def methods(driver: Driver, arches: Iterable[Arch]) -> dict[Arch, Method | str]:
    """How programs of each arch run here, or why they can't be run."""
    found: dict[Arch, Method | str] = {}
    for arch in arches:
        try:
            found[arch] = driver.method(arch)
        except NotRunError as error:
            found[arch] = str(error)
    return found


def unverified(image: str, methods: Mapping[Arch, Method | str]) -> list[Verdict]:
    """The verdicts of a dry run: how each arch would be run, and no findings."""
    return [
        Verdict(arch.name, None, hint=method, image=image, platform=str(arch.platform))
        if isinstance(method, str)
        else Verdict(arch.name, method.name, image=image, platform=str(arch.platform))
        for arch, method in methods.items()
    ]


async def run_checks(
    image: str,
    driver: Driver,
    methods: Mapping[Arch, Method | str],
    subjects: Mapping[Arch, Subject],
    report: Report,
) -> list[Verdict]:
    """Run all checks on every arch that has a method, as many arches at a time as there are CPUs.

    The verdicts are in the order of `methods`. Raises BuildError if the driver fails; a program that fails a check is
    only a verdict.
    """
    verdicts = {verdict.arch: verdict for verdict in unverified(image, methods)}
    running = asyncio.Semaphore(os.cpu_count() or 1)

    async def verify(arch: Arch) -> None:
        async with running:
            report(Event(image=image, arch=arch.name, stage=VERIFY))
            verdict = replace(await check_arch(subjects[arch], driver), image=image, platform=str(arch.platform))
        verdicts[arch.name] = verdict
        failed = ", ".join(finding.check for finding in verdict.failures)
        text = f"{arch.name}: {f'failed: {failed}' if failed else 'passed'} ({verdict.way})"
        report(Event(text, image, arch.name, FAILED if failed else DONE, result=verdict))

    runnable = [arch for arch, method in methods.items() if isinstance(method, Method)]
    if runnable:
        await driver.prepare()
    try:
        async with asyncio.TaskGroup() as group:
            for arch in runnable:
                group.create_task(verify(arch))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return list(verdicts.values())


async def check_arch(subject: Subject, driver: Driver, patience: float = 10.0) -> Verdict:
    """Run all checks on one arch; each waits `patience` seconds for what a correct program does at once."""
    findings, method = [], driver.method(subject.arch)
    async with driver.site(subject) as site:
        trial = Trial(subject, site, method, driver.direct, patience)
        checks = wine.CHECKS if subject.arch.platform.is_windows else CHECKS
        for name in (each for each in subject.checks if each in checks):
            try:
                findings.append(Finding(name, True, *await checks[name](trial)))
            except FailedError as error:
                findings.append(Finding(name, False, " ".join(str(error).split())))
                if name == "cpu":
                    break  # the other checks would run a program of another arch
    return Verdict(subject.arch.name, method.name, tuple(findings))
