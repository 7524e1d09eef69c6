"""Registries with a lock, and Docker's config.json with the key."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from build.oci.reference import Repository
from build.stores.registry.credentials import Credentials, Logins
from tests.support.checkout import Checkout
from tests.support.registries import registry
from tests.support.token_server import SERVICE, TokenServer

USER, PASSWORD = "releaser", "correct horse"
# The password in bcrypt, the one hash that docker-registry takes.
_HTPASSWD = f"{USER}:$2b$04$W82bcZ.fK12yMi0SizmcF.rfsp//X2g2Ef3.EAWBaZEQDWdhL278m\n"


def configured(checkout: Checkout, **config: Any) -> str:
    """DOCKER_CONFIG: a folder with this config.json."""
    folder = checkout.side / "docker"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def encoded(password: str = PASSWORD) -> dict[str, str]:
    """An entry of `auths`."""
    return {"auth": b64encode(f"{USER}:{password}".encode()).decode()}


def found(source: Path, repository: str) -> Credentials | None:
    """The credentials for HOST/NAME from one file."""

    async def find() -> Credentials | None:
        return await Logins((source,), lambda: 60).find(Repository.parse(repository))

    return asyncio.run(find())


def helper(checkout: Checkout, script: str) -> str:
    """PATH with docker-credential-xyz, a shell script."""
    folder = checkout.side / "helpers"
    folder.mkdir(exist_ok=True)
    (folder / "docker-credential-xyz").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "docker-credential-xyz").chmod(0o755)
    return f"{folder}:{checkout.environment()['PATH']}"


@contextmanager
def basic_registry(folder: Path, **config: Any) -> Iterator[str]:
    """A registry for USER with PASSWORD."""
    folder.mkdir(parents=True)
    (folder / "htpasswd").write_text(_HTPASSWD)
    with registry(folder, auth={"htpasswd": {"realm": "here", "path": str(folder / "htpasswd")}}, **config) as host:
        yield host


@contextmanager
def bearer_registry(folder: Path, tokens: TokenServer, realm: str = "") -> Iterator[str]:
    """A registry for who has a token of that server's; it sends all others to `realm`, or else to that server."""
    token = {
        "realm": realm or tokens.realm,
        "service": SERVICE,
        "issuer": SERVICE,
        "rootcertbundle": str(tokens.certificate),
    }
    with registry(folder, auth={"token": token}) as host:
        yield host
