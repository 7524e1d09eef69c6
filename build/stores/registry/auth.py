"""Authentication: the challenge of a registry, and the exchange of credentials for a token.

RFC 9110 for the challenge, RFC 7617 for Basic, and distribution's token specification for Bearer.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from build.errors import PublishError
from build.oci.reference import Repository
from build.stores.registry.access import redacted, resolved
from build.stores.registry.credentials import Credentials, credentials
from build.stores.registry.http import Http, Request, Response, refusal


@dataclass(frozen=True)
class Challenge:
    """What a 401 requires: a scheme (lower case) and its parameters."""

    scheme: str
    parameters: Mapping[str, str]


_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))\s*')
_SCHEME = re.compile(rf"\s*({_WORD})(?:\s+|$|,)")


def challenge(header: str) -> Challenge:
    """The preferred challenge of a `WWW-Authenticate` header: Bearer, else Basic, else the first."""
    found = list(_challenges(header))
    order = {"bearer": 0, "basic": 1}
    return min(found, key=lambda each: order.get(each.scheme, 2), default=Challenge("", {}))


def _challenges(header: str) -> Iterator[Challenge]:
    """RFC 9110, 11.6.1: commas separate challenges as well as parameters; a name without `=` begins a challenge."""
    at, scheme, parameters = 0, "", dict[str, str]()
    while at < len(header):
        if scheme and (match := _PARAMETER.match(header, at)):
            quoted, plain = match[2], match[3]
            parameters[match[1].lower()] = re.sub(r"\\(.)", r"\1", quoted) if plain is None else plain
        elif match := _SCHEME.match(header, at):
            if scheme:
                yield Challenge(scheme, parameters)
            scheme, parameters = match[1].lower(), {}
        at = match.end() if match else at + 1
        at += header[at : at + 1] == ","
    if scheme:
        yield Challenge(scheme, parameters)


def token_request(asked: Challenge, known: Credentials | None) -> Request:
    """The request for the token that `asked` requires, with credentials if there are any, else anonymous."""
    realm = asked.parameters.get("realm", "")
    wanted = {"service": asked.parameters.get("service", ""), "scope": asked.parameters.get("scope", "")}
    if known and known.identity_token:
        grant = {"grant_type": "refresh_token", "refresh_token": known.identity_token, "client_id": "pause", **wanted}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return Request("POST", realm, urlencode(grant).encode(), headers, secret=True)
    scopes = [("scope", scope) for scope in wanted["scope"].split()]
    query = urlencode([("service", wanted["service"]), *scopes])
    joint = "&" if "?" in realm else "?"
    headers = {"Authorization": known.basic} if known else {}
    return Request("GET", f"{realm}{joint}{query}", headers=headers)


class Authenticator:
    """Answers the challenges of the registry `host`."""

    def __init__(self, host: str, http: Http) -> None:
        self._host = host
        self._http = http
        self._known: asyncio.Task[Credentials | None] | None = None

    async def answer(self, origin: str, response: Response, repository: Repository) -> str:
        """The `Authorization` that answers the challenge of a 401 from `origin`, the URL of the registry.

        Raises PublishError if there are no credentials, or the token server refuses them.
        """
        asked = challenge(response.headers.get("www-authenticate", ""))
        known = await self._credentials()
        if asked.scheme == "basic" and known and not known.identity_token:
            return known.basic
        if asked.scheme != "bearer":
            raise PublishError(
                f"{self._host} requires {asked.scheme or 'unknown'} credentials for {repository.name}:"
                f" found none in {self._http.access.config_file}\n  log in first: docker login {self._host}"
            )
        if not asked.parameters.get("realm"):
            raise PublishError(f"{self._host} requires a token for {repository.name}: found no realm, expected its URL")
        request = token_request(asked, known)
        request = replace(request, url=resolved(f"{origin}/v2/", request.url, "realm"))
        given = await self._http.request(request)
        if given.status != 200:
            raise PublishError(refusal(request, given) + f"\n  log in first: docker login {self._host}")
        try:
            found = json.loads(given.data)
            token = str(found.get("token") or found["access_token"])
        except (ValueError, KeyError, AttributeError, RecursionError):
            token = ""
        if not (token.isascii() and token.isprintable() and token):  # it goes into a header
            raise PublishError(f"{redacted(request.url)}: expected a JSON object with a token")
        return f"Bearer {token}"

    async def _credentials(self) -> Credentials | None:
        """Looked up once, because a credential helper is a program that may take its time."""
        if self._known is None:
            timeout = self._http.retries.left()
            self._known = asyncio.ensure_future(credentials(self._http.access.config_file, self._host, timeout))
        return await asyncio.shield(self._known)
