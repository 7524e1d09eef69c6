"""Pods by hand on a real Docker daemon: docs/pods.md, command by command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.checkout import Checkout
from tests.support.components import need
from tests.support.daemons import Docker, private
from tests.support.pidns import until
from tests.support.pods import Shell, busybox, commands, listed, nginx, zombies

pytestmark = pytest.mark.xdist_group("pods")

PAUSE, JOIN, ORPHAN, ADDRESS, END = commands("With Docker")
NAMES = ("pause", "app", "web")
REAPER = "    signal(SIGCHLD, SIG_IGN);\n    while (waitpid(-1, NULL, WNOHANG) > 0)\n        continue;\n"


@pytest.fixture(scope="module")
def engine() -> Iterator[Docker]:
    """A daemon with published ports, and the images that the page pulls."""
    with private(bridge=True) as docker:
        docker("import", "-", "busybox", data=busybox())
        docker("import", "--change", 'CMD ["nginx", "-g", "daemon off;"]', "-", "nginx", data=nginx())
        yield docker


@pytest.fixture
def shell(engine: Docker, checkout: Checkout) -> Iterator[Shell]:
    """The shell of a user of that daemon; no container is left after the test."""
    need("wget", "wget")
    yield Shell.make(checkout, engine.enter, {"DOCKER_HOST": engine.host}, {})
    engine.run("rm", "--force", *NAMES)


def running(docker: Docker) -> set[str]:
    return set(docker("ps", "--format={{.Names}}").split())


def page(shell: Shell) -> str:
    """The response of the published port, or an empty string."""
    return shell.ends("wget -q -T 5 -t 1 -O - http://localhost:8080").stdout


def served(shell: Shell) -> None:
    until("the web server serves the application", lambda: page(shell) == "hello\n")


def namespace(docker: Docker, shell: Shell, container: str, kind: str) -> str:
    pid = docker("inspect", "--format={{.State.Pid}}", container)
    return shell(f"readlink /proc/{pid}/ns/{kind}")


def test_pause_is_process_1_and_reaps_orphans(engine: Docker, shell: Shell) -> None:
    shell(PAUSE + JOIN)
    said = shell(ORPHAN)
    assert "Child exiting: " in said
    assert "ppid=1\n" in said
    lines = listed(said)
    assert (lines[0].pid, lines[0].command) == (1, "/pause")
    assert any(line.command.startswith("httpd") for line in lines)
    assert any(line.command.startswith("nginx: master") for line in lines)
    assert zombies(lines) == []
    for kind in ("pid", "net", "ipc"):
        assert len({namespace(engine, shell, name, kind) for name in NAMES}) == 1, kind
    assert len({namespace(engine, shell, name, "mnt") for name in NAMES}) == len(NAMES)


def test_a_pause_that_reaps_nothing_is_detected(shell: Shell) -> None:
    shell.checkout.edit("pause.c", REAPER, "")
    shell(PAUSE + JOIN)
    lines = listed(shell(ORPHAN))
    assert lines[0].command == "/pause"
    until("a zombie is left", lambda: bool(zombies(listed(shell("docker exec app ps -o pid,stat,args")))))


def test_the_address_stays_while_the_application_comes_and_goes(engine: Docker, shell: Shell) -> None:
    shell(PAUSE + JOIN)
    served(shell)
    before = [engine("inspect", "--format={{.State.StartedAt}}", name) for name in NAMES]
    address, greeting, restarted, again = shell(ADDRESS).splitlines()
    assert (greeting, restarted) == ("hello", "app")
    assert f" {engine('inspect', '--format={{.NetworkSettings.IPAddress}}', 'pause')}/" in address
    assert again == address
    served(shell)
    after = [engine("inspect", "--format={{.State.StartedAt}}", name) for name in NAMES]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


def test_the_pod_ends_with_pause(engine: Docker, shell: Shell) -> None:
    shell(PAUSE + JOIN)
    served(shell)
    kill, *rest = END.splitlines()
    shell(kill)
    until("every container has ended", lambda: not running(engine))
    codes = [engine("inspect", "--format={{.State.ExitCode}}", name) for name in NAMES]
    assert codes == ["137"] * 3
    assert page(shell) == ""
    shell("\n".join(rest))
    assert engine("ps", "--all", "--quiet") == ""


def test_pause_ends_on_docker_stop(engine: Docker, shell: Shell) -> None:
    shell(PAUSE)
    until("it runs", lambda: running(engine) == {"pause"})
    shell("docker stop pause")
    assert engine("inspect", "--format={{.State.ExitCode}}", "pause") == "0"
    assert engine.run("logs", "pause").stderr == b"Shutting down, got signal: Terminated\n"
