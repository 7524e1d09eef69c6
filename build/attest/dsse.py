"""Statements, and the envelopes in which they are signed (in-toto Statement/v1; DSSE v1, protocol.md, envelope.md)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from build.attest.keys.keys import PublicKey, Signer
from build.errors import ImageError
from build.oci.image import dump
from build.oci.strict import FREE, parse, shown

IN_TOTO = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
# The types of predicates: cosign's signature of an image, SLSA's provenance, an SBOM in SPDX.
SIGNATURE = "https://sigstore.dev/cosign/sign/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
SBOM = "https://spdx.dev/Document"


@dataclass(frozen=True)
class Statement:
    """What is stated about subjects, which are SHA-256 digests."""

    digests: tuple[str, ...]
    predicate_type: str
    predicate: Mapping[str, Any]

    @property
    def data(self) -> bytes:
        """The statement as JSON; the same statement gives the same bytes."""
        return dump(
            {
                "_type": STATEMENT,
                "subject": [{"digest": {"sha256": each.removeprefix("sha256:")}} for each in self.digests],
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )


@dataclass(frozen=True)
class Envelope:
    """A payload with its signatures."""

    payload: bytes = field(repr=False)
    signatures: tuple[bytes, ...] = field(repr=False)
    payload_type: str = IN_TOTO

    @property
    def fields(self) -> dict[str, Any]:
        """The members of the JSON object."""
        return {
            "payloadType": self.payload_type,
            "payload": base64.b64encode(self.payload).decode(),
            "signatures": [{"keyid": "", "sig": base64.b64encode(each).decode()} for each in self.signatures],
        }

    def is_signed_by(self, key: PublicKey) -> bool:
        """Whether one of its signatures is by `key`."""
        signed = authenticated(self.payload_type, self.payload)
        return any(key.verify(each, signed) for each in self.signatures)

    @property
    def statement(self) -> Statement:
        """What it states; raise ImageError if that is not an in-toto statement about SHA-256 digests."""
        if self.payload_type != IN_TOTO:
            raise ImageError(f"payloadType: found {shown(self.payload_type)}, expected {IN_TOTO!r}")
        members = parse(self.payload, FREE)
        kind, predicate = members.get("predicateType"), members.get("predicate")
        subjects = members.get("subject")
        # Statement/v0.1 differs in the version only; cosign writes it in its older form.
        if not str(members.get("_type")).startswith("https://in-toto.io/Statement/"):
            raise ImageError(f"_type: found {shown(members.get('_type'))}, expected {STATEMENT!r}")
        if not isinstance(kind, str) or not isinstance(predicate, dict | None):
            raise ImageError(f"predicateType: found {shown(kind)}, expected a type, and its predicate")
        if not isinstance(subjects, list) or not all(isinstance(each, dict) for each in subjects):
            raise ImageError(f"subject: found {shown(subjects)}, expected a list of digests")
        digests = [(each.get("digest") or {}).get("sha256") for each in subjects]
        return Statement(tuple(f"sha256:{each}" for each in digests if each), kind, predicate or {})


def signed(payload: bytes, signer: Signer) -> Envelope:
    """An envelope of a statement, signed."""
    return Envelope(payload, (signer.sign(authenticated(IN_TOTO, payload)),))


def authenticated(payload_type: str, payload: bytes) -> bytes:
    """What a signature covers, DSSE's pre-authentication encoding (protocol.md, "Signature Definition")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def parse_envelope(members: object) -> Envelope:
    """The envelope with these members; raise ImageError if it is malformed."""
    if not isinstance(members, dict):
        raise ImageError(f"envelope: found {shown(members)}, expected an object")
    signatures = members.get("signatures")
    if not isinstance(signatures, list) or not all(isinstance(each, dict) for each in signatures):
        raise ImageError(f"signatures: found {shown(signatures)}, expected a list of signatures")
    return Envelope(
        decoded(members.get("payload"), "payload"),
        tuple(decoded(each.get("sig"), "sig") for each in signatures),
        str(members.get("payloadType")),
    )


def decoded(text: object, name: str) -> bytes:
    """The bytes of a base64 text; raise ImageError if it is something else."""
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError(f"{name}: found {shown(text)}, expected base64") from None
