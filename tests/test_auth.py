"""Registries that want to know who we are: Basic, Bearer, credential helpers, and certificates of our own."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from tests.checkout import RELEASE, Checkout, Run
from tests.components import need
from tests.reading import inspect
from tests.registries import recording, registry
from tests.token_server import SERVICE, TokenServer, certificate, token_server

Released = tuple[Checkout, Run]
USER, PASSWORD = "releaser", "correct horse"
# The password in bcrypt, the one hash that docker-registry takes.
HTPASSWD = f"{USER}:$2b$04$W82bcZ.fK12yMi0SizmcF.rfsp//X2g2Ef3.EAWBaZEQDWdhL278m\n"


def configured(checkout: Checkout, **config: Any) -> str:
    """DOCKER_CONFIG: a folder with this config.json."""
    folder = checkout.side / "docker"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def encoded(password: str) -> dict[str, str]:
    return {"auth": b64encode(f"{USER}:{password}".encode()).decode()}


@pytest.fixture
def basic(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "here", "path": str(tmp_path / "htpasswd")}}
    with registry(tmp_path / "basic", auth=auth) as host:
        yield host


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    need("openssl", "openssl")
    with token_server(tmp_path / "tokens", USER, PASSWORD) as server:
        yield server


@pytest.fixture
def bearer(tmp_path: Path, tokens: TokenServer) -> Iterator[str]:
    token = {
        "realm": tokens.realm,
        "service": SERVICE,
        "issuer": SERVICE,
        "rootcertbundle": str(tokens.certificate),
    }
    with registry(tmp_path / "bearer", auth={"token": token}) as host:
        yield host


def test_basic_with_a_password_in_the_config(released: Released, checkout: Checkout, basic: str) -> None:
    _, elsewhere = released
    folder = configured(checkout, auths={basic: encoded(PASSWORD)})
    run = checkout("all-push", REGISTRY=basic, DOCKER_CONFIG=folder)
    assert list(run.digests.values()) == list(elsewhere.digests.values())
    with recording(basic) as recorder:
        # Docker's own default place, and an address that nobody logged in to.
        configured(checkout, auths={recorder.host: encoded(PASSWORD)})
        (checkout.side / "docker").rename(checkout.side / ".docker")
        checkout("push-manifest", REGISTRY=recorder.host)


@pytest.mark.parametrize("key", ["credHelpers", "credsStore"])
def test_basic_with_a_credential_helper(checkout: Checkout, basic: str, key: str) -> None:
    helpers = checkout.side / "helpers"
    helpers.mkdir()
    answer = json.dumps({"ServerURL": basic, "Username": USER, "Secret": PASSWORD})
    helper = helpers / "docker-credential-xyz"
    helper.write_text(f'#!/bin/sh\n[ "$1" = get ] && [ "$(cat)" = {basic} ] && echo \'{answer}\'\n')
    helper.chmod(0o755)
    folder = configured(checkout, **{key: {basic: "xyz"} if key == "credHelpers" else "xyz"})
    environment = {"REGISTRY": basic, "DOCKER_CONFIG": folder}
    path = f"{helpers}:{checkout.environment()['PATH']}"
    checkout("push", **environment, PATH=path)

    message = checkout.refuses(1, "push", **environment)
    assert "docker-credential-xyz" in message
    helper.write_text(f"#!/bin/sh\necho {PASSWORD} >&2; exit 1\n")
    assert PASSWORD not in checkout.refuses(1, "push", **environment, PATH=path)


def test_a_wrong_password(checkout: Checkout, basic: str) -> None:
    folder = configured(checkout, auths={basic: encoded("battery staple")})
    message = checkout.refuses(1, "all-push", REGISTRY=basic, DOCKER_CONFIG=folder)
    assert basic in message
    assert "401" in message
    for secret in ("battery staple", encoded("battery staple")["auth"]):
        assert secret not in message


def test_no_password(checkout: Checkout, basic: str) -> None:
    message = checkout.refuses(1, "all-push", REGISTRY=basic)
    assert f"docker login {basic}" in message


def test_a_config_that_is_no_json(checkout: Checkout, basic: str) -> None:
    folder = configured(checkout)
    (Path(folder) / "config.json").write_text(f'{{"auths": "{PASSWORD}')
    message = checkout.refuses(1, "all-push", REGISTRY=basic, DOCKER_CONFIG=folder)
    assert str(Path(folder) / "config.json") in message
    assert PASSWORD not in message


def test_bearer(released: Released, checkout: Checkout, bearer: str, tokens: TokenServer) -> None:
    _, elsewhere = released
    folder = configured(checkout, auths={bearer: encoded(PASSWORD)})
    run = checkout("all-push", REGISTRY=bearer, DOCKER_CONFIG=folder)
    assert list(run.digests.values()) == list(elsewhere.digests.values())
    assert checkout("all-push", REGISTRY=bearer, DOCKER_CONFIG=folder).stdout == run.stdout
    assert tokens.requests
    assert PASSWORD not in run.stderr + "".join(tokens.requests)


def test_bearer_for_mounts_side_by_side(checkout: Checkout, bearer: str, tokens: TokenServer) -> None:
    """Each mount needs a token of its own, and they come all at once: none may be used for another mount."""
    tokens.mounts = Barrier(2 * len(RELEASE))
    folder = configured(checkout, auths={bearer: encoded(PASSWORD)})
    for number in range(2):
        checkout("all-push", REGISTRY=f"{bearer}/{number}", DOCKER_CONFIG=folder)
    assert not tokens.mounts.broken


def test_bearer_for_an_identity_token(checkout: Checkout, bearer: str, tokens: TokenServer) -> None:
    auth = {"auth": b64encode(b"<token>:").decode(), "identitytoken": tokens.identity}
    folder = configured(checkout, auths={bearer: auth})
    run = checkout("push", REGISTRY=bearer, DOCKER_CONFIG=folder)
    assert tokens.identity not in run.stderr + "".join(tokens.requests)


def test_bearer_for_nobody(checkout: Checkout, bearer: str) -> None:
    """The server of tokens lets anyone pull, and says so; the registry then refuses what we send."""
    message = checkout.refuses(1, "push", REGISTRY=bearer)
    assert "401" in message
    assert bearer in message


def test_bearer_with_a_wrong_password(checkout: Checkout, bearer: str) -> None:
    folder = configured(checkout, auths={bearer: encoded("battery staple")})
    message = checkout.refuses(1, "push", REGISTRY=bearer, DOCKER_CONFIG=folder)
    assert f"docker login {bearer}" in message
    assert "battery staple" not in message


def test_https_with_an_authority_of_our_own(released: Released, checkout: Checkout, tmp_path: Path) -> None:
    need("openssl", "openssl")
    _, elsewhere = released
    key, pem = certificate(tmp_path)
    with registry(tmp_path / "registry", http={"tls": {"certificate": str(pem), "key": str(key)}}) as host:
        message = checkout.refuses(1, "all-push", REGISTRY=host)
        assert f"https://{host}/" in message
        assert "certificate" in message.lower()
        run = checkout("all-push", REGISTRY=host, SSL_CERT_FILE=str(pem))
        assert list(run.digests.values()) == list(elsewhere.digests.values())
        assert inspect(f"docker://{host}/pause:3.1", "--raw")[0] == run.digests[f"{host}/pause:3.1"]
