"""`bin/pause-A.tar`, loaded by everything that loads such archives."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.checkout import RELEASE, SETTINGS, Checkout, Run
from tests.components import lack, need
from tests.pidns import until
from tests.reading import digest, inspect, skopeo
from tests.registries import Recorder

Released = tuple[Checkout, Run]
BINFMT = Path("/proc/sys/fs/binfmt_misc")
# One test daemon is enough: whoever has a first test of these has them all.
pytestmark = pytest.mark.xdist_group("engines")


def config_digest(checkout: Checkout, arch: str) -> str:
    _, manifest = inspect(f"oci:dist/pause-{arch}:3.1", "--raw", cwd=checkout.root)
    found: str = manifest["config"]["digest"]
    return found


def archive(checkout: Checkout, arch: str) -> Path:
    return checkout.root / "bin" / f"pause-{arch}.tar"


def platform(arch: str) -> tuple[str, str]:
    row = SETTINGS.arches[arch].platform
    return row.architecture, row.variant


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The command that talks to a Docker daemon of our own, which meets no other one's network, mounts or processes."""
    client, daemon = need("docker", "docker.io"), need("dockerd", "docker.io")
    if os.geteuid() != 0:
        lack("dockerd: needs root")
    folder = tmp_path_factory.mktemp("docker")
    socket = f"unix://{folder}/s"
    apart = [need("unshare", "util-linux"), "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    folders = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
    network = ["--bridge=none", "--iptables=false"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*apart, daemon, *folders, *network, "-H", socket], stdout=log, stderr=log)
    try:
        command = [client, "-H", socket]

        def answers() -> bool:
            probe = subprocess.run([*command, "version"], check=False, capture_output=True)
            return process.poll() is not None or probe.returncode == 0

        until("dockerd answers", answers, patience=60)
        assert process.poll() is None, (folder / "log").read_text()
        yield command
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
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


@pytest.mark.usefixtures("emulators")
@pytest.mark.parametrize("arch", RELEASE)
def test_docker_loads_and_runs_it(released: Released, docker: list[str], arch: str) -> None:
    checkout, _ = released
    name = f"pause-{arch}:3.1"

    def said(*words: str) -> str:
        run = subprocess.run([*docker, *words], check=False, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr
        return run.stdout

    assert f"Loaded image: {name}" in said("load", "-i", str(archive(checkout, arch)))
    [image] = json.loads(said("image", "inspect", name))
    assert (image["Architecture"], image.get("Variant", "")) == platform(arch)
    assert (image["Id"], image["RepoTags"]) == (config_digest(checkout, arch), [name])
    assert said("run", "--rm", "--network=none", name, "-v") == f"pause.c {checkout.version}\n"


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a name short enough for podman's run root."""
    with TemporaryDirectory(prefix="pause") as folder:
        yield Path(folder)


@pytest.mark.parametrize("arch", ["amd64", "arm"])
def test_podman_loads_it(released: Released, short: Path, arch: str) -> None:
    checkout, _ = released
    folders = [f"--root={short}/root", f"--runroot={short}/run", "--storage-driver=vfs"]

    def said(*words: str) -> str:
        command = [need("podman", "podman"), *folders, *words]
        run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr
        return run.stdout

    said("load", "-i", str(archive(checkout, arch)))
    [image] = json.loads(said("image", "inspect", f"localhost/pause-{arch}:3.1"))
    assert image["Architecture"] == platform(arch)[0]
    assert f"sha256:{image['Id']}" == config_digest(checkout, arch)


@pytest.mark.parametrize("arch", RELEASE)
@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_skopeo_reads_it(released: Released, kind: str, arch: str) -> None:
    checkout, run = released
    reference = f"{kind}:{archive(checkout, arch)}"
    tag = ":3.1" if kind == "oci-archive" else f":pause-{arch}:3.1"
    config = skopeo("inspect", "--config", "--raw", reference + tag)
    assert digest(config) == config_digest(checkout, arch)
    if kind == "oci-archive":
        assert inspect(reference + tag, "--raw")[0] == run.digests[f"oci:dist/pause-{arch}:3.1"]


def test_it_bears_the_name_that_it_is_published_as(checkout: Checkout) -> None:
    run = checkout("container", "--arch", "s390x", REGISTRY="registry.example/team", TAG="3.9")
    assert list(run.digests) == ["bin/pause-s390x.tar"]
    listed = skopeo("list-tags", f"docker-archive:{archive(checkout, 's390x')}")
    assert json.loads(listed)["Tags"] == ["registry.example/team/pause-s390x:3.9"]


def test_docker_types_load_as_well(checkout: Checkout, recorder: Recorder) -> None:
    checkout("push", "--arch", "arm", "--format", "docker", REGISTRY=recorder.host)
    name = f"{recorder.host}/pause-arm:3.1"
    config = skopeo("inspect", "--config", "--raw", f"docker-archive:{archive(checkout, 'arm')}:{name}")
    assert digest(config) == inspect(f"docker://{name}", "--raw")[1]["config"]["digest"]


def test_the_default_task_makes_all_of_them(released: Released, checkout: Checkout) -> None:
    reference, published = released
    run = checkout()
    assert list(run.digests) == [f"bin/pause-{arch}.tar" for arch in RELEASE]
    assert list(run.digests.values()) == list(published.digests.values())[1:]
    for arch in RELEASE:
        assert archive(checkout, arch).read_bytes() == archive(reference, arch).read_bytes()
    assert not (checkout.root / "dist").exists()
