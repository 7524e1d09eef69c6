"""Compiling in a kube-cross container: one for a run, locked in, and gone however the run ends."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import docker as docker_py
import pytest

from build.compilers import elf
from build.compilers import kube_cross as module
from tests.support.checkout import RELEASE, SETTINGS, Checkout, Run, ended
from tests.support.components import need
from tests.support.daemons import LABEL, Docker
from tests.support.logins import configured, encoded
from tests.support.pidns import until
from tests.support.reading import inspect, says
from tests.support.registries import Recorder
from tests.support.wires import Wire, wire

pytestmark = pytest.mark.xdist_group("docker")

BUILD = ("build", "--compiler", "kube-cross")
NOBODY = 65534
# Compiling it takes forever and no memory.
ENDLESS = "#define A ;;;;;;;;\n" + "".join(
    f"#define {new} {f'{old} ' * 8}\n" for old, new in zip("ABCDEFGHIJKL", "BCDEFGHIJKLM", strict=True)
)


def created(docker: Docker, since: float) -> list[str]:
    """The containers that were made to compile in since then."""
    only = (f"--filter=label={LABEL}", "--filter=type=container", "--filter=event=create")
    return docker("events", f"--since={since}", f"--until={time.time()}", *only, "--format={{.ID}}").split()


def never_ends(checkout: Checkout) -> None:
    (checkout.root / "pause.c").write_text(f"{ENDLESS}M\n")


@pytest.fixture
def cable(docker: Docker) -> Iterator[Wire]:
    with wire(docker) as made:
        yield made


def test_one_container_compiles_for_the_embedded_engine(
    checkout: Checkout, docker: Docker, toolchain: dict[str, str], tmp_path: Path
) -> None:
    began = time.time()
    run = checkout("all-push", "--compiler", "kube-cross", **toolchain)
    assert len(created(docker, began)) == 1
    assert list(run.digests) == ["oci:dist/pause:3.1", *(f"oci:dist/pause-{arch}:3.1" for arch in RELEASE)]
    for arch in RELEASE:
        binary = (checkout.root / f"bin/pause-{arch}").read_bytes()
        elf.check(binary, SETTINGS.arches[arch].header, arch)
        assert len(binary) < 4096
        assert says(binary, SETTINGS.arches[arch].qemu, tmp_path) == f"pause.c {checkout.version}\n"
    assert inspect("oci:dist/pause:3.1", "--raw", cwd=checkout.root)[0] == run.digests["oci:dist/pause:3.1"]


def test_what_is_unchanged_starts_no_container_but_another_image_under_the_tag_does(
    checkout: Checkout, docker: Docker, kube_cross: str, toolchain: dict[str, str]
) -> None:
    moving = {**toolchain, "KUBE_CROSS_IMAGE": "pause-tests/moving", "KUBE_CROSS_VERSION": "1"}
    docker("tag", kube_cross, "pause-tests/moving:1")
    assert "pause compiled" in checkout(*BUILD, **moving).stderr

    began = time.time()
    assert "pause unchanged" in checkout(*BUILD, **moving).stderr
    assert created(docker, began) == []

    recipe = f"FROM {kube_cross}\nLABEL other={began}\n"
    docker("build", "--tag=pause-tests/moving:1", "-", data=recipe.encode())
    assert "pause compiled" in checkout(*BUILD, **moving).stderr
    assert len(created(docker, began)) == 1
    docker("rmi", "pause-tests/moving:1")


def test_libc_links_the_toolchains_own(checkout: Checkout, toolchain: dict[str, str], tmp_path: Path) -> None:
    checkout(*BUILD, "--arch", "all", "--libc", **toolchain)
    for arch in RELEASE:
        binary = (checkout.root / f"bin/pause-{arch}").read_bytes()
        elf.check(binary, SETTINGS.arches[arch].header, arch)
        assert b"glibc" in binary
        assert b".symtab" not in binary
        assert says(binary, SETTINGS.arches[arch].qemu, tmp_path) == f"pause.c {checkout.version}\n"


def test_the_container_is_locked_in_and_ctrl_c_ends_it(
    checkout: Checkout, docker: Docker, toolchain: dict[str, str]
) -> None:
    never_ends(checkout)
    process = checkout.start(*BUILD, "--arch", "all", **toolchain)
    try:
        until("there is a container", lambda: bool(docker.toolchains("--filter=status=running")))
        [found] = docker.toolchains()

        def look() -> str:
            return docker("top", found, "-o", "uid,pid,comm")

        until("a compiler runs", lambda: "cc1" in look())
        told: dict[str, Any] = json.loads(docker("inspect", found))[0]
        processes = look()
        os.killpg(process.pid, signal.SIGINT)
        run = ended(process)
    finally:
        process.kill()
    assert (run.code, run.stdout) == (130, "")
    assert run.stderr.splitlines()[-2] == "build: interrupted"
    assert "Traceback" not in run.stderr

    assert told["Config"]["User"] == f"{NOBODY}:{NOBODY}"
    assert {line.split()[0] for line in processes.splitlines()[1:]} == {str(NOBODY)}
    assert told["Config"]["Entrypoint"] == ["timeout", str(module.LONGEST_LIFE), "cat"]
    assert [(mount["Type"], mount["Destination"]) for mount in told["Mounts"]] == [("volume", "/work")]
    expected = {
        "NetworkMode": "none",
        "CapDrop": ["ALL"],
        "CapAdd": None,
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "AutoRemove": True,
        "Privileged": False,
        "Binds": None,
    }
    assert {key: told["HostConfig"][key] for key in expected} == expected


def test_a_docker_context_names_the_daemon(checkout: Checkout, docker: Docker, toolchain: dict[str, str]) -> None:
    settings = checkout.side / "docker"
    command = [need("docker", "docker.io"), "--config", str(settings), "context"]
    for words in (["create", "elsewhere", f"--docker=host={docker.host}"], ["use", "elsewhere"]):
        subprocess.run([*command, *words], env=checkout.environment(), check=True, capture_output=True)
    others = {key: value for key, value in toolchain.items() if key != "DOCKER_HOST"}
    began = time.time()
    checkout(*BUILD, DOCKER_CONFIG=str(settings), **others)
    assert len(created(docker, began)) == 1


@pytest.fixture
def unprivileged(source: Checkout) -> Iterator[Callable[..., Run]]:
    """Runs Invoke as a user who owns a checkout and nothing else."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    with TemporaryDirectory(prefix="pause") as folder:
        os.chmod(folder, 0o755)
        checkout = Checkout.clone(source.root, Path(folder, "checkout"))
        for path in (checkout.root, checkout.side, *checkout.root.rglob("*"), *checkout.side.rglob("*")):
            shutil.chown(path, NOBODY, NOBODY)

        def run(*words: str, **environment: str) -> Run:
            # Python may lie where nobody else may read. A socket still wants permission to write.
            somebody = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
            reads = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search", "--bounding-set=+all"]
            command = [need("setpriv", "util-linux"), *somebody, *reads, sys.executable, "-m", "invoke", *words]
            told = checkout.environment(**environment)
            found = subprocess.run(command, cwd=checkout.root, env=told, check=False, capture_output=True, text=True)
            assert {path.stat().st_uid for path in checkout.root.rglob("bin/*")} <= {NOBODY}
            return Run(found.returncode, found.stdout, found.stderr)

        yield run


