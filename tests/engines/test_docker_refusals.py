"""What the docker engine says when the daemon, the registry or the Dockerfile will not have it."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compilers.test_kube_cross import BUILD
from tests.engines.test_docker_engine import DOCKER
from tests.support.checkout import Checkout
from tests.support.components import need
from tests.support.daemons import Docker, private
from tests.support.logins import PASSWORD, USER, configured, encoded
from tests.support.pidns import until
from tests.support.registries import Recorder, registry

pytestmark = pytest.mark.xdist_group("docker")

ZIG = (*DOCKER, "--compiler", "zig", "--arch", "arm")


def test_what_only_the_daemon_can_build(checkout: Checkout, docker: Docker) -> None:
    with (checkout.root / "Dockerfile.j2").open("a") as recipe:
        recipe.write("\nVOLUME /data\n")
    checkout("container", *ZIG, DOCKER_HOST=docker.host, REGISTRY="pause-tests.example")
    image = docker.image("pause-tests.example/pause-arm:3.1")
    assert (image["Config"]["Volumes"], image["Variant"]) == ({"/data": {}}, "v7")


def test_arg_after_from_scratch(checkout: Checkout, docker: Docker) -> None:
    """The classic builder has no platform for such an image, and fails; or it has one, and then it is the row's."""
    checkout.edit("Dockerfile.j2", "FROM scratch\n", "FROM scratch\nARG ANY\n")
    run = checkout.ends("container", *ZIG, DOCKER_HOST=docker.host, REGISTRY="pause-tests.example")
    assert "Traceback" not in run.stderr
    if run.code:
        assert run.code == 1
        assert "container: pause-tests.example/pause-arm:3.1: " in run.stderr
    else:
        assert docker.image("pause-tests.example/pause-arm:3.1")["Variant"] == "v7"


def test_a_failed_push_fails(checkout: Checkout, docker: Docker, tmp_path: Path) -> None:
    storage = {
        "filesystem": {"rootdirectory": str(tmp_path / "storage")},
        "maintenance": {"readonly": {"enabled": True}},
    }
    with registry(tmp_path / "registry", storage=storage) as host:
        message = checkout.refuses(1, "push", *ZIG, DOCKER_HOST=docker.host, REGISTRY=host)
    assert message.startswith(f"{host}/pause-arm:3.1: docker push: ")
    assert "405" in message


def test_an_image_that_could_not_start_is_not_pushed(checkout: Checkout, docker: Docker, recorder: Recorder) -> None:
    with (checkout.root / "Dockerfile.j2").open("a") as recipe:
        recipe.write('\nENTRYPOINT ["/missing"]\n')
    message = checkout.refuses(1, "all-push", *ZIG, DOCKER_HOST=docker.host, REGISTRY=recorder.host)
    assert message == "Dockerfile.j2 (arm): no file '/missing' in the layers\n"
    assert not [line for line in recorder.lines if line.startswith("PUT ")]


