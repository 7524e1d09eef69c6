"""`use`: the settings that make nodes take the published release, as the programs that read them understand them."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import Checkout, Run, results
from tests.support.components import need
from tests.support.reading import inspect, skopeo
from tests.support.registries import Recorder
from tests.support.strangers import Shelf

PROGRAMS = ["containerd 2", "containerd 1", "CRI-O", "podman", "kubelet"]


@pytest.fixture
def pushed(checkout: Checkout, recorder: Recorder) -> tuple[Run, str]:
    """How a release got into a registry, and the reference by digest of its list."""
    run = checkout("all-push", REGISTRY=f"{recorder.host}/team")
    name, digest = next(iter(run.digests.items()))
    return run, f"{name.removesuffix(':3.1')}@{digest}"


@pytest.fixture
def settings(checkout: Checkout, recorder: Recorder, pushed: tuple[Run, str]) -> dict[str, dict[str, str]]:
    """What `use --json` says, by program."""
    found = results(checkout("use", "--json", REGISTRY=f"{recorder.host}/team"))
    assert {each["reference"] for each in found} == {pushed[1]}
    return {each["program"]: each for each in found}


def toml(setting: dict[str, str]) -> dict[str, Any]:
    return tomllib.loads(setting["text"])


def test_each_setting_is_what_its_program_reads(pushed: tuple[Run, str], settings: dict[str, dict[str, str]]) -> None:
    reference = pushed[1]
    assert list(settings) == PROGRAMS
    assert toml(settings["containerd 2"]) == {
        "version": 3,
        "plugins": {"io.containerd.cri.v1.images": {"pinned_images": {"sandbox": reference}}},
    }
    assert toml(settings["containerd 1"]) == {
        "version": 2,
        "plugins": {"io.containerd.grpc.v1.cri": {"sandbox_image": reference}},
    }
    assert toml(settings["CRI-O"]) == {"crio": {"image": {"pause_image": reference, "pause_command": "/pause"}}}
    assert toml(settings["podman"]) == {"engine": {"infra_image": reference, "infra_command": "/pause"}}
    assert kubelet_flags(settings["kubelet"]["text"]) == {"pod-infra-container-image": reference}


def kubelet_flags(text: str) -> dict[str, str]:
    """The flags in an environment file of kubelet's unit, as systemd and then pflag read them."""
    variable, _, value = text.partition("=")
    assert variable == "KUBELET_EXTRA_ARGS"
    found = [re.fullmatch(r"--([a-z][a-z0-9-]*)=(.+)", word) for word in shlex.split(value)]
    assert all(found)
    return {match[1]: match[2] for match in found if match}


def test_the_reference_can_be_fetched(pushed: tuple[Run, str]) -> None:
    _, listed = inspect(f"docker://{pushed[1]}", "--raw")
    assert len(listed["manifests"]) == 5


def test_what_is_printed_is_the_same_and_can_be_pasted(
    checkout: Checkout, recorder: Recorder, settings: dict[str, dict[str, str]]
) -> None:
    """Beside the settings there are comments alone, in each format's own spelling."""
    printed = checkout("use", REGISTRY=f"{recorder.host}/team")
    assert printed.stderr == ""
    parts = re.split(r"^(?=# (?:[\w-]+)(?: \d)?: /)", printed.stdout, flags=re.MULTILINE)[1:]
    for part, setting in zip(parts, settings.values(), strict=True):
        head, *others = part.splitlines()
        assert head == f"# {setting['program']}: {setting['path']}"
        assert f"# then: {setting['apply']}" in others
        lines = [line for line in others if not line.startswith("#")]
        assert "\n".join(lines).strip() == setting["text"]
        if setting["path"].endswith((".toml", ".conf")):
            assert tomllib.loads(part) == toml(setting)
    dry = checkout("--dry", "use", REGISTRY=f"{recorder.host}/team")
    assert dry.stdout == printed.stdout


