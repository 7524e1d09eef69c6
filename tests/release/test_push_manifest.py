"""`push-manifest`: the list of images that other machines pushed, on a machine that built nothing; and its refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checkout import RELEASE, Checkout, Run, ended
from tests.support.reading import digest, inspect, skopeo
from tests.support.registries import Recorder
from tests.support.strangers import Json, Shelf

Released = tuple[Checkout, Run]


def insecure_copy(*words: str) -> None:
    skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", *words)


def test_five_machines_push_and_a_sixth_publishes_the_list(
    released: Released, source: Checkout, recorder: Recorder, tmp_path: Path
) -> None:
    _, elsewhere = released
    clones = {arch: Checkout.clone(source.root, tmp_path / f"machine-{arch}") for arch in RELEASE}
    started = [clone.start("push", "--arch", arch, REGISTRY=recorder.host) for arch, clone in clones.items()]
    for arch, process in zip(RELEASE, started, strict=True):
        run = ended(process)
        assert run.code == 0, run.stderr
        assert list(run.digests) == [f"{recorder.host}/pause-{arch}:3.1"]
        assert f"{arch}: pause compiled" in run.stderr

    sixth = Checkout.clone(source.root, tmp_path / "sixth")
    shutil.rmtree(sixth.root / ".git")
    before = sixth.snapshot()
    run = sixth("push-manifest", REGISTRY=recorder.host)
    assert run.stdout == elsewhere.stdout.replace("oci:dist", recorder.host)
    assert inspect(f"docker://{recorder.host}/pause:3.1", "--raw")[0] == elsewhere.digests["oci:dist/pause:3.1"]
    assert sixth.snapshot() == before

    recorder.forget()
    assert sixth("push-manifest", REGISTRY=recorder.host).stdout == run.stdout
    assert {each.method for each in recorder.exchanges} == {"HEAD", "GET"}


def test_from_a_layout_without_git(released: Released, checkout: Checkout) -> None:
    _, elsewhere = released
    checkout("all-push-images")
    assert not (checkout.root / "dist" / "pause").exists()
    shutil.rmtree(checkout.root / ".git")
    run = checkout("push-manifest")
    assert run.stdout == elsewhere.stdout
    assert inspect("oci:dist/pause:3.1", "--raw", cwd=checkout.root)[0] == run.digests["oci:dist/pause:3.1"]
    skopeo("copy", "--all", "oci:dist/pause:3.1", f"dir:{checkout.side}/copy", cwd=checkout.root)


def test_for_some_arches_only(checkout: Checkout) -> None:
    checkout("push", "--arch", "arm64", "--arch", "riscv64")
    checkout("push-manifest", "--arch", "arm64", "--arch", "riscv64")
    _, index = inspect("oci:dist/pause:3.1", "--raw", cwd=checkout.root)
    assert [each["platform"]["architecture"] for each in index["manifests"]] == ["arm64", "riscv64"]


def missing(host: str) -> None:
    """Nothing is under the tag."""
    _ = host


def of_another_platform(host: str) -> None:
    insecure_copy(f"docker://{host}/pause-amd64:3.1", f"docker://{host}/pause-arm64:3.1")


def an_index(host: str) -> None:
    insecure_copy("--all", f"docker://{host}/all/pause:3.1", f"docker://{host}/pause-arm64:3.1")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (missing, ["no such image"]),
        (of_another_platform, ["found platform linux/amd64", "expected linux/arm64"]),
        (an_index, ["found application/vnd.oci.image.index.v1+json", "expected an image manifest"]),
    ],
)
def test_an_image_for_another_arch_is_refused(
    released: Released, recorder: Recorder, fault: Callable[[str], None], words: list[str]
) -> None:
    checkout, _ = released
    others = [arch for arch in RELEASE if arch != "arm64"]
    for arch in others:
        layout = f"oci:{checkout.root}/dist/pause-{arch}:3.1"
        insecure_copy(layout, f"docker://{recorder.host}/pause-{arch}:3.1")
    insecure_copy("--all", f"oci:{checkout.root}/dist/pause:3.1", f"docker://{recorder.host}/all/pause:3.1")
    fault(recorder.host)
    recorder.forget()
    message = checkout.refuses(1, "push-manifest", REGISTRY=recorder.host)
    for word in ("arm64: ", f"{recorder.host}/pause-arm64:3.1", *words):
        assert word in message
    for arch in others:
        assert f"{arch}: " not in message
    assert {each.method for each in recorder.exchanges} == {"HEAD", "GET"}


def test_a_program_of_another_cpu_is_refused(checkout: Checkout) -> None:
    """The config says arm64, and so would the list; the program inside is amd64's."""
    checkout("push", "--arch", "all")
    amd64, arm64 = (checkout.root / "dist" / f"pause-{arch}" for arch in ("amd64", "arm64"))

    def held(folder: Path, wanted: str) -> Path:
        return folder / "blobs" / wanted.replace(":", "/")

    def stored(content: object) -> dict[str, object]:
        data = json.dumps(content).encode()
        held(arm64, digest(data)).write_bytes(data)
        return {"digest": digest(data), "size": len(data)}

    index = json.loads((arm64 / "index.json").read_bytes())
    [entry] = index["manifests"]
    manifest = json.loads(held(arm64, entry["digest"]).read_bytes())
    config = json.loads(held(arm64, manifest["config"]["digest"]).read_bytes())
    [entry_of_amd64] = json.loads((amd64 / "index.json").read_bytes())["manifests"]
    manifest_of_amd64 = json.loads(held(amd64, entry_of_amd64["digest"]).read_bytes())
    manifest["layers"] = manifest_of_amd64["layers"]
    shutil.copytree(amd64 / "blobs", arm64 / "blobs", dirs_exist_ok=True)
    config["rootfs"] = json.loads(held(amd64, manifest_of_amd64["config"]["digest"]).read_bytes())["rootfs"]
    manifest["config"] |= stored(config)
    entry |= stored(manifest)
    (arm64 / "index.json").write_text(json.dumps(index))
    assert inspect("oci:dist/pause-arm64:3.1", "--config", cwd=checkout.root)[1]["architecture"] == "arm64"

    message = checkout.refuses(1, "push-manifest")
    for word in ("arm64: ", "found EM_X86_64", "expected EM_AARCH64"):
        assert word in message
    assert not (checkout.root / "dist" / "pause").exists()


