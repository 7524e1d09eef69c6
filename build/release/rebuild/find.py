"""Finds what is published, and the provenance that says how to build it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from build.attest.attached import Attached, attached
from build.attest.dsse import PROVENANCE
from build.attest.keys.keys import PublicKey
from build.attest.provenance import Recipe, recipe_of
from build.errors import ImageError, PublishError
from build.oci.parse import Manifest, parse_manifest
from build.oci.platform import UNKNOWN
from build.oci.reference import Reference
from build.report import Event, Report
from build.stores.store import Source


@dataclass(frozen=True)
class Published:
    """A list, the digests of its images by platform, and how to build it again."""

    reference: Reference
    digest: str
    images: Mapping[str, str]
    recipe: Recipe


async def find(source: Source, reference: Reference, key: PublicKey | None, report: Report, spool: Path) -> Published:
    """What `reference` refers to, with its provenance, which `key` has signed if there is one.

    Raises PublishError if there is nothing, and ImageError if there is no such provenance, or if nobody could build
    from it.
    """
    manifest = await source.manifest(reference.repository, reference.wanted)
    if manifest is None:
        raise PublishError(f"{reference}: not found")
    parsed = parse_manifest(manifest.data, manifest.media_type)
    if isinstance(parsed, Manifest):
        raise ImageError(f"{reference}: found an image, expected a manifest list: its provenance is that of the list")
    items = await attached(source, reference.repository, manifest.digest, key, spool)
    images = {str(each.platform): each.digest for each in parsed if each.platform and each.platform != UNKNOWN}
    recipe = _recipe(str(reference), items, key)
    if recipe.changed:
        files = ", ".join(recipe.changed)
        raise ImageError(f"{reference}: built with uncommitted changes to {files}: nobody else can build that")
    if key is None:
        report(Event(f"note: {reference}: its provenance is not proved: name the key with --key", note=True))
    return Published(reference, manifest.digest, images, recipe)


def _recipe(name: str, items: Iterable[Attached], key: PublicKey | None) -> Recipe:
    found = [each for each in items if each.kind == PROVENANCE and each.statement and not each.fault]
    usable = [each for each in found if each.signed] if key else found
    if not usable:
        by = f" by the key {key.hint}" if key else ""
        raise ImageError(
            f"{name}: found no provenance{by}, expected one as invoke all-push --sign publishes it"
            f"\n  invoke check {name} shows what there is"
        )
    return _first(name, usable)


def _first(name: str, usable: Sequence[Attached]) -> Recipe:
    faults = []
    for each in usable:
        try:
            if each.statement:
                return recipe_of(each.statement)
        except ImageError as error:
            faults.append(f"\n  {each.where}: {error}")
    raise ImageError(f"{name}: found no provenance that tells how to build it{''.join(faults)}")
