"""The settings that make nodes refuse what a key has not signed: containers-policy.json(5), -registries.d(5)."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from build.attest.attached import attached
from build.attest.keys.keys import PublicKey
from build.cli.nodes.settings import Setting
from build.errors import ImageError, PublishError
from build.oci.parse import Manifest, parse_manifest
from build.oci.platform import UNKNOWN
from build.oci.reference import Reference
from build.stores.store import Store


async def policy(reference: Reference, store: Store, key: PublicKey) -> list[Setting]:
    """The settings with which podman and CRI-O take nothing from a repository but what `key` has signed.

    `reference` is by digest. Raises ImageError if what it refers to is not signed so that nodes see it: they would
    refuse it.
    """
    repository = reference.repository
    digests = [reference.digest, *await _children(reference, store)]
    found = [await attached(store, repository, each, key, Path(os.devnull)) for each in digests]
    names = {each.signed_as for items in found for each in items if each.signed and each.signed_as and not each.fault}
    for digest, items in zip(digests, found, strict=True):
        if not any(each.signed and each.signed_as and not each.fault for each in items):
            raise ImageError(
                f"{repository}@{digest}: found no signature by the key {key.hint} in cosign's form, the only one that"
                f" nodes know\n  sign it: invoke sign {reference} --sign KEY"
            )
    identity: dict[str, str] = {"type": "matchRepository"}
    if len(names) == 1 and (signed_as := next(iter(names))) != str(repository):
        identity = {"type": "exactRepository", "dockerRepository": signed_as}
    rule = {
        "type": "sigstoreSigned",
        "keyData": base64.b64encode(key.pem).decode(),
        "signedIdentity": identity,
    }
    accepted = {
        "default": [{"type": "insecureAcceptAnything"}],
        "transports": {"docker": {str(repository): [rule]}},
    }
    return [
        Setting(
            "policy of podman and CRI-O",
            str(reference),
            "/etc/containers/policy.json",
            json.dumps(accepted, indent=2),
            "systemctl restart crio",
            "merge this into an existing file, and keep its other rules\ncontainerd has no such policy",
        ),
        Setting(
            "signatures of podman and CRI-O",
            str(reference),
            "/etc/containers/registries.d/50-pause.yaml",
            f"docker:\n  {repository}:\n    use-sigstore-attachments: true",
            "systemctl restart crio",
            "without it, signatures in the registry are not looked for, and every image is refused",
        ),
    ]


async def _children(reference: Reference, store: Store) -> list[str]:
    """The digests of the images in a list: nodes ask for the signature of the image, not of the list."""
    manifest = await store.manifest(reference.repository, reference.digest)
    if manifest is None:
        raise PublishError(f"{reference}: not found")
    parsed = parse_manifest(manifest.data, manifest.media_type)
    entries = () if isinstance(parsed, Manifest) else parsed
    return [each.digest for each in entries if not each.attests and each.platform != UNKNOWN]