def test_images_of_two_formats_are_refused(checkout: Checkout, recorder: Recorder) -> None:
    checkout("push", "--arch", "all", REGISTRY=recorder.host)
    checkout("push", "--arch", "s390x", "--format", "docker", "--overwrite", REGISTRY=recorder.host)
    message = checkout.refuses(1, "push-manifest", REGISTRY=recorder.host)
    for word in ("the same format", "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker."):
        assert word in message


def test_docker_images_give_a_docker_list(checkout: Checkout, recorder: Recorder) -> None:
    run = checkout("all-push", FORMAT="docker", REGISTRY=f"{recorder.host}/all")
    checkout("all-push-images", FORMAT="docker", REGISTRY=f"{recorder.host}/parts")
    parts = checkout("push-manifest", REGISTRY=f"{recorder.host}/parts")
    assert list(parts.digests.values()) == list(run.digests.values())


def test_a_damaged_blob_is_refused(checkout: Checkout) -> None:
    checkout("push", "--arch", "all")
    _, manifest = inspect("oci:dist/pause-arm:3.1", "--raw", cwd=checkout.root)
    layer = checkout.root / "dist/pause-arm/blobs" / manifest["layers"][0]["digest"].replace(":", "/")
    layer.write_bytes(layer.read_bytes()[:-1])
    message = checkout.refuses(1, "push-manifest")
    for word in ("arm: ", str(layer), "delete it and push again"):
        assert word in message
    layer.unlink()
    checkout("push", "--arch", "arm")
    checkout("push-manifest")


# --- images that BuildKit pushed, with attestations ---


def attested(shelf: Shelf, images: int = 1, **changes: object) -> Json:
    """An index as BuildKit makes it of the image under 3.1, and attestations for it."""
    [tagged] = shelf_index(shelf)
    image = {"mediaType": tagged["mediaType"], "digest": tagged["digest"], "size": tagged["size"]}
    config = shelf.read(shelf.read(image)["config"])
    platform = {name: config[name] for name in ("os", "architecture", "variant") if name in config}
    unknown = {"os": "unknown", "architecture": "unknown", "rootfs": {"type": "layers", "diff_ids": []}}
    statement = shelf.put(b'{"_type":"https://in-toto.io/Statement/v1"}', "application/vnd.in-toto+json")
    annotations = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image["digest"]}
    manifest = shelf.manifest(shelf.json(unknown, "config"), [statement])
    mark = {"annotations": annotations, "platform": {"architecture": "unknown", "os": "unknown"}}
    return shelf.index(*[{**image, "platform": platform}] * images, {**manifest, **mark, **changes})


