"""Signs content, and attaches the signatures and attestations to it in its repository, before a tag refers to it.

What is there already is not sent again: a key in a file signs the same to the same bytes, and what another key has
signed is compared.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from build.attest import cosign
from build.attest.attached import Attached, attached
from build.attest.bundle import EMPTY, bundle, referrer
from build.attest.dsse import SIGNATURE, Envelope, Statement, signed
from build.attest.keys.keys import Signer
from build.errors import ImageError, PublishError, all_of
from build.oci.descriptor import Blob, Descriptor
from build.oci.image import Content
from build.oci.reference import Repository
from build.oci.referrer import referrers_tag
from build.stores.store import Source, Store

# The forms of signatures, by the values of --signature-format.
BUNDLE, COSIGN = "bundle", "cosign"
FORMATS: Mapping[str, frozenset[str]] = {
    "both": frozenset({BUNDLE, COSIGN}),
    BUNDLE: frozenset({BUNDLE}),
    COSIGN: frozenset({COSIGN}),
}

# How often a tag that others write, too, is written again.
_ATTEMPTS = 5
# How registries refuse manifests that they do not know the form of.
_REFUSED = re.compile(r": (400|404|405|406|415|422) ")


@dataclass(frozen=True)
class Signing:
    """The key to sign with, and the forms of its signatures, as in FORMATS."""

    signer: Signer
    forms: frozenset[str]


@dataclass(frozen=True)
class Subject:
    """Content that is signed, and what is stated about it; `created` is a time as in RFC 3339, or empty."""

    descriptor: Descriptor
    created: str = ""
    statements: tuple[Statement, ...] = ()

    @property
    def digest(self) -> str:
        """The digest of the content."""
        return self.descriptor.digest

    @property
    def all_statements(self) -> tuple[Statement, ...]:
        """What is signed: first that it is signed at all, as cosign states that."""
        return (Statement((self.digest,), SIGNATURE, {}), *self.statements)


@dataclass(frozen=True)
class Attachment:
    """What a subject lacks in a repository: referrers, and layers of the manifests under cosign's tags."""

    subject: Subject
    referrers: tuple[Content, ...]
    tags: Mapping[str, tuple[cosign.Layer, ...]]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is lacking."""
        return not (self.referrers or self.tags)


async def sign(
    source: Source, repository: Repository, subjects: Sequence[Subject], signing: Signing, spool: Path
) -> list[Attachment]:
    """Sign subjects, and find out what of that their repository lacks; nothing is written.

    Raises PublishError if the source fails, or has something else where signatures belong.
    """
    envelopes = await asyncio.to_thread(_envelopes, subjects, signing.signer)
    return await all_of(_Signed(source, repository, subject, signing, envelopes).lacking(spool) for subject in subjects)


async def attach(store: Store, repository: Repository, attachments: Iterable[Attachment]) -> None:
    """Store what is lacking: blobs, then at the same time the manifests of referrers and of cosign's tags.

    The subjects need not be there yet (distribution-spec, "Pushing Manifests with Subject"). What others have added
    since `sign` stays. Raises PublishError.
    """
    lacking = [each for each in attachments if not each.is_complete]
    blobs = {blob.digest: blob for each in lacking for content in each.referrers for blob in content.blobs}
    blobs |= {layer.blob.digest: layer.blob for each in lacking for part in each.tags.values() for layer in part}
    if any(each.tags for each in lacking):
        blobs[EMPTY.digest] = EMPTY  # the config of cosign's manifests has the same bytes
    await all_of(store.put_blob(repository, blob) for blob in blobs.values())
    adding = [_add(store, repository, tag, layers) for each in lacking for tag, layers in each.tags.items()]
    await all_of([*adding, *(_put_referrers(store, repository, each) for each in lacking if each.referrers)])


async def _put_referrers(store: Store, repository: Repository, attachment: Attachment) -> bool:
    manifests = [content.manifest for content in attachment.referrers]
    try:
        await store.put_referrers(repository, attachment.subject.digest, manifests)
    except PublishError as error:
        if not _REFUSED.search(str(error)):
            raise
        remedy = "if it refuses every manifest with a subject, do without them: --signature-format cosign"
        raise PublishError(f"{error}\n  {remedy}", error.reason) from None
    return True


async def settle_tags(store: Store, repository: Repository, attachments: Iterable[Attachment]) -> None:
    """Read back what `attach` has added to cosign's tags: tags have no lock, so another run may have overwritten it.

    It is added again. Raises PublishError if others keep overwriting it.
    """

    async def settle(tag: str, layers: Sequence[cosign.Layer]) -> None:
        for _ in range(_ATTEMPTS):
            if not await _add(store, repository, tag, layers):
                return
        raise PublishError(
            f"{repository}:{tag}: other runs keep overwriting these signatures\n  retry when they have ended"
        )

    await all_of(settle(tag, layers) for each in attachments for tag, layers in each.tags.items())


async def _add(store: Store, repository: Repository, tag: str, layers: Sequence[cosign.Layer]) -> bool:
    """Add layers to the manifest under one of cosign's tags; whether it lacked some."""
    new = await with_layers(store, repository, tag, layers)
    if new:
        await store.put_tag(repository, tag, Content(new, (), ()))
    return new is not None


