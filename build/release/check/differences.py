"""Compares the images of a release with each other and with the manifest list."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from build.config.arches import Arch
from build.engines.moves import REVISION, same_commit
from build.oci.descriptor import Descriptor
from build.oci.platform import Platform
from build.release.check.prove import Finding, Proof, Subject

# The labels that all images of a release have in common.
_RELEASE_LABELS = ("org.opencontainers.image.version", REVISION)


def duplicate_platforms(where: str, entries: Iterable[Descriptor]) -> Iterable[Finding]:
    """Platforms that occur twice in a list; entries for Windows differ in `os.version`."""
    by_platform: dict[Platform, set[str]] = {}
    for entry in entries:
        if entry.platform and entry.platform.os != "unknown":
            by_platform.setdefault(entry.platform, set()).add(entry.digest)
    for platform, digests in by_platform.items():
        if len(digests) > 1:
            yield Finding(where, f"{len(digests)} images for {platform}: clients may use either", False)


def arch_of_entry(entry: Subject, by_arch: Iterable[Subject], arches: Iterable[Arch]) -> Arch | None:
    """The arch that an entry of the list is for; of several for Windows, the one whose tag has the same image."""
    rows = [arch for arch in arches if entry.listed and arch.platform == entry.listed.unversioned]
    if len(rows) == 1:
        return rows[0]
    return next((each.arch for each in by_arch if each.arch in rows and each.digest == entry.digest), None)


def differences(name: str, listed: Sequence[Subject], by_arch: Sequence[Subject]) -> Iterable[Finding]:
    """Differences between a list and the images of the arches."""
    digests = {each.listed: each.digest for each in listed}
    for each in by_arch:
        if each.arch:
            rows = [key for key in digests if key and each.arch.is_for(key)]
            # Rows for Windows have one platform, and differ in what their images say.
            same = [key for key in rows if digests[key] == each.digest]
            found = digests.pop((same or rows)[0]) if same or len(rows) == 1 else None
            if found != each.digest:
                text = f"{each.arch.platform}: found {found or 'no entry'}, expected {each.digest} as in {each.name}"
                yield Finding(
                    name, f"{text}\n  if the list is from another release, publish it again: invoke push-manifest"
                )
    for platform, digest in digests.items():
        yield Finding(name, f"{platform or 'no platform'}: found {digest}, expected only the entries of the release")


def label_differences(proofs: Iterable[Proof]) -> Iterable[Finding]:
    """Images whose labels are from different releases."""
    for label in _RELEASE_LABELS:
        by_value: dict[str, list[Proof]] = {}
        for proof in proofs:
            if proof.config and proof.subject.arch:
                value = proof.config.labels.get(label, "none")
                by_value.setdefault(value, []).append(proof)
        if len(by_value) > 1:
            usual = max(by_value, key=lambda value: len(by_value[value]))
            for value, others in by_value.items():
                for proof in others if value != usual else ():
                    name = f"{proof.subject.name}@{proof.subject.digest}"
                    text = f"label {label}: found {value!a}, expected {usual!a} as in the other images"
                    yield Finding(name, text + _renamed(proof, by_value[usual][0], label))


def _renamed(proof: Proof, usual: Proof, label: str) -> str:
    """The remedy if git named the same commit differently for two images."""
    if label != REVISION or not (proof.config and usual.config):
        return ""
    if not same_commit(proof.config.labels, usual.config.labels):
        return ""
    rev = usual.config.labels.get(REVISION, "")
    return f"\n  the commit's time is the same: publish it again with --rev {shlex.quote(rev)}, and the list"
