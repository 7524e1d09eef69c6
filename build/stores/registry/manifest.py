"""Manifests in a registry (distribution-spec, "Pulling manifests", "Pushing Manifests")."""

from __future__ import annotations

import re

from build.errors import PublishError
from build.oci.descriptor import Blob
from build.oci.media_types import ARTIFACT, INDEXES, MANIFESTS
from build.oci.parse import media_type_of
from build.oci.reference import Repository
from build.stores.http.failures import NotVisibleError
from build.stores.http.messages import Request
from build.stores.registry.session import STORED, Session, told_digest

ACCEPT = ", ".join(sorted(MANIFESTS | INDEXES | {ARTIFACT}))
# Codes for what a manifest refers to (distribution-spec, "Error Codes"). It was stored just before.
_UNKNOWN = re.compile(r"\b(MANIFEST_BLOB_UNKNOWN|MANIFEST_UNKNOWN|BLOB_UNKNOWN|NAME_UNKNOWN)\b")


async def pull_manifest(session: Session, repository: Repository, reference: str) -> Blob | None:
    """The manifest that a tag or digest refers to, or None."""
    return await session.http.retries.retried(lambda: pull_once(session, repository, reference))


async def pull_once(session: Session, repository: Repository, reference: str) -> Blob | None:
    """The same, without retries."""
    path = f"manifests/{reference}"
    response = await session.send(repository, Request("GET", path, headers={"Accept": ACCEPT}), (200, 404))
    if response.status == 404:
        return None
    kind = re.split("[;,]", response.headers.get("content-type", ""))[0].strip().lower()
    manifest = Blob.of(media_type_of(response.data, kind), response.data)
    session.agree(repository, path, manifest.digest, told_digest(response))
    session.agree(repository, path, manifest.digest, reference if ":" in reference else None)
    return manifest


async def push_manifest(session: Session, repository: Repository, reference: str, manifest: Blob) -> bool:
    """Store a manifest under a tag or its digest; return whether the registry itself lists it for its `subject`."""
    path = f"manifests/{reference}"

    async def push() -> bool:
        request = Request("PUT", path, manifest.data, {"Content-Type": manifest.media_type})
        try:
            stored = await session.send(repository, request, STORED)
        except PublishError as error:
            raise NotVisibleError(str(error), error.reason) if _UNKNOWN.search(str(error)) else error from None
        session.agree(repository, path, told_digest(stored), manifest.digest)
        return "oci-subject" in stored.headers

    return await session.http.retries.retried(push)
