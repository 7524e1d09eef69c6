"""Checks tags: that further ones of a release refer to what its tag does, and whether one still refers to a digest."""

from __future__ import annotations

from collections.abc import Sequence

from build.config.release import Release
from build.errors import PublishError, all_of
from build.oci.reference import Reference
from build.release.check.prove import Finding
from build.report import Result
from build.stores.store import Source


async def check_further(release: Release, source: Source, digests: Sequence[str]) -> tuple[list[Result], list[Finding]]:
    """A result for each further tag, or a fault.

    `digests` are what the tags of the release refer to, that of the list first; empty where one leads nowhere, which is
    a fault already. Raises PublishError if the source does not answer.
    """
    expected = [
        (each.arch_tag(arch) if arch else each.list_tag(), arch, digest)
        for each in release.further
        for arch, digest in zip((None, *release.arches), digests, strict=True)
        if digest
    ]
    found = await all_of(source.digest(tag.repository, tag.name) for tag, _, _ in expected)
    results, faults = [], []
    for (tag, arch, digest), current in zip(expected, found, strict=True):
        if current == digest:
            name, platform = (arch.name, str(arch.platform)) if arch else (None, None)
            results.append(Result(str(tag), digest, platform, "verified", arch=name, place=tag.place))
        else:
            text = f"found {current or 'no such tag'}, expected {digest} as under {release.tag}"
            faults.append(Finding(str(tag), text))
    return results, faults


async def tag_notes(source: Source, reference: Reference) -> list[Finding]:
    """A note if `reference` has both a tag and a digest, and the tag refers to another digest."""
    if not (reference.tag and reference.digest):
        return []
    name = f"{reference.repository}:{reference.tag}"
    try:
        found = await source.digest(reference.repository, reference.tag)
    except PublishError as error:
        return [Finding(name, str(error), fault=False)]
    if found == reference.digest:
        return []
    text = f"the tag now refers to {found or 'nothing'}; the digest is checked"
    return [Finding(name, text, fault=False)]
