"""FROM names any image in a registry, a layout or an archive: resolved per platform, mounted or sent once, checked."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.support.checkout import Checkout, Run, results
from tests.support.daemons import Docker
from tests.support.logins import PASSWORD, USER, configured, encoded
from tests.support.reading import complete, digest, inspect, skopeo
from tests.support.registries import Recorder, recording, registry, registry_reader
from tests.support.strangers import GZIP, OCI, Json, Shelf, elf, tape

ARCHES = ("--arch", "amd64", "--arch", "arm")
# Of the rows amd64 and arm (v7), the entries that containerd would take; and some that it would not.
BEST = {"amd64": "linux/amd64", "arm": "linux/arm/v6"}
OTHERS = ("linux/arm/v5", "linux/arm/v8", "linux/arm64/v8", "linux/386")


@dataclass
class Base:
    """A base of several platforms in an image layout, which may be put elsewhere."""

    shelf: Shelf
    digest: str = ""
    layers: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def made(cls, folder: Path, seed: int = 0) -> Base:
        """A base with attestations, whose layers for a platform are small and large."""
        base = cls(Shelf(folder))
        entries = []
        for platform in (*OTHERS, *BEST.values()):
            filler = random.Random(f"{seed} {platform}").randbytes(1_200_000)
            tapes = [tape({"etc": None, "etc/platform": platform.encode()}), tape({"filler": filler})]
            entries.append(base.shelf.image(platform, tapes, {"Env": ["PATH=/bin"], "Entrypoint": ["/bin/app"]}))
            base.layers[platform] = [each["digest"] for each in base.shelf.read(entries[-1])["layers"]]
        attests = base.shelf.image("unknown/unknown", [])
        attests["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
        base.tag(base.shelf.index(attests, *entries))
        return base

    def tag(self, descriptor: Json) -> None:
        self.shelf.tag("12", descriptor)
        self.digest = descriptor["digest"]

    def copy(self, target: str, *options: str) -> None:
        options = (*options, "--dest-tls-verify=false") if target.startswith("docker:") else options
        skopeo("copy", "--all", "--quiet", "--preserve-digests", *options, f"oci:{self.shelf.folder}:12", target)


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return Base.made(tmp_path / "base")


@pytest.fixture
def other() -> Iterator[Recorder]:
    """Another registry than `recorder`, with nothing in it."""
    with TemporaryDirectory() as folder, registry(Path(folder)) as host, recording(host) as between:
        yield between


def based(checkout: Checkout, reference: str, more: str = "") -> Checkout:
    """A checkout whose images are built upon `reference`."""
    lines = (checkout.root / "Dockerfile.j2").read_text().split("\n", 1)[1]
    (checkout.root / "Dockerfile.j2").write_text(f"FROM {reference}\n{lines}{more}")
    return checkout


def uploads(recorder: Recorder, layers: list[str]) -> list[str]:
    """The requests that sent a layer, or mounted it."""
    named = [each for each in recorder.exchanges if any(layer.partition(":")[2] in each.path for layer in layers)]
    return [f"{each.method} {each.status}" for each in named if each.method not in {"HEAD", "GET"}]


def manifest(reference: str, cwd: Path | None = None) -> Any:
    return inspect(reference, "--raw", cwd=cwd)[1]


def test_in_the_same_registry_a_base_is_mounted(checkout: Checkout, recorder: Recorder, base: Base) -> None:
    base.copy(f"docker://{recorder.upstream}/bases/debian:12")
    name = f"{recorder.host}/bases/debian:12"
    run = based(checkout, name)("all-push", *ARCHES, "--json", REGISTRY=f"{recorder.host}/team")
    assert run.stderr.count(f"base {name}: {base.digest}\n") == 1
    assert recorder.lines.count("HEAD /v2/bases/debian/manifests/12") == 1
    layers = [each for platform in BEST.values() for each in base.layers[platform]]
    assert uploads(recorder, layers) == ["POST 201"] * 2 * len(layers)  # for the arch, and for the list
    unused = [each for platform in OTHERS for each in base.layers[platform]]
    assert not any(each in line for each in unused for line in recorder.lines)

    for arch, platform in BEST.items():
        found = manifest(f"docker://{recorder.host}/team/pause-{arch}:3.1")
        assert [each["digest"] for each in found["layers"]][:-1] == base.layers[platform]
        assert found["annotations"] == {
            "org.opencontainers.image.base.name": name,
            "org.opencontainers.image.base.digest": base.digest,
        }
    listed = {each["reference"]: each for each in results(run)}
    published = listed[f"{recorder.host}/team/pause:3.1"]["digest"]
    complete(registry_reader(recorder.upstream, "team/pause"), published)
    assert listed[f"{recorder.host}/team/pause-arm:3.1"]["base"] == {"reference": name, "digest": base.digest}
    checkout("check", *ARCHES, REGISTRY=f"{recorder.host}/team")

    recorder.forget()
    before = checkout.snapshot()
    again = checkout("all-push", *ARCHES, REGISTRY=f"{recorder.host}/team")
    assert again.stdout.count("sha256:") == 3
    assert sorted(recorder.lines) == [
        "HEAD /v2/bases/debian/manifests/12",
        *sorted(f"HEAD /v2/team/pause{end}/manifests/3.1" for end in ("", "-amd64", "-arm")),
    ]
    assert checkout.snapshot() == before


def test_to_another_registry_a_base_is_sent_once(
    checkout: Checkout, recorder: Recorder, other: Recorder, base: Base
) -> None:
    base.copy(f"docker://{recorder.upstream}/debian:12")
    layers = base.layers[BEST["arm"]]
    words = ("push", "--arch", "arm")
    before = based(checkout, f"{recorder.host}/debian:12").snapshot()
    planned = results(checkout("plan", *words[1:], "--json", REGISTRY=other.host))
    assert checkout.snapshot() == before
    assert list((checkout.side / "tmp").iterdir()) == []
    recorder.forget()
    run = checkout(*words, REGISTRY=other.host)
    assert list(run.digests.values()) == [each["digest"] for each in planned if each["arch"] and "tag" in each]
    assert uploads(other, layers) == ["PUT 201"] * len(layers)
    fetched = [line for line in recorder.lines if line.startswith("GET ") and "/blobs/" in line]
    assert len(fetched) == len(layers) + 1
    recorder.forget()
    other.forget()
    checkout(*words, TAG="3.2", REGISTRY=other.host)
    assert uploads(other, layers) == []
    assert recorder.lines == ["HEAD /v2/debian/manifests/12"]
    complete(registry_reader(other.upstream, "pause-arm"), manifest_digest(other, "pause-arm", "3.2"))


@pytest.mark.usefixtures("secrets")
def test_a_base_that_needs_a_login_is_mounted_with_a_token_for_both(
    checkout: Checkout, bearer: str, base: Base
) -> None:
    base.copy(f"docker://{bearer}/bases/debian:12", f"--dest-creds={USER}:{PASSWORD}")
    with recording(bearer) as recorder:
        folder = configured(checkout, auths={recorder.host: encoded()})
        based(checkout, f"{recorder.host}/bases/debian:12")
        checkout("push", "--arch", "arm", REGISTRY=f"{recorder.host}/team", DOCKER_CONFIG=folder)
        layers = base.layers[BEST["arm"]]
        sent = [each for each in uploads(recorder, layers) if not each.endswith(" 401")]
        assert sent == ["POST 201"] * len(layers)


def test_a_base_may_differ_by_arch(checkout: Checkout, base: Base) -> None:
    line = f"{{% if arch == 'arm' %}}FROM oci:{base.shelf.folder}:12{{% else %}}FROM scratch{{% endif %}}"
    recipe = (checkout.root / "Dockerfile.j2").read_text().replace("FROM scratch", line)
    (checkout.root / "Dockerfile.j2").write_text(recipe)
    checkout("all-push", "--arch", "arm", "--arch", "s390x")
    layers = {arch: manifest(f"oci:dist/pause-{arch}:3.1", checkout.root)["layers"] for arch in ("arm", "s390x")}
    assert [each["digest"] for each in layers["arm"]][:-1] == base.layers[BEST["arm"]]
    assert len(layers["s390x"]) == 1


def manifest_digest(recorder: Recorder, name: str, tag: str) -> str:
    return inspect(f"docker://{recorder.host}/{name}:{tag}", "--raw")[0]


def test_bases_on_a_disk(checkout: Checkout, base: Base) -> None:
    vendor = checkout.root / "vendor"
    vendor.mkdir()
    base.shelf.folder.rename(vendor / "base")
    base.shelf = Shelf(vendor / "base")
    base.copy(f"oci-archive:{vendor}/base.tar:debian:12")
    child = manifest(f"oci:{vendor}/base:12")["manifests"][-1]["digest"]
    found = []
    for reference in (
        "oci:vendor/base:12",
        "oci:vendor/base",
        f"oci:{vendor}/base@{base.digest}",
        f"oci:vendor/base:12@{child}",
        "oci-archive:vendor/base.tar:debian:12",
        "oci-archive:vendor/base.tar",
    ):
        checkout.forget()
        run = based(checkout, reference)("push", "--arch", "arm", "--pull", "never", REV="v1", SOURCE_DATE_EPOCH="0")
        assert ("base oci" in run.stderr) == ("@" not in reference)
        made = manifest("oci:dist/pause-arm:3.1", checkout.root)
        assert [each["digest"] for each in made["layers"]][:-1] == base.layers[BEST["arm"]]
        assert made["annotations"].pop("org.opencontainers.image.base.digest") in (base.digest, child)
        found.append(made["annotations"].pop("org.opencontainers.image.base.name"))
        checkout("check", "oci:dist/pause-arm:3.1")
        skopeo("copy", f"oci-archive:{checkout.root}/bin/pause-arm.tar", f"oci:{checkout.side}/copy:3.1")
    assert found[:3] == ["oci:vendor/base:12", "oci:vendor/base:12", f"oci:{vendor}/base@{base.digest}"]


def test_a_moved_tag_and_pull(checkout: Checkout, tmp_path: Path, base: Base) -> None:
    container = ("container", "--arch", "arm", "--json")
    with registry(tmp_path / "registry") as host:
        name = f"{host}/debian:12"
        based(checkout, name)
        message = checkout.refuses(1, "container", "--arch", "arm", "--pull", "never")
        assert f"Dockerfile.j2: FROM {name}: {name}: not in the cache\n" in message
        base.copy(f"docker://{name}")
        first = checkout(*container)
        moved = Base.made(tmp_path / "moved", 1)
        moved.copy(f"docker://{name}")
        assert results(checkout(*container, "--pull", "missing"))[0]["change"] == "kept"
        before = checkout.snapshot()
        [planned, *_] = [each for each in results(plan(checkout)) if each.get("path", "").endswith(".tar")]
        assert planned["reasons"] == [f"base {name} {base.digest} → {moved.digest}"]
        assert checkout.snapshot() == before
        second = checkout(*container)
        assert digests(first) != digests(second) == [planned["digest"]]
    pinned = f"{host}/debian@{moved.digest}"
    for pull in ("missing", "never"):
        assert results(checkout(*container, PULL=pull))[0]["change"] == "kept"
    message = checkout.refuses(1, "container", "--arch", "arm", TIMEOUT="1")
    assert f"\n  to build on {moved.digest}, as the last run did: --pull missing" in message
    message = checkout.refuses(1, "container", "--arch", "arm64", "--pull", "never")
    assert "not in the cache" in message
    based(checkout, pinned)("container", "--arch", "arm", "--pull", "never")
    assert "pull" in checkout.refuses(2, "container", "--pull", "sometimes")


def plan(checkout: Checkout) -> Run:
    return checkout("plan", "--arch", "arm", "--json")


def digests(run: Run) -> list[str]:
    return [each["digest"] for each in results(run)]


def test_a_base_that_lacks_a_platform_is_refused_before_anything_is_compiled(checkout: Checkout, base: Base) -> None:
    based(checkout, f"oci:{base.shelf.folder}:12")
    run = checkout.ends("all-push")
    assert run.code == 1
    assert "compiled" not in run.stderr
    assert not (checkout.root / "bin").exists()
    assert run.stderr.endswith(
        f"all-push: Dockerfile.j2: FROM oci:{base.shelf.folder}:12: oci:{base.shelf.folder}:12@{base.digest}: found no"
        " image for linux/ppc64le, linux/s390x\n"
        "  it has linux/arm/v5, linux/arm/v8, linux/arm64/v8, linux/386, linux/amd64, linux/arm/v6\n"
        "  use another base, or select the arches that it has with --arch\n"
    )


def test_a_damaged_layer_in_the_cache_is_fetched_again(checkout: Checkout, recorder: Recorder, base: Base) -> None:
    base.copy(f"docker://{recorder.upstream}/debian:12")
    words = ("push", "--arch", "amd64")
    run = based(checkout, f"{recorder.host}/debian:12")(*words, REGISTRY=f"{recorder.host}/a")
    small, large = base.layers[BEST["amd64"]]
    for layer in (small, large):
        path = checkout.root / ".cache/pause/bases" / layer.replace(":", "/")
        data = bytearray(path.read_bytes())
        data[-9] ^= 1
        path.write_bytes(data)
        recorder.forget()
        assert checkout(*words, REGISTRY=f"{recorder.host}/a").stdout == run.stdout
        assert [line for line in recorder.lines if "/blobs/" in line] == [f"GET /v2/debian/blobs/{layer}"]
        assert digest(path.read_bytes()) == layer
    checkout("clean")
    assert not (checkout.root / ".cache").exists()


def image(shelf: Shelf, change: Callable[[Json, Json], None]) -> Json:
    """An image for amd64, after `change` of its manifest and its config."""
    found = shelf.read(shelf.image())
    config = shelf.read(found["config"])
    change(found, config)
    made = shelf.manifest(shelf.json(config, "config"), found["layers"])
    return {**made, "platform": {"os": "linux", "architecture": "amd64"}}


def elsewhere(found: Json, _: Json) -> None:
    found["layers"][0] |= {"urls": ["https://example.com/layer"]}


def zstd(found: Json, _: Json) -> None:
    found["layers"][0]["mediaType"] = OCI + "layer.v1.tar+zstd"


def for_another_cpu(_: Json, config: Json) -> None:
    config["architecture"] = "s390x"


def another_diff_id(_: Json, config: Json) -> None:
    config["rootfs"]["diff_ids"] = ["sha256:" + "0" * 64]


def no_diff_id(_: Json, config: Json) -> None:
    config["rootfs"]["diff_ids"] = []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (elsewhere, "is stored elsewhere (urls)"),
        (zstd, "found application/vnd.oci.image.layer.v1.tar+zstd, expected gzip or plain tar"),
        (for_another_cpu, "config: found platform linux/s390x, expected linux/amd64"),
        (another_diff_id, "diff_id: found sha256:"),
        (no_diff_id, "config: found 0 diff_ids, expected 1"),
    ],
)
def test_a_base_that_is_not_what_it_says_is_refused(
    checkout: Checkout, tmp_path: Path, change: Callable[[Json, Json], None], complaint: str
) -> None:
    shelf = Shelf(tmp_path / "base")
    name = shelf.tag("12", shelf.index(image(shelf, change)))
    message = based(checkout, name).refuses(1, "container")
    assert f"FROM {name}: " in message
    assert complaint in message
    assert not (checkout.root / "bin/pause-amd64.tar").exists()


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({}, "no file '/bin/app' in the layers"),
        ({"bin/app": elf("s390x")}, "program '/bin/app': ELF machine: found EM_S390, expected EM_X86_64"),
        (
            {"bin/app": elf("amd64", 3, "/lib/ld.so")},
            "interpreter '/lib/ld.so' of program '/bin/app': no file '/lib/ld.so'",
        ),
        (
            {"bin/app": elf("amd64", 3, "/lib/ld.so"), "lib/ld.so": elf("arm", 3)},
            "interpreter '/lib/ld.so' of program '/bin/app': ELF machine: found EM_ARM",
        ),
        ({"bin/app": elf("amd64", 3, "/lib/ld.so"), "usr/ld.so": elf("amd64", 3), "lib": "usr"}, ""),
        ({"bin/app": b"#!/bin/sh\n", "bin/sh": elf("amd64", 3, "/ld.so"), "ld.so": elf("amd64", 3)}, ""),
    ],
)
def test_the_entrypoint_may_be_in_the_base(
    checkout: Checkout, tmp_path: Path, files: dict[str, bytes | str | None], complaint: str
) -> None:
    shelf = Shelf(tmp_path / "base")
    based(checkout, shelf.tag("12", shelf.image(tapes=[tape(files)])), '\nENTRYPOINT ["/bin/app"]\n')
    if complaint:
        message = checkout.refuses(1, "container")
        assert message.startswith("Dockerfile.j2 (amd64): ")
        assert complaint in message
    else:
        checkout("push")
        checkout("push-manifest", "--arch", "amd64")
        checkout("check", "--arch", "amd64")


def test_plain_layers_and_docker_format(checkout: Checkout, recorder: Recorder, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "base")
    name = shelf.tag("12", shelf.image(tapes=[tape({"etc": None}), tape({"a": b"a"})], packed=OCI + "layer.v1.tar"))
    for form, kinds in (
        ("oci", [OCI + "layer.v1.tar"] * 2 + [GZIP]),
        ("docker", [f"application/vnd.docker.image.rootfs.diff.tar{end}" for end in ("", "", ".gzip")]),
    ):
        words = ("push", "--arch", "amd64", "--format", form)
        based(checkout, name)(*words, REGISTRY=f"{recorder.host}/{form}")
        made = manifest(f"docker://{recorder.host}/{form}/pause-amd64:3.1")
        assert [each["mediaType"] for each in made["layers"]] == kinds
        assert ("annotations" in made) == (form == "oci")
        checkout("check", f"{recorder.host}/{form}/pause-amd64:3.1")


def in_daemon(daemon: Docker, name: str) -> list[str]:
    """The diff_ids of an image's layers."""
    found: list[str] = daemon.image(name)["RootFS"]["Layers"]
    return found


