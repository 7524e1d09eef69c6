"""Fixtures: clones of this checkout, and registries."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import Checkout, Run, origin
from tests.support.components import lack, need
from tests.support.daemons import Docker, any_daemon, machines, newer_docker, private, toolchain_root
from tests.support.logins import PASSWORD, USER, basic_registry, bearer_registry
from tests.support.pidns import until
from tests.support.registries import Recorder, recording, registry
from tests.support.secrecy import Secrets
from tests.support.token_server import TokenServer, token_server

BINFMT = Path("/proc/sys/fs/binfmt_misc")

# Shells have what they start in the background ignore Ctrl-C, nohup has it ignore SIGHUP; the programs under test would
# inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A repository with the checkout's files, for all tests of a worker to clone and none to change."""
    return origin(tmp_path_factory.mktemp("source") / "repository")


@pytest.fixture
def checkout(source: Checkout, tmp_path: Path) -> Checkout:
    """A fresh clone."""
    return Checkout.clone(source.root, tmp_path / "checkout")


@pytest.fixture(scope="session")
def released(source: Checkout, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, Run]:
    """A clone after one `all-push` with nothing set, and how that went; to be read, not changed."""
    checkout = Checkout.clone(source.root, tmp_path_factory.mktemp("released") / "checkout")
    return checkout, checkout("all-push")


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """An empty registry, behind a recorder."""
    with registry(tmp_path / "registry") as host, recording(host) as between:
        yield between


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Secrets]:
    """What no run of the test may show, whichever way that ends: PASSWORD, tokens, and what the test adds."""
    kept, ends = Secrets(), Checkout.ends
    kept.add(PASSWORD, USER)

    def heard(checkout: Checkout, *words: str, **environment: str) -> Run:
        run = ends(checkout, *words, **environment)
        kept.runs.append(run)
        return run

    monkeypatch.setattr(Checkout, "ends", heard)
    yield kept
    assert kept.shown() == []


@pytest.fixture
def basic(tmp_path: Path) -> Iterator[str]:
    """A registry for USER with PASSWORD."""
    with basic_registry(tmp_path / "basic") as host:
        yield host


@pytest.fixture
def tokens(tmp_path: Path, secrets: Secrets) -> Iterator[TokenServer]:
    """A server of tokens for USER with PASSWORD."""
    need("openssl", "openssl")
    with token_server(tmp_path / "tokens", USER, PASSWORD) as server:
        secrets.add(server.identity)
        yield server
        for token in server.given:
            secrets.add(token)


@pytest.fixture
def bearer(tmp_path: Path, tokens: TokenServer) -> Iterator[str]:
    """A registry for who has a token."""
    with bearer_registry(tmp_path / "bearer", tokens) as host:
        yield host


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """One daemon for all tests that are marked with xdist_group("docker")."""
    with any_daemon() as daemon:
        yield daemon


@pytest.fixture(scope="session")
def containerd_store() -> Iterator[Docker]:
    """A daemon with Docker's containerd image store."""
    if machines():
        pytest.skip("a second daemon without a bridge would take the one of the machine's daemon")
    with private(root=newer_docker(), features={"containerd-snapshotter": True}) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def kube_cross(docker: Docker) -> str:
    """The stand-in for the kube-cross image, in the daemon: Debian's cross compilers."""
    name = "pause-tests/kube-cross:bookworm"
    if name not in docker("images", "--format={{.Repository}}:{{.Tag}}").split():
        docker.import_(toolchain_root(), name)
    return name


@pytest.fixture
def toolchain(docker: Docker, kube_cross: str) -> Iterator[dict[str, str]]:
    """The variables that name daemon and toolchain; neither container nor volume is left after the test."""
    volumes = docker("volume", "ls", "--quiet")
    image, _, version = kube_cross.rpartition(":")
    yield {"DOCKER_HOST": docker.host, "KUBE_CROSS_IMAGE": image, "KUBE_CROSS_VERSION": version}
    until("no container is left", lambda: not docker.toolchains())
    assert docker("volume", "ls", "--quiet") == volumes


@pytest.fixture(scope="session")
def emulators() -> None:
    """Have the kernel run other CPUs' programs, as Debian's packages set it up at boot."""
    enable = need("update-binfmts", "binfmt-support")
    need("qemu-s390x-static", "qemu-user-static")
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], check=False, capture_output=True)
    if not (BINFMT / "qemu-s390x").exists():
        subprocess.run([enable, "--enable"], check=False, capture_output=True)
    if not (BINFMT / "qemu-s390x").exists():
        lack("binfmt_misc: this machine's kernel runs no other CPUs' programs; as root: update-binfmts --enable")
