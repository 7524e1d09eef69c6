"""Credentials for repositories: Docker's config.json, podman's auth.json, DOCKER_AUTH_CONFIG, and credential helpers.

The format is that of config.json and containers-auth.json(5). Both are read by Go programs, for which the names of
members may be in any case.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from build.errors import PublishError
from build.oci.reference import Repository
from build.stores.http.access import Source, Variable
from build.system import run

# Docker Hub's credentials are stored under a special key.
_HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
# What helpers print if they know nobody; it is part of their protocol.
_NOT_FOUND = b"credentials not found in native keychain"
# The user name that marks a helper's secret as an identity token.
_TOKEN = "<token>"  # noqa: S105
_REPAIR = "repair it, or remove it and log in again"


@dataclass(frozen=True)
class Credentials:
    """A user name and password, an identity token, or a token for the registry itself. No secret is ever shown.

    `origin` says where they are from, and `remedy` says how to replace them.
    """

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    origin: str = ""
    remedy: str = ""

    @property
    def basic(self) -> str:
        """The value of an `Authorization` header; empty if there is only a token."""
        if not self.password and (self.identity_token or self.registry_token):
            return ""
        return "Basic " + b64encode(f"{self.username}:{self.password}".encode()).decode()

    def __str__(self) -> str:
        if not self.basic:
            return f"a token from {self.origin}"
        # Without a password, the user name may be the secret.
        return f"user {self.username!r} from {self.origin}" if self.password else f"a user from {self.origin}"


class Logins:
    """Finds the credentials for a repository. The first of `sources` that has any wins.

    Files are read once, and helpers are asked once, because they are programs that may take their time: as long as
    `left` says (seconds).
    """

    def __init__(self, sources: Sequence[Source], left: Callable[[], float]) -> None:
        self.sources = sources
        self._left = left
        self._documents: dict[Source, Mapping[str, Any]] = {}
        self._answers: dict[tuple[str, str], asyncio.Task[Credentials | None]] = {}

    async def find(self, repository: Repository) -> Credentials | None:
        """The credentials for a repository, or None.

        Raises PublishError if a source or a helper is of no use, or if a helper takes too long.
        """
        for source in self.sources:
            if source not in self._documents:
                self._documents[source] = _document(source)
            if found := await self._in(source, self._documents[source], repository):
                return found
        return None

    async def _in(self, source: Source, document: Mapping[str, Any], repository: Repository) -> Credentials | None:
        """The longest key wins (containers-auth.json(5)); helpers know only hosts, and come before an entry for one."""
        auths = _object(source, document, "auths")
        *namespaces, host = _keys(repository)
        for key in namespaces:
            for each in _matching(auths, key):
                if found := _entry(source, each, auths[each]):
                    return found
        helpers = _object(source, document, "credHelpers")
        named = next(iter(_matching(helpers, host)), None)
        helper = document.get("credsstore") if named is None else helpers[named]
        if helper and (found := await self._asked(source, helper, named or _server(repository))):
            return found
        return next(filter(None, (_entry(source, each, auths[each]) for each in _matching(auths, host))), None)

    async def _asked(self, source: Source, helper: object, server: str) -> Credentials | None:
        if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
            # Not shown: it may be a secret in the wrong place.
            raise PublishError(f"{source}: credsStore, credHelpers: expected the name of a helper, for example pass")
        if (helper, server) not in self._answers:
            answer = _answer(source, f"docker-credential-{helper}", server, self._left())
            self._answers[helper, server] = asyncio.ensure_future(answer)
        return await asyncio.shield(self._answers[helper, server])


def _document(source: Source) -> Mapping[str, Any]:
    """The JSON object of a source, empty if there is none; member names in lower case."""
    try:
        data = source.value.encode() if isinstance(source, Variable) else source.read_bytes()
        return _lower(json.loads(data.decode("utf-8-sig"))) if data.strip() else {}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise PublishError(f"{source}: can't be read: {error.strerror}") from None
    except (ValueError, TypeError, RecursionError):
        raise PublishError(f"{source}: not valid JSON, expected an object in UTF-8\n  {_REPAIR}") from None


def _lower(value: object) -> Mapping[str, Any]:
    """A JSON object with its member names in lower case; TypeError for anything else."""
    if not isinstance(value, dict):
        raise TypeError
    return {name.lower(): each for name, each in value.items()}


def _object(source: Source, document: Mapping[str, Any], member: str) -> Mapping[str, Any]:
    found = document.get(member.lower())
    if found is not None and not isinstance(found, dict):
        raise PublishError(f"{source}: {member}: expected a JSON object\n  {_REPAIR}")
    return found or {}


def api_name(repository: Repository) -> str:
    """<name> in the registry's API: Docker Hub keeps names of one component below `library/`."""
    is_short = repository.host == _HUB_HOSTS[0] and "/" not in repository.name
    return f"library/{repository.name}" if is_short else repository.name


