"""`--engine docker`: images that a real daemon builds and pushes, and what is done about its well-known faults."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker as docker_py
import pytest

from build.cli import setup
from build.cli.options import Options
from build.config.arches import Arch
from build.daemon.client import Daemon
from build.daemon.ignore import allowed
from build.daemon.images import checked_image
from build.engines.docker import packed_context
from build.errors import ImageError
from build.image.assemble import rendered
from build.image.spec import Spec
from tests.compilers.test_kube_cross import created
from tests.support.checkout import RELEASE, SETTINGS, Checkout, Run, results
from tests.support.daemons import Docker
from tests.support.pidns import until
from tests.support.reading import complete, digest, inspect
from tests.support.registries import Recorder, fetch, recording, registry, registry_reader

pytestmark = pytest.mark.xdist_group("docker")

DOCKER = ("--engine", "docker")
LIST_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
WRITES = ("POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Published:
    """A checkout that pushed everything with the docker engine, its registry, and how that went."""

    checkout: Checkout
    recorder: Recorder
    environment: dict[str, str]
    run: Run
    lines: list[str]

    @property
    def registry(self) -> str:
        return self.environment["REGISTRY"]

    def again(self, *words: str, **more: str) -> Run:
        self.recorder.forget()
        return self.checkout(*words, **{**self.environment, **more})


def context(spec: Spec) -> bytes:
    files = {**allowed(spec.root), spec.binary_path: (spec.root / spec.binary_path).read_bytes()}
    return packed_context(spec, rendered(spec), files)


def contexts(options: Options) -> list[tuple[Arch, bytes]]:
    """What the daemon builds the image of each arch from, with the binaries that are in bin."""

    async def made() -> list[tuple[Arch, bytes]]:
        async with setup.builds(options, every_arch=True) as ([build], _):
            specs = [build.spec(arch) for arch in build.arches]
            return [(spec.arch, context(spec)) for spec in specs]

    return asyncio.run(made())


@pytest.fixture(scope="module")
def published(
    source: Checkout, docker: Docker, kube_cross: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Published]:
    """Made while the daemon's cache has the same steps from builds without a platform: Engine 20.10 would use them."""
    folder = tmp_path_factory.mktemp("published")
    checkout = Checkout.clone(source.root, folder / "checkout")
    image, _, version = kube_cross.rpartition(":")
    with registry(folder / "registry") as upstream, recording(upstream) as recorder:
        environment = {
            "DOCKER_HOST": docker.host,
            "KUBE_CROSS_IMAGE": image,
            "KUBE_CROSS_VERSION": version,
            "REGISTRY": f"{recorder.host}/team",
        }
        checkout("build", "--arch", "all", *DOCKER, **environment)
        for arch, packed in contexts(Options(checkout.root, {"engine": "docker"}, environment, dry=True)):
            docker("build", f"--tag=pause-tests/dirty-{arch.name}", "-", data=packed)
        run = checkout("all-push", *DOCKER, **environment)
        yield Published(checkout, recorder, environment, run, recorder.lines)


def row(arch: str) -> dict[str, str]:
    return SETTINGS.arches[arch].platform.fields()


def platform(document: dict[str, Any]) -> dict[str, str]:
    return {key: document[key] for key in ("os", "architecture", "variant") if document.get(key)}


def config_of(reference: str) -> dict[str, Any]:
    found: dict[str, Any] = inspect(f"docker://{reference}", "--config", "--raw")[1]
    return found


def test_a_dirty_build_cache_does_not_matter(published: Published, docker: Docker) -> None:
    assert docker.image("pause-tests/dirty-s390x")["Architecture"] != "s390x", "the cache was not dirty"
    for arch in RELEASE:
        image = docker.image(f"{published.registry}/pause-{arch}:3.1")
        found = {"os": image["Os"], "architecture": image["Architecture"], "variant": image.get("Variant", "")}
        assert platform(found) == row(arch)
        assert image["RepoTags"] == [f"{published.registry}/pause-{arch}:3.1"]


