"""cosign's older form: layers of a manifest under a tag, `.sig` for signatures and `.att` for attestations.

cosign's SIGNATURE_SPEC.md; the payload is containers/image's containers-signature(5), "simple signing". Nodes know no
other form: the policy.json of podman and CRI-O asks for it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from build.attest.bundle import EMPTY
from build.attest.dsse import Envelope, decoded
from build.attest.keys.keys import PublicKey, Signer
from build.errors import ImageError
from build.oci.descriptor import Blob
from build.oci.image import dump
from build.oci.media_types import OCI
from build.oci.reference import Repository
from build.oci.strict import FREE, MANIFEST, parse, shown

PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
DSSE = "application/vnd.dsse.envelope.v1+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_PREDICATE = "predicateType"
# cosign gives its manifests the config of an image. Nothing is in it that readers need.
_CONFIG = Blob.of(OCI.config, EMPTY.data)


@dataclass(frozen=True)
class Layer:
    """A layer of such a manifest: its content and its annotations, which have the signature."""

    blob: Blob
    annotations: Mapping[str, str]

    @property
    def fields(self) -> dict[str, Any]:
        """The descriptor in the manifest."""
        return {**self.blob.descriptor().fields(), "annotations": dict(self.annotations)}


def signature(digest: str, repository: Repository, signer: Signer) -> Layer:
    """The signature of a manifest as that of an image in `repository`."""
    payload = dump(
        {
            "critical": {
                "identity": {"docker-reference": str(repository)},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )
    return Layer(Blob.of(PAYLOAD, payload), {_SIGNATURE: base64.b64encode(signer.sign(payload)).decode()})


def attestation(envelope: Envelope, predicate_type: str) -> Layer:
    """The layer of an attestation."""
    return Layer(Blob.of(DSSE, dump(envelope.fields)), {_SIGNATURE: "", _PREDICATE: predicate_type})


def layers_of(manifest: bytes) -> list[Mapping[str, Any]]:
    """The descriptors of the layers; raise ImageError if this is no such manifest."""
    layers = parse(manifest, MANIFEST).get("layers")
    if not isinstance(layers, list) or not all(isinstance(each, dict) for each in layers):
        raise ImageError(f"layers: found {shown(layers)}, expected a list of signatures")
    return layers


def with_layers(current: Blob | None, layers: Iterable[Mapping[str, Any]]) -> Blob:
    """The manifest `current` with these layers added, but for those that it has; see `Layer.fields`."""
    members: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI.manifest,
        "config": _CONFIG.descriptor().fields(),
        "layers": [],
    }
    if current:
        members = {**parse(current.data, MANIFEST), "layers": layers_of(current.data)}
    known = [_identity(each) for each in members["layers"]]
    new = [each for each in layers if _identity(each) not in known]
    if current and not new:
        return current
    media_type = current.media_type if current else OCI.manifest
    return Blob.of(media_type, dump({**members, "layers": [*members["layers"], *new]}))


def is_signed_by(key: PublicKey, layer: Mapping[str, Any], payload: bytes) -> bool:
    """Whether a layer of a `.sig` manifest, whose content is `payload`, is signed by `key`."""
    text = (layer.get("annotations") or {}).get(_SIGNATURE)
    return bool(text) and key.verify(decoded(text, _SIGNATURE), payload)


def parse_payload(payload: bytes) -> tuple[str, str]:
    """The digest that is signed, and the name of its repository; raise ImageError if it is malformed."""
    critical: Any = parse(payload, FREE).get("critical")
    try:
        return str(critical["image"]["docker-manifest-digest"]), str(critical["identity"]["docker-reference"])
    except (KeyError, TypeError):
        raise ImageError(f"critical: found {shown(critical)}, expected an image and its identity") from None


def predicate_type(layer: Mapping[str, Any]) -> str:
    """The type of an attestation, as its annotation says."""
    return str((layer.get("annotations") or {}).get(_PREDICATE) or "")


def _identity(layer: Mapping[str, Any]) -> Sequence[object]:
    return layer.get("digest"), (layer.get("annotations") or {}).get(_SIGNATURE)