def test_over_tcp_and_no_file_is_roots(
    unprivileged: Callable[..., Run], cable: Wire, toolchain: dict[str, str]
) -> None:
    run = unprivileged(*BUILD, "--arch", "arm", **{**toolchain, "DOCKER_HOST": cable.host})
    assert (run.code, list(run.digests)) == (0, ["bin/pause-arm"]), run.stderr
    assert cable.sent > 5


def test_without_permission_on_the_socket(unprivileged: Callable[..., Run], toolchain: dict[str, str]) -> None:
    run = unprivileged(*BUILD, **toolchain)
    assert (run.code, run.stdout) == (1, "")
    assert run.stderr.startswith("build: the daemon: no permission on the daemon's socket\n  join the group docker")


def test_a_compile_error_shows_the_compilers_words_and_the_arch(checkout: Checkout, toolchain: dict[str, str]) -> None:
    (checkout.root / "pause.c").write_text("int main(void) { return nothing; }\n")
    message = checkout.refuses(1, *BUILD, "--arch", "arm", "--arch", "s390x", **toolchain)
    for arch, triple in (("arm", "arm-linux-gnueabihf"), ("s390x", "s390x-linux-gnu")):
        assert f"pause for {arch}: {triple}-gcc failed with exit status 1:\n" in message
    assert "pause.c:1:25: error: 'nothing' undeclared" in message
    assert not (checkout.root / "bin").exists()


