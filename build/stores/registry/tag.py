"""Tags in a registry (distribution-spec, "Checking if content exists in the registry", "Listing Tags")."""

from __future__ import annotations

import json
import re
from functools import partial
from urllib.parse import urlsplit

from build.errors import PublishError
from build.oci.reference import TAG, Repository
from build.stores.http.failures import NotVisibleError
from build.stores.http.messages import Request, Response
from build.stores.http.urls import resolved
from build.stores.registry.manifest import ACCEPT, pull_once
from build.stores.registry.session import Session, told_digest

# A page of tags, and all of them.
_PAGE, _MOST_TAGS = 1000, 100_000
# A link to the next page (RFC 8288, 3).
_NEXT = re.compile(r"""<([^>]*)>\s*;[^,]*?\brel\s*=\s*"?next\b""", re.IGNORECASE)

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


async def names(session: Session, repository: Repository) -> list[str]:
    """All tags, in the registry's order, page by page; none if there is no such repository."""
    found: dict[str, None] = {}
    asked, path = set[str](), f"tags/list?n={_PAGE}"
    while path:
        asked.add(path)
        page, path = await session.http.retries.retried(partial(_page, session, repository, path))
        found.update(dict.fromkeys(page))
        if path in asked:
            raise PublishError(f"{repository}: its list of tags does not end: the next page is one that was before")
        if len(found) > _MOST_TAGS:
            raise PublishError(f"{repository}: found more than {_MOST_TAGS} tags, expected {_MOST_TAGS} at most")
    return list(found)


async def _page(session: Session, repository: Repository, path: str) -> tuple[list[str], str]:
    """The tags of one page, and the path of the next one, empty if there is none."""
    response = await session.send(repository, Request("GET", path), (200, 404))
    if response.status == 404:
        return [], ""
    try:
        tags = json.loads(response.data)["tags"] or []
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PublishError(f"{repository}: its list of tags: found no JSON with tags, expected that") from None
    if not isinstance(tags, list) or not all(isinstance(each, str) and TAG.fullmatch(each) for each in tags):
        raise PublishError(f"{repository}: its list of tags: found something that is not a tag, expected tags only")
    return tags, next_page(response)


def next_page(response: Response) -> str:
    """The path of the page after this one of a list, empty if it is the last one."""
    link = _NEXT.search(response.headers.get("link", ""))
    # A registry behind a proxy may take its own address for another one: only path and query count.
    following = resolved(response.url, link[1], "Link") if link else ""
    return urlsplit(following)._replace(scheme="", netloc="").geturl()


async def _digest(session: Session, repository: Repository, tag: str, certain: bool) -> str | None:
    request = Request("HEAD", f"manifests/{tag}", headers={"Accept": ACCEPT})
    response = await session.send(repository, request, (200, *_ASK_WITH_GET))
    if response.status == 200 and (found := told_digest(response)):
        return found
    if response.status == 404 and not certain:
        return None
    manifest = await pull_once(session, repository, tag)
    return manifest.digest if manifest else None
