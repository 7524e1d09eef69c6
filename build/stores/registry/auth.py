"""Authentication: the challenge of a registry, and the exchange of credentials for a token.

RFC 9110 for the challenge, RFC 7617 for Basic, and distribution's token specification for Bearer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from build.errors import PublishError
from build.oci.reference import Repository
from build.stores.http.client import Http
from build.stores.http.messages import Request, Response, answered, refusal
from build.stores.http.urls import redacted, resolved
from build.stores.registry.credentials import Credentials, Logins


@dataclass(frozen=True)
class Challenge:
    """What a 401 requires: a scheme (lower case) and its parameters."""

    scheme: str
    parameters: Mapping[str, str]


# Characters of a scheme that are shown.
_LONGEST = 40
# A word, and its value if it is a parameter; or what separates them. Nothing is read twice, however long it is.
_QUOTED = r'"((?:[^"\\]|\\.)*+)"?'
_PART = re.compile(rf'([^\s,="]++)(?:\s*+=\s*+(?:{_QUOTED}|([^\s,"]*+)))?+|{_QUOTED}|[\s,=]++', re.DOTALL)


def challenge(header: str) -> Challenge:
    """The preferred challenge of a `WWW-Authenticate` header: Bearer, else Basic, else the first."""
    order = {"bearer": 0, "basic": 1}
    return min(_challenges(header), key=lambda each: order.get(each.scheme, 2), default=Challenge("", {}))


def _challenges(header: str) -> Iterator[Challenge]:
    """RFC 9110, 11.6.1: commas separate challenges as well as parameters; a name without `=` begins a challenge."""
    scheme, parameters = "", dict[str, str]()
    for word, quoted, plain in (match.group(1, 2, 3) for match in _PART.finditer(header)):
        if word and quoted is None and plain is None:
            if scheme:
                yield Challenge(scheme, parameters)
            scheme, parameters = word.lower(), {}
        elif word:
            parameters[word.lower()] = re.sub(r"\\(.)", r"\1", quoted or "") if plain is None else plain
    if scheme:
        yield Challenge(scheme, parameters)


def for_push(asked: Challenge) -> Challenge:
    """The same, with the right to push in its first scope, that of the repository of the request."""
    first, *others = asked.parameters.get("scope", "").split() or [""]
    resource, _, actions = first.rpartition(":")
    if not resource.startswith("repository:"):
        return asked
    wanted = ",".join(dict.fromkeys([*actions.split(","), "push"]))
    return replace(asked, parameters={**asked.parameters, "scope": " ".join([f"{resource}:{wanted}", *others])})


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
    headers = {"Authorization": known.basic} if known and known.basic else {}
    return Request("GET", f"{realm}{joint}{query}", headers=headers)


class Authenticator:
    """Answers the challenges of the registry `host`."""

    def __init__(self, host: str, http: Http) -> None:
        self._host = host
        self._http = http
        self._logins = Logins(http.access.credentials, http.retries.left)
        # By repository: what the registry's last challenge there was answered with.
        self._used: dict[str, Credentials | None] = {}

    async def answer(self, origin: str, response: Response, repository: Repository, *, push: bool = False) -> str:
        """The `Authorization` that answers the challenge of a 401 from `origin`, the URL of the registry.

        With `push`, a token is asked for that allows pushing, too; if that is refused, one for what is demanded now.
        Raises PublishError if there are no credentials, or the token server refuses them.
        """
        asked = challenge(response.headers.get("www-authenticate", ""))
        known = self._used[repository.name] = await self._logins.find(repository)
        if asked.scheme == "basic" and known and known.basic:
            return known.basic
        if asked.scheme != "bearer":
            found = f"found {known}" if known else f"found none in {self._places}"
            what = f"{self._host} requires {asked.scheme[:_LONGEST] or 'unknown'} credentials"
            raise PublishError(
                f"{what} for {repository.name}: {found}\n  log in first: docker login {self._host}", f"{what}: {found}"
            )
        if known and known.registry_token:
            return f"Bearer {known.registry_token}"
        if not asked.parameters.get("realm"):
            raise PublishError(f"{self._host} requires a token for {repository.name}: found no realm, expected its URL")
        wanted = for_push(asked) if push else asked
        for each in (wanted, asked) if wanted != asked else (asked,):
            request = token_request(each, known)
            request = replace(request, url=resolved(f"{origin}/v2/", request.url, "realm"))
            given = await self._http.request(request)
            if given.status // 100 == 2:
                break
        if given.status // 100 != 2:
            status = 401 if given.status == 400 else given.status  # an identity token that has expired (RFC 6749, 5.2)
            reason = f"{self._host}: {answered(given)}"
            raise PublishError(refusal(request, given) + self.explained(repository, status), reason)
        try:
            found = json.loads(given.data)
            token = str(found.get("token") or found["access_token"])
        except (ValueError, KeyError, AttributeError, RecursionError):
            token = ""
        if not (token.isascii() and token.isprintable() and token):  # it goes into a header
            raise PublishError(f"{redacted(request.url)}: expected a JSON object with a token")
        return f"Bearer {token}"

    def explained(self, repository: Repository, status: int) -> str:
        """Further lines for a refusal: as whom it was sent, where that is from, and how to log in.

        Empty if the registry has not asked for credentials, or refuses for another reason.
        """
        if repository.name not in self._used or status not in (401, 403):
            return ""
        if known := self._used[repository.name]:
            what = "no permission" if status == 403 else "refused credentials"
            return f"\n  {what}: {known}\n  {known.remedy}"
        return f"\n  found no credentials in {self._places}\n  log in first: docker login {self._host}"

    @property
    def _places(self) -> str:
        sources = self._http.access.credentials
        return ", ".join(map(str, sources)) or "HOME or DOCKER_CONFIG, which are not set"