def test_who_we_are_reaches_the_registry(checkout: Checkout, docker: Docker, basic: str) -> None:
    environment = {"DOCKER_HOST": docker.host, "REGISTRY": basic}
    message = checkout.refuses(1, "push", *ZIG, **environment)
    assert f"docker login {basic}" in message

    # A store that knows nobody, as desktops have one, and a password that was kept from before.
    helpers = checkout.side / "helpers"
    helpers.mkdir()
    helper = helpers / "docker-credential-xyz"
    answer = json.dumps({"ServerURL": basic, "Username": USER, "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\ncat > /dev/null\necho '{answer}'\n")
    helper.chmod(0o755)
    path = f"{helpers}:{checkout.environment()['PATH']}"
    folder = configured(checkout, credHelpers={basic: "xyz"}, auths={basic: encoded("wrong")})
    run = checkout("push", *ZIG, **environment, DOCKER_CONFIG=folder, PATH=path)
    assert list(run.digests) == [f"{basic}/pause-arm:3.1"]


def test_no_daemon(checkout: Checkout, tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/none"
    with socket.socket(socket.AF_UNIX) as deaf, socket.socket() as free:
        deaf.bind(str(tmp_path / "deaf"))
        free.bind(("127.0.0.1", 0))
        hosts = [nowhere, f"unix://{tmp_path}/deaf", f"tcp://127.0.0.1:{free.getsockname()[1]}"]
        for host in hosts:
            for words in (("all-container", *DOCKER), BUILD, ("kube-cross",)):
                message = checkout.refuses(1, *words, DOCKER_HOST=host)
                assert message.startswith("the daemon: no Docker daemon is running\n"), message
                assert "DOCKER_HOST" in message
    assert "DOCKER_HOST" in checkout.refuses(1, "kube-cross", DOCKER_HOST="what://ever")
    assert not (checkout.root / "bin").exists()


def test_strange_entries_of_config_json(checkout: Checkout, tmp_path: Path) -> None:
    """They are not in the daemon's way, and what is no config.json at all is one message."""
    environment = {"DOCKER_HOST": f"unix://{tmp_path}/none"}
    auths = {"a.test": "x", "b.test": {"auth": "YQ=="}, "c.test": {"auth": "é"}, "d.test": {"auth": 5}}
    configs: tuple[object, ...] = (auths, [], 5)
    for each in configs:
        folder = configured(checkout, auths=each)
        message = checkout.refuses(1, "all-container", *DOCKER, **environment, DOCKER_CONFIG=folder)
        assert message.startswith("the daemon: no Docker daemon is running\n"), message
    for data in ("[]", "[" * 100_000):
        (Path(folder) / "config.json").write_text(data)
        message = checkout.refuses(1, "all-container", *DOCKER, **environment, DOCKER_CONFIG=folder)
        assert message.startswith(f"{folder}/config.json: not valid JSON, expected an object in UTF-8\n"), message


@pytest.fixture
def another(docker: Docker) -> Iterator[Docker]:
    """A second daemon, which may be killed."""
    if not docker.ours:
        pytest.skip("a second daemon without a bridge would take the one of the machine's daemon")
    with private() as made:
        yield made


def waiting(folder: Path) -> bytes:
    """The tar of a root folder whose programs wait for ever: a toolchain that never comes to an end."""
    (folder / "wait.c").write_text("#include <unistd.h>\nint main(void) { for (;;) pause(); }\n")
    gcc = need("gcc", "gcc")
    subprocess.run([gcc, "-static", "-s", "-o", folder / "wait", folder / "wait.c"], check=True)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tape:
        for name in ("timeout", "sh"):
            tape.add(folder / "wait", f"bin/{name}")
    return packed.getvalue()


def test_a_daemon_that_dies_while_it_compiles(checkout: Checkout, another: Docker, tmp_path: Path) -> None:
    another.import_(waiting(tmp_path), "waiting:1")
    environment = {"DOCKER_HOST": another.host, "KUBE_CROSS_IMAGE": "waiting", "KUBE_CROSS_VERSION": "1"}
    process = checkout.start(*BUILD, "--arch", "arm", **environment)

    def running() -> list[str]:
        return another.toolchains("--filter=status=running")

    until("it compiles", lambda: any("sh" in another("top", each, "-o", "pid,comm").split() for each in running()))
    another.kill()
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    assert re.fullmatch(
        r"build: pause for arm: (the Docker daemon went away|no Docker daemon is running)\n  .*\n", stderr
    )
    assert not (checkout.root / "bin").exists()


def test_a_daemon_that_dies_while_it_pushes(checkout: Checkout, another: Docker, recorder: Recorder) -> None:
    def die(_: int) -> None:
        if recorder.exchanges[-1].method == "POST":
            another.kill()

    recorder.on_request = die
    message = checkout.refuses(1, "all-push", *ZIG, DOCKER_HOST=another.host, REGISTRY=recorder.host)
    assert message.startswith(f"{recorder.host}/pause-arm:3.1: docker push: the Docker daemon went away")
    assert not [line for line in recorder.lines if "/manifests/" in line and line.startswith("PUT")]


def test_a_full_disk(checkout: Checkout, docker: Docker, tmp_path: Path) -> None:
    if not docker.ours:
        pytest.skip("a second daemon without a bridge would take the one of the machine's daemon")
    data = tmp_path / "data"
    data.mkdir()
    mount = [need("mount", "mount"), "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(data)]
    subprocess.run(mount, check=True)
    try:
        with private(data) as full, (data / "filler").open("wb", buffering=0) as filler:
            size = os.statvfs(data)
            filler.write(bytes(size.f_bavail * size.f_frsize))
            message = checkout.refuses(1, "container", *ZIG, DOCKER_HOST=full.host)
            assert full("images", "--quiet") == ""
    finally:
        subprocess.run([need("umount", "mount"), data], check=True)
    assert message.startswith("pause-arm:3.1: docker build: ")
    assert "no space left on device\n  free some space where the daemon keeps its data" in message
