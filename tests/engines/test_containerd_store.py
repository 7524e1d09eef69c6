"""`--engine docker`, and archives, on Docker's containerd image store: the default of new installations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.engines.test_docker_engine import DOCKER, WRITES, config_of, platform, row
from tests.support.checkout import RELEASE, Checkout, Run, results
from tests.support.daemons import Docker
from tests.support.reading import inspect
from tests.support.registries import Recorder, recording, registry

pytestmark = pytest.mark.xdist_group("docker")

ZIG = (*DOCKER, "--compiler", "zig")


@dataclass(frozen=True)
class Published:
    """A checkout that pushed everything through the daemon, its registry, and how that went."""

    checkout: Checkout
    recorder: Recorder
    environment: dict[str, str]
    run: Run


@pytest.fixture(scope="module")
def published(
    source: Checkout, containerd_store: Docker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Published]:
    folder = tmp_path_factory.mktemp("published")
    checkout = Checkout.clone(source.root, folder / "checkout")
    with registry(folder / "registry") as upstream, recording(upstream) as recorder:
        environment = {"DOCKER_HOST": containerd_store.host, "REGISTRY": f"{recorder.host}/team"}
        yield Published(checkout, recorder, environment, checkout("all-push", *ZIG, **environment))


def test_every_image_has_its_platform(published: Published, containerd_store: Docker) -> None:
    for arch in RELEASE:
        name = f"{published.environment['REGISTRY']}/pause-{arch}:3.1"
        image = containerd_store.image(name)
        found = {"os": image["Os"], "architecture": image["Architecture"], "variant": image.get("Variant", "")}
        assert platform(found) == platform(config_of(name)) == row(arch)
        assert image["Id"] == published.run.digests[name]


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_media_types_are_of_one_family(published: Published, form: str) -> None:
    place = f"{published.recorder.host}/{form}"
    environment = {**published.environment, "REGISTRY": place, "ALL_ARCH": "amd64 arm"}
    published.checkout("all-push", *ZIG, f"--format={form}", **environment)
    family = {"oci": "application/vnd.oci.image.", "docker": "application/vnd.docker."}[form]
    for name in ("pause:3.1", "pause-amd64:3.1", "pause-arm:3.1"):
        manifest = inspect(f"docker://{place}/{name}", "--raw")[1]
        parts = [manifest, *manifest.get("manifests", ()), *manifest.get("layers", ())]
        parts += [manifest["config"]] if "config" in manifest else []
        assert len(parts) == 3
        assert all(part["mediaType"].startswith(family) for part in parts), manifest


def test_nothing_is_done_twice(published: Published) -> None:
    published.recorder.forget()
    again = published.checkout("all-push", *ZIG, **published.environment)
    assert again.stdout == published.run.stdout
    assert [line for line in published.recorder.lines if line.startswith(WRITES)] == []
    again = published.checkout("container", "--arch", "all", *ZIG, "--json", **published.environment)
    assert {each["change"] for each in results(again)} == {"kept"}


def test_an_image_that_was_removed_is_loaded_again(published: Published, containerd_store: Docker) -> None:
    name = f"{published.environment['REGISTRY']}/pause-arm:3.1"
    containerd_store("rmi", name)
    run = published.checkout("--dry", "container", "--arch", "arm", *ZIG, "--json", **published.environment)
    assert [each["change"] for each in results(run)] == ["made"]
    assert containerd_store.run("image", "inspect", name).returncode == 1
    published.checkout("container", "--arch", "arm", *ZIG, **published.environment)
    assert containerd_store.image(name)["Variant"] == "v7"


def test_a_tag_is_moved_only_when_told(published: Published, checkout: Checkout) -> None:
    environment = {**published.environment, "ALL_ARCH": "arm s390x"}
    checkout.edit("arches.yaml", "image.title: pause", "image.title: other")
    published.recorder.forget()
    message = checkout.refuses(1, "all-push", *ZIG, **environment)
    name = f"{environment['REGISTRY']}/pause-arm:3.1"
    assert f"  {name}: found {published.run.digests[name]}, expected an image that this daemon pushed" in message
    assert [line for line in published.recorder.lines if line.startswith(WRITES)] == []


@pytest.mark.usefixtures("emulators")
@pytest.mark.parametrize("arch", ["amd64", "arm"])
def test_archives_load_run_and_go(released: tuple[Checkout, Run], containerd_store: Docker, arch: str) -> None:
    checkout, run = released
    name = f"pause-{arch}:3.1"
    assert f"Loaded image: {name}" in containerd_store("load", "-i", str(checkout.root / f"bin/pause-{arch}.tar"))
    image = containerd_store.image(name)
    assert name in image["RepoTags"]
    assert image["Id"] == run.digests[f"oci:dist/{name}"]
    assert containerd_store("run", "--rm", "--network=none", name, "-v") == f"pause.c {checkout.version}"
    containerd_store("rmi", name)
    assert name not in containerd_store("images", "--format={{.Repository}}:{{.Tag}}").split()


def test_verify_runs_the_image_and_leaves_what_was_there(published: Published, containerd_store: Docker) -> None:
    listing = ("images", "--no-trunc", "--format={{.Repository}}:{{.Tag}} {{.ID}}")
    published.checkout("container", "--arch", "amd64", REGISTRY="oci:dist")
    containerd_store("load", "-i", str(published.checkout.root / "bin/pause-amd64.tar"))
    before = sorted(containerd_store(*listing).splitlines())
    words = ("verify", "--with", "docker", *ZIG, "--arch", "amd64", "--json")
    [verdict] = results(published.checkout(*words, **published.environment))
    assert [one["name"] for one in verdict["checks"] if not one["passed"]] == []
    assert sorted(containerd_store(*listing).splitlines()) == before
