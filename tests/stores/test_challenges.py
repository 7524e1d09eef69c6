"""What a registry asks of us, in all the ways that headers can say it, and tokens that end before the run does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Lock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build.stores.registry.auth import Challenge, challenge
from tests.support.checkout import Checkout, Run
from tests.support.fronts import Asked, Said, front
from tests.support.logins import bearer_registry, configured, encoded
from tests.support.properties import examples
from tests.support.registries import recording
from tests.support.token_server import SERVICE, TokenServer

Released = tuple[Checkout, Run]

pytestmark = pytest.mark.usefixtures("secrets")

_TOKEN = st.text("!#$%&'*+-.^_`|~abcXYZ019", min_size=1, max_size=8)
_VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
_SCHEMES = st.text("abcXYZ", min_size=1, max_size=8)
_CHALLENGES = st.lists(
    st.tuples(_SCHEMES, st.dictionaries(_TOKEN.map(str.lower), _VALUE, max_size=3)), min_size=1, max_size=4
)


@examples(400)
@given(st.text(max_size=80) | st.text('Basic Bearer realm=",\\ \t=x', max_size=60))
def test_no_header_is_too_strange(header: str) -> None:
    found = challenge(header)
    assert found.scheme == found.scheme.lower()


@examples(300)
@given(_CHALLENGES, st.sampled_from([", ", ",", " , ", ",, "]), st.sampled_from(["=", " = "]))
def test_challenges_come_back(wanted: list[tuple[str, dict[str, str]]], comma: str, equals: str) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = comma.join(
        f"{scheme} {comma.join(f'{name}{equals}{quoted(value)}' for name, value in parameters.items())}"
        for scheme, parameters in wanted
    )
    # Before any that are invented comes the one that is liked best; a later one is not mixed up with it.
    assert challenge(f'Bearer realm="here"{comma}{header}') == Challenge("bearer", {"realm": "here"})
    assert challenge(f'{header}{comma}Bearer realm="here"') in [
        Challenge("bearer", {"realm": "here"}),
        *(Challenge("bearer", parameters) for scheme, parameters in wanted if scheme.lower() == "bearer"),
    ]
    first, parameters = wanted[0]
    if first.lower() not in {"bearer", "basic"} and not {each.lower() for each, _ in wanted} & {"bearer", "basic"}:
        assert challenge(header) == Challenge(first.lower(), parameters)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Bearer realm="https://a/b?c=d,e",scope="x:y:pull,push x:z:pull"', "https://a/b?c=d,e"),
        ("bearer REALM=here", "here"),
        ("Bearer realm=https://a/b,service=c", "https://a/b"),
        ('Bearer realm="here', "here"),
        ('Negotiate, Basic realm="x", Bearer realm="y"', "y"),
        ('Negotiate YWJj==, Bearer realm="y"', "y"),
        ('Digest realm="Bearer realm=z", nonce="a, Bearer b", Bearer realm="y"', "y"),
        (r'Bearer realm="a\"b\\c"', r"a\"b\c".replace(r"\"", '"')),
    ],
)
def test_realms(header: str, expected: str) -> None:
    assert challenge(header).parameters["realm"] == expected


@pytest.mark.parametrize(
    "pattern", ["a", "a ", "a=", 'a="', '"', '\\"', 'a="\\', " ", "= ", ",", 'a = "b" ', "a, ", 'Bearer realm="']
)
def test_a_header_is_read_in_one_go(pattern: str) -> None:
    """However long: what is read twice would take minutes here."""
    code = f"from build.stores.registry.auth import challenge; challenge({pattern!r} * (1_000_000 // {len(pattern)}))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_scheme_without_an_end_is_not_shown(checkout: Checkout, basic: str) -> None:
    with front(basic) as between:
        between.change = lambda _, said: said.replace("WWW-Authenticate", "x" * 30_000) if said.status == 401 else None
        folder = configured(checkout, auths={between.host: encoded()})
        message = checkout.refuses(1, "push", REGISTRY=between.host, DOCKER_CONFIG=folder)
        assert " requires xxx" in message
        assert len(message) < 1000


@pytest.mark.parametrize(
    "headers",
    [
        ('Negotiate, Digest realm="a, Basic b", nonce="c", Basic realm="here"',),
        ("Negotiate", 'Basic realm="here"'),
        ('basic realm=here, charset="UTF-8"', "NTLM"),
    ],
)
def test_basic_among_others(checkout: Checkout, basic: str, headers: tuple[str, ...]) -> None:
    with front(basic) as between:
        between.change = lambda _, said: said.replace("WWW-Authenticate", *headers) if said.status == 401 else None
        folder = configured(checkout, auths={between.host: encoded()})
        checkout("push", REGISTRY=between.host, DOCKER_CONFIG=folder)


@pytest.mark.parametrize("in_one_line", [True, False])
def test_bearer_beside_basic(checkout: Checkout, bearer: str, tokens: TokenServer, in_one_line: bool) -> None:
    def both(_: Asked, said: Said) -> None:
        if said.status == 401:
            headers = ['Basic realm="elsewhere"', said.header("WWW-Authenticate")]
            said.replace("WWW-Authenticate", *([", ".join(headers)] if in_one_line else headers))

    with front(bearer) as between:
        between.change = both
        folder = configured(checkout, auths={between.host: encoded()})
        checkout("push", REGISTRY=between.host, DOCKER_CONFIG=folder)
        assert tokens.requests
        assert not [each for each in between.authorizations if each.startswith("Basic")]


def test_a_scheme_that_nobody_knows(checkout: Checkout, basic: str) -> None:
    with front(basic) as between:
        between.change = lambda _, said: said.replace("WWW-Authenticate", "Negotiate") if said.status == 401 else None
        folder = configured(checkout, auths={between.host: encoded()})
        assert "negotiate" in checkout.refuses(1, "push", REGISTRY=between.host, DOCKER_CONFIG=folder)
        between.change = lambda _, said: said.replace("WWW-Authenticate")
        assert "unknown" in checkout.refuses(1, "push", REGISTRY=between.host, DOCKER_CONFIG=folder)


@pytest.mark.parametrize("realm", ["", "http://[::1", "ftp://tokens.test/"])
def test_a_realm_that_leads_nowhere(checkout: Checkout, basic: str, realm: str) -> None:
    with front(basic) as between:
        between.change = lambda _, said: said.replace("WWW-Authenticate", f'Bearer realm="{realm}",service="x"')
        folder = configured(checkout, auths={between.host: encoded()})
        message = checkout.refuses(1, "push", REGISTRY=between.host, DOCKER_CONFIG=folder)
        assert between.host in message


def test_a_token_from_nowhere(checkout: Checkout, basic: str) -> None:
    with front(basic) as between:
        between.change = lambda _, said: said.replace("WWW-Authenticate", 'Bearer service="x"')
        message = checkout.refuses(1, "push", REGISTRY=between.host)
        assert f"{between.host} requires a token for pause-amd64: found no realm, expected its URL" in message


def test_a_token_that_ends_in_the_middle(
    released: Released, checkout: Checkout, bearer: str, tokens: TokenServer
) -> None:
    """The registry itself refuses a token that is too old, when blobs are half there."""
    lock, aged = Lock(), list[str]()

    def grow_old(asked: Asked) -> None:
        with lock:
            known = any(asked.path in each for each in aged)  # sent again, with a new one
            if asked.method == "PUT" and len(aged) < 3 and asked.authorization and not known:
                name = asked.path.split("/")[2]
                asked.headers["Authorization"] = f"Bearer {tokens.token([f'repository:{name}:pull,push'], set(), 900)}"
                aged.append(str(asked))

    with front(bearer) as between:
        between.instead = grow_old
        folder = configured(checkout, auths={between.host: encoded()})
        run = checkout("all-push", REGISTRY=between.host, DOCKER_CONFIG=folder)
        assert list(run.digests.values()) == list(released[1].digests.values())
        assert len(aged) == 3
        for each in aged:
            path = each.partition("?")[0]
            assert len([again for again in between.asked if str(again).startswith(path)]) > 1


def test_no_right_to_mount(released: Released, checkout: Checkout, bearer: str, tokens: TokenServer) -> None:
    """Who may not read there sends the blobs again."""
    tokens.mountable = False
    with recording(bearer) as between:
        folder = configured(checkout, auths={between.host: encoded()})
        run = checkout("all-push", REGISTRY=between.host, DOCKER_CONFIG=folder)
        refused = [each for each in between.exchanges if "mount=" in each.path and each.status == 401]
        assert refused
        assert [each for each in between.exchanges if each.method == "PUT" and "/v2/pause/blobs/" in each.path]
    assert list(run.digests.values()) == list(released[1].digests.values())


@pytest.mark.parametrize("names", [("token",), ("access_token",), ("token", "access_token")])
def test_names_of_a_token(checkout: Checkout, bearer: str, tokens: TokenServer, names: tuple[str, ...]) -> None:
    tokens.names = names
    folder = configured(checkout, auths={bearer: encoded()})
    checkout("push", REGISTRY=bearer, DOCKER_CONFIG=folder)


def test_a_token_server_that_is_busy_once(checkout: Checkout, bearer: str, tokens: TokenServer) -> None:
    tokens.failing = [500, 503]
    folder = configured(checkout, auths={bearer: encoded()})
    checkout("push", REGISTRY=bearer, DOCKER_CONFIG=folder)
    assert tokens.failing == []


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"tokens": {}}', b'{"token": "correct\\nhorse"}', b'{"token": "corr\xc3\xa9ct"}', b"\xff"],
)
def test_an_answer_that_is_no_token(checkout: Checkout, tmp_path: Path, tokens: TokenServer, body: bytes) -> None:
    with front() as elsewhere:
        elsewhere.instead = lambda _: Said(200, [], body)
        with bearer_registry(tmp_path / "registry", tokens, f"http://{elsewhere.host}/token") as host:
            message = checkout.refuses(1, "push", REGISTRY=host)
    assert f"http://{elsewhere.host}/token: expected a JSON object with a token" in message
    assert "orr" not in message.split("expected")[1]


def test_several_scopes_are_asked_for_at_once(checkout: Checkout, bearer: str, tokens: TokenServer) -> None:
    folder = configured(checkout, auths={bearer: encoded()})
    checkout("all-push", REGISTRY=bearer, DOCKER_CONFIG=folder)
    assert [each for each in tokens.requests if each.count("scope=") == 2]
    assert all(f"service={SERVICE}" in each for each in tokens.requests)
