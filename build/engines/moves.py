"""Tags that have moved, or are not moved unasked, and why an image may differ from the published one.

Git may name the same commit differently, so that REV is another. The images tell: their labels have REV and the time
of the commit.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from build.errors import BuildError, PublishError, all_of
from build.oci.image import Image
from build.oci.parse import Manifest, parse_config, parse_manifest
from build.oci.reference import Repository, Tag
from build.report import Result
from build.stores.store import SMALL, Source, Store

Digests = Mapping[Tag, str | None]
REVISION, CREATED = "org.opencontainers.image.revision", "org.opencontainers.image.created"


async def other_revision(source: Source, repository: Repository, reference: str, image: Image) -> tuple[str, ...]:
    """A line that says with which REV `reference` was built; none if with that of `image`, or if that is unknown.

    Of a list, the image for the same platform counts.
    """
    try:
        there = await _labels(source, repository, reference, image)
        here = parse_config(image.config.data).labels
    except BuildError:  # it may be anything; that it differs is reported anyway
        return ()
    old, new = there.get(REVISION, ""), here.get(REVISION, "")
    if old == new or not (old and new and old.isprintable() and new.isprintable()):
        return ()
    remedy = f": the commit's time is the same, so --rev {shlex.quote(old)} gives the same digests"
    return (f"REV was {old} there, and is {new} here" + (remedy if same_commit(there, here) else ""),)


def same_commit(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether images with these labels were built from the same commit, as far as labels tell."""
    revisions = [labels.get(REVISION, "-dirty") for labels in (one, other)]
    return one.get(CREATED) == other.get(CREATED) and not any(each.endswith("-dirty") for each in revisions)


async def _labels(source: Source, repository: Repository, reference: str, like: Image) -> Mapping[str, str]:
    for _ in range(2):
        manifest = await source.manifest(repository, reference)
        parsed = parse_manifest(manifest.data, manifest.media_type) if manifest else ()
        if isinstance(parsed, Manifest):
            if parsed.config.size > SMALL:
                break
            config = await source.blob(repository, parsed.config, Path(os.devnull))  # a small one needs no folder
            return parse_config(config.data).labels
        entry = next((each for each in parsed if each.platform == like.platform), None)
        if entry is None:
            break
        reference = entry.digest
    return {}


async def digests_of(store: Store, tags: Iterable[Tag], *, certain: bool = False) -> dict[Tag, str | None]:
    """The current digest of each tag, or None if there is no such tag; see `Source.digest` for `certain`."""
    wanted = list(tags)
    found = await all_of(store.digest(tag.repository, tag.name, certain=certain) for tag in wanted)
    return dict(zip(wanted, found, strict=True))


async def moved(store: Store, before: Digests) -> list[str]:
    """A line for each tag in a registry that no longer has its digest of before, for the message of a failure."""
    if not store.keeps_tags:
        return []
    try:
        found = await digests_of(store, before)
    except BuildError:
        return ["  tags may have moved: compare the registry with invoke plan"]
    return [f"  {tag}: moved to {found[tag]}" for tag, old in before.items() if found[tag] not in (None, old)]


def not_moved(lines: Iterable[str]) -> PublishError:
    """The error for tags that would have to be moved; one line for each."""
    return PublishError(
        "refusing to move an existing tag (use --overwrite)\n"
        + "\n".join(f"  {line}" for line in lines)
        + "\n  publish under another TAG, or move it with --overwrite"
    )


def refuse_plan(steps: Iterable[Result]) -> None:
    """Raise PublishError if a step of a plan would be refused."""
    refused = [step for step in steps if step.change == "refused"]
    if refused:
        notes = dict.fromkeys(note for step in refused for note in step.why[1:])
        raise not_moved([*(f"{step.name}: {step.why[0]}" for step in refused), *notes])