def test_a_toolchain_without_the_triple(checkout: Checkout, kube_cross: str, toolchain: dict[str, str]) -> None:
    message = checkout.refuses(1, *BUILD, "--arch", "riscv64", "--arch", "arm", **toolchain)
    assert message.startswith(f"pause for riscv64: {kube_cross} has no riscv64-linux-gnu-gcc\n")
    assert "invoke kube-cross" in message
    assert "--compiler zig" in message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_ended_at_any_moment_it_leaves_no_container(
    checkout: Checkout, docker: Docker, toolchain: dict[str, str], cable: Wire, number: signal.Signals
) -> None:
    through = {**toolchain, "DOCKER_HOST": cable.host}
    checkout(*BUILD, "--arch", "arm", **through)
    pieces = cable.sent
    assert pieces > 10
    for last in range(1, pieces + 1):
        checkout.forget()
        process = checkout.start(*BUILD, "--arch", "arm", **through)
        cable.watch(last, lambda: os.killpg(process.pid, number))  # noqa: B023
        run = ended(process)
        assert "Traceback" not in run.stderr
        assert run.code in ((130, 0) if number == signal.SIGINT else (-number, 0)), (last, run)
        # Between being made and being started it has no life to end: that one is for a later run to remove.
        stillborn = ("--filter=status=created",) if number == signal.SIGKILL else ("--filter=status=dead",)
        until(f"{last}: it is gone", lambda: docker.toolchains() == docker.toolchains(*stillborn))  # noqa: B023
        for each in docker.toolchains():
            docker.run("rm", "--force", "--volumes", each)
    checkout(*BUILD, "--arch", "arm", **toolchain)