def test_an_image_for_another_platform_is_refused(published: Published, docker: Docker) -> None:
    assert published
    daemon = Daemon(docker_py.APIClient(docker.host))
    with pytest.raises(ImageError, match=r"the daemon made an image for linux/\w+, expected linux/arm/v7\n"):
        asyncio.run(checked_image(daemon, "pause-tests/dirty-arm", SETTINGS.arches["arm"].platform, None))
    name = f"{published.registry}/pause-s390x:3.1"
    with pytest.raises(ImageError, match="another build took the name"):
        asyncio.run(checked_image(daemon, name, SETTINGS.arches["s390x"].platform, "sha256:0"))


def test_everything_is_published(published: Published) -> None:
    digests = published.run.digests
    assert list(digests) == [f"{published.registry}/pause{suffix}:3.1" for suffix in ("", *(f"-{a}" for a in RELEASE))]
    for name, expected in digests.items():
        path = name.partition("/")[2].replace(":", "/manifests/")
        status, data = fetch(published.recorder.host, path)
        assert (status, digest(data)) == (200, expected)
    status, data = fetch(published.recorder.host, "team/pause/manifests/3.1")
    listed = json.loads(data)
    assert listed["mediaType"] == LIST_TYPE
    assert [platform(entry["platform"]) for entry in listed["manifests"]] == [row(arch) for arch in RELEASE]
    assert [entry["digest"] for entry in listed["manifests"]] == list(digests.values())[1:]
    assert {entry["mediaType"] for entry in listed["manifests"]} == {MANIFEST_TYPE}
    for arch in RELEASE:
        assert platform(config_of(f"{published.registry}/pause-{arch}:3.1")) == row(arch)

    read = registry_reader(published.recorder.host, "team/pause")
    assert len(complete(read, next(iter(digests.values())))) == 1 + 3 * len(RELEASE)


def test_the_manifest_lists_tag_comes_last(published: Published) -> None:
    written = [line for line in published.lines if line.startswith("PUT ") and "/manifests/" in line]
    tags = [line.removeprefix("PUT /v2/team/") for line in written if line.endswith("/3.1")]
    assert sorted(tags[:-1]) == sorted(f"pause-{arch}/manifests/3.1" for arch in RELEASE)
    assert tags[-1] == "pause/manifests/3.1"
    assert written[-1].endswith(tags[-1])


def test_progress_goes_to_stderr(published: Published) -> None:
    for arch in RELEASE:
        name = f"{published.registry}/pause-{arch}:3.1"
        assert f"{name}: built\n" in published.run.stderr
        assert f"{name}: " in published.run.stderr.partition(": built")[2]
        assert " Pushed\n" in published.run.stderr


def test_nothing_is_done_twice(published: Published, docker: Docker) -> None:
    began = time.time()
    again = published.again("all-push", *DOCKER)
    assert again.stdout == published.run.stdout
    assert [line for line in published.recorder.lines if line.startswith(WRITES)] == []
    assert created(docker, began) == []
    made = docker("events", f"--since={began}", f"--until={time.time()}", "--filter=event=create")
    assert made == ""


def test_push_manifest_has_nothing_left_to_do(published: Published) -> None:
    run = published.again("push-manifest", "--json")
    assert {each["change"] for each in results(run)} == {"kept"}
    assert {each["reference"]: each["digest"] for each in results(run)} == published.run.digests
    assert [line for line in published.recorder.lines if line.startswith(WRITES)] == []


def every_image(docker: Docker) -> list[str]:
    return sorted(docker("images", "--no-trunc", "--format={{.Repository}}:{{.Tag}}@{{.ID}}").split())


def test_a_dry_run_changes_nothing(published: Published, docker: Docker, checkout: Checkout) -> None:
    images = every_image(docker)
    run = published.again("--dry", "all-push", *DOCKER)
    assert {line.split()[0] for line in run.stdout.splitlines()} == {"kept"}
    environment = {**published.environment, "TAG": "4.0"}
    run = checkout("--dry", "all-push", *DOCKER, **environment)
    assert [line.split()[0] for line in run.stdout.splitlines()] == ["pushed"] * 6
    assert every_image(docker) == images
    assert [line for line in published.recorder.lines if line.startswith(WRITES)] == []


