"""`bin/pause-A.tar`, and the archive of a whole release, loaded by everything that loads such archives."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.checkout import RELEASE, SETTINGS, Checkout, Run
from tests.support.components import need
from tests.support.containerd import own_containerd
from tests.support.daemons import Docker
from tests.support.reading import digest, inspect, skopeo
from tests.support.registries import Recorder

Released = tuple[Checkout, Run]


def config_digest(checkout: Checkout, arch: str) -> str:
    _, manifest = inspect(f"oci:dist/pause-{arch}:3.1", "--raw", cwd=checkout.root)
    found: str = manifest["config"]["digest"]
    return found


def archive(checkout: Checkout, arch: str) -> Path:
    return checkout.root / "bin" / f"pause-{arch}.tar"


def platform(arch: str) -> tuple[str, str]:
    row = SETTINGS.arches[arch].platform
    return row.architecture, row.variant


@pytest.mark.xdist_group("docker")
@pytest.mark.usefixtures("emulators")
@pytest.mark.parametrize("arch", RELEASE)
def test_docker_loads_and_runs_it(released: Released, docker: Docker, arch: str) -> None:
    checkout, _ = released
    name = f"pause-{arch}:3.1"

    assert f"Loaded image: {name}" in docker("load", "-i", str(archive(checkout, arch)))
    image = docker.image(name)
    assert (image["Architecture"], image.get("Variant", "")) == platform(arch)
    assert (image["Id"], image["RepoTags"]) == (config_digest(checkout, arch), [name])
    assert docker("run", "--rm", "--network=none", name, "-v") == f"pause.c {checkout.version}"
    docker("rmi", name)
    assert name not in docker("images", "--format={{.Repository}}:{{.Tag}}").split()


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a name short enough for podman's run root."""
    with TemporaryDirectory(prefix="pause") as folder:
        yield Path(folder)


def said(*command: str) -> str:
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture
def podman(short: Path) -> tuple[str, ...]:
    """A podman of its own, with nothing in it."""
    return (need("podman", "podman"), f"--root={short}/root", f"--runroot={short}/run", "--storage-driver=vfs")


@pytest.mark.parametrize("arch", ["amd64", "arm"])
def test_podman_loads_it(released: Released, podman: tuple[str, ...], arch: str) -> None:
    checkout, _ = released
    said(*podman, "load", "-i", str(archive(checkout, arch)))
    [image] = json.loads(said(*podman, "image", "inspect", f"docker.io/library/pause-{arch}:3.1"))
    assert image["Architecture"] == platform(arch)[0]
    assert f"sha256:{image['Id']}" == config_digest(checkout, arch)


@pytest.fixture(scope="module")
def release(released: Released) -> Iterator[Path]:
    """The archive of a release."""
    checkout, _ = released
    with TemporaryDirectory(prefix="pause") as folder:
        checkout("copy", "oci:dist", f"oci-archive:{folder}/release.tar")
        yield Path(folder, "release.tar")


@pytest.mark.xdist_group("docker")
def test_docker_loads_a_release(released: Released, release: Path, docker: Docker) -> None:
    checkout, _ = released
    loaded = docker("load", "-i", str(release))
    for arch in RELEASE:
        assert f"Loaded image: pause-{arch}:3.1" in loaded
        image = docker.image(f"pause-{arch}:3.1")
        assert (image["Architecture"], image.get("Variant", "")) == platform(arch)
        assert image["Id"] == config_digest(checkout, arch)


def test_podman_loads_a_release(released: Released, release: Path, podman: tuple[str, ...]) -> None:
    checkout, _ = released
    said(*podman, "load", "-i", str(release))
    for arch in RELEASE:
        [image] = json.loads(said(*podman, "image", "inspect", f"docker.io/library/pause-{arch}:3.1"))
        assert f"sha256:{image['Id']}" == config_digest(checkout, arch)


def test_containerd_imports_a_release(released: Released, release: Path) -> None:
    _, run = released
    with own_containerd() as containerd:
        containerd("images", "import", "--all-platforms", str(release))
        found = containerd.digests()
    assert found == {f"docker.io/library/{name.rpartition('/')[2]}": digest for name, digest in run.digests.items()}


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
