"""Docker's config.json: the ways in which it names a host, asks a helper, or is broken."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from build.errors import PublishError
from tests.support.checkout import Checkout
from tests.support.logins import PASSWORD, USER, configured, encoded, found, helper

pytestmark = pytest.mark.usefixtures("secrets")


@pytest.mark.parametrize("key", ["https://HOST", "https://HOST/v1/", "https://HOST/v2/", "http://HOST/v2", "HOST/v1/"])
def test_keys_as_docker_has_written_them(checkout: Checkout, basic: str, key: str) -> None:
    folder = configured(checkout, auths={"else.test": encoded("x"), key.replace("HOST", basic): encoded()})
    checkout("push", REGISTRY=basic, DOCKER_CONFIG=folder)


@pytest.mark.parametrize("key", ["localhost", "HOST0", "https://else.test/HOST", "xHOST"])
def test_keys_of_others(tmp_path: Path, key: str) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {key.replace("HOST", "localhost:5000"): encoded()}}))
    assert found(config, "localhost:5000/pause") is None


def test_a_password_with_colons(checkout: Checkout, basic: str) -> None:
    folder = configured(checkout, auths={basic: encoded("a:b:c")})
    assert "401" in checkout.refuses(1, "push", REGISTRY=basic, DOCKER_CONFIG=folder)


def test_a_store_that_fails(checkout: Checkout, basic: str) -> None:
    path = helper(checkout, "echo no secret service on this machine; exit 1")
    folder = configured(checkout, credsStore="xyz")
    message = checkout.refuses(1, "push", REGISTRY=basic, DOCKER_CONFIG=folder, PATH=path)
    assert f"{folder}/config.json: the credential helper for {basic} failed" in message
    assert "no secret service on this machine" in message


def test_a_store_that_is_not_there(checkout: Checkout, basic: str) -> None:
    run = checkout.ends("push-manifest", REGISTRY=basic, DOCKER_CONFIG=configured(checkout, credsStore="xyz"))
    assert run.code == 1
    assert "docker-credential-xyz not installed" in run.stderr
    assert "Warning" not in run.stderr


def test_a_store_that_knows_nothing(checkout: Checkout, basic: str) -> None:
    """What it does not have may stand in the file."""
    path = helper(checkout, "echo credentials not found in native keychain; exit 1")
    folder = configured(checkout, credsStore="xyz", auths={basic: encoded()})
    checkout("push", REGISTRY=basic, DOCKER_CONFIG=folder, PATH=path)
    folder = configured(checkout, credsStore="xyz", auths={basic: {}})
    message = checkout.refuses(1, "push", REGISTRY=basic, DOCKER_CONFIG=folder, PATH=path, TAG="other")
    assert f"docker login {basic}" in message


@pytest.mark.parametrize("answer", [PASSWORD, "[]", "{}", '{"Username": "releaser"}', f'"{PASSWORD}"', ""])
def test_a_helper_that_talks_nonsense(checkout: Checkout, basic: str, answer: str) -> None:
    path = helper(checkout, f"cat > /dev/null; echo '{answer}'")
    folder = configured(checkout, credHelpers={basic: "xyz"})
    message = checkout.refuses(1, "push", REGISTRY=basic, DOCKER_CONFIG=folder, PATH=path)
    assert f"{folder}/config.json: " in message
    assert basic in message


def test_a_helper_for_one_host_only(checkout: Checkout, basic: str) -> None:
    path = helper(checkout, "echo this is not mine; exit 1")
    folder = configured(checkout, credHelpers={"else.test": "xyz"}, auths={basic: encoded()})
    checkout("push", REGISTRY=basic, DOCKER_CONFIG=folder, PATH=path)
    answer = json.dumps({"ServerURL": basic, "Username": USER, "Secret": PASSWORD})
    path = helper(checkout, f"cat > /dev/null; echo '{answer}'")
    folder = configured(checkout, credHelpers={basic: "xyz"}, auths={basic: encoded("old")})
    checkout("push", REGISTRY=basic, DOCKER_CONFIG=folder, PATH=path)


def test_no_file(checkout: Checkout, basic: str, tmp_path: Path) -> None:
    message = checkout.refuses(1, "push", REGISTRY=basic, DOCKER_CONFIG=str(tmp_path / "nowhere"))
    assert "found none in " in message
    assert f", {tmp_path}/nowhere/config.json\n" in message
    assert f"docker login {basic}" in message


def test_a_file_in_the_folders_place(checkout: Checkout, basic: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = checkout.refuses(1, "push", REGISTRY=basic, DOCKER_CONFIG=str(tmp_path / "file"))
    assert f", {tmp_path}/file/config.json\n" in message


@pytest.mark.parametrize(
    "document",
    [
        [],
        PASSWORD,
        {"auths": PASSWORD},
        {"auths": [PASSWORD]},
        {"auths": {"HOST": PASSWORD}},
        {"auths": {"HOST": {"auth": PASSWORD}}},
        {"auths": {"HOST": {"auth": "YQ=="}}},
        {"auths": {"HOST": {"auth": "/////w=="}}},
        {"auths": {"HOST": {"auth": 5}}},
        {"auths": {"HOST": {"identitytoken": 5}}},
        {"credHelpers": ["xyz"]},
        {"credHelpers": {"HOST": 5}},
        {"credsStore": {"HOST": "xyz"}},
        {"credsStore": "../xyz"},
    ],
)
def test_a_file_of_another_shape(tmp_path: Path, document: Any) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(document).replace("HOST", "registry.test"))
    with pytest.raises(PublishError, match=re.escape(str(config))) as caught:
        found(config, "registry.test/pause")
    assert PASSWORD not in str(caught.value)


def test_a_file_of_another_shape_is_one_message(checkout: Checkout, basic: str) -> None:
    folder = configured(checkout, auths={basic: {"auth": PASSWORD}})
    message = checkout.refuses(1, "push", REGISTRY=basic, DOCKER_CONFIG=folder)
    assert f"{folder}/config.json" in message


def test_an_identity_token_where_a_password_is_wanted(checkout: Checkout, basic: str) -> None:
    folder = configured(checkout, auths={basic: {"identitytoken": PASSWORD}})
    message = checkout.refuses(1, "push", REGISTRY=basic, DOCKER_CONFIG=folder)
    assert f"requires basic credentials for pause-amd64: found a token from {folder}/config.json" in message


def test_a_file_with_no_credentials(checkout: Checkout, basic: str) -> None:
    folder = configured(checkout, psFormat="table", auths={})
    assert f"docker login {basic}" in checkout.refuses(1, "push", REGISTRY=basic, DOCKER_CONFIG=folder)
