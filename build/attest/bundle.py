"""Sigstore bundles as referrers of an image (sigstore protobuf-specs, Bundle v0.3; cosign's BUNDLE_SPEC.md).

A bundle is verified with a key alone: it has neither certificates nor entries of a transparency log.
"""

from __future__ import annotations

from typing import Any

from build.attest.dsse import Envelope, parse_envelope
from build.attest.keys.keys import PublicKey
from build.errors import ImageError
from build.oci.descriptor import Blob, Descriptor
from build.oci.image import Content, dump
from build.oci.media_types import OCI
from build.oci.strict import FREE, parse, shown

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
# Bundles of any version.
_BUNDLES = "application/vnd.dev.sigstore.bundle"
# The config of an artifact (image-spec manifest.md, "Guidance for an Empty Descriptor").
EMPTY = Blob.of("application/vnd.oci.empty.v1+json", b"{}")
PREDICATE = "dev.sigstore.bundle.predicateType"
CREATED = "org.opencontainers.image.created"


def bundle(envelope: Envelope, key: PublicKey) -> Blob:
    """The bundle of an envelope that `key` verifies; the same envelope gives the same bytes."""
    return Blob.of(
        BUNDLE,
        dump(
            {
                "mediaType": BUNDLE,
                "verificationMaterial": {"publicKey": {"hint": key.hint}},
                "dsseEnvelope": envelope.fields,
            }
        ),
    )


def referrer(content: Blob, predicate_type: str, subject: Descriptor, created: str) -> Content:
    """The manifest of a bundle that refers to `subject`; `created` is a time as in RFC 3339, or empty."""
    annotations = {"dev.sigstore.bundle.content": "dsse-envelope", PREDICATE: predicate_type}
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI.manifest,
        "artifactType": BUNDLE,
        "config": EMPTY.descriptor().fields(),
        "layers": [content.descriptor().fields()],
        "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size},
        "annotations": annotations | ({CREATED: created} if created else {}),
    }
    return Content(Blob.of(OCI.manifest, dump(manifest)), (), (content, EMPTY))


def is_bundle(media_type: str) -> bool:
    """Whether this is the media type of a bundle."""
    return media_type.startswith(_BUNDLES)


def parse_bundle(data: bytes) -> tuple[Envelope, str]:
    """The envelope in a bundle, and the hint at its key, empty if it is not signed with a key.

    Raises ImageError if the bundle is malformed, or has no envelope.
    """
    members = parse(data, FREE)
    material = members.get("verificationMaterial")
    if not isinstance(material, dict):
        raise ImageError(f"verificationMaterial: found {shown(material)}, expected an object")
    key = material.get("publicKey")
    hint = key.get("hint") if isinstance(key, dict) else ""
    return parse_envelope(members.get("dsseEnvelope")), str(hint or "")