def test_a_tag_is_moved_only_when_told(published: Published, checkout: Checkout) -> None:
    environment = {**published.environment, "REGISTRY": f"{published.recorder.host}/moving", "ALL_ARCH": "arm s390x"}
    before = checkout("all-push", *DOCKER, **environment).digests
    checkout.edit("arches.yaml", "image.title: pause", "image.title: other")
    published.recorder.forget()
    message = checkout.refuses(1, "all-push", *DOCKER, **environment)
    for arch in ("arm", "s390x"):
        name = f"{environment['REGISTRY']}/pause-{arch}:3.1"
        assert f"  {name}: found {before[name]}, expected an image that this daemon pushed or no tag" in message
    assert "--overwrite" in message
    assert [line for line in published.recorder.lines if line.startswith(WRITES)] == []

    run = checkout("all-push", *DOCKER, "--overwrite", "--json", **environment)
    assert {each["change"] for each in results(run)} == {"moved"}
    assert {each["digest"] for each in results(run)}.isdisjoint(before.values())


def files(reference: str) -> dict[str, tuple[Any, ...]]:
    """All that the layers of an image hold."""
    host, _, name = reference.partition("/")
    repository, _, tag = name.rpartition(":")
    manifest = json.loads(fetch(host, f"{repository}/manifests/{tag}")[1])
    found: dict[str, tuple[Any, ...]] = {}
    for layer in manifest["layers"]:
        packed = gzip.decompress(fetch(host, f"{repository}/blobs/{layer['digest']}")[1])
        with tarfile.open(fileobj=io.BytesIO(packed)) as tape:
            for member in tape:
                content = tape.extractfile(member)
                kind = (member.type, member.mode & 0o7777, member.uid, member.gid, member.linkname, member.size)
                found[member.name] = (*kind, content.read() if content else None)
    return found


def test_both_engines_make_the_same_image(published: Published) -> None:
    elsewhere = f"{published.recorder.host}/embedded"
    published.again("all-push", "--compiler", "kube-cross", "--format", "docker", REGISTRY=elsewhere)
    for arch in RELEASE:
        ours, theirs = (f"{place}/pause-{arch}:3.1" for place in (elsewhere, published.registry))
        assert files(ours) == files(theirs)
        assert list(files(ours)) == ["pause"]
        one, other = config_of(ours), config_of(theirs)
        assert platform(one) == platform(other) == row(arch)
        for key in ("Entrypoint", "User", "Labels", "Cmd", "Volumes", "ExposedPorts", "WorkingDir"):
            assert (one["config"].get(key) or None) == (other["config"].get(key) or None), key


@pytest.mark.usefixtures("emulators")
@pytest.mark.parametrize("arch", RELEASE)
def test_it_runs_and_stops(published: Published, docker: Docker, arch: str) -> None:
    name = f"{published.registry}/pause-{arch}:3.1"
    said = docker("run", "--rm", "--network=none", name, "-v")
    assert said == f"pause.c {published.checkout.version}"
    container = docker("run", "--detach", "--network=none", name)
    try:

        def look() -> str:
            return docker("top", container, "-o", "pid,stat").splitlines()[1].split()[1][0]

        until("it waits for signals", lambda: [look(), look(), look()] == ["S", "S", "S"])
        docker("stop", "--time=30", container)  # it would be killed then: exit code 137
        assert docker("inspect", "--format={{.State.ExitCode}}", container) == "0"
        assert "Shutting down, got signal: Terminated" in docker.run("logs", container).stderr.decode()
    finally:
        docker("rm", "--force", container)


def test_a_name_without_a_registry_is_for_this_daemon(published: Published, docker: Docker) -> None:
    run = published.again("container", "--arch", "arm", *DOCKER, REGISTRY="")
    assert run.digests == {"pause-arm:3.1": docker.image("pause-arm:3.1")["Id"]}
    docker("rmi", "pause-arm:3.1")
    assert ": built" in published.again("container", "--arch", "arm", *DOCKER, REGISTRY="").stderr
    docker("rmi", "pause-arm:3.1")


@pytest.mark.parametrize("task", ["push", "all-push-images", "all-push"])
def test_a_folder_is_no_registry_for_a_daemon(checkout: Checkout, toolchain: dict[str, str], task: str) -> None:
    message = checkout.refuses(2, task, *DOCKER, **toolchain)
    assert message.startswith("oci:dist/pause:3.1: found a folder, expected a registry")
    assert "--engine embedded" in message
