"""Tags in a registry (distribution-spec, "Checking if content exists in the registry")."""

from __future__ import annotations

from build.oci.reference import Repository
from build.stores.http.failures import NotVisibleError
from build.stores.http.messages import Request
from build.stores.registry.manifest import ACCEPT, pull_once
from build.stores.registry.session import Session, told_digest

# Some registries refuse HEAD, or have nothing to say to it where GET finds a manifest.
_ASK_WITH_GET = (204, 400, 403, 404, 405, 501)


async def digest(session: Session, repository: Repository, tag: str, certain: bool) -> str | None:
    """The digest that `tag` refers to, or None; with `certain`, what HEAD does not find is asked for with GET."""
    return await session.http.retries.retried(lambda: _digest(session, repository, tag, certain))


async def settled_digest(
    session: Session, repository: Repository, tag: str, wanted: str, before: str | None
) -> str | None:
    """The digest that `tag` refers to after it was moved from `before` to `wanted`, once that move can be seen."""

    async def settled() -> str | None:
        found = await _digest(session, repository, tag, certain=True)
        if found != wanted and found in (None, before):
            raise NotVisibleError(
                f"{repository}:{tag}: found {found or 'no such tag'}, expected {wanted}, which was just pushed"
            )
        return found

    return await session.http.retries.retried(settled)


async def _digest(session: Session, repository: Repository, tag: str, certain: bool) -> str | None:
    request = Request("HEAD", f"manifests/{tag}", headers={"Accept": ACCEPT})
    response = await session.send(repository, request, (200, *_ASK_WITH_GET))
    if response.status == 200 and (found := told_digest(response)):
        return found
    if response.status == 404 and not certain:
        return None
    manifest = await pull_once(session, repository, tag)
    return manifest.digest if manifest else None
