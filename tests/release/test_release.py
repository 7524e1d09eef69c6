"""`all-push`: other tools find in the layout and the registry what it prints on stdout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.checkout import RELEASE, SETTINGS, Checkout, Run, results
from tests.support.reading import complete, digest, inspect, layout_reader, program, says, skopeo
from tests.support.registries import Recorder, registry_reader

Released = tuple[Checkout, Run]
OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
PLATFORMS = [
    {"os": "linux", "architecture": "amd64"},
    {"os": "linux", "architecture": "arm", "variant": "v7"},
    {"os": "linux", "architecture": "arm64"},
    {"os": "linux", "architecture": "ppc64le"},
    {"os": "linux", "architecture": "s390x"},
]


def names(registry: str) -> list[str]:
    """What is published, in the order of stdout."""
    return [f"{registry}/pause:3.1", *(f"{registry}/pause-{arch}:3.1" for arch in RELEASE)]


def test_stdout_has_only_the_references(released: Released) -> None:
    _, run = released
    assert list(run.digests) == names("oci:dist")
    assert all(line.count("@sha256:") == 1 for line in run.stdout.splitlines())
    for arch in RELEASE:
        assert f"{arch}: pause compiled" in run.stderr


def test_skopeo_finds_the_printed_digests(released: Released) -> None:
    checkout, run = released
    for name, published in run.digests.items():
        found, _ = inspect(name, "--raw", cwd=checkout.root)
        assert found == published


def test_the_list_has_the_five_platforms(released: Released) -> None:
    checkout, run = released
    _, index = inspect("oci:dist/pause:3.1", "--raw", cwd=checkout.root)
    assert index["mediaType"] == OCI + "index.v1+json"
    assert [each["platform"] for each in index["manifests"]] == PLATFORMS
    assert [each["digest"] for each in index["manifests"]] == list(run.digests.values())[1:]


def test_each_platform_gets_its_own_config(released: Released) -> None:
    checkout, _ = released
    for arch, platform in zip(RELEASE, PLATFORMS, strict=True):
        choice = [f"--override-{key.replace('architecture', 'arch')}={value}" for key, value in platform.items()]
        chosen = json.loads(skopeo(*choice, "inspect", "--config", "oci:dist/pause:3.1", cwd=checkout.root))
        _, config = inspect(f"oci:dist/pause-{arch}:3.1", "--config", cwd=checkout.root)
        assert chosen == config
        assert {key: config[key] for key in ("os", "architecture", "variant") if key in config} == platform


def test_the_config_has_entrypoint_user_and_labels(released: Released) -> None:
    checkout, _ = released
    created = "2001-02-02T21:05:06Z"
    for arch in RELEASE:
        _, config = inspect(f"oci:dist/pause-{arch}:3.1", "--config", "--raw", cwd=checkout.root)
        assert config["created"] == created
        assert config["config"]["User"] == "65535:65535"
        assert config["config"]["Entrypoint"] == ["/pause"]
        assert "Cmd" not in config["config"]
        title = "org.opencontainers.image."
        assert config["config"]["Labels"] == {
            title + "title": "pause",
            title + "version": "3.1",
            title + "revision": checkout.revision,
            title + "source": "https://github.com/kubernetes/kubernetes",
            title + "created": created,
        }
        assert {each["created"] for each in config["history"]} == {created}
        assert [each["created_by"] for each in config["history"] if not each.get("empty_layer")]
        layers = [each for each in config["history"] if not each.get("empty_layer")]
        assert len(layers) == len(config["rootfs"]["diff_ids"]) == 1


def test_skopeo_copies_all_of_it_and_each_program_runs(released: Released, tmp_path: Path) -> None:
    checkout, run = released
    skopeo("copy", "--all", "oci:dist/pause:3.1", f"dir:{tmp_path / 'copy'}", cwd=checkout.root)
    files = {digest(path.read_bytes()): path.read_bytes() for path in (tmp_path / "copy").iterdir()}
    whole = complete(files.__getitem__, run.digests["oci:dist/pause:3.1"])
    assert len(whole) == 1 + 3 * len(RELEASE)
    for arch, published in zip(RELEASE, list(run.digests.values())[1:], strict=True):
        [layer] = json.loads(files[published])["layers"]
        binary = program(files[layer["digest"]])
        assert binary == (checkout.root / "bin" / f"pause-{arch}").read_bytes()
        assert says(binary, SETTINGS.arches[arch].qemu, tmp_path) == f"pause.c {checkout.version}\n"


def test_a_registry_gets_the_same_content_as_a_layout(
    released: Released, recorder: Recorder, checkout: Checkout
) -> None:
    _, layout = released
    run = checkout("all-push", REGISTRY=recorder.host)
    assert list(run.digests) == names(recorder.host)
    assert list(run.digests.values()) == list(layout.digests.values())
    assert not (checkout.root / "dist").exists()
    for name, published in run.digests.items():
        assert inspect(f"docker://{name}", "--raw")[0] == published
        repository = name.partition("/")[2].partition(":")[0]
        complete(registry_reader(recorder.host, repository), published)


def test_json_has_the_same_results(released: Released, checkout: Checkout) -> None:
    _, run = released
    told = checkout("all-push", "--json")
    made = results(told)
    assert {each["reference"]: each["digest"] for each in made} == run.digests
    assert [each["platform"] for each in made] == [
        None,
        *("/".join(str(each[key]) for key in ("os", "architecture", "variant") if key in each) for each in PLATFORMS),
    ]
    assert {each["change"] for each in made} == {"pushed"}
    assert {each["change"] for each in results(checkout("all-push", "--json"))} == {"kept"}


@pytest.mark.parametrize(("form", "family", "other"), [("oci", OCI, DOCKER), ("docker", DOCKER, OCI)])
def test_a_format_is_never_mixed(recorder: Recorder, checkout: Checkout, form: str, family: str, other: str) -> None:
    run = checkout("all-push", "--format", form, REGISTRY=recorder.host)
    for name in run.digests:
        _, manifest = inspect(f"docker://{name}", "--raw")
        assert manifest["mediaType"].startswith(family)
        assert other not in json.dumps(manifest)
    list_type = {"oci": OCI + "index.v1+json", "docker": DOCKER + "distribution.manifest.list.v2+json"}[form]
    assert inspect(f"docker://{recorder.host}/pause:3.1", "--raw")[1]["mediaType"] == list_type
    skopeo("copy", "--all", "--src-tls-verify=false", f"docker://{recorder.host}/pause:3.1", f"dir:{checkout.side}/x")


def test_a_layout_has_the_last_build(checkout: Checkout) -> None:
    old = checkout("all-push", REV="old")
    new = checkout("all-push", REV="new")
    assert not set(old.digests.values()) & set(new.digests.values())
    for name, published in new.digests.items():
        folder = checkout.root / name.removeprefix("oci:").removesuffix(":3.1")
        assert inspect(name, "--raw", cwd=checkout.root)[0] == published
        complete(layout_reader(folder), published)


def test_two_tags_share_a_layout(checkout: Checkout) -> None:
    first = checkout("all-push").digests
    second = checkout("all-push", TAG="3.2").digests
    for name, published in {**first, **second}.items():
        assert inspect(name, "--raw", cwd=checkout.root)[0] == published
    assert len({*first, *second}) == 12
