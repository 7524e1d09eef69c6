"""Pods of a real Podman, with our image as their infra container: docs/pods.md, command by command."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.support.checkout import Checkout, results
from tests.support.components import lack, need
from tests.support.pidns import until
from tests.support.pods import Line, Shell, busybox, commands, listed, zombies
from tests.support.registries import registry

pytestmark = pytest.mark.xdist_group("podman")

BY_HAND, PLAY = commands("With podman")
(POD,) = commands("With podman", "yaml")
# Podman's defaults may exceed our own limits, which root in a container can't raise.
LIMITS = 'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]'
CREATE, REMOVE = BY_HAND.rsplit("\n", 2)[0] + "\n", BY_HAND.splitlines()[-1]


@pytest.fixture
def shell(checkout: Checkout) -> Iterator[Shell]:
    """The shell of a user whose Podman has busybox and no pod."""
    podman = need("podman", "podman")
    need("runc", "runc")
    if os.geteuid() != 0:
        lack("podman: needs root")
    with TemporaryDirectory(prefix="pause") as folder:  # paths of sockets have to be short
        own = f"{podman} --root={folder}/root --runroot={folder}/run --storage-driver=vfs --events-backend=file"
        command = f"{own} --runtime=runc --cgroup-manager=cgroupfs"
        Path(folder, "containers.conf").write_text(f"[containers]\n{LIMITS}\n")
        Path(folder, "registries.conf").write_text("")
        environment = {
            "CONTAINERS_CONF": f"{folder}/containers.conf",
            "CONTAINERS_REGISTRIES_CONF": f"{folder}/registries.conf",
        }
        shell = Shell.make(checkout, (), environment, {"podman": command})
        (checkout.side / "busybox.tar").write_bytes(busybox())
        shell(f"podman import -c 'ENV PATH=/bin' {checkout.side}/busybox.tar docker.io/library/busybox")
        try:
            yield shell
        finally:
            shell("podman pod rm --all --force --time 0; podman volume prune --force")


def infra(shell: Shell, pod: str) -> dict[str, Any]:
    """The infra container of a pod."""
    [found] = json.loads(shell(f"podman inspect $(podman pod inspect -f '{{{{.InfraContainerID}}}}' {pod})"))
    container: dict[str, Any] = found
    return container


def first(lines: list[Line]) -> tuple[int, str]:
    return lines[0].pid, lines[0].command


def test_a_pod_with_our_infra_image(shell: Shell) -> None:
    shell("invoke container orphan")
    lines = listed(shell(CREATE))
    assert first(lines) == (1, "/pause")
    assert any(line.command == "sleep 1000" for line in lines)
    [image] = json.loads(shell("podman image inspect docker.io/library/pause-amd64:3.1"))
    assert infra(shell, "pod")["Image"] == image["Id"]
    # Podman may end an exec before it has relayed what the orphan writes after its parent has ended.
    shell("podman cp bin/orphan-amd64 app:/orphan; podman exec app sh -c '/orphan >/said'")
    until("the orphan has ended", lambda: "Child exiting: " in shell("podman exec app cat /said"))
    assert "ppid=1\n" in shell("podman exec app cat /said")
    until("the orphan is reaped", lambda: zombies(listed(shell("podman exec app ps -o pid,stat,args"))) == [])
    shell(REMOVE)
    assert shell("podman ps --all --quiet") == ""


def test_kube_play_with_what_use_prints(shell: Shell, tmp_path: Path) -> None:
    (shell.checkout.root / "pod.yaml").write_text(POD)
    with registry(tmp_path / "registry") as host:
        shell.checkout("all-push", REGISTRY=host)
        settings = results(shell.checkout("use", "--json", REGISTRY=host))
        [setting] = [each for each in settings if each["program"] == "podman"]
        insecure = f'[[registry]]\nlocation = "{host}"\ninsecure = true\n'
        Path(shell.environment["CONTAINERS_REGISTRIES_CONF"]).write_text(insecure)
        with Path(shell.environment["CONTAINERS_CONF"]).open("a") as file:
            file.write(setting["text"])
        shell(setting["apply"])
    shell("podman pod create --name plain --network none; podman pod start plain")
    assert infra(shell, "plain")["ImageName"] == setting["reference"]
    said = shell(PLAY)
    assert said.partition("first\n")[2].startswith("second\n"), said
    assert first(listed(said)) == (1, "/pause")
    assert infra(shell, "ordered")["ImageName"] == setting["reference"]
    left = shell("podman ps --all --format '{{.Names}}'").split()
    assert {name for name in left if name.startswith("ordered-")} == {"ordered-app"}
