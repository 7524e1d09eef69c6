"""The tools that publish a release, each from the start that it would have on a machine of its own."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.running import INVOKE, ROOT, Checkout, run
from build.config.arches import Arch

TAG, OTHER_TAG = "3.1", "3.2"
BAKE_FILE = "docker-bake.json"
SCENARIOS = ("cold", "nothing", "source", "tag")
TOOLCHAIN = "pause-bench/kube-cross:bookworm"
_WORD, _OTHER_WORD = "got signal: Terminated", "got signal: Terminater"
# What nobody measures here, and why.
LEFT_OUT = {"ko": "it builds Go programs, and none in C"}


@dataclass(frozen=True)
class Job:
    """One publication: where to, under which tag, and whether the source has changed since the one before."""

    host: str
    tag: str = TAG
    changed: bool = False


@dataclass(frozen=True)
class Tool:
    """A way to publish the release.

    `does` says which of the work is its own. `forget` undoes all that it has made, `edit` changes one byte of the
    source, or changes it back, `publish` is what is measured, in as many of the `scenarios` as it has.
    """

    does: str
    forget: Callable[[], None]
    edit: Callable[[bool], None]
    publish: Callable[[Job], None]
    scenarios: tuple[str, ...] = SCENARIOS


def embedded(checkout: Checkout) -> Tool:
    """`invoke all-push`."""
    return Tool(
        "compile, image, push",
        checkout.forget,
        lambda changed: _edit(checkout.root, changed),
        lambda job: _all_push(checkout, job),
    )


def by_docker(checkout: Checkout, daemon: Mapping[str, str]) -> Tool:
    """`invoke all-push --engine docker`; `daemon` holds the variables that name the daemon."""
    name, _, version = TOOLCHAIN.rpartition(":")
    variables = {**daemon, "ENGINE": "docker", "KUBE_CROSS_IMAGE": name, "KUBE_CROSS_VERSION": version}

    def forget() -> None:
        checkout.forget()
        forget_images(checkout, daemon)

    return Tool(
        "compile, image, push",
        forget,
        lambda changed: _edit(checkout.root, changed),
        lambda job: _all_push(checkout, job, **variables),
    )


def bake(checkout: Checkout, arches: tuple[Arch, ...], daemon: Mapping[str, str]) -> Tool:
    """`docker buildx bake` by the BuildKit in the daemon, between `invoke bake` and `invoke push-manifest`.

    What compiles there has no network, as with the docker engine and the Makefile; the daemon has no bridge to give it
    one by. A file of Compose says so, as buildx 0.13 passes over such a key in docker-bake.json.
    """
    name, _, version = TOOLCHAIN.rpartition(":")
    variables = {**daemon, "KUBE_CROSS_IMAGE": name, "KUBE_CROSS_VERSION": version}
    services = {f"pause-{arch.name}": {"build": {"network": "none"}} for arch in arches}
    (checkout.root / "compose.yaml").write_text(json.dumps({"services": services}))

    def forget() -> None:
        checkout.forget()
        (checkout.root / BAKE_FILE).unlink(missing_ok=True)
        forget_images(checkout, daemon)
        _docker(checkout, daemon, "builder", "prune", "--all", "--force")

    def publish(job: Job) -> None:
        given = {**variables, "REGISTRY": job.host, "TAG": job.tag}
        checkout.invoke("bake", **given)
        _docker(checkout, daemon, "buildx", "bake", "--push")
        checkout.invoke("push-manifest", *(["--overwrite"] if job.changed else []), **given)

    return Tool("compile, image, push", forget, lambda changed: _edit(checkout.root, changed), publish)


def makefile(checkout: Checkout, folder: Path, daemon: Mapping[str, str], *options: str) -> Tool:
    """The Makefile, in a `folder` of its own. By itself it does not see another TAG: its stamps name none."""
    shutil.copytree(ROOT / "bench" / "makefile", folder)
    shutil.copy(checkout.root / "pause.c", folder)

    def make(*words: str, **variables: str) -> None:
        given = [f"{name}={value}" for name, value in {"KUBE_CROSS": TOOLCHAIN, "REV": "bench", **variables}.items()]
        run(["make", "--silent", *words, *given], folder, checkout.home, **daemon)

    def forget() -> None:
        make("clean")
        forget_images(checkout, daemon)

    def publish(job: Job) -> None:
        if job.tag != TAG:
            make("clean")
        make("all-push", *options, REGISTRY=job.host, TAG=job.tag)

    return Tool("compile, image, push", forget, lambda changed: _edit(folder, changed), publish)


def skopeo(checkout: Checkout, arches: tuple[Arch, ...]) -> Tool:
    """`skopeo copy` of a release that is there."""
    checkout.invoke("all-push")

    def publish(job: Job) -> None:
        copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
        for arch in arches:
            name = f"pause-{arch.name}"
            run(
                [*copy, f"oci:dist/{name}:{TAG}", f"docker://{job.host}/{name}:{job.tag}"], checkout.root, checkout.home
            )
        listed = [f"oci:dist/pause:{TAG}", f"docker://{job.host}/pause:{job.tag}"]
        run([*copy, "--all", *listed], checkout.root, checkout.home)

    return Tool("push", lambda: None, lambda _: None, publish, ("cold", "nothing", "tag"))


def crane(checkout: Checkout, arches: tuple[Arch, ...]) -> Tool:
    """`crane push` of a release that is there."""
    checkout.invoke("all-push")

    def publish(job: Job) -> None:
        for name in (*(f"pause-{arch.name}" for arch in arches), "pause"):
            push = ["crane", "push", "--insecure", f"dist/{name}", f"{job.host}/{name}:{job.tag}"]
            run(push, checkout.root, checkout.home)

    return Tool("push", lambda: None, lambda _: None, publish, ("cold", "nothing", "tag"))


def buildah(checkout: Checkout, arches: tuple[Arch, ...], scratch: Path) -> Tool:
    """`buildah bud --platform` and `buildah manifest push`, from binaries that are there."""
    for changed in (True, False):
        _edit(checkout.root, changed)
        checkout.invoke("build", "--arch", "all")
        shutil.copytree(checkout.root / "bin", scratch / f"changed-{changed}" / "bin")
    shutil.copy(ROOT / "bench" / "makefile" / "Dockerfile", scratch)
    storage = scratch / "storage"
    numbers = itertools.count()

    def bud(*words: str) -> None:
        folders = ["--root", str(storage / "root"), "--runroot", str(storage / "run"), "--storage-driver", "vfs"]
        run(["buildah", *folders, *words], scratch, checkout.home, BUILDAH_ISOLATION="chroot")

    def edit(changed: bool) -> None:
        shutil.rmtree(scratch / "bin", ignore_errors=True)
        shutil.copytree(scratch / f"changed-{changed}" / "bin", scratch / "bin")

    def publish(job: Job) -> None:
        listed = f"localhost/list-{next(numbers)}"
        bud("manifest", "create", listed)
        for arch in arches:
            name = f"{job.host}/pause-{arch.name}:{job.tag}"
            what = ["--platform", str(arch.platform), "--build-arg", f"ARCH={arch.name}", "--timestamp", "0"]
            bud("bud", "--quiet", "--layers", *what, "--tag", name, "--manifest", listed, ".")
            bud("push", "--quiet", "--tls-verify=false", name)
        bud(
            "manifest", "push", "--quiet", "--all", "--tls-verify=false", listed, f"docker://{job.host}/pause:{job.tag}"
        )

    return Tool("image, push", lambda: shutil.rmtree(storage, ignore_errors=True), edit, publish)


def forget_images(checkout: Checkout, daemon: Mapping[str, str]) -> None:
    """Have the daemon know no image but the toolchain, and with the images no step of a build."""
    listed = _docker(checkout, daemon, "images", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}").splitlines()
    made = {line.split()[0] for line in listed if not line.endswith(TOOLCHAIN)}
    if made:
        _docker(checkout, daemon, "rmi", "--force", *sorted(made))
    _docker(checkout, daemon, "image", "prune", "--force")


def _all_push(checkout: Checkout, job: Job, **variables: str) -> None:
    words = ["--overwrite"] if job.changed else []
    run([INVOKE, "all-push", *words], checkout.root, checkout.home, REGISTRY=job.host, TAG=job.tag, **variables)


def _docker(checkout: Checkout, daemon: Mapping[str, str], *words: str) -> str:
    return run(["docker", *words], checkout.root, checkout.home, **daemon).stdout


def _edit(folder: Path, changed: bool) -> None:
    source = folder / "pause.c"
    old, new = (_WORD, _OTHER_WORD) if changed else (_OTHER_WORD, _WORD)
    text = source.read_text()
    if old in text:
        source.write_text(text.replace(old, new))
