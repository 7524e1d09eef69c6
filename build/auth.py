"""Who we are to a registry: Docker's config.json, and the challenges of a registry that wants to know.

RFC 7235 for the challenge, RFC 7617 for Basic, and distribution's token specification for Bearer.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from build.errors import PublishError

# Docker Hub's credentials stand under an address of their own.
_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True)
class Credentials:
    """A user's name and password, or a token that stands for both. None of it is ever shown."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an `Authorization` header."""
        return "Basic " + b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class Challenge:
    """What a 401 asks for: a scheme (lower case) and its parameters."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class TokenRequest:
    """The HTTP request that answers a Bearer challenge."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)


def credentials(config_file: Path, host: str) -> Credentials | None:
    """What config.json and its helpers know for `host`, or None. Raises PublishError if they can't be asked."""
    try:
        known = json.loads(config_file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise PublishError(
            f"{config_file}: can't be read as JSON\n  repair it, or log in again: docker login {host}"
        ) from None
    if not any(known.get(key) for key in ("auths", "credsStore", "credHelpers")):
        return None
    # The import is heavy, and most registries that need no log-in never come here.
    from docker import auth, errors

    try:
        config = auth.load_config(config_path=str(config_file))
        found = config.resolve_authconfig("https://index.docker.io/v1/" if host in _HUB_HOSTS else host)
    except errors.DockerException as error:
        raise PublishError(f"{config_file}: the credential helper for {host} failed: {error}") from None
    if not found:
        return None
    known = {key.lower(): value for key, value in found.items()}  # helpers' answers come in capitals
    return Credentials(known.get("username", ""), known.get("password", ""), known.get("identitytoken", ""))


def challenge(header: str) -> Challenge:
    """Read a `WWW-Authenticate` header that holds one challenge."""
    from urllib.request import parse_http_list, parse_keqv_list

    scheme, _, rest = header.partition(" ")
    pairs = [pair for pair in parse_http_list(rest) if "=" in pair]
    return Challenge(scheme.lower(), {key.lower(): value for key, value in parse_keqv_list(pairs).items()})


def token_request(asked: Challenge, known: Credentials | None) -> TokenRequest:
    """The request for the token that `asked` wants: with credentials if we have any, else as nobody in particular."""
    realm = asked.parameters.get("realm", "")
    wanted = {"service": asked.parameters.get("service", ""), "scope": asked.parameters.get("scope", "")}
    if known and known.identity_token:
        grant = {"grant_type": "refresh_token", "refresh_token": known.identity_token, "client_id": "pause", **wanted}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return TokenRequest("POST", realm, headers, urlencode(grant).encode())
    scopes = [("scope", scope) for scope in wanted["scope"].split()]
    query = urlencode([("service", wanted["service"]), *scopes])
    joint = "&" if "?" in realm else "?"
    return TokenRequest("GET", f"{realm}{joint}{query}", {"Authorization": known.basic} if known else {}, None)
