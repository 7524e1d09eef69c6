"""Who we are to a registry: Docker's config.json, and the challenges of a registry that wants to know.

RFC 9110 for the challenge, RFC 7617 for Basic, and distribution's token specification for Bearer.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from build import trace
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
    if not isinstance(known, dict):
        raise PublishError(f"{config_file}: expected a JSON object\n  log in again: docker login {host}")
    if not any(known.get(key) for key in ("auths", "credsStore", "credHelpers")):
        return None
    # The import is heavy, and most registries that need no log-in never come here.
    import warnings

    from docker import auth, errors

    # Of a helper that is not there it warns, and fails as well.
    warnings.filterwarnings("ignore", module=r"docker\.credentials")
    try:
        config = auth.load_config(config_path=str(config_file))
        place = "https://index.docker.io/v1/" if host in _HUB_HOSTS else host
        if helper := config.get_credential_store(place):
            trace.command([f"docker-credential-{helper}", "get"])
        found = config.resolve_authconfig(place)
    except errors.InvalidConfigFile as error:
        raise PublishError(f"{config_file}: {error}\n  log in again: docker login {host}") from None
    except errors.DockerException as error:
        # What a helper says when it fails is shown, but not an answer that it gave all the same.
        words = str(error.__cause__ or error).partition(" exited with ")[0] if "Secret" in str(error) else str(error)
        raise PublishError(f"{config_file}: the credential helper for {host} failed: {words}") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise _unusable(config_file, host) from None
    if not found:
        return None
    known = {key.lower(): value for key, value in found.items()}  # helpers' answers come in capitals
    parts = [known.get(key, "") for key in ("username", "password", "identitytoken")]
    if not all(isinstance(part, str) for part in parts):
        raise _unusable(config_file, host)
    return Credentials(*parts)


def _unusable(config_file: Path, host: str) -> PublishError:
    return PublishError(
        f"{config_file}: what it or its credential helper has for {host} is none of Docker's credentials"
        f"\n  log in again: docker login {host}"
    )


_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))\s*')
_SCHEME = re.compile(rf"\s*({_WORD})(?:\s+|$|,)")


def challenge(header: str) -> Challenge:
    """The challenge of a `WWW-Authenticate` header that we answer best: Bearer, else Basic, else its first."""
    found = list(_challenges(header))
    order = {"bearer": 0, "basic": 1}
    return min(found, key=lambda each: order.get(each.scheme, 2), default=Challenge("", {}))


def _challenges(header: str) -> Iterator[Challenge]:
    """RFC 9110, 11.6.1: commas part challenges and their parameters alike; a name without `=` begins a challenge."""
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
