"""Is what is published what it says? Fetched again and proved, whoever made it and wherever it is.

All faults are found before any is told, and all are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

from build.errors import ImageError, PublishError
from build.report import Event, Report
from build.oci.descriptor import Blob, Descriptor
from build.oci.media_types import INDEXES, LARGEST_MANIFEST, MANIFESTS
from build.oci.platform import Platform
from build.oci.parse import read_manifest
from build.oci.reference import Reference, Repository
from build.release.crew import side_by_side
from build.release.prove import Finding, Proof, Subject, prove
from build.release.release import Made, Release
from build.release.senders import Senders, at_work
from build.stores.store import Sink

# Lists within lists, and manifests below one list: more than anybody publishes.
_DEEPEST, _MOST_MANIFESTS = 4, 1000
# Each may have a layer in memory, and layers can be large.
_PROVERS = 4
# Of one release all images have these in common.
_RELEASE_LABELS = ("org.opencontainers.image.version", "org.opencontainers.image.revision")


@dataclass(frozen=True)
class _Survey:
    """What a reference leads to: the lists, outermost first, the images, and what is wrong so far."""

    lists: list[Made] = field(default_factory=list)
    subjects: list[Subject] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Source:
    """A sink that is read from several threads; each waits for what it has asked for."""

    sink: Sink
    senders: Senders

    def manifest(self, reference: Reference) -> Blob | None:
        return self.senders.run(self.sink.manifest(reference.repository, reference.wanted))

    def digest(self, reference: Reference) -> str | None:
        return self.senders.run(self.sink.digest(reference.repository, reference.tag))

    def blobs(self, repository: Repository) -> Callable[[str, int], bytes]:
        return lambda digest, most: self.senders.run(self.sink.blob(repository, digest, most))


def check_reference(sink: Sink, reference: Reference, report: Report) -> list[Made]:
    """Prove the list or the image that `reference` names. Raises ImageError with every fault."""
    with _provers(sink) as (pool, source):
        survey = _survey(source, reference)
        proofs = side_by_side(pool, prove, survey.subjects)
        findings = [*survey.findings, *_moved(source, reference), *_findings(proofs)]
    return _concluded([*survey.lists, *_made(proofs)], findings, report)


def check_release(release: Release) -> list[Made]:
    """Prove the manifest list and the image of every arch, and that the list holds exactly those images.

    Raises ImageError with every fault.
    """
    with _provers(release.sink()) as (pool, source):
        return _check_release(release, pool, source)


def _check_release(release: Release, pool: Executor, source: _Source) -> list[Made]:
    tags = [release.list_tag(), *map(release.arch_tag, release.arches)]
    references = [Reference(tag.repository, tag.name) for tag in tags]
    listed, *alone = side_by_side(pool, lambda reference: _survey(source, reference), references)
    findings = [each for survey in (listed, *alone) for each in survey.findings]
    findings += [
        Finding(str(reference), f"found {'a list' if survey.lists else 'an image'}, expected {expected}")
        for reference, survey, expected in zip(
            references, (listed, *alone), ("a list", *("an image" for _ in alone)), strict=True
        )
        if (survey.lists or survey.subjects) and bool(survey.lists) != (expected == "a list")
    ]
    # An image that is its row's in its own repository must be there in the list's, too.
    rows = {arch.platform: arch for arch in release.arches}
    of_list = [replace(each, arch=rows.get(each.listed) if each.listed else None) for each in listed.subjects]
    of_rows = [
        replace(each, arch=arch)
        for arch, survey in zip(release.arches, alone, strict=True)
        for each in survey.subjects
        if not survey.lists
    ]
    proofs = side_by_side(pool, prove, [*of_list, *of_rows])
    findings += [*_findings(proofs), *_another_release(proofs)]
    if listed.lists:
        findings += _not_the_same(str(references[0]), of_list, of_rows)
    return _concluded([*listed.lists, *_made(proofs[len(of_list) :])], findings, release.report)


def _survey(source: _Source, reference: Reference) -> _Survey:
    survey = _Survey()
    _descend(source, reference, survey)
    return survey


def _descend(
    source: _Source, reference: Reference, survey: _Survey, below: Descriptor | None = None, depth: int = 0
) -> None:
    """Read a manifest, and if it is a list what is below it; `below` is the entry of the list that led here."""
    name = str(replace(reference, digest="")) if below is None else str(reference.repository)
    where = str(reference)
    try:
        if below is not None and below.size > LARGEST_MANIFEST:
            raise ImageError(f"size: found {below.size} bytes, expected {LARGEST_MANIFEST} at most for a manifest")
        manifest = source.manifest(reference)
        if manifest is None:
            raise ImageError("nothing is there under this name")
        where = f"{name}@{manifest.digest}"
        if len(manifest.data) > LARGEST_MANIFEST:
            raise ImageError(f"size: found {len(manifest.data)} bytes, expected {LARGEST_MANIFEST} at most")
        if below is not None and below.size != len(manifest.data):
            raise ImageError(f"size: found {len(manifest.data)} bytes, expected {below.size} as the list says")
        claims = read_manifest(manifest.data, below.media_type if below else manifest.media_type)
    except (ImageError, PublishError) as error:
        survey.findings.append(Finding(where, str(error)))
        return
    if not isinstance(claims, tuple):
        platform = below.platform if below else None
        survey.subjects.append(
            Subject(source.blobs(reference.repository), reference.repository, name, manifest.digest, claims, platform)
        )
        return
    survey.lists.append(Made(name, manifest.digest, None, "proved"))
    if depth == _DEEPEST:
        survey.findings.append(Finding(where, f"a list {depth} lists deep: expected less"))
        return
    for entry in claims:
        _follow(source, Reference(reference.repository, "", entry.digest), survey, entry, depth + 1)
    survey.findings.extend(_ambiguous(where, claims))


def _follow(source: _Source, reference: Reference, survey: _Survey, entry: Descriptor, depth: int) -> None:
    if entry.media_type not in INDEXES | MANIFESTS:
        text = f"{entry.media_type}: not known here, and nothing of it is proved"
        survey.findings.append(Finding(str(reference), text, fault=False))
        return
    if entry.platform is None and entry.media_type in MANIFESTS:
        text = "the list's entry names no platform: only config and program are compared"
        survey.findings.append(Finding(str(reference), text, fault=False))
    key = f"{entry.digest} {entry.platform} {entry.size} {entry.media_type}"
    if key in survey.seen:
        return
    survey.seen.add(key)
    if len(survey.seen) <= _MOST_MANIFESTS:
        _descend(source, reference, survey, entry, depth)
    elif len(survey.seen) == _MOST_MANIFESTS + 1:
        survey.findings.append(Finding(str(reference), f"more than {_MOST_MANIFESTS} manifests below one list"))


def _ambiguous(where: str, entries: Iterable[Descriptor]) -> Iterable[Finding]:
    """Platforms that a list names twice; not Windows', whose entries differ in `os.version`."""
    named: dict[Platform, set[str]] = {}
    for entry in entries:
        if entry.platform and entry.platform.os not in ("unknown", "windows"):
            named.setdefault(entry.platform, set()).add(entry.digest)
    for platform, digests in named.items():
        if len(digests) > 1:
            yield Finding(where, f"{len(digests)} images for {platform}: which one is taken is up to the reader", False)


