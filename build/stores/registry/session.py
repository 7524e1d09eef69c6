"""The exchange with one registry: its URLs, plain HTTP or TLS, and authentication when it asks for that."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from urllib.parse import urljoin

from build.errors import PublishError
from build.oci.descriptor import DIGEST
from build.oci.reference import Repository
from build.stores.http.access import Access
from build.stores.http.client import Http
from build.stores.http.failures import PlainHTTPError, TransientError
from build.stores.http.messages import Request, Response, answered, refusal
from build.stores.http.urls import host_of, is_loopback, origin_of, redacted
from build.stores.registry.auth import Authenticator
from build.stores.registry.credentials import api_name

# Success of a write: the spec has 201, or 202 where an upload starts, and some registries say it with another one.
STORED = (200, 201, 202, 204)

# Docker Hub's API has a host of its own.
_HUB = {"docker.io": "registry-1.docker.io"}


class Session:
    """Requests to the registry HOST[:PORT].

    On the loopback interface plain HTTP is tried first, then TLS; with an insecure registry TLS first, then plain HTTP.
    """

    def __init__(self, host: str, access: Access) -> None:
        self._host = host
        self.http = Http(access)
        self._authenticator = Authenticator(host, self.http)
        # Like Docker: an insecure registry may be one with an untrusted certificate.
        scheme = "http" if is_loopback(host) and not access.is_insecure(host) else "https"
        self._scheme_known = not access.may_be_plain(host)
        self.origin = f"{scheme}://{_HUB.get(host, host)}"
        self._is_registry = False
        # By repository. Two requests may both ask for a token: the second one is kept.
        self._authorizations: dict[str, str] = {}
        # Those that will be written: a token for reading only may be refused, or hide a repository that is yet to be.
        self.to_write: set[Repository] = set()

    def url(self, repository: Repository, path: str) -> str:
        """The URL of `path` in a repository; `path` may be a whole URL."""
        return urljoin(f"{self.origin}/v2/{api_name(repository)}/", path)

    async def send(self, repository: Repository, request: Request, expected: Collection[int]) -> Response:
        """Send a request, whose URL may be a path in the repository, and once more if credentials are required.

        Raises PublishError for a status that is not `expected`.
        """

        async def send(authorization: str = "") -> Response:
            url, headers = self.url(repository, request.url), dict(request.headers)
            known = authorization or self._authorizations.get(repository.name)
            if known and self._is_own(url):
                headers["Authorization"] = known
            return await self.http.request(replace(request, url=url, headers=headers))

        origin = self.origin
        try:
            response = await send()
        except PublishError:
            if not await self._switched(origin):
                raise
            response = await send()
        else:
            # A TLS server may answer plain HTTP with a 400.
            if response.status == 400 and origin.startswith("http:") and await self._switched(origin):
                response = await send()
        self._scheme_known = True
        await self._refuse_pages(response)
        url = self.url(repository, request.url)
        if response.status == 401 and self._is_own(response.url):
            # Sent from here: another request's token, for a mount, may be the one that is kept by now.
            push = repository in self.to_write
            token = await self._authenticator.answer(self.origin, response, repository, push=push)
            self._authorizations[repository.name] = token
            response = await send(token)
        if response.status not in expected:
            explained = self._authenticator.explained(repository, response.status) if self._is_own(response.url) else ""
            reason = f"{self._host}: {answered(response)}"
            raise PublishError(refusal(replace(request, url=url), response) + explained, reason)
        return response

    async def _refuse_pages(self, response: Response) -> None:
        """Raise PublishError if `response` is a web page, and what every registry has is one, too.

        That is /v2/ (distribution-spec, "Determining Support"). A page there may also ask to log in.
        """
        if self._is_registry or response.status not in (200, 404, 405) or not _is_page(response):
            return
        base = Request("GET", f"{self.origin}/v2/")
        found = await self.http.request(base)
        if _is_page(found) and "www-authenticate" not in found.headers:
            raise PublishError(
                f"{self._host} is not a registry: {base}: found {answered(found)}, a web page"
                "\n  check HOST[:PORT]; a registry answers there with JSON"
            )
        self._is_registry = True

    def agree(self, repository: Repository, path: str, found: str | None, expected: str | None) -> None:
        """Raise TransientError if two digests, both of which are known, differ."""
        if None not in (found, expected) and found != expected:
            url = redacted(self.url(repository, path))
            raise TransientError(
                f"{url}: found digest {found}, expected {expected}\n  the registry or a proxy is broken"
            )

    async def _switched(self, origin: str) -> bool:
        """Whether the registry answers at another URL than `origin`: TLS instead of plain HTTP, or the reverse.

        If so, that is used from now on. Raises PublishError if it speaks TLS, but not with us: for want of a trusted
        certificate, say.
        """
        if self.origin != origin:  # another request has found out
            return True
        if self._scheme_known:
            return False
        scheme = "https" if self.origin.startswith("http:") else "http"
        other = f"{scheme}://{host_of(self.origin)}"
        try:
            response = await self.http.request(Request("GET", f"{other}/v2/"))
        except (TransientError, PlainHTTPError):
            return False
        if scheme == "http" and response.status == 400:
            return False
        self.origin = other
        return True

    def _is_own(self, url: str) -> bool:
        return origin_of(url) == origin_of(self.origin)


def _is_page(response: Response) -> bool:
    return response.headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml"))


def told_digest(response: Response) -> str | None:
    """The digest that a registry names in a header; None if there is none of SHA-256."""
    digest = response.headers.get("docker-content-digest", "").partition(",")[0].strip().lower()
    return digest if DIGEST.fullmatch(digest) else None