def test_what_a_killed_run_never_started_is_removed_by_a_later_one(
    docker: Docker, kube_cross: str, toolchain: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = docker("create", f"--label={LABEL}", "--volume=/work", kube_cross, "true")
    client = docker_py.APIClient(toolchain["DOCKER_HOST"])
    module._remove_stillborn(client)
    assert docker.toolchains() == [left], "it might still be started"
    later = time.time() + 3600
    monkeypatch.setattr("time.time", lambda: later)
    module._remove_stillborn(client)
    assert docker.toolchains() == []


def waiter(folder: Path, *names: str) -> bytes:
    """The tar of a root folder whose programs, one under many names, wait until nobody holds their stdin."""
    (folder / "wait.c").write_text("#include <unistd.h>\nint main(void) { char c; while (read(0, &c, 1) > 0) {} }\n")
    gcc = need("gcc", "gcc")
    subprocess.run([gcc, "-static", "-s", "-o", folder / "wait", folder / "wait.c"], check=True)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tape:
        for name in names:
            tape.add(folder / "wait", f"bin/{name}")
    return packed.getvalue()


def test_a_pull_shows_progress_and_a_dry_run_pulls_nothing(
    checkout: Checkout, docker: Docker, toolchain: dict[str, str], recorder: Recorder, tmp_path: Path
) -> None:
    name = f"{recorder.host}/tiny"
    docker.import_(waiter(tmp_path, "timeout"), f"{name}:1")
    docker("push", f"{name}:1")
    docker("rmi", f"{name}:1")
    remote = {**toolchain, "KUBE_CROSS_IMAGE": name, "KUBE_CROSS_VERSION": "1"}

    recorder.forget()
    message = checkout.refuses(1, "--dry", *BUILD, **remote)
    assert message.startswith(f"{name}:1: not in the daemon, and a dry run pulls nothing\n")
    assert recorder.lines == []

    run = checkout.ends(*BUILD, **remote)
    assert run.code == 1
    assert f"{name}:1: 1 Pulling from tiny\n" in run.stderr
    assert "Pull complete\n" in run.stderr
    assert f"build: pause for amd64: {name}:1 has no x86_64-linux-gnu-gcc\n" in run.stderr
    docker("rmi", f"{name}:1")


@pytest.mark.parametrize("host", ["", "localhost:1"])
def test_an_image_that_cant_be_pulled_says_what_to_do(
    checkout: Checkout, toolchain: dict[str, str], recorder: Recorder, host: str
) -> None:
    name = f"{host or recorder.host}/nowhere"
    message = checkout.refuses(1, *BUILD, **{**toolchain, "KUBE_CROSS_IMAGE": name, "KUBE_CROSS_VERSION": "7"})
    assert message.startswith(f"{name}:7 can't be pulled: ")
    assert message.splitlines()[-1] == f"  {module._INSTEAD}"


@pytest.mark.usefixtures("secrets")
def test_a_pull_with_the_namespaces_password(checkout: Checkout, docker: Docker, basic: str) -> None:
    """With it, the registry says that there is no such image; with another one, it says nothing of images."""
    environment = {"DOCKER_HOST": docker.host, "KUBE_CROSS_IMAGE": f"{basic}/team/none", "KUBE_CROSS_VERSION": "7"}
    for team, expected in (("team", "manifest unknown"), ("team-b", "no basic auth credentials")):
        auths = {f"{basic}/else": encoded("battery staple"), f"{basic}/{team}": encoded()}
        folder = configured(checkout, auths=auths)
        message = checkout.refuses(1, "build", "--compiler", "kube-cross", **environment, DOCKER_CONFIG=folder)
        assert message.startswith(f"{basic}/team/none:7 can't be pulled: ")
        assert expected in message


def test_the_task_builds_a_toolchain(
    checkout: Checkout, docker: Docker, kube_cross: str, toolchain: dict[str, str]
) -> None:
    """On a base that has the Dockerfile's packages already, under the names that it gives them: nothing is fetched."""
    if not docker.ours:
        pytest.skip("the machine's debian:bookworm-slim is not ours to replace")
    docker("tag", kube_cross, "debian:bookworm-slim")
    ours = {**toolchain, "KUBE_CROSS_IMAGE": "pause-tests/made", "KUBE_CROSS_VERSION": "1"}
    assert checkout("--dry", "kube-cross", **ours).stdout == "made    pause-tests/made:1\n"
    assert docker.run("image", "inspect", "pause-tests/made:1").returncode != 0
    run = checkout("kube-cross", **ours)
    assert run.digests == {"pause-tests/made:1": docker.image("pause-tests/made:1")["Id"]}
    assert "Step 3/3 : RUN" in run.stderr
    assert list(checkout(*BUILD, "--arch", "s390x", **ours).digests) == ["bin/pause-s390x"]
    docker("rmi", "pause-tests/made:1")
    unnamed = {"DOCKER_HOST": docker.host}
    run = checkout("kube-cross", **unnamed)
    assert run.digests == {"localhost/kube-cross:latest": docker.image("localhost/kube-cross:latest")["Id"]}
    [words] = re.findall(r"^note: to compile with it: export (.*)$", run.stderr, re.MULTILINE)
    named = dict(word.split("=") for word in words.split())
    assert list(checkout(*BUILD, "--arch", "s390x", **unnamed, **named).digests) == ["bin/pause-s390x"]
    assert docker("images", "--quiet", SETTINGS.defaults.kube_cross_image) == ""
    docker("rmi", "localhost/kube-cross:latest", "debian:bookworm-slim")


def test_the_task_never_takes_the_name_of_the_published_image(released: tuple[Checkout, Run]) -> None:
    checkout, _ = released
    published = SETTINGS.defaults.kube_cross_image
    assert checkout("--dry", "kube-cross").stdout == "made    localhost/kube-cross:latest\n"
    assert checkout("--dry", "kube-cross", KUBE_CROSS_VERSION="2").stdout == "made    localhost/kube-cross:2\n"
    for words, variables in (([], {"KUBE_CROSS_IMAGE": published}), (["--kube-cross-image", published], {})):
        message = checkout.refuses(2, "kube-cross", *words, **variables)
        assert message.startswith(f"{published!r} is the published toolchain image")


def test_a_toolchain_whose_base_cant_be_had(checkout: Checkout, toolchain: dict[str, str]) -> None:
    recipe = checkout.root / "build/compilers/kube-cross.Dockerfile"
    recipe.write_text("FROM localhost:1/debian\n")
    message = checkout.refuses(1, "kube-cross", **toolchain)
    name = f"{toolchain['KUBE_CROSS_IMAGE']}:{toolchain['KUBE_CROSS_VERSION']}"
    assert message.startswith(f"{name}: docker build: ")
    assert "localhost:1" in message


def test_an_image_without_mingw_is_refused_by_name(checkout: Checkout, toolchain: dict[str, str]) -> None:
    message = checkout.refuses(1, *BUILD, "--arch", "windows-1809", **toolchain)
    assert "has no x86_64-w64-mingw32-gcc" in message
    assert "invoke kube-cross --windows; or compile with --compiler zig" in message
