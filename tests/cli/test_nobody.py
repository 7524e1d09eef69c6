"""A user that the system does not know, without HOME, as containers of CI systems have it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.checkout import TIMEOUT, Checkout, Run
from tests.support.components import lack, need
from tests.support.logins import configured, encoded

pytestmark = pytest.mark.usefixtures("secrets")

UID = "54321"


@pytest.fixture
def somebody() -> list[str]:
    """What to put before a command to have it run as a user that has no entry in /etc/passwd."""
    command = [need("unshare", "util-linux"), "--user", f"--map-user={UID}", f"--map-group={UID}"]
    tried = subprocess.run([*command, "id", "-u"], check=False, capture_output=True, text=True)
    return command if tried.stdout.strip() == UID else lack(f"unshare --user: {tried.stderr.strip()}")


def as_somebody(somebody: list[str], checkout: Checkout, *words: str, **environment: str) -> Run:
    given = checkout.environment(**environment)
    del given["HOME"]
    command = [*somebody, sys.executable, "-m", "invoke", *words]
    run = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=checkout.root, env=given, timeout=TIMEOUT
    )
    return Run(run.returncode, run.stdout, run.stderr)


@pytest.mark.parametrize("task", ["all-push", "all-container", "plan", "clean", "use"])
def test_nothing_of_a_home_is_needed(checkout: Checkout, somebody: list[str], task: str) -> None:
    run = as_somebody(somebody, checkout, task)
    assert "Traceback" not in run.stderr
    assert run.code == 0 or task == "use", run.stderr


def test_credentials(checkout: Checkout, somebody: list[str], basic: str) -> None:
    run = as_somebody(somebody, checkout, "push", REGISTRY=basic)
    assert (run.code, run.stdout) == (1, "")
    assert f"found none in /run/containers/{UID}/auth.json\n  log in first: docker login {basic}\n" in run.stderr
    folder = configured(checkout, auths={basic: encoded()})
    run = as_somebody(somebody, checkout, "push", REGISTRY=basic, DOCKER_CONFIG=folder)
    assert run.code == 0, run.stderr


def test_a_daemon(checkout: Checkout, somebody: list[str]) -> None:
    words = ("all-container", "--engine", "docker", "--compiler", "zig")
    run = as_somebody(somebody, checkout, *words, DOCKER_HOST=f"unix://{checkout.side}/none")
    assert run.code == 1
    assert run.stderr.endswith("use no daemon: --engine embedded --compiler zig\n"), run.stderr


def test_a_file_where_podman_has_a_folder(checkout: Checkout, basic: str) -> None:
    (checkout.side / ".config").write_text("")
    checkout("push", REGISTRY=basic, DOCKER_CONFIG=configured(checkout, auths={basic: encoded()}))
