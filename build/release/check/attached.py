"""Checks what is attached to a list and its images: signatures, provenance and SBOMs, by a key if there is one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from build.attest.attached import NAMES, Attached, attached
from build.attest.dsse import PROVENANCE, SBOM, SIGNATURE
from build.attest.keys.keys import PublicKey
from build.errors import PublishError, all_of
from build.oci.reference import Repository
from build.oci.referrer import tagged_subject
from build.release.check.prove import Finding, Proof
from build.release.publish.sign import Signed
from build.stores.store import Source


@dataclass(frozen=True)
class Target:
    """A list or an image, and its platform, None for a list."""

    repository: Repository
    digest: str
    platform: str | None

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}"


async def check_attached(
    source: Source, targets: Sequence[Target], key: PublicKey | None, spool: Path
) -> tuple[list[Signed], list[Finding]]:
    """What `key` proves of each target, and what is wrong or missing; without a key, a note of what there is.

    A target without a signature by `key` is a fault, and so is what was changed. Others may have signed, too.
    """
    found = await all_of(_attached(source, each, key, spool) for each in targets)
    results, findings = [], list[Finding]()
    for target, items in zip(targets, found, strict=True):
        if key is None:
            findings += _listed(target, items)
            continue
        findings += _proved(target, items, key)
        kinds = {each.kind for each in items if each.signed and not each.fault}
        what = tuple(name for kind, name in NAMES.items() if kind in kinds)
        results.append(Signed(target.repository, target.digest, target.platform, key.hint, what, "verified"))
    return results, findings


def without_notes(proofs: Iterable[Proof], by_tag: Sequence[tuple[str, Sequence[str]]]) -> list[Finding]:
    """The findings of proofs, but notes of what refers to something else that is checked: that has one of all of it.

    `by_tag` are the tags that are checked, and the digests that each leads to.
    """
    known = {each for _, digests in by_tag for each in digests}
    referring = {each for tag, digests in by_tag if tagged_subject(tag) in known for each in digests}
    return [found for each in proofs for found in each.findings if found.fault or each.subject.digest not in referring]


async def _attached(source: Source, target: Target, key: PublicKey | None, spool: Path) -> list[Attached]:
    """What is attached to a target; what can't be found out is a fault of it, and no end of the check."""
    try:
        return await attached(source, target.repository, target.digest, key, spool)
    except PublishError as error:
        return [Attached(str(target), "", fault=f"what is attached can't be found out: {error}")]


def _told(item: Attached) -> str:
    return f"{item.name}: {item.fault}" if item.name else item.fault


def _listed(target: Target, items: Sequence[Attached]) -> Iterable[Finding]:
    """What is attached to a target: nothing of it is proved without a key."""
    if known := [each for each in items if each.kind]:
        lines = [f"{each.name}, {each.where.removeprefix(str(target.repository))}" for each in known]
        yield Finding(str(target), "\n  ".join(["attached, and not proved without --key:", *lines]), fault=False)
    for each in items:
        if each.fault:
            yield Finding(each.where, _told(each), fault=False)


def _proved(target: Target, items: Sequence[Attached], key: PublicKey) -> Iterable[Finding]:
    for each in items:
        is_ours = each.signed or each.hint == key.hint or (each.fault and not each.hint)
        if each.fault:
            yield Finding(each.where, _told(each), fault=bool(is_ours))
        elif each.signed and each.signed_as not in ("", str(target.repository)):
            text = f"{each.name}: signed as {each.signed_as}, which nodes compare with the name that they pull"
            yield Finding(each.where, text, fault=False)
        elif not each.signed and (each.is_bundle or each.kind not in NAMES):
            by = f" by the key {each.hint}" if each.hint else ""
            yield Finding(each.where, f"{each.name}{by}: not proved by this key", fault=False)
    proved = {each.kind for each in items if each.signed and not each.fault}
    if SIGNATURE not in proved:
        remedy = "sign it: invoke sign REFERENCE --sign KEY, or check with the key that has signed it"
        yield Finding(str(target), f"found no signature by the key {key.hint}, expected one\n  {remedy}")
    others = [each.envelope for each in items if each.hint and each.hint != key.hint]
    for kind in NAMES:
        # cosign's older form names no key: whether somebody else has signed it, or it was changed, can't be told, but
        # if it is in somebody else's bundle, too.
        alike = [each for each in items if each.kind == kind and not each.is_bundle and each.envelope not in others]
        if alike and not any(each.signed for each in alike):
            text = f"{NAMES[kind]}: none of {len(alike)} is signed by the key {key.hint}: by another key, or changed"
            yield Finding(alike[0].where, text)
    wanted = [PROVENANCE, *([SBOM] if target.platform else [])]
    if missing := [NAMES[kind] for kind in wanted if kind not in proved]:
        yield Finding(str(target), f"no {' and no '.join(missing)} by this key", fault=False)
