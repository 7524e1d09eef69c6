"""Signs what a reference leads to, whoever published it: a list with all its images, or an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from build.attest.attach import Signing, Subject
from build.oci.descriptor import Blob
from build.oci.media_types import INDEXES, LARGEST_MANIFEST, MANIFESTS
from build.oci.parse import Manifest, parse_config, parse_time
from build.oci.platform import UNKNOWN
from build.oci.reference import Reference
from build.release.check.check import check_reference
from build.release.publish.sign import Signatures, Signed
from build.release.reference.fetch import Kept, parsed_manifest, root_of
from build.report import Event, Report
from build.stores.store import Source, Store


async def sign(
    store: Store, reference: Reference, signing: Signing, report: Report, spool: Path, *, dry: bool
) -> list[Signed]:
    """Sign what `reference` refers to once `check` has proved it; in a `dry` run, only show what would be signed.

    Raises PublishError if there is nothing, or if the store refuses, and ImageError with all faults.
    """
    kept = Kept(store, spool)
    root = await root_of(kept, reference)
    by_digest = replace(reference, digest=root.digest)  # the tag may move meanwhile
    if not dry:
        store.will_write([reference.repository])

    def notes(event: str | Event) -> None:
        if isinstance(event, Event) and event.note and "attached" not in event.text:
            report(event)

    await check_reference(kept, by_digest, notes, spool)
    signatures = Signatures(store, reference.repository, signing, spool, report, dry)
    attachments = await signatures.attach(await signable(kept, by_digest, root, spool))
    results = signatures.results(attachments)
    await signatures.settle(attachments)
    return results


async def signable(source: Source, reference: Reference, root: Blob, spool: Path) -> list[Subject]:
    """What is signed of the manifest `root`: itself, and of a list everything in it but BuildKit's attestations.

    The time of each is the latest one in the configs of its images (config.md, "created").
    """
    found: dict[str, Subject] = {}

    async def descend(manifest: Blob, subject: Subject) -> str:
        found[manifest.digest] = subject
        parsed = parsed_manifest(manifest)
        if isinstance(parsed, Manifest):
            created = ""
            if not parsed.artifact and parsed.config.size <= LARGEST_MANIFEST:
                config = await source.blob(reference.repository, parsed.config, spool)
                created = parse_config(config.data).created
        else:
            times = []
            for entry in parsed:
                if entry.attests or entry.platform == UNKNOWN or entry.media_type not in INDEXES | MANIFESTS:
                    continue
                child = await root_of(source, Reference(reference.repository, "", entry.digest))
                times.append(await descend(replace(child, media_type=entry.media_type), Subject(entry)))
            created = max(times, key=lambda each: parse_time(each) or 0, default="")
        created = created if parse_time(created) is not None else ""
        found[manifest.digest] = replace(subject, created=created)
        return created

    await descend(root, Subject(root.descriptor()))
    return list(found.values())
