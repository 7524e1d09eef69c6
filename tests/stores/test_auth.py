"""Registries that want to know who we are: Basic, Bearer, and credential helpers."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from threading import Barrier

import pytest

from tests.support.checkout import RELEASE, Checkout, Run
from tests.support.logins import PASSWORD, USER, configured, encoded
from tests.support.registries import recording
from tests.support.token_server import TokenServer

Released = tuple[Checkout, Run]

pytestmark = pytest.mark.usefixtures("secrets")


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
    helper.write_text(f"#!/bin/sh\necho '{answer}'; exit 1\n")
    assert "docker-credential-xyz" in checkout.refuses(1, "push", **environment, PATH=path)


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
        checkout("all-push", REGISTRY=f"{bearer}/{number}", DOCKER_CONFIG=folder, PARALLEL=str(tokens.mounts.parties))
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
