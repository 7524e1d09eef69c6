"""Credentials go to the host that asked for them, on a way that nobody can read, and to no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import Checkout
from tests.support.fronts import Asked, Front, Said, front
from tests.support.logins import basic_registry, bearer_registry, configured, encoded
from tests.support.registries import registry
from tests.support.token_server import TokenServer

pytestmark = pytest.mark.usefixtures("secrets")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Front, Front]]:
    """A registry that wants a password, and another that holds the same and wants none: a store of blobs."""
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "storage")}}
    with (
        basic_registry(tmp_path / "basic", storage=storage) as locked,
        registry(tmp_path / "open", storage=storage) as unlocked,
        front(locked) as ours,
        front(unlocked) as theirs,
    ):
        yield ours, theirs


@pytest.mark.parametrize("status", [302, 303, 307])
def test_a_blob_from_elsewhere(checkout: Checkout, pair: tuple[Front, Front], status: int) -> None:
    ours, theirs = pair
    folder = configured(checkout, auths={ours.host: encoded(), theirs.host: encoded()})

    def elsewhere(asked: Asked) -> Said | None:
        is_blob = asked.method == "GET" and "/blobs/" in asked.path and asked.authorization
        return Said(status, [("Location", f"http://{theirs.host}{asked.path}")]) if is_blob else None

    checkout("push", REGISTRY=ours.host, DOCKER_CONFIG=folder)
    ours.instead = elsewhere
    checkout("push-manifest", "--arch", "amd64", REGISTRY=ours.host, DOCKER_CONFIG=folder)
    assert theirs.authorizations == {""}
    assert len(ours.authorizations) == 2


def test_an_upload_elsewhere(checkout: Checkout, pair: tuple[Front, Front]) -> None:
    ours, theirs = pair

    def elsewhere(_: Asked, said: Said) -> None:
        if said.status == 202:
            said.replace("Location", said.header("Location").replace(ours.host, theirs.host))

    ours.change = elsewhere
    folder = configured(checkout, auths={ours.host: encoded(), theirs.host: encoded()})
    checkout("push", REGISTRY=ours.host, DOCKER_CONFIG=folder)
    assert {each.method for each in theirs.asked} == {"PUT"}
    assert theirs.authorizations == {""}


@pytest.mark.parametrize("location", ["http://[::1", "https://", "ftp://files.test/", "http://localhost:port/"])
def test_an_upload_nowhere(checkout: Checkout, pair: tuple[Front, Front], location: str) -> None:
    ours, _ = pair
    ours.change = lambda _, said: said.replace("Location", location) if said.status == 202 else None
    folder = configured(checkout, auths={ours.host: encoded()})
    message = checkout.refuses(1, "push", REGISTRY=ours.host, DOCKER_CONFIG=folder)
    assert f"{ours.host}: found an invalid URL in the Location of its answer" in message


@pytest.mark.parametrize(
    "target", ["http://files.test/blob?secret=correct%20horse", "http://[::1", "file:///etc/passwd"]
)
def test_a_blob_from_where_nothing_is_sent(checkout: Checkout, pair: tuple[Front, Front], target: str) -> None:
    """Neither in the open to another machine, nor anything but HTTP; what a query says is nobody's business."""
    ours, _ = pair
    folder = configured(checkout, auths={ours.host: encoded()})
    checkout("push", REGISTRY=ours.host, DOCKER_CONFIG=folder)
    ours.instead = lambda asked: (
        Said(307, [("Location", target)]) if asked.method == "GET" and "/blobs/" in asked.path else None
    )
    message = checkout.refuses(1, "push-manifest", "--arch", "amd64", REGISTRY=ours.host, DOCKER_CONFIG=folder)
    assert "expected https" in message or "invalid URL" in message


def test_a_redirect_that_never_ends(checkout: Checkout, pair: tuple[Front, Front]) -> None:
    ours, _ = pair
    ours.instead = lambda asked: Said(307, [("Location", asked.path)])
    assert "redirected more than" in checkout.refuses(1, "push", REGISTRY=ours.host)


def test_a_token_from_elsewhere(checkout: Checkout, tmp_path: Path, tokens: TokenServer) -> None:
    """A realm that sends us on gets the password; whom it names does not."""
    with front() as theirs, front() as realm:
        theirs.instead = lambda _: Said(200, [], b'{"token": "any"}')
        realm.instead = lambda asked: Said(307, [("Location", f"http://{theirs.host}{asked.path}")])
        with bearer_registry(tmp_path / "registry", tokens, f"http://{realm.host}/token") as host:
            folder = configured(checkout, auths={host: encoded(), theirs.host: encoded()})
            assert "401" in checkout.refuses(1, "push", REGISTRY=host, DOCKER_CONFIG=folder)
        assert realm.authorizations == {"Basic " + encoded()["auth"]}
        assert theirs.authorizations == {""}


def test_an_identity_token_is_not_sent_on(checkout: Checkout, tmp_path: Path, tokens: TokenServer) -> None:
    with front() as theirs, front() as realm:
        theirs.instead = lambda _: Said(200, [], b'{"access_token": "any"}')
        realm.instead = lambda asked: Said(307, [("Location", f"http://{theirs.host}{asked.path}")])
        with bearer_registry(tmp_path / "registry", tokens, f"http://{realm.host}/token") as host:
            folder = configured(checkout, auths={host: {"auth": "", "identitytoken": tokens.identity}})
            message = checkout.refuses(1, "push", REGISTRY=host, DOCKER_CONFIG=folder)
            assert f"{realm.host}/token: found a redirect to http://{theirs.host}" in message
        assert theirs.asked == []


def test_a_realm_in_the_open(checkout: Checkout, tmp_path: Path, tokens: TokenServer) -> None:
    """A registry may not have us send the password where anyone can read it."""
    with bearer_registry(tmp_path / "registry", tokens, "http://tokens.test/token") as host:
        folder = configured(checkout, auths={host: encoded()})
        message = checkout.refuses(1, "push", REGISTRY=host, DOCKER_CONFIG=folder)
        assert "http://tokens.test: expected https" in message
        assert "--insecure-registry tokens.test" in message


def test_a_token_is_for_the_registry_alone(checkout: Checkout, bearer: str, tokens: TokenServer) -> None:
    """Nor does the token server get to see the tokens that it gave."""
    with front(tokens.realm.split("/")[2]) as realm, front(bearer) as between:
        between.change = lambda _, said: (
            said.replace("WWW-Authenticate", said.header("WWW-Authenticate").replace(realm.upstream, realm.host))
            if said.status == 401
            else None
        )
        folder = configured(checkout, auths={between.host: encoded()})
        checkout("all-push", REGISTRY=between.host, DOCKER_CONFIG=folder)
        assert realm.authorizations == {"Basic " + encoded()["auth"]}
        assert {each.partition(" ")[0] for each in between.authorizations} == {"", "Bearer"}
