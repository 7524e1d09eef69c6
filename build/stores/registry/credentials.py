"""Credentials for registries: Docker's config.json and its credential helpers."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

from build.errors import PublishError
from build.report import trace_command

# Docker Hub's credentials are stored under a special key.
_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HUB_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True)
class Credentials:
    """A user name and password, or an identity token. None of it is ever shown."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an `Authorization` header."""
        return "Basic " + b64encode(f"{self.username}:{self.password}".encode()).decode()


async def credentials(config_file: Path, host: str, timeout: float = 60) -> Credentials | None:
    """The credentials for HOST[:PORT] from config.json or its credential helpers, or None.

    Raises PublishError if the file or a helper is of no use, or if a helper takes longer than `timeout` seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            return await asyncio.to_thread(_credentials, config_file, host)
    except TimeoutError:
        raise PublishError(
            f"{config_file}: the credential helper for {host} has not answered in {timeout:.0f} s"
        ) from None


def _credentials(config_file: Path, host: str) -> Credentials | None:
    try:
        known = json.loads(config_file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise PublishError(
            f"{config_file}: not valid JSON\n  repair it, or log in again: docker login {host}"
        ) from None
    if not isinstance(known, dict):
        raise PublishError(f"{config_file}: expected a JSON object\n  log in again: docker login {host}")
    if not any(known.get(key) for key in ("auths", "credsStore", "credHelpers")):
        return None
    # Most registries that need no credentials never come here.
    import warnings

    from docker import auth, errors

    # It warns of a missing helper, and fails as well.
    warnings.filterwarnings("ignore", module=r"docker\.credentials")
    try:
        config = auth.load_config(config_path=str(config_file))
        place = "https://index.docker.io/v1/" if host in _HUB_HOSTS else host
        if helper := config.get_credential_store(place):
            trace_command([f"docker-credential-{helper}", "get"])
        found = config.resolve_authconfig(place)
    except errors.InvalidConfigFile as error:
        raise PublishError(f"{config_file}: {error}\n  log in again: docker login {host}") from None
    except errors.DockerException as error:
        # A helper's own words are shown, but never an answer that it gave before it failed.
        words = str(error.__cause__ or error).partition(" exited with ")[0] if "Secret" in str(error) else str(error)
        raise PublishError(f"{config_file}: the credential helper for {host} failed: {words}") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise _unusable(config_file, host) from None
    if not found:
        return None
    known = {key.lower(): value for key, value in found.items()}  # helpers answer in mixed case
    parts = [known.get(key, "") for key in ("username", "password", "identitytoken")]
    if not all(isinstance(part, str) for part in parts):
        raise _unusable(config_file, host)
    return Credentials(*parts)


def _unusable(config_file: Path, host: str) -> PublishError:
    return PublishError(
        f"{config_file}: the entry for {host} is not valid (expected base64 of user:password, or a token)"
        f"\n  log in again: docker login {host}"
    )
