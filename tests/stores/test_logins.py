"""Which credentials a repository gets, of all that are on a machine, and what a refusal says about them."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from build.errors import PublishError
from tests.cli.test_interrupts import nothing_is_left
from tests.support.checkout import Checkout
from tests.support.components import need
from tests.support.fronts import Front, front
from tests.support.logins import PASSWORD, USER, configured, encoded, found, helper
from tests.support.secrecy import Secrets
from tests.support.token_server import TokenServer

pytestmark = pytest.mark.usefixtures("secrets")

WRONG = "battery staple"
RIGHT = f"Basic {encoded()['auth']}"


@pytest.fixture
def between(basic: str) -> Iterator[Front]:
    with front(basic) as made:
        yield made


def file(path: Path, **config: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config))
    return str(path)


def test_another_namespaces_password_is_never_sent(checkout: Checkout, between: Front) -> None:
    keys = ("team", "team-b", "team/a/pause-arm", "team/a/pause-amd64/more", "tea", "team/a/pause")
    others = {f"{between.host}/{key}": encoded(f"{WRONG} {key}") for key in keys}
    auths = {between.host: encoded(f"{WRONG} of the host"), **others, f"{between.host}/team/a": encoded()}
    folder = configured(checkout, auths=auths)
    checkout("push", REGISTRY=f"{between.host}/team/a", DOCKER_CONFIG=folder)
    assert between.authorizations == {"", RIGHT}

    folder = configured(checkout, auths={f"{between.host}/team": encoded()})
    between.asked.clear()
    message = checkout.refuses(1, "push", REGISTRY=f"{between.host}/team-b", DOCKER_CONFIG=folder)
    assert "requires basic credentials for team-b/pause-amd64: found none in " in message
    assert between.authorizations == {""}


def test_a_host_for_what_has_no_key_of_its_own(checkout: Checkout, between: Front) -> None:
    auths = {f"{between.host}/else": encoded(WRONG), between.host: encoded(), f"{between.host}/team": {}}
    checkout("push", REGISTRY=f"{between.host}/team", DOCKER_CONFIG=configured(checkout, auths=auths))
    assert between.authorizations == {"", RIGHT}


@pytest.mark.parametrize("program", ["podman", "skopeo"])
def test_who_logged_in_to_a_namespace(checkout: Checkout, basic: str, program: str) -> None:
    runtime = checkout.side / "run"
    runtime.mkdir()
    auth_file = runtime / "containers/auth.json"
    login = [need(program, program), "login", "--tls-verify=false", f"--authfile={auth_file}"]
    words = [*login, f"--username={USER}", f"--password={PASSWORD}", f"{basic}/team/a"]
    subprocess.run(words, check=True, capture_output=True)
    assert list(json.loads(auth_file.read_text())["auths"]) == [f"{basic}/team/a"]
    checkout("push", REGISTRY=f"{basic}/team/a", XDG_RUNTIME_DIR=str(runtime))
    message = checkout.refuses(1, "push", REGISTRY=f"{basic}/team/b", XDG_RUNTIME_DIR=str(runtime))
    assert f"found none in {auth_file}, {checkout.side}/.config/containers/auth.json, " in message


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": USER, "password": PASSWORD}, (USER, PASSWORD, "", "")),
        ({"Username": USER, "PASSWORD": PASSWORD}, (USER, PASSWORD, "", "")),
        ({"username": "old", "password": WRONG, **encoded()}, (USER, PASSWORD, "", "")),
        ({"Auth": encoded()["auth"], "email": None}, (USER, PASSWORD, "", "")),
        ({"auth": encoded()["auth"][:8] + "\n" + encoded()["auth"][8:]}, (USER, PASSWORD, "", "")),
        ({"auth": encoded(f"{PASSWORD}\0\0")["auth"]}, (USER, PASSWORD, "", "")),
        ({"auth": encoded("é:ü")["auth"]}, (USER, "é:ü", "", "")),
        ({"identitytoken": "abc"}, ("", "", "abc", "")),
        ({"auth": "", "identityToken": "abc", "username": ""}, ("", "", "abc", "")),
        ({"registrytoken": "abc"}, ("", "", "", "abc")),
        ({}, None),
        ({"auth": ""}, None),
        ({"email": "a@b.c"}, None),
    ],
)
def test_entries(tmp_path: Path, entry: dict[str, Any], expected: tuple[str, ...] | None) -> None:
    strange = {"else.test": PASSWORD, "other.test": {"auth": "YQ=="}, "third.test": [], "registry.test/else": 5}
    config = tmp_path / "config.json"
    for top in ("auths", "Auths"):
        file(config, **{top: {**strange, "Registry.TEST": entry}}, credHelpers={"else.test": 5})
        known = found(config, "registry.test/team/pause")
        secrets = known and (known.username, known.password, known.identity_token, known.registry_token)
        assert secrets == expected
        assert PASSWORD not in repr(known)


@pytest.mark.parametrize(
    "entry",
    [
        {"registrytoken": "two\nlines"},
        {"identitytoken": "\ud800"},
        {"username": USER, "password": 5},
        {"username": USER, "password": "\udfff"},
        {"auth": b64encode(b"\xff:\xff").decode()},
    ],
)
def test_entries_that_could_not_be_sent(tmp_path: Path, entry: dict[str, Any]) -> None:
    config = tmp_path / "config.json"
    file(config, auths={"registry.test": entry})
    with pytest.raises(PublishError, match=r"config\.json: the entry for registry\.test is not valid"):
        found(config, "registry.test/pause")


@pytest.mark.parametrize(
    ("key", "repository", "applies"),
    [
        ("https://index.docker.io/v1/", "docker.io/pause", True),
        ("index.docker.io/v1/", "docker.io/team/pause", True),
        ("docker.io", "registry-1.docker.io/team/pause", True),
        ("docker.io/library/pause", "docker.io/pause", True),
        ("docker.io/library", "docker.io/team/pause", False),
        # What Docker Desktop keeps beside the password.
        ("https://index.docker.io/v1/access-token", "docker.io/team/pause", False),
        ("HTTPS://Registry.test:5000/v1/", "registry.test:5000/pause", True),
        ("https://registry.test:5000/team", "registry.test:5000/pause", False),
        ("https://registry.test:5000/team", "registry.test:5000/team/pause", True),
        ("registry.test:5000/v1", "registry.test:5000/v1/pause", True),
        ("registry.test:5000/v1", "registry.test:5000/team/pause", False),
        ("registry.test", "registry.test:5000/pause", False),
        ("registry.test:5000/team/", "registry.test:5000/team/pause", True),
        ("registry.test:5000/tea", "registry.test:5000/team/pause", False),
        ("", "registry.test:5000/pause", False),
    ],
)
def test_keys(tmp_path: Path, key: str, repository: str, applies: bool) -> None:
    config = tmp_path / "config.json"
    file(config, auths={key: encoded()})
    assert bool(found(config, repository)) is applies


def test_a_key_as_it_is_written_comes_first(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    file(config, auths={"https://registry.test/v1/": encoded(WRONG), "registry.test": encoded()})
    known = found(config, "registry.test/pause")
    assert known
    assert known.password == PASSWORD


@pytest.mark.parametrize(
    "data",
    [
        b'{"auths": ' * 100_000,
        b'{"auths": {"registry.test": "\xff"}}',
        json.dumps({"auths": {}}).encode("utf-16"),
        b'"' + PASSWORD.encode() + b'"',
        b"[]",
        b"null",
        b"{" + PASSWORD.encode(),
    ],
    ids=["deep", "latin", "utf-16", "text", "list", "null", "cut"],
)
def test_what_is_no_json_object(checkout: Checkout, basic: str, data: bytes) -> None:
    folder = configured(checkout)
    (Path(folder) / "config.json").write_bytes(data)
    message = checkout.refuses(1, "push-manifest", REGISTRY=basic, DOCKER_CONFIG=folder)
    assert message.startswith(f"{folder}/config.json: not valid JSON, expected an object in UTF-8\n")
    assert message.count("\n") == 2


def test_files_that_windows_and_touch_write(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_bytes(b"\xef\xbb\xbf" + json.dumps({"auths": {"registry.test": encoded()}}).encode())
    assert found(config, "registry.test/pause")
    config.write_bytes(b"\n")
    assert found(config, "registry.test/pause") is None


def test_a_file_that_may_not_be_read(checkout: Checkout, basic: str) -> None:
    folder = checkout.side / "docker"
    (folder / "config.json").mkdir(parents=True)
    message = checkout.refuses(1, "push-manifest", REGISTRY=basic, DOCKER_CONFIG=str(folder))
    assert message == f"{folder}/config.json: can't be read: Is a directory\n"


def test_a_token_for_the_registry_itself(checkout: Checkout, bearer: str, tokens: TokenServer) -> None:
    token = tokens.token(["repository:pause-amd64:pull,push"], {"pull", "push"})
    folder = configured(checkout, auths={bearer: {"registrytoken": token}})
    checkout("push", REGISTRY=bearer, DOCKER_CONFIG=folder)
    assert tokens.requests == []
    message = checkout.refuses(1, "push", "--arch", "arm", REGISTRY=bearer, DOCKER_CONFIG=folder)
    assert message.endswith(
        f"  refused credentials: a token from {folder}/config.json\n  log in again: docker login {bearer}\n"
    )


def places(checkout: Checkout) -> dict[str, dict[str, str]]:
    """The environment for each place where credentials may be, the first that is searched first."""
    side = checkout.side
    return {
        "DOCKER_AUTH_CONFIG": {"DOCKER_AUTH_CONFIG": ""},
        f"{side}/explicit.json": {"REGISTRY_AUTH_FILE": f"{side}/explicit.json"},
        f"{side}/run/containers/auth.json": {"XDG_RUNTIME_DIR": f"{side}/run"},
        f"{side}/xdg/containers/auth.json": {"XDG_CONFIG_HOME": f"{side}/xdg"},
        f"{side}/.config/containers/auth.json": {},
        f"{side}/docker/config.json": {"DOCKER_CONFIG": f"{side}/docker"},
        f"{side}/.docker/config.json": {},
    }


@pytest.mark.parametrize("number", range(7))
def test_places_in_their_order(checkout: Checkout, basic: str, number: int) -> None:
    """The first that has anything for the host wins, whatever those after it have."""
    environment: dict[str, str] = {}
    for at, (place, variables) in enumerate(places(checkout).items()):
        auths = {basic: encoded(PASSWORD if at == number else WRONG)} if at >= number else {"else.test": encoded(WRONG)}
        environment |= {name: value or json.dumps({"auths": auths}) for name, value in variables.items()}
        if place.startswith("/"):
            file(Path(place), auths=auths)
    if number >= 2:
        del environment["REGISTRY_AUTH_FILE"]
    if number == 4:
        del environment["XDG_CONFIG_HOME"]
    if number == 6:
        del environment["DOCKER_CONFIG"]
    checkout("push", REGISTRY=basic, **environment)


def test_places_are_named(checkout: Checkout, basic: str) -> None:
    side = checkout.side
    message = checkout.refuses(
        1, "push", REGISTRY=basic, DOCKER_AUTH_CONFIG="{}", REGISTRY_AUTH_FILE=f"{side}/explicit.json"
    )
    assert message == (
        f"{basic} requires basic credentials for pause-amd64: found none in DOCKER_AUTH_CONFIG, {side}/explicit.json,"
        f" {side}/.config/containers/auth.json, {side}/.docker/config.json\n  log in first: docker login {basic}\n"
    )


def test_a_variable_that_is_no_json(checkout: Checkout, basic: str) -> None:
    message = checkout.refuses(1, "push-manifest", REGISTRY=basic, DOCKER_AUTH_CONFIG=f'{{"auths": "{PASSWORD}')
    assert message.startswith("DOCKER_AUTH_CONFIG: not valid JSON")


def test_refused_as_whom_and_from_where(checkout: Checkout, basic: str, secrets: Secrets) -> None:
    secrets.add(WRONG, USER)

    def refused(name: str, **environment: str) -> str:
        message = checkout.refuses(1, "push", REGISTRY=name, **environment)
        assert ": 401 Unauthorized\n" in message
        return message.partition("\n")[2]

    auths = {basic: encoded(WRONG)}
    folder = configured(checkout, auths=auths)
    assert refused(basic, DOCKER_CONFIG=folder) == (
        f"  refused credentials: user 'releaser' from {folder}/config.json\n  log in again: docker login {basic}\n"
    )
    folder = configured(checkout, auths={f"{basic}/team": encoded(WRONG)})
    assert refused(f"{basic}/team", DOCKER_CONFIG=folder) == (
        f"  refused credentials: user 'releaser' from {folder}/config.json, entry {basic}/team\n"
        f"  log in again: podman login --authfile {folder}/config.json {basic}/team\n"
    )
    assert refused(basic, DOCKER_AUTH_CONFIG=json.dumps({"auths": auths})) == (
        "  refused credentials: user 'releaser' from DOCKER_AUTH_CONFIG\n"
        f"  correct DOCKER_AUTH_CONFIG, or unset it and log in: docker login {basic}\n"
    )
    auth_file = file(checkout.side / "auth.json", auths=auths)
    assert refused(basic, REGISTRY_AUTH_FILE=auth_file) == (
        f"  refused credentials: user 'releaser' from {auth_file}\n"
        f"  log in again: podman login --authfile {auth_file} {basic}\n"
    )
    answer = json.dumps({"ServerURL": basic, "Username": USER, "Secret": WRONG})
    folder = configured(checkout, credsStore="xyz")
    path = helper(checkout, f"cat > /dev/null; echo '{answer}'")
    assert refused(basic, DOCKER_CONFIG=folder, PATH=path) == (
        f"  refused credentials: user 'releaser' from docker-credential-xyz ({folder}/config.json)\n"
        f"  log in again: docker login {basic}\n"
    )
    # With no password, the user name may be the secret.
    folder = configured(checkout, auths={basic: {"auth": b64encode(f"{secrets.add('a-token')}:".encode()).decode()}})
    assert f"refused credentials: a user from {folder}/config.json\n" in refused(basic, DOCKER_CONFIG=folder)


def test_refused_by_the_token_server(checkout: Checkout, bearer: str) -> None:
    folder = configured(checkout, auths={bearer: encoded(WRONG)})
    message = checkout.refuses(1, "push", REGISTRY=bearer, DOCKER_CONFIG=folder)
    assert "/token: 401 UNAUTHORIZED: not you\n" in message
    assert message.endswith(
        f"  refused credentials: user 'releaser' from {folder}/config.json\n  log in again: docker login {bearer}\n"
    )
    assert "  found no credentials in " in checkout.refuses(1, "push", REGISTRY=bearer)


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_a_helpers_name_that_is_a_secret(checkout: Checkout, basic: str, key: str) -> None:
    folder = configured(checkout, **{key: PASSWORD if key == "credsStore" else {basic: PASSWORD}})
    message = checkout.refuses(1, "push-manifest", REGISTRY=basic, DOCKER_CONFIG=folder)
    assert message.startswith(f"{folder}/config.json: ")
    assert "expected the name of a helper" in message


def test_helpers_are_asked_once_and_by_the_name_that_they_know(checkout: Checkout, between: Front) -> None:
    answer = json.dumps({"Username": USER, "Secret": PASSWORD})
    path = helper(checkout, f"cat >>{checkout.side}/asked; echo >>{checkout.side}/asked; echo '{answer}'")
    folder = configured(
        checkout, credHelpers={f"https://{between.host}": "xyz", "else.test": "none"}, credsStore="none"
    )
    checkout("all-push", REGISTRY=between.host, DOCKER_CONFIG=folder, PATH=path)
    assert (checkout.side / "asked").read_text() == f"https://{between.host}\n"


def test_no_helper_for_this_host(checkout: Checkout, basic: str) -> None:
    folder = configured(checkout, credsStore="none", credHelpers={basic: ""}, auths={basic: encoded()})
    checkout("push", REGISTRY=basic, DOCKER_CONFIG=folder)


def test_a_helper_that_hangs(checkout: Checkout, basic: str) -> None:
    """It ends with the deadline, and so does what it has started."""
    path = helper(checkout, "sleep 1000 & exec sleep 1000")
    folder = configured(checkout, credsStore="xyz")
    message = checkout.refuses(1, "push", REGISTRY=basic, DOCKER_CONFIG=folder, PATH=path, TIMEOUT="2")
    assert f"{folder}/config.json: the credential helper for {basic} failed: docker-credential-xyz has not" in message
    assert "--timeout" in message
    nothing_is_left(checkout)


@pytest.mark.parametrize("lines", ["", "not found in this test", f'{{"Secret": "{PASSWORD}"}}'])
def test_a_helper_that_fails(checkout: Checkout, basic: str, lines: str) -> None:
    path = helper(checkout, f"cat > /dev/null; echo '{lines}' >&2; exit 3")
    message = checkout.refuses(
        1, "push-manifest", REGISTRY=basic, DOCKER_CONFIG=configured(checkout, credsStore="xyz"), PATH=path
    )
    assert "docker-credential-xyz ended with exit status 3" in message
    assert (lines in message) is (PASSWORD not in lines)
