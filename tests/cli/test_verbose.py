"""--verbose: every command and every exchange, a line each, and in none of them a secret."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from base64 import b64encode
from collections import Counter

import pytest

from tests.support import faults
from tests.support.checkout import RELEASE, Checkout, Run
from tests.support.daemons import Docker
from tests.support.faults import answering, faulty, matching
from tests.support.logins import PASSWORD, USER, configured, encoded
from tests.support.registries import Recorder
from tests.support.secrecy import Secrets
from tests.support.terminals import terminal
from tests.support.token_server import TokenServer

Released = tuple[Checkout, Run]
_EXCHANGE = re.compile(r"([A-Z]+) (http\S+): (\d+), (\d+) bytes sent, (\d+) bytes received, (\d+) ms")


def commands(run: Run) -> list[list[str]]:
    """The commands that were shown, as a shell takes them apart."""
    return [shlex.split(line.removeprefix("$ ")) for line in run.stderr.splitlines() if line.startswith("$ ")]


def exchanges(run: Run) -> list[tuple[str, str, int]]:
    """Method, URL and status of the exchanges that were shown."""
    found = [match for line in run.stderr.splitlines() if (match := _EXCHANGE.fullmatch(line))]
    return [(match[1], match[2], int(match[3])) for match in found]


def test_every_compiler_and_git(checkout: Checkout) -> None:
    run = checkout("all-push", "--verbose", "--cflags", "-Os -DHERE='a b'")
    shown = commands(run)
    compilers = [words for words in shown if words[1] == "cc" and "-r" not in words]
    assert len(compilers) == len(RELEASE)
    assert all(words[0].endswith("/zig") and "-DHERE=a b" in words for words in compilers)
    assert {"describe", "status", "rev-list"} <= {word for words in shown if words[0] == "git" for word in words}
    assert "amd64: pause compiled" in run.stderr
    assert run.stdout == checkout("all-push", "--cflags", "-Os -DHERE='a b'").stdout


def test_a_command_that_was_shown_does_the_same_by_hand(checkout: Checkout) -> None:
    run = checkout("build", "--verbose")
    [command] = [words for words in commands(run) if words[1] == "cc" and "-r" not in words]
    command[command.index("-o") + 1] = "by-hand"
    with_cache = checkout.environment(ZIG_LOCAL_CACHE_DIR=".cache/by-hand", ZIG_GLOBAL_CACHE_DIR=".cache/by-hand")
    subprocess.run(command, cwd=checkout.root, env=with_cache, check=True)
    assert (checkout.root / "by-hand").read_bytes() == (checkout.root / "bin/pause-amd64").read_bytes()


def test_one_line_whatever_is_in_a_command(checkout: Checkout) -> None:
    run = checkout("build", "--verbose", "--cflags", "'-DX=\"\x1b[2J\n\"'")
    assert "\x1b" not in run.stderr
    assert r"\x1b[2J\n" in run.stderr


def test_every_exchange_as_the_registry_saw_it(checkout: Checkout, recorder: Recorder) -> None:
    run = checkout("all-push", "--verbose", REGISTRY=recorder.host)
    seen = Counter(
        (each.method, f"http://{recorder.host}{each.path.partition('?')[0]}", each.status)
        for each in recorder.exchanges
    )
    assert Counter(exchanges(run)) == seen
    assert "?" not in "".join(url for _, url, _ in exchanges(run))


def test_a_retry_with_its_reason(checkout: Checkout, recorder: Recorder) -> None:
    with faulty(recorder.host) as proxy:
        proxy.follow(matching(answering(503, "UNAVAILABLE", "back soon"), "HEAD", "/pause/manifests/3.1", times=1))
        run = checkout("all-push", "--verbose", REGISTRY=proxy.host)
        assert ("HEAD", f"http://{proxy.host}/v2/pause/manifests/3.1", 503) in exchanges(run)
        assert re.search(r"HEAD \S+/pause/manifests/3\.1: 503 .*: retrying in \d\.\d s\n", run.stderr)
        proxy.follow(matching(faults.lost, "HEAD", "/pause/manifests/3.1", times=1))
        run = checkout("all-push", "--verbose", REGISTRY=proxy.host)
        assert re.search(r"HEAD \S+/pause/manifests/3\.1: .*: no answer, \d+ ms\n", run.stderr)
        assert re.search(r"HEAD \S+/pause/manifests/3\.1: .*: retrying in \d\.\d s\n", run.stderr)


def test_a_terminal_gets_plain_lines(checkout: Checkout) -> None:
    with terminal(checkout, "build", "--verbose") as run:
        assert run.ends() == 0
        assert "\x1b" not in run.output
        assert any(line.startswith("$ git ") for line in run.screen)


def test_basic_keeps_its_password(checkout: Checkout, basic: str, secrets: Secrets) -> None:
    folder = configured(checkout, auths={basic: encoded()})
    run = checkout("all-push", "--verbose", REGISTRY=basic, DOCKER_CONFIG=folder)
    assert {status for _, _, status in exchanges(run)} >= {401, 201}
    assert run in secrets.runs
    configured(checkout, auths={basic: encoded(secrets.add("battery staple", USER))})
    assert "401" in checkout.refuses(1, "all-push", "--verbose", REGISTRY=basic, DOCKER_CONFIG=folder)


def test_bearer_keeps_its_tokens(checkout: Checkout, bearer: str, tokens: TokenServer) -> None:
    folder = configured(checkout, auths={bearer: encoded()})
    run = checkout("all-push", "--verbose", REGISTRY=bearer, DOCKER_CONFIG=folder)
    assert tokens.given
    assert ("GET", tokens.realm, 200) in exchanges(run)


def test_an_identity_token_is_kept(checkout: Checkout, bearer: str, tokens: TokenServer) -> None:
    auth = {"auth": b64encode(b"<token>:").decode(), "identitytoken": tokens.identity}
    run = checkout("push", "--verbose", REGISTRY=bearer, DOCKER_CONFIG=configured(checkout, auths={bearer: auth}))
    assert ("POST", tokens.realm, 200) in exchanges(run)


@pytest.mark.usefixtures("secrets")
def test_a_credential_helper_is_named_and_its_answer_kept(checkout: Checkout, basic: str) -> None:
    helpers = checkout.side / "helpers"
    helpers.mkdir()
    answer = json.dumps({"ServerURL": basic, "Username": USER, "Secret": PASSWORD})
    helper = helpers / "docker-credential-xyz"
    helper.write_text(f"#!/bin/sh\ncat > /dev/null; echo '{answer}'\n")
    helper.chmod(0o755)
    path = f"{helpers}:{checkout.environment()['PATH']}"
    folder = configured(checkout, credHelpers={basic: "xyz"})
    run = checkout("push", "--verbose", REGISTRY=basic, DOCKER_CONFIG=folder, PATH=path)
    assert ["docker-credential-xyz", "get"] in commands(run)


@pytest.mark.usefixtures("secrets")
def test_a_proxys_password_is_kept(checkout: Checkout, recorder: Recorder) -> None:
    """It stands in a URL; here there is no proxy, and the message of that is shown with every try."""
    recorder.upstream = "127.0.0.1:1"
    proxy = f"http://{USER}:{PASSWORD.replace(' ', '%20')}@{recorder.host}"
    run = checkout.ends("push", "--verbose", REGISTRY="registry.test", HTTPS_PROXY=proxy, TIMEOUT="2")
    assert run.code == 1
    assert f"through the proxy http://{recorder.host}" in run.stderr


@pytest.mark.usefixtures("secrets")
@pytest.mark.xdist_group("docker")
def test_the_daemons_traffic(checkout: Checkout, docker: Docker, basic: str) -> None:
    words = ("push", "--verbose", "--engine", "docker", "--compiler", "zig", "--arch", "arm")
    folder = configured(checkout, auths={basic: encoded()})
    run = checkout(*words, REGISTRY=basic, DOCKER_CONFIG=folder, DOCKER_HOST=docker.host)
    for call in ("/build", f"/images/{basic}/pause-arm/push"):
        assert re.search(rf"^POST http\+docker://localhost/v[0-9.]+{call}: 200, .*\d+ ms$", run.stderr, re.MULTILINE)
