"""Proves what is published, whoever made it and wherever it is, from its bytes.

All faults are found before the first is reported, and all are reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from build.config.release import Release
from build.errors import ImageError, PublishError, all_of
from build.oci.descriptor import Descriptor
from build.oci.media_types import INDEXES, LARGEST_MANIFEST, MANIFESTS
from build.oci.parse import parse_manifest
from build.oci.platform import Platform
from build.oci.reference import Reference
from build.release.prove import Finding, Proof, Subject, prove
from build.report import Event, Report, Result
from build.stores.store import Source

# Lists within lists, and manifests below one list.
_DEEPEST, _MOST_MANIFESTS = 4, 1000
# Images that are proved at the same time: each needs disk space for its layers.
_AT_ONCE = 4
# The labels that all images of a release have in common.
_RELEASE_LABELS = ("org.opencontainers.image.version", "org.opencontainers.image.revision")


@dataclass(frozen=True)
class _Survey:
    """What a reference leads to: lists, outermost first, images, and the findings so far."""

    lists: list[Result] = field(default_factory=list)
    subjects: list[Subject] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


async def check_reference(source: Source, reference: Reference, report: Report, scratch: Path) -> list[Result]:
    """Prove the list or the image that `reference` names. Raises ImageError with every fault."""
    survey = await _survey(source, reference)
    proofs = await _proofs(survey.subjects, scratch)
    findings = [*survey.findings, *await _moved(source, reference), *_findings(proofs)]
    return _concluded([*survey.lists, *_results(proofs)], findings, report)


async def check_release(release: Release, source: Source, report: Report, scratch: Path) -> list[Result]:
    """Prove the manifest list and the image of every arch, and that the list contains exactly those images.

    Raises ImageError with every fault.
    """
    tags = [release.list_tag(), *map(release.arch_tag, release.arches)]
    references = [Reference(tag.repository, tag.name) for tag in tags]
    listed, *alone = await all_of(_survey(source, reference) for reference in references)
    findings = [each for survey in (listed, *alone) for each in survey.findings]
    findings += [
        Finding(str(reference), f"found {'a list' if survey.lists else 'an image'}, expected {expected}")
        for reference, survey, expected in zip(
            references, (listed, *alone), ("a list", *("an image" for _ in alone)), strict=True
        )
        if (survey.lists or survey.subjects) and bool(survey.lists) != (expected == "a list")
    ]
    # An image that matches its row in its own repository must do so in the list's repository, too.
    rows = {arch.platform: arch for arch in release.arches}
    of_list = [replace(each, arch=rows.get(each.listed) if each.listed else None) for each in listed.subjects]
    of_rows = [
        replace(each, arch=arch)
        for arch, survey in zip(release.arches, alone, strict=True)
        for each in survey.subjects
        if not survey.lists
    ]
    proofs = await _proofs([*of_list, *of_rows], scratch)
    findings += [*_findings(proofs), *_another_release(proofs)]
    if listed.lists:
        findings += _not_the_same(str(references[0]), of_list, of_rows)
    return _concluded([*listed.lists, *_results(proofs[len(of_list) :])], findings, report)


async def _proofs(subjects: Iterable[Subject], scratch: Path) -> list[Proof]:
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def proved(subject: Subject) -> Proof:
        async with at_once:
            with TemporaryDirectory(dir=scratch) as spool:
                return await prove(subject, Path(spool))

    return await all_of(map(proved, subjects))


async def _survey(source: Source, reference: Reference) -> _Survey:
    survey = _Survey()
    await _descend(source, reference, survey)
    return survey


async def _descend(
    source: Source, reference: Reference, survey: _Survey, below: Descriptor | None = None, depth: int = 0
) -> None:
    """Read a manifest and, if it is a list, what is below it; `below` is the entry of the list that led here."""
    name = str(replace(reference, digest="")) if below is None else str(reference.repository)
    where = str(reference)
    try:
        if below is not None and below.size > LARGEST_MANIFEST:
            raise ImageError(f"size: found {below.size} bytes, expected {LARGEST_MANIFEST} at most for a manifest")
        manifest = await source.manifest(reference.repository, reference.wanted)
        if manifest is None:
            raise ImageError("not found")
        where = f"{name}@{manifest.digest}"
        if len(manifest.data) > LARGEST_MANIFEST:
            raise ImageError(f"size: found {len(manifest.data)} bytes, expected {LARGEST_MANIFEST} at most")
        if below is not None and below.size != len(manifest.data):
            raise ImageError(f"size: found {len(manifest.data)} bytes, expected {below.size} as the list says")
        parsed = parse_manifest(manifest.data, below.media_type if below else manifest.media_type)
    except (ImageError, PublishError) as error:
        survey.findings.append(Finding(where, str(error)))
        return
    if not isinstance(parsed, tuple):
        platform = below.platform if below else None
        survey.subjects.append(Subject(source, reference.repository, name, manifest.digest, parsed, platform))
        return
    survey.lists.append(Result(name, manifest.digest, None, "verified"))
    if depth == _DEEPEST:
        survey.findings.append(Finding(where, f"a list {depth} lists deep: expected less"))
        return
    for entry in parsed:
        await _follow(source, Reference(reference.repository, "", entry.digest), survey, entry, depth + 1)
    survey.findings.extend(_ambiguous(where, parsed))


async def _follow(source: Source, reference: Reference, survey: _Survey, entry: Descriptor, depth: int) -> None:
    if entry.media_type not in INDEXES | MANIFESTS:
        text = f"{entry.media_type}: unknown media type: nothing is proved"
        survey.findings.append(Finding(str(reference), text, fault=False))
        return
    if entry.platform is None and entry.media_type in MANIFESTS:
        text = "the list's entry has no platform: only config and program are compared"
        survey.findings.append(Finding(str(reference), text, fault=False))
    key = f"{entry.digest} {entry.platform} {entry.size} {entry.media_type}"
    if key in survey.seen:
        return
    survey.seen.add(key)
    if len(survey.seen) <= _MOST_MANIFESTS:
        await _descend(source, reference, survey, entry, depth)
    elif len(survey.seen) == _MOST_MANIFESTS + 1:
        survey.findings.append(Finding(str(reference), f"more than {_MOST_MANIFESTS} manifests below one list"))


def _ambiguous(where: str, entries: Iterable[Descriptor]) -> Iterable[Finding]:
    """Platforms that occur twice in a list, except Windows, whose entries differ in `os.version`."""
    named: dict[Platform, set[str]] = {}
    for entry in entries:
        if entry.platform and entry.platform.os not in ("unknown", "windows"):
            named.setdefault(entry.platform, set()).add(entry.digest)
    for platform, digests in named.items():
        if len(digests) > 1:
            yield Finding(where, f"{len(digests)} images for {platform}: readers may take either", False)


async def _moved(source: Source, reference: Reference) -> list[Finding]:
    """Given both a tag and a digest, whether the tag still refers to the digest, which is not a fault of the image."""
    if not (reference.tag and reference.digest):
        return []
    name = f"{reference.repository}:{reference.tag}"
    try:
        found = await source.digest(reference.repository, reference.tag)
    except PublishError as error:
        return [Finding(name, str(error), fault=False)]
    if found == reference.digest:
        return []
    text = f"the tag now refers to {found or 'nothing'}; what is proved is the digest"
    return [Finding(name, text, fault=False)]


def _findings(proofs: Iterable[Proof]) -> list[Finding]:
    return [finding for proof in proofs for finding in proof.findings]


def _results(proofs: Iterable[Proof]) -> list[Result]:
    """A result for every image that has a platform."""
    return [
        Result(proof.subject.name, proof.subject.digest, str(proof.config.platform), "verified")
        for proof in proofs
        if proof.config
    ]


def _not_the_same(name: str, listed: Sequence[Subject], alone: Sequence[Subject]) -> Iterable[Finding]:
    """Where a list and the images of the arches differ: a mixture of two releases, or an additional image."""
    held = {each.listed: each.digest for each in listed}
    for each in alone:
        if each.arch:
            found = held.pop(each.arch.platform, None)
            if found != each.digest:
                text = f"{each.arch.platform}: found {found or 'no entry'}, expected {each.digest} as {each.name} is"
                yield Finding(
                    name, f"{text}\n  is it a mixture of two releases? publish the list again: invoke push-manifest"
                )
    for platform, digest in held.items():
        yield Finding(name, f"{platform or 'no platform'}: found {digest}, expected no entry besides the release's")


def _another_release(proofs: Iterable[Proof]) -> Iterable[Finding]:
    """Images whose labels name different releases."""
    for label in _RELEASE_LABELS:
        named: dict[str, list[str]] = {}
        for proof in proofs:
            if proof.config and proof.subject.arch:
                value = proof.config.labels.get(label, "none")
                named.setdefault(value, []).append(f"{proof.subject.name}@{proof.subject.digest}")
        if len(named) > 1:
            usual = max(named, key=lambda value: len(named[value]))
            for value, names in named.items():
                for name in names if value != usual else ():
                    yield Finding(name, f"label {label}: found {value!a}, expected {usual!a} as in the other images")


def _concluded(results: list[Result], findings: Iterable[Finding], report: Report) -> list[Result]:
    """Report what is not proved, and raise ImageError if there are faults."""
    distinct = list(dict.fromkeys(findings))
    for finding in distinct:
        if not finding.fault:
            report(Event(f"note: {finding}", note=True))
    faults = [str(finding).replace("\n", "\n  ") for finding in distinct if finding.fault]
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ImageError("\n  ".join([f"{count} in what is published", *faults]))
    return results