def _keys(repository: Repository) -> list[str]:
    """HOST/NAMESPACE/NAME, HOST/NAMESPACE, HOST: the keys that apply to a repository, the longest first."""
    parts = [_key(repository.host), *api_name(repository).split("/")]
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _key(text: str) -> str:
    """HOST[/NAMESPACE] in lower case, as podman writes keys, for any key that Docker has ever written."""
    scheme, rest = ("", text.lower()) if "://" not in text else text.lower().split("://", 1)
    host, _, path = rest.partition("/")
    namespace = path.strip("/")
    # The API's own path is no namespace.
    if namespace in ("v1", "v2") and (scheme or path.endswith("/")):
        namespace = ""
    return f"{_HUB_HOSTS[0] if host in _HUB_HOSTS else host}/{namespace}".rstrip("/")


def _server(repository: Repository) -> str:
    """What helpers know a host as, unless `credHelpers` names it."""
    return _HUB_KEY if repository.host in _HUB_HOSTS else repository.host


def _matching(members: Mapping[str, Any], key: str) -> list[str]:
    """The members for `key`, the one that is written exactly so first."""
    return sorted((each for each in members if _key(each) == key), key=lambda each: each != key)


def _entry(source: Source, key: str, entry: object) -> Credentials | None:
    """The credentials in an entry of `auths`, None if it is empty: Docker writes `{}` where a helper knows more."""
    remedy = _remedy(source, _key(key))
    try:
        values = {name: value for name, value in _lower(entry).items() if value}
        if auth := values.get("auth"):
            username, colon, password = b64decode("".join(auth.split()), validate=True).decode().partition(":")
            if not colon:
                raise ValueError
            values |= {"username": username, "password": password.strip("\0")}
        elif values.keys().isdisjoint(("password", "identitytoken", "registrytoken")):
            return None
        return _credentials(values, f"{source}, entry {key}" if "/" in _key(key) else str(source), remedy)
    except (ValueError, TypeError, AttributeError):
        expected = "expected base64 of user:password, or a token"
        raise PublishError(f"{source}: the entry for {key} is not valid ({expected})\n  {remedy}") from None


def _credentials(values: Mapping[str, Any], origin: str, remedy: str) -> Credentials:
    """Raises TypeError or ValueError if the values are no credentials, or could not be sent."""
    texts = [values.get(name, "") for name in ("username", "password", "identitytoken", "registrytoken")]
    "".join(texts).encode()  # JSON may contain half of a surrogate pair
    username, password, identity_token, registry_token = texts
    if not registry_token.isascii() or not registry_token.isprintable():  # it goes into a header
        raise ValueError
    return Credentials(username, password, identity_token, registry_token, origin, remedy)


def _remedy(source: Source, key: str) -> str:
    """How to replace the credentials for HOST or HOST/NAMESPACE in a source."""
    if isinstance(source, Variable):
        return f"correct {source}, or unset it and log in: docker login {key.partition('/')[0]}"
    if source.name == "config.json" and "/" not in key:
        return f"log in again: docker login {key}"
    return f"log in again: podman login --authfile {shlex.quote(str(source))} {key}"


async def _answer(source: Source, program: str, server: str, timeout: float) -> Credentials | None:
    """What a helper answers for a server; None if it knows nobody there."""

    def failed(words: str) -> PublishError:
        return PublishError(f"{source}: the credential helper for {server} failed: {program} {words}")

    try:
        ended = await run([program, "get"], data=server.encode(), timeout=timeout)
    except TimeoutError:
        raise failed(f"has not answered in {timeout:.0f} s\n  timed out: --timeout (seconds)") from None
    except FileNotFoundError:
        hint = f"install it, or remove it from {source} and log in: docker login {_key(server)}"
        raise failed(f"not installed or not in PATH\n  {hint}") from None
    except OSError as error:
        raise failed(f"can't be started: {error.strerror}") from None
    if _NOT_FOUND in ended.stdout:
        return None
    if ended.status:
        # Its own words are shown, but never an answer that it gave before it failed.
        words = "" if '"secret"' in ended.words.lower() else f": {ended.words}"
        raise failed(f"ended with exit status {ended.status}{words}")
    try:
        answer = _lower(json.loads(ended.stdout.decode()))
        username, secret = answer["username"], answer["secret"]
        if username == secret == "":  # so docker-credential-pass answers for servers that it does not know
            return None
        kind = "identitytoken" if username == _TOKEN else "password"
        return _credentials(
            {"username": username, kind: secret}, f"{program} ({source})", _remedy(source, _key(server))
        )
    except (ValueError, TypeError, LookupError, RecursionError):
        raise failed("has not answered with a JSON object with Username and Secret") from None
