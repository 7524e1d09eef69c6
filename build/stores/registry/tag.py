"""Tags in a registry (distribution-spec, "Checking if content exists in the registry")."""

from __future__ import annotations

from build.oci.reference import Repository
from build.stores.registry.http import Request
from build.stores.registry.manifest import ACCEPT, pull_manifest
from build.stores.registry.session import Session


async def digest(session: Session, repository: Repository, tag: str) -> str | None:
    """The digest that `tag` refers to, or None."""
    request = Request("HEAD", f"manifests/{tag}", headers={"Accept": ACCEPT})
    response = await session.http.retries.retried(lambda: session.send(repository, request, (200, 404)))
    if response.status == 404:
        return None
    if found := response.headers.get("docker-content-digest"):
        return found
    manifest = await pull_manifest(session, repository, tag)
    return manifest.digest if manifest else None
