"""pause, and a program that was built elsewhere, on a base: one run publishes both, and podman and Docker run them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import RELEASE, SETTINGS, Checkout
from tests.support.daemons import Docker
from tests.support.podman import Podman, own_podman
from tests.support.registries import registry
from tests.support.strangers import Shelf, tape

ROW = """
  app:
    tag: "1.0"
    repository: "{registry}/app"
    arch-reference: "{registry}/app:{tag}-{arch}"
    dockerfile: Dockerfile.app.j2
    binary: "out/app-{goos}-{goarch}"
    user: "65532"
    entrypoint: [/usr/bin/app, -v]
    labels:
      org.opencontainers.image.description: a program that was built elsewhere
    annotations: {}
"""
DOCKERFILE = """ARG base=oci:base
FROM ${base}
ARG TARGETARCH
COPY {{ binary }} /bin/app
COPY --chmod=0640 --chown=65532 conf/ /etc/app/
ENV FOR=$TARGETARCH
WORKDIR /work
USER {{ image.user }}
ENTRYPOINT {{ image.entrypoint | tojson }}
LABEL{% for key, value in labels.items() %} {{ key | quoted }}={{ value | quoted }}{% endfor %}

"""


def base(root: Path) -> None:
    """A base for every arch, in which /bin is a link."""
    shelf = Shelf(root / "base")
    folders = tape({"usr/": None, "usr/bin/": None, "etc/": None, "bin": "usr/bin", "etc/os-release": b"NAME=base\n"})
    images = [
        shelf.image(str(SETTINGS.arches[arch].platform), [folders], {"Env": ["PATH=/bin", "FROM=base"], "Cmd": ["x"]})
        for arch in RELEASE
    ]
    shelf.tag("1", shelf.index(*images))


@pytest.fixture(scope="module")
def published(source: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Checkout, str]]:
    """A checkout with both images, and the registry to which one run has published them."""
    folder = tmp_path_factory.mktemp("both")
    checkout = Checkout.clone(source.root, folder / "checkout")
    checkout("build", "--arch", "all")
    (checkout.root / "out").mkdir()
    for arch in RELEASE:
        name = f"out/app-linux-{SETTINGS.arches[arch].platform.architecture}"
        shutil.copy(checkout.root / f"bin/pause-{arch}", checkout.root / name)
    (checkout.root / "conf").mkdir()
    (checkout.root / "conf/app.toml").write_text("key = 1\n")
    base(checkout.root)
    checkout.edit("arches.yaml", "\ndefaults:\n", f"{ROW}\ndefaults:\n")
    checkout.edit(".dockerignore", "!pause.c", "!pause.c\n!conf")
    (checkout.root / "Dockerfile.app.j2").write_text(DOCKERFILE)
    checkout.commit("a second image")
    with registry(folder / "registry") as host:
        run = checkout("all-push", "--also-tag", "latest", REGISTRY=host)
        assert len(run.digests) == 2 * 2 * (1 + len(RELEASE))
        yield checkout, host


def test_both_are_right(published: tuple[Checkout, str]) -> None:
    checkout, host = published
    found = checkout("check", "--also-tag", "latest", REGISTRY=host)
    assert f"{host}/app:latest@sha256:" in found.stdout
    checkout("check", f"{host}/app:latest")
    assert checkout("all-push", "--also-tag", "latest", REGISTRY=host).stderr.count("already published") == 24


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    with own_podman() as podman:
        yield podman
        podman("rmi", "--all", "--force")


@pytest.mark.xdist_group("podman")
@pytest.mark.parametrize("arch", RELEASE)
@pytest.mark.usefixtures("emulators")
def test_podman_runs_both(published: tuple[Checkout, str], podman: Podman, arch: str) -> None:
    platform = f"--platform={SETTINGS.arches[arch].platform}"
    run = ("run", "--rm", "--network=none", "--tls-verify=false", "--pull=always", platform)
    assert podman(*run, f"{published[1]}/app:latest").startswith("pause.c v3.1-")
    assert podman(*run, f"{published[1]}/pause:latest", "-v").startswith("pause.c v3.1-")


@pytest.mark.xdist_group("docker")
@pytest.mark.parametrize("arch", RELEASE)
@pytest.mark.usefixtures("emulators")
def test_docker_runs_both(published: tuple[Checkout, str], docker: Docker, arch: str) -> None:
    host, platform = published[1], f"--platform={SETTINGS.arches[arch].platform}"
    for name, words in (("app", ()), ("pause", ("-v",))):
        image = f"{host}/{name}:latest"
        docker("pull", "--quiet", platform, image)
        assert docker("run", "--rm", "--network=none", platform, image, *words).startswith("pause.c v3.1-")
        found = docker.image(image)
        docker("rmi", image)
        if name == "app":
            assert found["Config"]["Env"] == ["PATH=/bin", "FROM=base", f"FOR={found['Architecture']}"]
            assert found["Config"]["WorkingDir"] == "/work"
            assert not found["Config"]["Cmd"]
