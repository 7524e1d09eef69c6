"""The exchange with one registry: its URLs, plain HTTP or TLS, and authentication when it asks for that."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from urllib.parse import urljoin

from build.errors import PublishError
from build.oci.reference import Repository
from build.stores.registry.access import Access, host_of, is_loopback, origin_of, redacted
from build.stores.registry.auth import Authenticator
from build.stores.registry.failures import TransientError
from build.stores.registry.http import Http, Request, Response, refusal

# Docker Hub's API has a host of its own.
_HUB = {"docker.io": "registry-1.docker.io"}


class Session:
    """Requests to the registry HOST[:PORT].

    Plain HTTP is tried first on the loopback interface, and last with an insecure registry.
    """

    def __init__(self, host: str, access: Access) -> None:
        self._host = host
        self.http = Http(access)
        self._authenticator = Authenticator(host, self.http)
        # Like Docker: an insecure registry may be one with an untrusted certificate.
        self._may_be_plain = access.is_insecure(host)
        scheme = "http" if is_loopback(host) and not self._may_be_plain else "https"
        self.origin = f"{scheme}://{_HUB.get(host, host)}"
        # By repository. Two requests may both ask for a token: the second one is kept.
        self._authorizations: dict[str, str] = {}

    def url(self, repository: Repository, path: str) -> str:
        """The URL of `path` in a repository; `path` may be a whole URL."""
        name = f"library/{repository.name}" if self._host in _HUB and "/" not in repository.name else repository.name
        return urljoin(f"{self.origin}/v2/{name}/", path)

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

        plain = self.url(repository, request.url).startswith(f"http://{host_of(self.origin)}/")
        try:
            response = await send()
        except PublishError:
            if not await self._speaks_plain_http():
                raise
            response = await send()
        self._may_be_plain = False  # the scheme is known now
        if response.status == 400 and plain and await self._speaks_tls():
            response = await send()
        url = self.url(repository, request.url)
        if response.status == 401 and self._is_own(response.url):
            # Sent from here: another request's token, for a mount, may be the one that is kept by now.
            token = await self._authenticator.answer(self.origin, response, repository)
            self._authorizations[repository.name] = token
            response = await send(token)
        if response.status not in expected:
            raise PublishError(refusal(replace(request, url=url), response))
        return response

    def agree(self, repository: Repository, path: str, found: str | None, expected: str | None) -> None:
        """Raise TransientError if two digests, both of which are known, differ."""
        if None not in (found, expected) and found != expected:
            url = redacted(self.url(repository, path))
            raise TransientError(
                f"{url}: found digest {found}, expected {expected}\n  the registry or a proxy is broken"
            )

    async def _speaks_tls(self) -> bool:
        """Whether the registry requires TLS; if so, it is used from now on."""
        # Servers say so in the body, which the answer to a HEAD lacks.
        response = await self.http.request(Request("GET", f"http://{host_of(self.origin)}/v2/"))
        if b"HTTPS" in response.data:
            self.origin = f"https://{host_of(self.origin)}"
        return self.origin.startswith("https:")

    async def _speaks_plain_http(self) -> bool:
        """Whether an insecure registry that failed over TLS answers plain HTTP; if so, it is used from now on."""
        if not self._may_be_plain:
            return False
        try:
            response = await self.http.request(Request("GET", f"http://{host_of(self.origin)}/v2/"))
        except TransientError:
            return False
        # A TLS server may answer plain HTTP with a 400.
        if response.status != 400:
            self.origin = f"http://{host_of(self.origin)}"
        return self.origin.startswith("http:")

    def _is_own(self, url: str) -> bool:
        return origin_of(url) == origin_of(self.origin)