def test_containerd_takes_it(settings: dict[str, dict[str, str]], tmp_path: Path) -> None:
    containerd = need("containerd", "containerd")
    version = subprocess.run([containerd, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    major = re.search(r" v?(\d+)\.\d+", version)
    assert major, version
    setting = settings["containerd 1" if major[1] == "1" else "containerd 2"]
    file = tmp_path / "config.toml"
    file.write_text(setting["text"])
    command = [containerd, "--config", str(file), "config", "dump"]
    dumped = tomllib.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)["plugins"]
    if major[1] == "1":
        found = dumped["io.containerd.grpc.v1.cri"]["sandbox_image"]
    else:
        found = dumped["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"]
    assert found == setting["reference"]


def test_it_is_asked_now(checkout: Checkout, recorder: Recorder, pushed: tuple[Run, str]) -> None:
    environment = {"REGISTRY": f"{recorder.host}/team"}
    again = checkout("all-push", "--overwrite", REV="another", **environment)
    digest = next(iter(again.digests.values()))
    assert digest not in pushed[1]
    found = {each["reference"].partition("@")[2] for each in results(checkout("use", "--json", **environment))}
    assert found == {digest}


def test_what_is_not_published_is_not_used(checkout: Checkout, recorder: Recorder) -> None:
    message = checkout.refuses(1, "use", "--tag", "9.9", REGISTRY=recorder.host)
    assert message.startswith(f"{recorder.host}/pause:9.9: not published\n")
    assert "invoke all-push" in message


def test_no_node_can_pull_from_a_folder(checkout: Checkout) -> None:
    message = checkout.refuses(2, "use")
    assert message.startswith("'oci:dist' is a folder")
    assert "invoke copy oci:dist REGISTRY" in message


def test_a_node_takes_one_registry(checkout: Checkout) -> None:
    words = ("--registry", "localhost:1", "--registry", "localhost:2")
    assert "expected one" in checkout.refuses(2, "use", *words)


@pytest.mark.usefixtures("pushed")
def test_one_arch_is_no_release(checkout: Checkout, recorder: Recorder) -> None:
    team = f"docker://{recorder.host}/team"
    insecure = ("--src-tls-verify=false", "--dest-tls-verify=false")
    skopeo("copy", *insecure, f"{team}/pause-arm:3.1", f"{team}/pause:4.0")
    message = checkout.refuses(1, "use", "--tag", "4.0", REGISTRY=f"{recorder.host}/team")
    assert message.rstrip().endswith("expected a manifest list")


def test_any_reference_is_used_by_digest_and_with_its_own_command(
    checkout: Checkout, recorder: Recorder, tmp_path: Path
) -> None:
    shelf = Shelf(tmp_path / "shelf")
    settings = {"Entrypoint": ["/sleep"], "Cmd": ["infinity"]}
    image = shelf.image("linux/arm64", settings=settings)
    index = shelf.index({**shelf.image("windows/amd64"), "platform": {"os": "windows", "architecture": "amd64"}}, image)
    for tag, made in (("image", image), ("list", index)):
        name = f"{recorder.host}/any/one:{tag}"
        skopeo("copy", "--all", "--dest-tls-verify=false", shelf.tag(tag, made), f"docker://{name}")
        for asked in (name, f"{name}@{made['digest']}", f"{recorder.host}/any/one@{made['digest']}"):
            found = {each["program"]: each for each in results(checkout("use", asked, "--json"))}
            assert list(found) == PROGRAMS
            assert {each["reference"] for each in found.values()} == {f"{recorder.host}/any/one@{made['digest']}"}
            assert toml(found["CRI-O"])["crio"]["image"]["pause_command"] == "/sleep infinity"
    release = checkout("all-push", REGISTRY=recorder.host)
    name = next(iter(release.digests))
    assert checkout("use", name).stdout == checkout("use", REGISTRY=recorder.host).stdout


def test_references_that_are_not_used(checkout: Checkout, recorder: Recorder, tmp_path: Path) -> None:
    nothing = f"{recorder.host}/any/one:1"
    assert checkout.refuses(1, "use", nothing) == f"{nothing}: not found\n"
    shelf = Shelf(tmp_path / "shelf")
    signature = shelf.manifest(shelf.json({"rootfs": {}}, "config"), [shelf.put(b"{}", "text/x")])
    skopeo("copy", "--dest-tls-verify=false", shelf.tag("1", signature), f"docker://{nothing}")
    assert checkout.refuses(1, "use", nothing) == f"{nothing}: found text/x, expected an image\n"
    assert "is a folder" in checkout.refuses(2, "use", "oci:dist/pause:3.1")
    assert "--tag selects a part of the release" in checkout.refuses(2, "use", nothing, "--tag", "3")
