"""`all-push --verify` moves no tag before every arch has passed; `verify --with` runs images in container engines."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from build.errors import BuildError
from build.oci.tar import File, tar
from build.verify.namespaces import Namespaces
from tests.support.checkout import Checkout, results
from tests.support.components import lack
from tests.support.daemons import Docker
from tests.support.podman import Podman, own_podman
from tests.support.registries import Recorder, fetch, registry

REAPER = "    signal(SIGCHLD, SIG_IGN);\n"


@pytest.fixture
def arch() -> str:
    """The arch that runs here without an emulator; the gate is the same for all."""
    try:
        asyncio.run(Namespaces(Path()).prepare())
    except BuildError as error:
        lack(str(error))
    return {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}[os.uname().machine]


def tags(recorder: Recorder) -> list[str]:
    """The tags that were written, in order."""
    written = [line for line in recorder.lines if line.startswith("PUT ") and line.endswith("/manifests/3.1")]
    return [line.split("/")[2] for line in written]


def test_a_broken_pause_moves_no_tag(checkout: Checkout, recorder: Recorder, arch: str) -> None:
    checkout.edit("pause.c", REAPER, "")
    message = checkout.refuses(1, "all-push", "--verify", "--arch", arch, REGISTRY=recorder.host)
    assert message.startswith(f"1 of 1 arches did not pass\n  {arch}: orphans: ")
    assert tags(recorder) == []
    for name in ("pause", f"pause-{arch}"):
        assert fetch(recorder.host, f"{name}/manifests/3.1")[0] == 404
    by_digest = [line for line in recorder.lines if line.startswith("PUT ") and "/manifests/sha256:" in line]
    assert len(by_digest) == 2, "all content is there before anything is run"
    assert checkout("push", "--arch", arch, REGISTRY=recorder.host).digests, "unasked, nothing is run"


def test_a_correct_pause_moves_them(checkout: Checkout, recorder: Recorder, arch: str) -> None:
    plain = checkout("all-push", "--arch", arch).digests
    run = checkout("all-push", "--verify", "--arch", arch, REGISTRY=recorder.host)
    assert list(run.digests.values()) == list(plain.values())
    assert f"{arch}: passed (native)" in run.stderr
    assert tags(recorder) == [f"pause-{arch}", "pause"]
    again = checkout("all-push", "--verify", "--arch", arch, REGISTRY=recorder.host)
    assert again.stdout == run.stdout
    assert "passed" not in again.stderr, "no tag moves, and nothing is run for it"


def test_an_arch_that_is_not_run_needs_a_flag(checkout: Checkout, recorder: Recorder, arch: str) -> None:
    foreign = "s390x" if arch != "s390x" else "ppc64le"
    checkout.edit("arches.yaml", f"    qemu: {foreign}\n", "    qemu: nothing\n")
    words = ("push", "--verify", "--arch", foreign)
    message = checkout.refuses(1, *words, REGISTRY=recorder.host)
    assert f"{foreign}: not run: " in message
    assert tags(recorder) == []
    checkout(*words, "--allow-not-run", REGISTRY=recorder.host)
    assert tags(recorder) == [f"pause-{foreign}"]


def test_it_runs_once_for_several_registries(checkout: Checkout, recorder: Recorder, arch: str, tmp_path: Path) -> None:
    with registry(tmp_path / "second") as second:
        words = ("all-push", "--arch", arch, "--verify", "--registry", recorder.host, "--registry", second)
        checkout.edit("pause.c", REAPER, "")
        message = checkout.refuses(1, *words)
        assert message.startswith("2 of 2 registries failed\n")
        assert fetch(second, "pause/manifests/3.1")[0] == 404
        assert tags(recorder) == []
        checkout.edit("pause.c", "static void reap_children(void) {\n", f"static void reap_children(void) {{\n{REAPER}")
        run = checkout(*words)
        assert run.stderr.count(f"{arch}: passed") == 1
        assert fetch(second, "pause/manifests/3.1")[0] == 200


# --- Docker ---


@pytest.mark.xdist_group("docker")
@pytest.mark.usefixtures("emulators")
def test_docker_runs_the_images(checkout: Checkout, docker: Docker) -> None:
    images = sorted(docker("images", "--quiet", "--no-trunc").split())
    words = ("verify", "--with", "docker", "--arch", "amd64", "--arch", "arm", "--json")
    verdicts = results(checkout(*words, DOCKER_HOST=docker.host))
    assert [each["method"] for each in verdicts] == ["docker, native", "docker, binfmt"]
    checkout.edit("pause.c", REAPER, "")
    run = checkout.ends("verify", "--with", "docker", "--arch", "arm", DOCKER_HOST=docker.host)
    assert run.code == 1
    assert "\n  arm: orphans: " in run.stderr
    assert docker("ps", "--all", "--quiet", "--filter=label=io.k8s.pause.verify") == ""
    assert sorted(docker("images", "--quiet", "--no-trunc").split()) == images


@pytest.mark.xdist_group("docker")
def test_an_image_with_no_name_stays_in_docker(checkout: Checkout, docker: Docker, arch: str, tmp_path: Path) -> None:
    checkout("container", "--arch", arch)
    name, archive = f"pause-{arch}:3.1", checkout.root / f"bin/pause-{arch}.tar"
    docker("load", "--input", str(archive))
    image = docker("inspect", "--format={{.Id}}", name)
    other = tmp_path / "other.tar"
    other.write_bytes(tar([File("/other", 0o644, b"")], 0))
    docker("import", str(other), name)
    assert docker("inspect", "--format={{.RepoTags}}", image) == "[]"
    checkout("verify", "--with", "docker", "--arch", arch, DOCKER_HOST=docker.host)
    assert docker("inspect", "--format={{.RepoTags}}", image) == "[]"
    docker("rmi", image, name)


@pytest.mark.xdist_group("docker")
def test_the_docker_engine_pushes_nothing_that_failed(
    checkout: Checkout, recorder: Recorder, toolchain: dict[str, str], arch: str
) -> None:
    environment = {**toolchain, "REGISTRY": f"{recorder.host}/gated"}
    words = ("all-push", "--engine", "docker", "--arch", arch, "--verify", "--with", "docker")
    checkout.edit("pause.c", REAPER, "")
    message = checkout.refuses(1, *words, **environment)
    assert f"{arch}: orphans: " in message
    assert [line for line in recorder.lines if not line.startswith(("GET ", "HEAD "))] == []
    checkout.edit("pause.c", "static void reap_children(void) {\n", f"static void reap_children(void) {{\n{REAPER}")
    run = checkout(*words, **environment)
    assert f"{arch}: passed (docker, native)" in run.stderr
    assert fetch(recorder.host, "gated/pause/manifests/3.1")[0] == 200


# --- Podman ---


@pytest.fixture
def podman() -> Iterator[Podman]:
    """A Podman of its own, empty before and after."""
    with own_podman() as podman:
        yield podman


@pytest.mark.parametrize("named", [True, False])
def test_an_image_that_was_there_stays_in_podman(checkout: Checkout, podman: Podman, arch: str, named: bool) -> None:
    checkout("container", "--arch", arch)
    name = f"docker.io/library/pause-{arch}:3.1"
    podman("load", "--input", str(checkout.root / f"bin/pause-{arch}.tar"))
    if not named:
        podman("untag", name, name)
    before = podman("images", "--all", "--no-trunc", "--format={{.Id}} {{.Names}}")
    checkout("verify", "--with", "podman", "--arch", arch, **podman.environment)
    assert podman("images", "--all", "--no-trunc", "--format={{.Id}} {{.Names}}") == before
    podman("rmi", "--all", "--force")


@pytest.mark.usefixtures("emulators")
def test_podman_runs_the_images(checkout: Checkout, podman: Podman) -> None:
    words = ("verify", "--with", "podman", "--arch", "amd64", "--arch", "s390x", "--json")
    verdicts = results(checkout(*words, **podman.environment))
    assert [each["method"] for each in verdicts] == ["podman, native", "podman, binfmt"]
    checkout.edit("pause.c", REAPER, "")
    run = checkout.ends("verify", "--with", "podman", "--arch", "amd64", **podman.environment)
    assert run.code == 1
    assert "\n  amd64: orphans: " in run.stderr
