"""Reads what is attached to content in its repository: signatures, attestations and other referrers, and proves them.

A key proves what it has signed: bundles by their hint, layers under cosign's tags, which have none, by trying.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from build.attest import cosign
from build.attest.bundle import PREDICATE, is_bundle, parse_bundle
from build.attest.dsse import PROVENANCE, SBOM, SIGNATURE, Envelope, Statement, parse_envelope
from build.attest.keys.keys import PublicKey
from build.errors import ImageError, PublishError, all_of
from build.oci.media_types import INDEXES
from build.oci.parse import parse_descriptor
from build.oci.reference import Repository
from build.oci.referrer import Referrer, referrer_of, referrers_tag, subject_of
from build.oci.strict import FREE, parse, shown
from build.stores.store import Source

# The names of what is attached, by the type of its predicate.
NAMES: Mapping[str, str] = {SIGNATURE: "signature", PROVENANCE: "provenance", SBOM: "SBOM"}
# What an attestation is called before its type is known.
ATTESTATION = "attestation"
# Bytes of an attestation. That of a large program has a line for each of its files.
_LARGEST = 64 << 20


@dataclass(frozen=True)
class Attached:
    """Something that is attached to content.

    `where` is its reference, `kind` the type of its predicate, or what else it is. `signed` is whether the key that was
    asked for has signed it, `hint` the hint at its key as in bundles, if there is one, and `signed_as` the repository
    in a signature of cosign's older form. What has a `fault` proves nothing.
    """

    where: str
    kind: str
    is_bundle: bool = False
    signed: bool = False
    hint: str = ""
    statement: Statement | None = None
    envelope: Envelope | None = None
    fault: str = ""
    signed_as: str = ""

    @property
    def name(self) -> str:
        """What it is, in a word."""
        return NAMES.get(self.kind, self.kind)


async def attached(
    source: Source, repository: Repository, digest: str, key: PublicKey | None, spool: Path
) -> list[Attached]:
    """Everything that is attached to `digest`; large content is in files in `spool`.

    Raises PublishError if the source fails, or has something else where this belongs.
    """
    read = _Read(source, repository, digest, key, spool)
    found = await all_of([read.referrers(), *(read.cosign(end) for end in (".sig", ".att", ".sbom"))])
    return [each for part in found for each in part]


def _named(where: str, entry: Referrer) -> Attached:
    """What a referrer is by its type and annotations."""
    kind = entry.artifact_type or entry.descriptor.media_type
    if not is_bundle(kind):
        return Attached(where, kind)
    return Attached(where, entry.annotations.get(PREDICATE, ATTESTATION), is_bundle=True)


@dataclass(frozen=True)
class _Read:
    source: Source
    repository: Repository
    digest: str
    key: PublicKey | None
    spool: Path

    async def referrers(self) -> list[Attached]:
        listed = await self.source.referrers(self.repository, self.digest)
        return await all_of(map(self._referrer, listed))

    async def _referrer(self, entry: Referrer) -> Attached:
        where = f"{self.repository}@{entry.digest}"
        found = _named(where, entry)
        try:
            manifest = await self.source.manifest(self.repository, entry.digest)
            if manifest is None:
                raise ImageError("listed, but not there")
            subject = subject_of(manifest.data)
            if subject != self.digest:
                raise ImageError(f"subject: found {subject or 'none'}, expected {self.digest}")
            own = _named(where, referrer_of(manifest))
            # cosign lists what it attaches by the type of its config, and without annotations.
            if found.is_bundle and found.kind not in (own.kind, ATTESTATION):
                name = PREDICATE if own.is_bundle else "artifactType"
                raise ImageError(f"{name}: found {shown(own.kind)}, expected {found.kind!r} as it is listed")
            found = own
            if not found.is_bundle or manifest.media_type in INDEXES:
                return found
            [layer] = cosign.layers_of(manifest.data)[:1] or [{}]
            envelope, hint = parse_bundle(await self._content(layer))
            found = replace(found, hint=hint)
            return self._proved(found, envelope)
        except ImageError as error:
            return replace(found, fault=str(error))

    async def cosign(self, end: str) -> list[Attached]:
        tag = referrers_tag(self.digest, end)
        where = f"{self.repository}:{tag}"
        manifest = await self.source.manifest(self.repository, tag)
        if manifest is None:
            return []
        kind = {".sig": SIGNATURE, ".att": ATTESTATION, ".sbom": "SBOM without a signature"}[end]
        try:
            layers = cosign.layers_of(manifest.data)
        except ImageError as error:
            return [Attached(where, kind, fault=str(error))]
        if end == ".sbom":
            return [Attached(where, kind)]
        read = self._signature if end == ".sig" else self._attestation
        return await all_of(read(where, layer) for layer in layers)

    async def _signature(self, where: str, layer: Mapping[str, Any]) -> Attached:
        found = Attached(where, SIGNATURE)
        try:
            payload = await self._content(layer)
            signed = bool(self.key and cosign.is_signed_by(self.key, layer, payload))
            digest, name = cosign.parse_payload(payload)
            if digest != self.digest:
                raise ImageError(f"docker-manifest-digest: found {shown(digest)}, expected {self.digest}")
            return replace(found, signed=signed, signed_as=name)
        except ImageError as error:
            return replace(found, fault=str(error))

    async def _attestation(self, where: str, layer: Mapping[str, Any]) -> Attached:
        found = Attached(where, cosign.predicate_type(layer) or ATTESTATION)
        try:
            return self._proved(found, parse_envelope(parse(await self._content(layer), FREE)))
        except ImageError as error:
            return replace(found, fault=str(error))

    def _proved(self, found: Attached, envelope: Envelope) -> Attached:
        """`found` with what the envelope says; raise ImageError if that is not about the digest, or is not signed."""
        statement = envelope.statement
        if self.digest not in statement.digests:
            digests = ", ".join(statement.digests) or "none"
            raise ImageError(f"subject: found {digests}, expected {self.digest}")
        if found.kind not in (statement.predicate_type, ATTESTATION):
            raise ImageError(f"predicateType: found {shown(statement.predicate_type)}, expected {found.kind!r}")
        signed = bool(self.key and envelope.is_signed_by(self.key))
        fault = ""
        if self.key and found.hint and signed != (found.hint == self.key.hint):
            fault = "its signature is wrong: something was changed after it was signed"
            if signed:
                fault = f"hint: found {shown(found.hint)}, expected {self.key.hint!r}"
        return replace(
            found, kind=statement.predicate_type, statement=statement, envelope=envelope, signed=signed, fault=fault
        )

    async def _content(self, layer: Mapping[str, Any]) -> bytes:
        descriptor = parse_descriptor(layer, "layers[0]")
        if descriptor.size > _LARGEST:
            raise ImageError(f"size: found {descriptor.size} bytes, expected at most {_LARGEST}")
        try:
            return (await self.source.blob(self.repository, descriptor, self.spool)).data
        except PublishError as error:
            raise ImageError(str(error)) from None
