"""How a registry is told who we are, when it asks (distribution-spec's Docker token authentication, and Basic)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

from build.errors import PublishError
from build.oci.reference import Repository
from build.stores.registry.faults import Answer, refusal
from build.stores.registry.transport import Transport
from build.stores.registry.trust import redacted, seen_from

if TYPE_CHECKING:
    from build.stores.registry.auth import Credentials


class Login:
    """Who we are to the registry `host`, as `config_file` and its credential helpers say."""

    def __init__(self, host: str, config_file: Path, transport: Transport) -> None:
        self._host = host
        self._config_file = config_file
        self._transport = transport
        self._known: asyncio.Task[Credentials | None] | None = None

    async def answer(self, origin: str, answer: Answer, repository: Repository) -> str:
        """The `Authorization` that answers the challenge of a 401 from `origin`, the registry's URL.

        Raises PublishError if we are nobody there, or the server of tokens has none for us.
        """
        from build.stores.registry import auth

        asked = auth.challenge(answer.headers.get("www-authenticate", ""))
        known = await self._credentials()
        if asked.scheme == "basic" and known and not known.identity_token:
            return known.basic
        if asked.scheme != "bearer":
            raise PublishError(
                f"{self._host} wants {asked.scheme or 'unknown'} credentials for {repository.name}:"
                f" found none in {self._config_file}\n  log in first: docker login {self._host}"
            )
        if not asked.parameters.get("realm"):
            raise PublishError(f"{self._host} wants a token for {repository.name}: found no realm, expected its URL")
        request = auth.token_request(asked, known)
        realm = seen_from(f"{origin}/v2/", request.url, "realm")
        given = await self._transport.exchange(request.method, realm, request.body, request.headers)
        if given.status != 200:
            raise PublishError(refusal(request.method, realm, given) + f"\n  log in first: docker login {self._host}")
        try:
            found = json.loads(given.data)
            token = str(found.get("token") or found["access_token"])
        except (ValueError, KeyError, AttributeError, RecursionError):
            token = ""
        if not (token.isascii() and token.isprintable() and token):  # a header is made of it
            raise PublishError(f"{redacted(realm)}: expected a JSON object with a token")
        return f"Bearer {token}"

    async def _credentials(self) -> Credentials | None:
        """Asked for once, as a credential helper is a program that may take its time."""
        from build.stores.registry import auth

        if self._known is None:
            self._known = asyncio.ensure_future(asyncio.to_thread(auth.credentials, self._config_file, self._host))
        return await asyncio.shield(self._known)
