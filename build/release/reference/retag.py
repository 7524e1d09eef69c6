"""Moves a tag to what the repository has: a rollback, or another name. It sends that manifest, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from build.oci.image import Content
from build.oci.reference import Reference
from build.release.check.check import check_reference
from build.release.reference.destination import Destination, planned, put_tag, reached
from build.release.reference.fetch import root_of
from build.report import Event, Result


async def retag(reference: Reference, to: Destination, scratch: Path) -> Result:
    """Let the tag of `to` refer to what `reference`, in the same repository, refers to, once `check` has proved that.

    Raises PublishError if there is nothing, or if the tag exists with another digest and `overwrite` is false, and
    ImageError with all faults.
    """
    if not to.dry:
        to.store.will_write([to.tag.repository])
    root = await root_of(to.store, reference)
    current, result = await planned(to, root)

    def notes(event: str | Event) -> None:
        if isinstance(event, Event) and event.note:
            to.report(event)

    # By its digest: the tag of `reference` may move meanwhile.
    checked = await check_reference(to.store, replace(reference, digest=root.digest), notes, scratch)
    platform = next((each.platform for each in checked if each.digest == root.digest), None)
    result = replace(result, platform=platform)
    if result.change != "kept" and not to.dry:
        await put_tag(to, Content(root, (), ()), current)
    reached(to, result)
    return result
