"""Manifests in a registry (distribution-spec, "Pulling manifests", "Pushing Manifests")."""

from __future__ import annotations

from build.oci.descriptor import Blob
from build.oci.media_types import INDEXES, MANIFESTS
from build.oci.reference import Repository
from build.stores.registry.http import Request
from build.stores.registry.session import Session

ACCEPT = ", ".join(sorted(MANIFESTS | INDEXES))


async def pull_manifest(session: Session, repository: Repository, reference: str) -> Blob | None:
    """The manifest that a tag or digest refers to, or None."""
    path = f"manifests/{reference}"

    async def pull() -> Blob | None:
        response = await session.send(repository, Request("GET", path, headers={"Accept": ACCEPT}), (200, 404))
        if response.status == 404:
            return None
        manifest = Blob.of(response.headers.get("content-type", "").partition(";")[0], response.data)
        session.agree(repository, path, manifest.digest, response.headers.get("docker-content-digest"))
        session.agree(repository, path, manifest.digest, reference if ":" in reference else None)
        return manifest

    return await session.http.retries.retried(pull)


async def push_manifest(session: Session, repository: Repository, reference: str, manifest: Blob) -> None:
    """Store a manifest under a tag or its digest."""
    path = f"manifests/{reference}"

    async def push() -> None:
        request = Request("PUT", path, manifest.data, {"Content-Type": manifest.media_type})
        stored = await session.send(repository, request, (201,))
        session.agree(repository, path, stored.headers.get("docker-content-digest"), manifest.digest)

    await session.http.retries.retried(push)
