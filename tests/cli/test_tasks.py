"""The command line: its tasks and their help, the variables, and the rows of the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checkout import RELEASE, SETTINGS, Checkout, Run
from tests.support.reading import inspect, says

Released = tuple[Checkout, Run]
TASKS = [
    "all-container",
    "all-push",
    "all-push-images",
    "bake",
    "build",
    "check",
    "clean",
    "container",
    "copy",
    "diff",
    "kube-cross",
    "matrix",
    "orphan",
    "plan",
    "push",
    "push-manifest",
    "rebuild",
    "retag",
    "sign",
    "tags",
    "use",
    "verify",
]


def test_the_list_tells_a_line_of_each_task(released: Released) -> None:
    checkout, _ = released
    run = checkout("--list")
    lines = [line.split(maxsplit=1) for line in run.stdout.splitlines() if line.startswith("  ")]
    assert [name for name, _ in lines] == TASKS
    assert all(text.endswith(".") for _, text in lines)
    assert max(map(len, run.stdout.splitlines())) <= 80
    assert "Default task: all-container" in run.stdout


@pytest.mark.parametrize("task", TASKS)
def test_every_flag_has_help(released: Released, task: str) -> None:
    checkout, _ = released
    lines = checkout("--help", task).stdout.partition("Options:\n")[2].splitlines()
    flags = [line.split() for line in lines if line.startswith("  -")]
    assert flags
    for flag, *words in flags:
        assert flag.startswith("--")
        assert words


def test_arch_is_one_or_several_or_all(checkout: Checkout) -> None:
    def built(*words: str, **environment: str) -> list[str]:
        run = checkout("build", *words, **environment)
        return [name.removeprefix("bin/pause-") for name in run.digests]

    assert built() == ["amd64"]
    assert built("--arch", "arm") == ["arm"]
    assert built("--arch", "s390x", "--arch", "arm", "--arch", "s390x") == ["s390x", "arm"]
    assert built("--arch", "all") == list(RELEASE)
    assert built(ARCH="arm64") == ["arm64"]
    assert built("--arch", "arm", ARCH="arm64") == ["arm"]
    assert built("--arch", "all", ALL_ARCH="arm s390x") == ["arm", "s390x"]


def test_a_flag_beats_a_variable_which_beats_the_table(checkout: Checkout) -> None:
    checkout.edit("arches.yaml", 'tag: "3.1"', 'tag: "3.0"')
    for words, environment, tag in (
        ([], {}, "3.0"),
        ([], {"TAG": "3.5"}, "3.5"),
        (["--tag", "3.6"], {"TAG": "3.5"}, "3.6"),
    ):
        assert list(checkout("push", *words, **environment).digests) == [f"oci:dist/pause-amd64:{tag}"]
    assert list(checkout("push", TAG="").digests) == ["oci:dist/pause-amd64:3.0"]


def test_the_list_of_chosen_arches(checkout: Checkout) -> None:
    checkout("all-push", ALL_ARCH="s390x riscv64 arm")
    _, index = inspect("oci:dist/pause:3.1", "--raw", cwd=checkout.root)
    assert [each["platform"]["architecture"] for each in index["manifests"]] == ["s390x", "riscv64", "arm"]


def test_rows_outside_the_release_are_a_flag_away(checkout: Checkout, tmp_path: Path) -> None:
    names = ["riscv64", "loong64", "386"]
    checkout("container", *(word for name in names for word in ("--arch", name)))
    for name in names:
        binary = (checkout.root / "bin" / f"pause-{name}").read_bytes()
        assert says(binary, SETTINGS.arches[name].qemu, tmp_path) == f"pause.c {checkout.version}\n"


def test_a_new_arch_is_a_new_row(checkout: Checkout, tmp_path: Path) -> None:
    row = """arches:
  armv6:
    triple: arm-linux-gnueabi
    platform: linux/arm/v6
    elf: {machine: EM_ARM, class: 32, order: little}
    qemu: arm
    runtime: arm
    cpu: arm1176jzf-s
"""
    checkout.edit("arches.yaml", "arches:\n", row)
    checkout.edit("arches.yaml", "release: [amd64,", "release: [armv6, amd64,")
    run = checkout("all-push", REV="new")
    assert "oci:dist/pause-armv6:3.1" in run.digests
    _, index = inspect("oci:dist/pause:3.1", "--raw", cwd=checkout.root)
    assert index["manifests"][0]["platform"] == {"os": "linux", "architecture": "arm", "variant": "v6"}
    assert says((checkout.root / "bin/pause-armv6").read_bytes(), "arm", tmp_path) == "pause.c v3.1-new\n"


def test_orphan_goes_into_no_image(checkout: Checkout) -> None:
    run = checkout("orphan", "--arch", "arm", "--arch", "386")
    assert list(run.digests) == ["bin/orphan-arm", "bin/orphan-386"]
    assert {path.name for path in (checkout.root / "bin").iterdir()} == {"orphan-arm", "orphan-386"}
    checkout("container", "--arch", "arm")
    archive = (checkout.root / "bin/pause-arm.tar").read_bytes()
    assert b"orphan" not in archive
