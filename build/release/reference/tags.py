"""Lists the tags of repositories, newest first, with what each refers to."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from build.errors import BuildError, ImageError, all_of
from build.oci.descriptor import Descriptor
from build.oci.media_types import MANIFESTS
from build.oci.parse import Config, Manifest, parse_annotations, parse_config, parse_time
from build.oci.platform import UNKNOWN, Platform
from build.oci.reference import Reference, Repository
from build.oci.strict import shown
from build.release.reference.fetch import Kept, parsed_manifest, refers, root_of
from build.report import Event, Report, one_line
from build.stores.store import SMALL, Listing, Source

CREATED = "org.opencontainers.image.created"
# Tags of a repository that are looked up: each takes up to three requests. And how many at the same time.
MOST, _CONCURRENT = 1000, 64
# What refers to an image by its digest: cosign's tags, and those of the Referrers Tag Schema (distribution-spec).
_REFERRERS = re.compile(r"sha256-[0-9a-f]{64}(\.[a-z]+)?")


@dataclass(frozen=True)
class Tagged:
    """A tag: the digest that it refers to, the platforms, and the time in its config or index, in seconds.

    `note` says what could not be read. What has no tag, as in a layout, has a digest only.
    """

    reference: Reference
    digest: str | None = None
    platforms: tuple[Platform, ...] = ()
    created: int | None = None
    note: str = ""

    @property
    def time(self) -> str | None:
        """The time as in RFC 3339, in UTC."""
        if self.created is None:
            return None
        return datetime.fromtimestamp(self.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def __str__(self) -> str:
        name = str(Reference(self.reference.repository, self.reference.tag, self.digest or ""))
        about = [name, self.time or "no date", " ".join(map(str, self.platforms)), self.note and f"({self.note})"]
        return one_line("  ".join(filter(None, about)))

    def fields(self) -> Mapping[str, object]:
        """The result in the document of --json."""
        return {
            "kind": "tag",
            "reference": str(Reference(self.reference.repository, self.reference.tag)),
            **self.reference.place.fields(),
            "digest": self.digest,
            "platforms": list(map(str, self.platforms)),
            "created": self.time,
            "note": self.note or None,
        }


async def tags(source: Source, repository: Repository, report: Report, spool: Path) -> list[Tagged]:
    """The tags of a repository, or everything in a layout or an archive: newest first, then those without a date.

    Tags of signatures and other referrers are left out, which is reported. Of more than MOST tags, those of the lowest
    names are not looked up. What can't be read has a note. Raises PublishError if the tags can't be listed.
    """
    listed = await source.references(repository) if isinstance(source, Listing) else []
    named = [each for each in listed if not repository.name or each.repository == repository]
    plain = [each for each in named if not (_REFERRERS.fullmatch(each.tag) or await _is_untagged(source, each))]
    if left := len(named) - len(plain):
        text = f"{repository}: {left} tags of signatures and other referrers (sha256-…) are left out"
        report(Event(f"note: {text}", note=True))
    plain.sort(key=_natural, reverse=True)
    kept, slots = Kept(source, spool), asyncio.Semaphore(_CONCURRENT)

    async def looked_up(reference: Reference) -> Tagged:
        async with slots:
            return await _tagged(kept, reference, spool)

    found = await all_of(map(looked_up, plain[:MOST]))
    found.sort(key=lambda each: (each.created is not None, each.created), reverse=True)  # stable: by name
    rest = [Tagged(each, note=f"not looked up: {MOST} others are") for each in plain[MOST:]]
    for each in (*found, *rest):
        report(Event(result=each))
    return [*found, *rest]


async def _is_untagged(source: Source, reference: Reference) -> bool:
    """Whether it is a referrer without a tag, as oras has them in layouts."""
    return not reference.tag and await refers(source, reference)


def _natural(reference: Reference) -> list[tuple[int, str]]:
    """A key by which 3.10 comes after 3.9."""
    words = re.split(r"([0-9]+)", reference.tag)
    return [(int(word) if word.isascii() and word.isdigit() else -1, word) for word in words]


async def _tagged(kept: Kept, reference: Reference, spool: Path) -> Tagged:
    """What a tag refers to, as far as that can be read."""
    found = Tagged(reference)
    try:
        manifest = await root_of(kept, reference)
        found = replace(found, digest=manifest.digest)
        parsed, annotations = parsed_manifest(manifest), parse_annotations(manifest.data)
        created = annotations.get(CREATED, "")
        if isinstance(parsed, Manifest):
            config = await _config(kept, reference, parsed, spool)
        else:
            platforms = (each.platform for each in parsed if each.platform and each.platform != UNKNOWN)
            found = replace(found, platforms=tuple(dict.fromkeys(platforms)))
            config = None if created else await _first_config(kept, reference, parsed, spool)
        if config:
            created = config.created or created
            found = replace(found, platforms=found.platforms or (config.platform,))
        time = parse_time(created) if created else None
        note = f"created: found {shown(created)}, expected a time" if created and time is None else ""
        return replace(found, created=time, note=note)
    except BuildError as error:
        return replace(found, note=str(error).partition("\n")[0])


async def _first_config(kept: Kept, reference: Reference, entries: Iterable[Descriptor], spool: Path) -> Config | None:
    """The config of the first image of a list; None if there is none in it directly."""
    for entry in entries:
        if entry.media_type in MANIFESTS and entry.platform != UNKNOWN:
            parsed = parsed_manifest(await root_of(kept, Reference(reference.repository, "", entry.digest)))
            return await _config(kept, reference, parsed, spool) if isinstance(parsed, Manifest) else None
    return None


async def _config(kept: Kept, reference: Reference, manifest: Manifest, spool: Path) -> Config | None:
    """The config of an image; None if it is an artifact."""
    if manifest.artifact:
        return None
    if manifest.config.size > SMALL:
        raise ImageError(f"config: found {manifest.config.size} bytes, expected at most {SMALL}")
    return parse_config((await kept.blob(reference.repository, manifest.config, spool)).data)