@pytest.mark.xdist_group("docker")
def test_a_daemon_pulls_bases_as_docker_build_does(
    checkout: Checkout, docker: Docker, tmp_path: Path, base: Base
) -> None:
    words = ("container", "--engine", "docker", "--compiler", "zig", "--json")
    with registry(tmp_path / "registry") as host:
        name, made = f"{host}/debian:12", f"{host}/pause-amd64:3.1"
        environment = {"DOCKER_HOST": docker.host, "REGISTRY": host}
        base.copy(f"docker://{name}")
        based(checkout, name)
        message = checkout.refuses(1, *words[:-1], "--pull", "never", **environment)
        assert f"FROM {name}: not in the daemon\n  docker pull {name}" in message
        checkout(*words, **environment)
        first = in_daemon(docker, made)
        Base.made(tmp_path / "moved", 1).copy(f"docker://{name}")
        for pull in ("never", "missing", ""):
            assert results(checkout(*words, PULL=pull, **environment))[0]["change"] == "kept"
        [rebuilt] = results(checkout(*words, "--pull", "always", **environment))
        assert rebuilt["change"] == "made"
        assert rebuilt["reasons"] == ["--pull always: its base may have changed"]
        assert in_daemon(docker, made)[:1] == first[:1]
        assert in_daemon(docker, made)[1] != first[1]
        docker("rmi", made, name)
        message = based(checkout, "oci:vendor/base:12").refuses(1, *words[:-1], **environment)
        assert "FROM oci:vendor/base:12: a daemon finds bases in registries only" in message


@pytest.mark.xdist_group("docker")
def test_a_daemon_with_containerds_store_gets_the_same_image(
    checkout: Checkout, containerd_store: Docker, base: Base
) -> None:
    based(checkout, f"oci:{base.shelf.folder}:12")
    words = ("container", "--arch", "arm", "--json")
    embedded = digests(checkout(*words))
    environment = {"DOCKER_HOST": containerd_store.host}
    [made] = results(checkout(*words, "--engine", "docker", "--compiler", "zig", **environment))
    assert [made["digest"]] == embedded
    assert made["base"] == {"reference": f"oci:{base.shelf.folder}:12", "digest": base.digest}
    assert len(in_daemon(containerd_store, "pause-arm:3.1")) == 3
    containerd_store("rmi", "pause-arm:3.1")