def _moved(source: _Source, reference: Reference) -> Iterable[Finding]:
    """With both a tag and a digest, whether the tag still refers to that: no fault of the image."""
    if reference.tag and reference.digest:
        name = f"{reference.repository}:{reference.tag}"
        try:
            held = source.digest(reference)
        except PublishError as error:
            yield Finding(name, str(error), fault=False)
            return
        if held != reference.digest:
            yield Finding(name, f"the tag now refers to {held or 'nothing'}; the digest is what is proved", fault=False)


@contextmanager
def _provers(sink: Sink) -> Iterator[tuple[Executor, _Source]]:
    """Threads that prove, and what they read from; what ends this early, as Ctrl-C does, waits for no answer."""
    with ThreadPoolExecutor(_PROVERS) as pool, closing(sink), at_work() as senders:
        yield pool, _Source(sink, senders)


def _findings(proofs: Iterable[Proof]) -> list[Finding]:
    return [finding for proof in proofs for finding in proof.findings]


def _made(proofs: Iterable[Proof]) -> list[Made]:
    """A line for every image that has a platform."""
    return [
        Made(proof.subject.name, proof.subject.digest, str(proof.config.platform), "proved")
        for proof in proofs
        if proof.config
    ]


def _not_the_same(name: str, listed: Sequence[Subject], alone: Sequence[Subject]) -> Iterable[Finding]:
    """Where a list and the images of the arches do not hold the same: a mixture of two releases, or a stranger."""
    held = {each.listed: each.digest for each in listed}
    for each in alone:
        if each.arch:
            found = held.pop(each.arch.platform, None)
            if found != each.digest:
                text = f"{each.arch.platform}: found {found or 'no entry'}, expected {each.digest} as {each.name} is"
                yield Finding(
                    name, f"{text}\n  a mixture of two releases? publish the list again: invoke push-manifest"
                )
    for platform, digest in held.items():
        yield Finding(name, f"{platform or 'no platform'}: found {digest}, expected no entry beside the release's")


def _another_release(proofs: Iterable[Proof]) -> Iterable[Finding]:
    """Images that say of themselves that they are of different releases."""
    for label in _RELEASE_LABELS:
        named: dict[str, list[str]] = {}
        for proof in proofs:
            if proof.config and proof.subject.arch:
                said = proof.config.labels.get(label, "none")
                named.setdefault(said, []).append(f"{proof.subject.name}@{proof.subject.digest}")
        if len(named) > 1:
            usual = max(named, key=lambda said: len(named[said]))
            for said, names in named.items():
                for name in names if said != usual else ():
                    yield Finding(name, f"label {label}: found {said!a}, expected {usual!a} as in the other images")


def _concluded(made: list[Made], findings: Iterable[Finding], report: Report) -> list[Made]:
    """Report what is not proved, and raise ImageError if anything is wrong."""
    told = list(dict.fromkeys(findings))
    for finding in told:
        if not finding.fault:
            report(Event(f"note: {finding}", note=True))
    faults = [str(finding).replace("\n", "\n  ") for finding in told if finding.fault]
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ImageError("\n  ".join([f"{count} in what is published", *faults]))
    return made
