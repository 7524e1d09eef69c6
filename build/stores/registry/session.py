"""The exchange with one registry: its URLs, plain HTTP or TLS, and authentication when it asks for that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from urllib.parse import urljoin, urlsplit

from build.errors import PublishError
from build.oci.media_types import LARGEST_MANIFEST
from build.oci.reference import Repository
from build.stores.registry.access import Access, host_of, is_loopback, redacted
from build.stores.registry.auth import Authenticator
from build.stores.registry.explain import TransientError, refusal
from build.stores.registry.http import Body, Http, Response

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

    async def send(
        self,
        method: str,
        repository: Repository,
        path: str,
        expected: Collection[int],
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        *,
        most: int = LARGEST_MANIFEST,
        receive: Callable[[bytes], object] | None = None,
    ) -> Response:
        """Send a request, and once more with credentials if the registry asks for them. `path` may be a whole URL.

        Raises PublishError for a status that is not `expected`.
        """

        async def request(authorization: str = "") -> Response:
            url, named = self.url(repository, path), dict(headers or {})
            known = authorization or self._authorizations.get(repository.name)
            if known and self._is_own(url):
                named["Authorization"] = known
            return await self.http.request(method, url, body, named, most, receive)

        plain = self.url(repository, path).startswith(f"http://{host_of(self.origin)}/")
        try:
            response = await request()
        except PublishError:
            if not await self._speaks_plain_http():
                raise
            response = await request()
        self._may_be_plain = False  # the scheme is known now
        if response.status == 400 and plain and await self._speaks_tls():
            response = await request()
        if response.status == 401 and self._is_own(self.url(repository, path)):
            # Sent from here: another request's token, for a mount, may be the one that is kept by now.
            token = await self._authenticator.answer(self.origin, response, repository)
            self._authorizations[repository.name] = token
            response = await request(token)
        if response.status not in expected:
            raise PublishError(refusal(method, self.url(repository, path), response))
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
        response = await self.http.request("GET", f"http://{host_of(self.origin)}/v2/")
        if b"HTTPS" in response.data:
            self.origin = f"https://{host_of(self.origin)}"
        return self.origin.startswith("https:")

    async def _speaks_plain_http(self) -> bool:
        """Whether an insecure registry that failed over TLS answers plain HTTP; if so, it is used from now on."""
        if not self._may_be_plain:
            return False
        try:
            response = await self.http.request("GET", f"http://{host_of(self.origin)}/v2/")
        except TransientError:
            return False
        # A TLS server may answer plain HTTP with a 400.
        if response.status != 400:
            self.origin = f"http://{host_of(self.origin)}"
        return self.origin.startswith("http:")

    def _is_own(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self.origin)[:2]
