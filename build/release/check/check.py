"""Checks published images and manifest lists byte by byte, whoever published them, and reports all faults at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from build.attest.keys.keys import PublicKey
from build.config.release import Release
from build.errors import ImageError, PublishError, all_of, once
from build.oci.descriptor import Descriptor
from build.oci.media_types import ARTIFACT, INDEXES, LARGEST_MANIFEST, MANIFESTS
from build.oci.parse import parse_artifact, parse_manifest
from build.oci.platform import UNKNOWN
from build.oci.reference import Reference, Repository
from build.oci.referrer import is_referrers_tag
from build.release.check.attached import Target, check_attached, without_notes
from build.release.check.differences import arch_of_entry, differences, duplicate_platforms, label_differences
from build.release.check.further import check_further, tag_notes
from build.release.check.prove import Finding, Proof, Subject, prove
from build.release.publish.sign import AnyResult
from build.report import Event, Report, Result
from build.stores.store import Listing, Source

# Nested lists, and manifests in one list.
_DEEPEST, _MOST_MANIFESTS = 4, 1000
# Images that are checked at the same time: each needs disk space for its layers.
_CONCURRENT = 4


@dataclass(frozen=True)
class _Survey:
    """The lists, outermost first, and images that a reference leads to, and the findings so far."""

    lists: list[Result] = field(default_factory=list)
    subjects: list[Subject] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    @property
    def digest(self) -> str:
        """The digest that the reference leads to first, empty if nothing can be read there."""
        return next(iter(self.digests), "")

    @property
    def digests(self) -> list[str]:
        """All digests that it leads to: of lists, and of images and artifacts."""
        return [*filter(None, [*(each.digest for each in self.lists), *(each.digest for each in self.subjects)])]


async def check_reference(
    source: Source,
    reference: Reference,
    report: Report,
    scratch: Path,
    key: PublicKey | None = None,
    *,
    referrers: bool = True,
) -> list[AnyResult]:
    """Check the list, the image or the artifact that `reference` refers to, or everything in a layout or an archive.

    With `key`, lists and images have to be signed by it. Without `referrers`, what refers to them is not looked at.
    Raises ImageError with all faults.
    """
    references = [reference]
    if not reference.wanted and isinstance(source, Listing):
        references = await source.references(reference.repository) or references
    surveys = await all_of(_survey(source, each) for each in references)
    targets = _targets(surveys) if referrers else []
    signed, attached = await check_attached(source, targets, key, scratch)
    lists = [each for survey in surveys for each in survey.lists]
    listed = {subject.digest for survey in surveys if survey.lists for subject in survey.subjects}
    proofs = await _proofs((subject for survey in surveys for subject in survey.subjects), scratch)
    findings = [finding for survey in surveys for finding in survey.findings]
    by_tag = [(each.tag, survey.digests) for each, survey in zip(references, surveys, strict=True)]
    findings += [*await tag_notes(source, reference), *without_notes(proofs, by_tag), *attached]
    artifacts = [each.subject for each in proofs if not each.config and each.subject.digest not in listed]
    proved = [Result(each.name, each.digest, None, "verified") for each in artifacts]
    return _conclude([*lists, *proved, *_results(proofs), *signed], findings, report)


async def check_release(
    release: Release, source: Source, report: Report, scratch: Path, key: PublicKey | None = None
) -> list[AnyResult]:
    """Check the manifest list and the image of every arch, and that the list has exactly those images.

    With `key`, they have to be signed by it in the repository of the list. Raises ImageError with all faults.
    """
    tags = [release.list_tag(), *map(release.arch_tag, release.arches)]
    references = [Reference(tag.repository, tag.name) for tag in tags]
    listed, *by_arch = await all_of(_survey(source, reference) for reference in references)
    findings = [each for survey in (listed, *by_arch) for each in survey.findings]
    findings += [
        Finding(str(reference), f"found {'a list' if survey.lists else 'an image'}, expected {expected}")
        for reference, survey, expected in zip(
            references, (listed, *by_arch), ("a list", *("an image" for _ in by_arch)), strict=True
        )
        if (survey.lists or survey.subjects)
        and (not survey.lists if expected == "a list" else survey.lists and not _of_arch(survey))
    ]
    # The images in the list's repository are checked against their arches too, not only those in their own.
    in_arches = [
        replace(each, arch=arch)
        for arch, survey in zip(release.arches, by_arch, strict=True)
        for each in _of_arch(survey)
    ]
    in_list = [replace(each, arch=arch_of_entry(each, in_arches, release.arches)) for each in listed.subjects]
    attestations = [each for survey in by_arch for each in survey.subjects if each.listed == UNKNOWN]
    proofs = await _proofs([*in_list, *in_arches, *attestations], scratch)
    findings += [*_findings(proofs), *label_differences(proofs)]
    if listed.lists:
        findings += differences(str(references[0]), in_list, in_arches)
    further, faults = await check_further(release, source, [each.digest for each in (listed, *by_arch)])
    signed, attached = await check_attached(source, _targets([listed]), key, scratch)
    results: list[AnyResult] = [*listed.lists, *_results(proofs[len(in_list) :]), *further, *signed]
    return _conclude(results, [*findings, *faults, *attached], report)


def _targets(surveys: Iterable[_Survey]) -> list[Target]:
    """The lists and images that may be signed, each once; not artifacts, which are what is attached."""
    found = dict[tuple[Repository, str], Target]()
    for survey in surveys:
        for listed in survey.lists:
            if listed.place and listed.digest and not is_referrers_tag(listed.place.tag):
                repository = Repository(listed.place.registry, listed.place.repository)
                found[repository, listed.digest] = Target(repository, listed.digest, None)
        for each in survey.subjects:
            if not each.manifest.artifact and each.listed != UNKNOWN:
                found[each.repository, each.digest] = Target(each.repository, each.digest, str(each.listed or "image"))
    return [*found.values()]


def _of_arch(survey: _Survey) -> list[Subject]:
    """What an arch's tag leads to: an image, or a list of one image and BuildKit's attestations for it."""
    if not survey.lists:
        return survey.subjects
    images = [each for each in survey.subjects if each.listed != UNKNOWN]
    return images if len(survey.lists) == 1 == len(images) < len(survey.subjects) else []


async def _proofs(subjects: Iterable[Subject], scratch: Path) -> list[Proof]:
    slots = asyncio.Semaphore(_CONCURRENT)

    async def proved(subject: Subject) -> Proof:
        async with slots:
            with TemporaryDirectory(dir=scratch) as spool:
                return await prove(subject, Path(spool))

    return await all_of(map(proved, subjects))


async def _survey(source: Source, reference: Reference) -> _Survey:
    survey = _Survey()
    await _descend(source, reference, survey)
    return survey


async def _descend(
    source: Source, reference: Reference, survey: _Survey, entry: Descriptor | None = None, depth: int = 0
) -> None:
    """Read a manifest and, if it is a list, its entries; `entry` is the entry of the list that led here."""
    tag = "" if entry else reference.tag
    name = f"{reference.repository}:{tag}" if tag else str(reference.repository)
    where = str(reference)
    try:
        if entry is not None and entry.size > LARGEST_MANIFEST:
            raise ImageError(f"size: found {entry.size} bytes, expected at most {LARGEST_MANIFEST} for a manifest")
        manifest = await source.manifest(reference.repository, reference.wanted)
        if manifest is None:
            raise ImageError("not found")
        where = f"{name}@{manifest.digest}"
        if len(manifest.data) > LARGEST_MANIFEST:
            raise ImageError(f"size: found {len(manifest.data)} bytes, expected at most {LARGEST_MANIFEST}")
        if entry is not None and entry.size != len(manifest.data):
            raise ImageError(f"size: found {len(manifest.data)} bytes, expected {entry.size} as in the list")
        media_type = entry.media_type if entry else manifest.media_type
        is_artifact = media_type == ARTIFACT
        parsed = parse_artifact(manifest.data) if is_artifact else parse_manifest(manifest.data, media_type)
    except (ImageError, PublishError) as error:
        survey.findings.append(Finding(where, str(error), reason=error.reason))
        return
    if not isinstance(parsed, tuple):
        if entry and entry.platform is None and not parsed.artifact:
            text = "the list's entry has no platform: only config and program are checked"
            survey.findings.append(Finding(where, text, fault=False))
        platform = entry.platform if entry else None
        survey.subjects.append(Subject(source, reference.repository, name, manifest.digest, parsed, platform, tag=tag))
        return
    place = replace(reference, tag=tag).place
    survey.lists.append(Result(name, manifest.digest, None, "verified", place=place))
    if depth == _DEEPEST:
        survey.findings.append(Finding(where, f"found {depth + 1} nested lists, expected at most {_DEEPEST}"))
        return
    for child in parsed:
        await _follow(source, Reference(reference.repository, "", child.digest), survey, child, depth + 1)
    survey.findings.extend(duplicate_platforms(where, parsed))


async def _follow(source: Source, reference: Reference, survey: _Survey, entry: Descriptor, depth: int) -> None:
    if entry.media_type not in INDEXES | MANIFESTS | {ARTIFACT}:
        text = f"{entry.media_type}: unknown media type: not checked"
        survey.findings.append(Finding(str(reference), text, fault=False))
        return
    key = f"{entry.digest} {entry.platform} {entry.size} {entry.media_type}"
    if key in survey.seen:
        return
    survey.seen.add(key)
    if len(survey.seen) <= _MOST_MANIFESTS:
        await _descend(source, reference, survey, entry, depth)
    elif len(survey.seen) == _MOST_MANIFESTS + 1:
        survey.findings.append(Finding(str(reference), f"more than {_MOST_MANIFESTS} manifests in one list"))


def _findings(proofs: Iterable[Proof]) -> list[Finding]:
    return [finding for proof in proofs for finding in proof.findings]


def _results(proofs: Iterable[Proof]) -> list[Result]:
    """A result for every image that has a platform."""
    return [
        Result(
            each.name,
            each.digest,
            str(config.platform),
            "verified",
            arch=each.arch.name if each.arch else None,
            place=Reference(each.repository, each.tag).place,
        )
        for each, config in ((proof.subject, proof.config) for proof in proofs)
        if config
    ]


def _conclude(results: list[AnyResult], findings: Iterable[Finding], report: Report) -> list[AnyResult]:
    """Report the notes and the results, and raise ImageError if there are faults."""
    distinct = list(dict.fromkeys(findings))
    for finding in distinct:
        if not finding.fault:
            report(Event(f"note: {finding}", note=True))
    faults = [finding for finding in distinct if finding.fault]
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        told = once((each.reason or str(each), str(each)) for each in faults)
        raise ImageError("\n".join([f"{count} in what is published", *told]).replace("\n", "\n  "))
    for result in results:
        report(Event(result=result))
    return results