async def with_layers(source: Source, repository: Repository, tag: str, layers: Sequence[cosign.Layer]) -> Blob | None:
    """The manifest under one of cosign's tags with `layers` added; None if it has them."""
    try:
        current = await source.manifest(repository, tag)
        new = cosign.with_layers(current, [each.fields for each in layers])
    except ImageError as error:
        raise PublishError(f"{repository}:{tag}: {error}\n  a tag of this name is for cosign's signatures") from None
    return None if current and current.digest == new.digest else new


def _envelopes(subjects: Iterable[Subject], signer: Signer) -> dict[bytes, Envelope]:
    """The envelope of each statement by its bytes: one may be about several subjects."""
    statements = {statement.data for subject in subjects for statement in subject.all_statements}
    return {data: signed(data, signer) for data in sorted(statements)}


@dataclass(frozen=True)
class _Signed:
    """A subject with the envelopes of its statements, and where they are to be attached."""

    source: Source
    repository: Repository
    subject: Subject
    signing: Signing
    envelopes: Mapping[bytes, Envelope]

    async def lacking(self, spool: Path) -> Attachment:
        signer, forms, there = self.signing.signer, self.signing.forms, list[Attached]()
        if not signer.deterministic:  # it signs to other bytes each time: what it has signed already stays
            there = await attached(self.source, self.repository, self.subject.digest, signer.public, spool)
        has_cosign = COSIGN in forms and self.repository.is_remote  # in a layout, the image has no name to sign
        sig, att = self._signature(there), self._attestations(there)
        wanted = {referrers_tag(self.subject.digest, end): part for end, part in ((".sig", sig), (".att", att)) if part}
        wanted = wanted if has_cosign else {}
        tags: dict[str, tuple[cosign.Layer, ...]] = {}
        referrers: list[Content] = []

        async def look_under(tag: str) -> None:
            if await with_layers(self.source, self.repository, tag, wanted[tag]):
                tags[tag] = tuple(wanted[tag])

        async def look_at_referrers() -> None:
            referrers.extend(await self._referrers(there) if BUNDLE in forms else [])

        await all_of([look_at_referrers(), *map(look_under, wanted)])
        return Attachment(self.subject, tuple(referrers), {tag: tags[tag] for tag in wanted if tag in tags})

    async def _referrers(self, there: Sequence[Attached]) -> list[Content]:
        wanted = []
        for statement in self.subject.all_statements:
            if not _is_there(statement, there, is_bundle=True):
                content = bundle(self.envelopes[statement.data], self.signing.signer.public)
                wanted.append(
                    referrer(content, statement.predicate_type, self.subject.descriptor, self.subject.created)
                )
        if not wanted:
            return []
        listed = {each.digest for each in await self.source.referrers(self.repository, self.subject.digest)}
        return [each for each in wanted if each.digest not in listed]

    def _signature(self, there: Sequence[Attached]) -> list[cosign.Layer]:
        name = str(self.repository)
        if any(each.signed and each.signed_as == name and not each.fault for each in there):
            return []
        return [cosign.signature(self.subject.digest, self.repository, self.signing.signer)]

    def _attestations(self, there: Sequence[Attached]) -> list[cosign.Layer]:
        return [
            cosign.attestation(self.envelopes[each.data], each.predicate_type)
            for each in self.subject.statements
            if not _is_there(each, there, is_bundle=False)
        ]


def _is_there(statement: Statement, there: Iterable[Attached], *, is_bundle: bool) -> bool:
    return any(
        each.signed and each.is_bundle == is_bundle and each.statement == statement and not each.fault for each in there
    )
