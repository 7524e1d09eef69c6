"""`--dry` tells what would come and touches nothing; `clean` takes away what the tasks made and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.checkout import RELEASE, Checkout
from tests.support.reading import inspect, skopeo
from tests.support.registries import Recorder

TASKS = ["build", "orphan", "container", "all-container", "push", "all-push-images", "all-push"]


@pytest.mark.parametrize("task", TASKS)
def test_dry_tells_the_digests_that_come(checkout: Checkout, task: str) -> None:
    before = checkout.snapshot()
    plan = checkout("--dry", task)
    assert checkout.snapshot() == before
    assert list((checkout.side / "tmp").iterdir()) == []
    run = checkout(task)
    assert plan.digests == run.digests
    assert list(plan.digests) == list(run.digests)
    assert {line.split()[0] for line in plan.stdout.splitlines()} <= {"made", "pushed"}

    before = checkout.snapshot()
    plan = checkout("--dry", task)
    assert plan.stdout == "".join(f"kept    {line}\n" for line in run.stdout.splitlines())
    assert checkout.snapshot() == before


def test_dry_asks_a_registry_and_sends_nothing(checkout: Checkout, recorder: Recorder) -> None:
    plan = checkout("--dry", "all-push", REGISTRY=recorder.host)
    assert {each.method for each in recorder.exchanges} <= {"HEAD", "GET"}
    checkout("all-push-images", REGISTRY=recorder.host)
    recorder.forget()
    plan_of_list = checkout("--dry", "push-manifest", REGISTRY=recorder.host)
    assert {each.method for each in recorder.exchanges} <= {"HEAD", "GET"}
    assert checkout("push-manifest", REGISTRY=recorder.host).digests == plan_of_list.digests == plan.digests


def test_dry_refuses_what_the_run_would(checkout: Checkout, recorder: Recorder) -> None:
    checkout("push", REGISTRY=recorder.host, REV="old")
    message = checkout.refuses(1, "--dry", "all-push", REGISTRY=recorder.host)
    assert "--overwrite" in message
    assert "pause-amd64" in checkout("--dry", "all-push", "--overwrite", REGISTRY=recorder.host).stdout


def test_dry_clean_lists_what_clean_removes(checkout: Checkout) -> None:
    checkout("all-push")
    before = checkout.snapshot()
    plan = checkout("--dry", "clean")
    assert checkout.snapshot() == before
    run = checkout("clean")
    assert [line.split(maxsplit=1) for line in plan.stdout.splitlines()] == [
        ["removed", line] for line in run.stdout.splitlines()
    ]


def test_clean_brings_back_the_tree_of_before(checkout: Checkout) -> None:
    before = checkout.snapshot()
    for words in (["all-push"], ["all-push", "--tag", "3.2"], ["orphan", "--arch", "all"], ["push", "--arch", "386"]):
        checkout(*words)
    removed = checkout("clean").stdout.splitlines()
    for made in (
        "bin/pause-arm",
        "bin/pause-arm.tar",
        "bin/orphan-s390x",
        "bin/pause-386",
        "dist/pause",
        ".cache/pause",
    ):
        assert made in removed
    assert checkout.snapshot() == before
    again = checkout("clean")
    assert (again.stdout, again.stderr) == ("", "")
    assert checkout.snapshot() == before


def test_clean_spares_what_others_put_there(checkout: Checkout) -> None:
    def put(path: str) -> Path:
        (checkout.root / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout.root / path).write_text("mine")
        return checkout.root / path

    checkout("all-push")
    mine = [put(path) for path in ("bin/mine", "bin/pause-mine", "dist/mine", "dist/pause-arm/mine", ".cache.mine/x")]
    skopeo("copy", "--all", "oci:dist/pause:3.1", "oci:dist/pause:mine", cwd=checkout.root)
    skopeo("copy", "oci:dist/pause-arm:3.1", "oci:elsewhere:mine", cwd=checkout.root)
    digest, _ = inspect("oci:dist/pause:mine", "--raw", cwd=checkout.root)

    checkout("clean")
    assert all(path.read_text() == "mine" for path in mine)
    assert inspect("oci:dist/pause:mine", "--raw", cwd=checkout.root)[0] == digest
    skopeo("copy", "--all", "oci:dist/pause:mine", f"dir:{checkout.side}/copy", cwd=checkout.root)
    skopeo("inspect", "oci:elsewhere:mine", cwd=checkout.root)
    assert not (checkout.root / "bin/pause-arm").exists()
    assert not (checkout.root / "dist/pause-s390x").exists()

    before = checkout.snapshot()
    assert checkout("clean").stdout == ""
    assert checkout.snapshot() == before
    assert checkout("all-push").digests[f"oci:dist/pause-{RELEASE[0]}:3.1"]


def test_clean_spares_what_other_tools_cache(checkout: Checkout) -> None:
    (checkout.root / ".cache/clangd").mkdir(parents=True)
    (checkout.root / ".cache/clangd/index").write_text("mine")
    before = checkout.snapshot()
    checkout("build")
    checkout("clean")
    assert checkout.snapshot() == before


def test_clean_removes_what_a_run_left_that_was_killed_before_its_first_tag(checkout: Checkout) -> None:
    before = checkout.snapshot()
    checkout("all-push")
    for name in ("index.json", "oci-layout"):
        for path in (checkout.root / "dist").glob(f"*/{name}"):
            path.unlink()
    checkout("clean")
    assert checkout.snapshot() == before


def test_clean_leaves_a_registry_alone(checkout: Checkout, recorder: Recorder) -> None:
    run = checkout("all-push", REGISTRY=recorder.host)
    recorder.forget()
    checkout("clean", REGISTRY=recorder.host)
    assert recorder.lines == []
    for name, digest in run.digests.items():
        assert inspect(f"docker://{name}", "--raw")[0] == digest


def test_clean_finds_a_layout_elsewhere(checkout: Checkout) -> None:
    folder = checkout.side / "layouts"
    checkout("push", REGISTRY=f"oci:{folder}")
    assert (folder / "pause-amd64/index.json").exists()
    assert str(folder / "pause-amd64") in checkout("clean", REGISTRY=f"oci:{folder}").stdout
    assert not folder.exists()


def test_clean_says_which_registries_and_layouts_it_leaves(checkout: Checkout, recorder: Recorder) -> None:
    elsewhere = f"oci:{checkout.side}/layouts"
    checkout("push", REGISTRY=recorder.host)
    checkout("push", "--registry", elsewhere)
    checkout("push")
    for words in (["--dry", "clean"], ["clean"]):
        assert checkout(*words).stderr.splitlines() == [
            f"note: {recorder.host}: left: clean removes nothing from registries",
            f"note: {elsewhere}: left: to clean it, too: invoke clean --registry {elsewhere}",
        ]
    checkout("clean", "--registry", elsewhere)
    assert not (checkout.side / "layouts").exists()


def test_clean_says_that_it_leaves_the_layouts_of_push_manifest_and_copy(checkout: Checkout) -> None:
    layouts = [f"oci:{checkout.side}/{name}" for name in ("from", "to")]
    checkout("all-push-images", REGISTRY=layouts[0])
    checkout("clean")
    checkout("push-manifest", REGISTRY=layouts[0])
    checkout("copy", *layouts)
    notes = checkout("clean").stderr
    for layout in layouts:
        assert f"note: {layout}: left: " in notes


@pytest.mark.parametrize("name", [".cache/pause", ".cache", "bin", "dist"])
def test_links_to_folders_are_not_removed(checkout: Checkout, name: str) -> None:
    """Of the cache, which clean removes as a whole, a link is refused, and nothing is removed before that."""
    checkout("all-push")
    (checkout.root / name).rename(checkout.side / "away")
    (checkout.root / name).symlink_to(checkout.side / "away")
    checkout("build")
    before = checkout.snapshot()
    if name == ".cache/pause":
        for words in (["--dry", "clean"], ["clean"]):
            message = checkout.refuses(1, *words)
            assert message.startswith(
                f"{checkout.root / name}: found a link to {checkout.side}/away, expected a folder\n"
            )
            assert len(message.splitlines()) == 2
            assert checkout.snapshot() == before
        return
    checkout("clean")
    assert os.readlink(checkout.root / name) == f"{checkout.side}/away"
    assert list((checkout.side / "away").iterdir()) == []


def test_what_a_malformed_index_stops_removes_nothing(checkout: Checkout) -> None:
    checkout("all-push")
    (checkout.root / "dist/pause-s390x/index.json").write_text("{")
    before = checkout.snapshot()
    assert "pause-s390x/index.json" in checkout.refuses(1, "clean")
    assert checkout.snapshot() == before


def test_a_cache_that_leads_elsewhere_loses_nothing(checkout: Checkout) -> None:
    """Only scratch folders have names of 12 hexadecimal digits."""
    (checkout.side / "away/tmp/mine").mkdir(parents=True)
    (checkout.root / ".cache").mkdir()
    (checkout.root / ".cache/pause").symlink_to(checkout.side / "away")
    checkout("clean")
    assert (checkout.side / "away/tmp/mine").is_dir()
    checkout("build")
    assert (checkout.side / "away/tmp/mine").is_dir()
