"""The tag that a reference is copied to, or that is moved: whether it may move, moving it, and reading it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.engines.moves import not_moved
from build.errors import PublishError
from build.oci.descriptor import Blob
from build.oci.image import Target
from build.oci.reference import Tag
from build.report import Event, Report, Result
from build.stores.store import Store

if TYPE_CHECKING:
    from build.attest.attach import Signing


@dataclass(frozen=True)
class Destination:
    """The tag to copy to. Only with `overwrite` one that exists is moved; a `dry` run changes nothing.

    With `signing`, what is copied is signed there before.
    """

    store: Store
    tag: Tag
    report: Report
    overwrite: bool = False
    dry: bool = False
    signing: Signing | None = None


async def planned(to: Destination, root: Blob) -> tuple[str | None, Result]:
    """The tag's digest, and what becomes of it if it is to refer to `root`.

    Raises PublishError if the tag would have to move unasked.
    """
    current = await to.store.digest(to.tag.repository, to.tag.name, certain=to.store.keeps_tags)
    if current not in (None, root.digest) and to.store.keeps_tags and not to.overwrite:
        raise not_moved([f"{to.tag}: found {current}, expected {root.digest} or no tag"])
    where = "layout" if to.tag.repository.on_disk else "registry"
    change, why = "moved", [f"the {where} has another digest: {current}"]
    if current == root.digest:
        change, why = "kept", []
    elif current is None:
        change, why = "pushed", [f"not in the {where}"]
    return current, Result(str(to.tag), root.digest, None, change, tuple(why), place=to.tag.place)


async def put_tag(to: Destination, target: Target, before: str | None) -> None:
    """Let the tag refer to `target` instead of `before`, and in a registry, which has no locks, read it back.

    Raises PublishError if another run has moved it.
    """
    await to.store.put_tag(to.tag.repository, to.tag.name, target)
    if not to.store.keeps_tags:
        return
    found = await to.store.settled_digest(to.tag.repository, to.tag.name, target.digest, before)
    if found != target.digest:
        raise PublishError(
            f"another run moved a tag at the same time\n  {to.tag}: found {found or 'no tag'}, expected {target.digest}"
            "\n  to decide the winner, rerun it with --overwrite"
        )


def reached(to: Destination, result: Result) -> None:
    """Report that the tag is as it should be, or in a dry run would be."""
    line = f"{result.name}: {'would be ' if to.dry else ''}{result.change}"
    if result.change == "kept":
        line = f"{result.name}: already published"
    to.report(Event(line, result=result))