def shelf_index(shelf: Shelf) -> list[Json]:
    entries: list[Json] = json.loads((shelf.folder / "index.json").read_bytes())["manifests"]
    return entries


def test_the_image_is_taken_out_of_an_index_with_attestations(
    released: Released, checkout: Checkout, recorder: Recorder
) -> None:
    """The list is the one of the images alone; the arches' tags keep their attestations, and `check` accepts both."""
    _, elsewhere = released
    checkout("all-push-images")
    indexes = {}
    for arch in RELEASE:
        shelf = Shelf(checkout.root / "dist" / f"pause-{arch}")
        layout = shelf.tag("3.1", attested(shelf) if arch != "s390x" else shelf_index(shelf)[0])
        insecure_copy("--all", layout, f"docker://{recorder.host}/pause-{arch}:3.1")
        indexes[f"{recorder.host}/pause-{arch}:3.1"] = shelf_index(shelf)[0]["digest"]
    recorder.forget()
    plan = checkout("--dry", "push-manifest", REGISTRY=recorder.host)
    assert {each.method for each in recorder.exchanges} <= {"HEAD", "GET"}
    run = checkout("push-manifest", REGISTRY=recorder.host)
    name = f"{recorder.host}/pause:3.1"
    assert run.digests == plan.digests == {name: elsewhere.digests["oci:dist/pause:3.1"], **indexes}
    for reference, wanted in run.digests.items():
        assert inspect(f"docker://{reference}", "--raw")[0] == wanted
    recorder.forget()
    assert checkout("push-manifest", REGISTRY=recorder.host).stdout == run.stdout
    assert {each.method for each in recorder.exchanges} == {"HEAD", "GET"}
    also = ("--also-tag", "latest")
    further = checkout("push-manifest", *also, REGISTRY=recorder.host).digests
    both = {**run.digests, **{each.replace(":3.1", ":latest"): found for each, found in run.digests.items()}}
    assert further == both, "further tags keep the attestations, too"
    assert inspect(f"docker://{recorder.host}/pause-arm:latest", "--raw")[0] == both[f"{recorder.host}/pause-arm:3.1"]
    checkout("check", *also, REGISTRY=recorder.host)


@pytest.mark.parametrize(
    "index",
    [
        lambda shelf: attested(shelf, images=2),
        lambda shelf: attested(shelf, images=0),
        lambda shelf: attested(shelf, annotations={}),
        lambda shelf: attested(shelf, platform={"os": "linux", "architecture": "arm64"}),
        lambda shelf: shelf.index(shelf.read(attested(shelf))["manifests"][0]),
    ],
    ids=["two images", "no image", "not marked", "of a platform", "no attestation"],
)
def test_any_other_index_is_refused(checkout: Checkout, index: Callable[[Shelf], Json]) -> None:
    checkout("push", "--arch", "arm64")
    shelf = Shelf(checkout.root / "dist/pause-arm64")
    shelf.tag("3.1", index(shelf))
    message = checkout.refuses(1, "push-manifest", "--arch", "arm64")
    assert "found application/vnd.oci.image.index.v1+json, expected an image manifest" in message


def test_an_index_that_describes_its_image_otherwise_is_refused(checkout: Checkout) -> None:
    checkout("push", "--arch", "arm64")
    shelf = Shelf(checkout.root / "dist/pause-arm64")
    image, attestation = shelf.read(attested(shelf))["manifests"]
    shelf.tag("3.1", shelf.index({**image, "platform": {"os": "linux", "architecture": "s390x"}}, attestation))
    message = checkout.refuses(1, "push-manifest", "--arch", "arm64")
    assert "found the entry {" in message
    assert "'architecture': 's390x'" in message


def test_copy_changes_no_tag_and_so_refuses_such_an_index(checkout: Checkout) -> None:
    checkout("all-push")
    shelf = Shelf(checkout.root / "dist/pause-arm64")
    shelf.tag("3.1", attested(shelf))
    message = checkout.refuses(1, "copy", "oci:dist", f"oci:{checkout.side}/copy")
    assert "expected the platforms in arches.yaml only" in message
