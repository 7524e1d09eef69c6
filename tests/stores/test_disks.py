"""Disks that are full, read-only or somebody else's: one message that names the place, and nothing half-done."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.checkout import Checkout, Run
from tests.support.components import lack, need

Ends = Callable[..., Run]


@pytest.fixture
def ends(checkout: Checkout) -> Ends:
    """Runs commands of a shell, with `invoke` among them, where mounts are nobody else's."""
    need("unshare", "util-linux")
    enter = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*enter, "true"], check=False, capture_output=True).returncode:
        lack("unshare: needs root, or user namespaces")

    def ends(script: str, **environment: str) -> Run:
        invoke = f'invoke() {{ {shlex.quote(sys.executable)} -m invoke "$@"; }}'
        command = [*enter, "sh", "-e", "-c", f"{invoke}\n{script}"]
        run = subprocess.run(
            command,
            cwd=checkout.root,
            env=checkout.environment(**environment),
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Run(run.returncode, run.stdout, run.stderr)

    return ends


def message(run: Run, task: str) -> str:
    """The one thing that a failed run says at its end."""
    assert (run.code, run.stdout) == (1, ""), run.stderr
    assert "Traceback" not in run.stderr
    assert run.stderr.count(f"{task}: ") == 1
    return run.stderr.rpartition(f"{task}: ")[2]


READ_ONLY = 'mount --bind . . && cd . && mount -o remount,ro,bind . && cd "$PWD" && '


@pytest.mark.parametrize("task", ["build", "container", "all-push"])
def test_a_read_only_checkout(checkout: Checkout, ends: Ends, task: str) -> None:
    before = checkout.snapshot()
    said = message(ends(f"{READ_ONLY} invoke {task}"), task)
    assert said == f"{checkout.root}: this disk is read-only\n  use a checkout on a writable disk\n"
    assert checkout.snapshot() == before


def test_a_plan_needs_no_disk(checkout: Checkout, ends: Ends) -> None:
    run = ends(f"{READ_ONLY} invoke plan")
    assert run.code == 0, run.stderr
    assert run.digests == checkout("plan").digests


@pytest.mark.parametrize("folder", ["bin", "dist", ".cache"])
def test_a_full_disk(checkout: Checkout, ends: Ends, folder: str) -> None:
    fill = f"mkdir {folder} && mount -t tmpfs -o size=16k tmpfs {folder} && head -c 12k /dev/zero >{folder}/filler"
    run = ends(
        f"{fill}\nhead -c 9k /dev/zero >{folder}/more || :\ninvoke all-push || {{ ls -A {folder} >&2; exit 1; }}"
    )
    said = message(run, "all-push")
    assert said.startswith(f"{checkout.root}/{folder}: no space left on this disk\n  free some space and retry\n")
    assert ".tmp" not in said
    (checkout.root / folder).rmdir()
    checkout("all-push")
    checkout("check")


def test_a_full_stdout(ends: Ends) -> None:
    said = message(ends("invoke build >/dev/full"), "build")
    assert said.startswith("stdout: ")


def test_somebody_elses_checkout(checkout: Checkout, ends: Ends) -> None:
    if os.geteuid() != 0:
        lack("setpriv: needs root, to become somebody else")
    # Python may lie where nobody else may read; writing is what counts.
    reads = "--inh-caps=-all,+dac_read_search --ambient-caps=+dac_read_search --bounding-set=+all"
    nobody = f"{need('setpriv', 'util-linux')} --reuid=65534 --regid=65534 --clear-groups {reads}"
    run = ends(
        f"exec {nobody} {shlex.quote(sys.executable)} -m invoke build", REV="r", SOURCE_DATE_EPOCH="0", TMPDIR="/tmp"
    )
    assert message(run, "build") == (
        f"{checkout.root}: no permission to write there\n  change its owner, or use a checkout that you own\n"
    )


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("bin", "build"),
        ("bin", "all-push"),
        ("dist", "all-push"),
        ("dist", "check"),
        ("dist", "clean"),
        ("dist/pause", "all-push"),
        ("x", "copy oci:dist oci:x/y"),
        ("x", "copy oci:dist oci-archive:x/y.tar"),
        (".cache", "build"),
        (".cache", "check"),
        (".cache/pause", "copy oci:dist oci:x"),
        (".cache/pause/tmp", "check"),
        (".cache/pause/tmp", "build --tag other"),
    ],
)
def test_a_file_where_a_folder_has_to_be(checkout: Checkout, place: str, words: str) -> None:
    if place.startswith((".cache/", "x")):
        checkout("all-push")
    path = checkout.root / place
    path.parent.mkdir(exist_ok=True)
    subprocess.run(["rm", "-rf", path], check=True)
    path.touch()
    if place == "dist" and words != "clean":  # the registry that was asked for
        assert "'oci:dist': found a file" in checkout.refuses(2, *words.split())
        return
    message = checkout.refuses(1, *words.split())
    assert f"{path}: found something that is not a folder, expected a folder\n" in message
    assert "File exists" not in message
    assert "Not a directory" not in message


def test_a_broken_link_where_a_folder_has_to_be(checkout: Checkout) -> None:
    (checkout.root / "bin").symlink_to("nothing")
    assert checkout.refuses(1, "build").startswith(f"{checkout.root}/bin: found something that is not a folder")


@pytest.mark.parametrize(
    ("place", "words"),
    [("bin/pause-amd64", "build"), ("bin/pause-amd64.tar", "container"), ("docker-bake.json", "bake")],
)
def test_a_folder_where_a_file_has_to_be(checkout: Checkout, place: str, words: str) -> None:
    path = checkout.root / place
    path.mkdir(parents=True)
    message = checkout.refuses(1, words, REGISTRY="localhost:1")
    assert message == f"{path}: found a folder, expected a file\n  move it away and retry\n"


@pytest.mark.parametrize("variable", ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"])
@pytest.mark.parametrize("task", ["all-push", "check"])
def test_a_full_disk_for_what_ci_systems_read(checkout: Checkout, ends: Ends, variable: str, task: str) -> None:
    """There is room for a part: nothing of it stays, and what other steps have written does."""
    checkout("all-push")
    fill = "mkdir disk && mount -t tmpfs -o size=8k tmpfs disk && head -c 4096 /dev/zero >disk/filler"
    before = "head -c 4071 /dev/zero | tr '\\0' x >disk/file && cp disk/file before"
    run = ends(
        f"{fill}\n{before}\ninvoke {task} || {{ cmp disk/file before && exit 1; }}",
        **{variable: f"{checkout.root}/disk/file"},
    )
    assert run.code == 1, run.stderr
    assert run.digests  # which are published
    said = run.stderr.rpartition(f"{task}: ")[2]
    assert said.startswith(f"{variable} {checkout.root}/disk/file: can't be written: No space left on device\n")
    assert run.stderr.count(f"{task}: ") == 1
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("variable", ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"])
def test_a_device_that_takes_nothing(checkout: Checkout, variable: str) -> None:
    run = checkout.ends("push", **{variable: "/dev/full"})
    assert run.code == 1
    assert f"\npush: {variable} /dev/full: can't be written: No space left on device\n" in run.stderr


def test_a_full_disk_for_the_matrix(ends: Ends) -> None:
    run = ends("invoke matrix", GITHUB_OUTPUT="/dev/full")
    assert run.code == 1
    assert run.stderr.startswith("matrix: GITHUB_OUTPUT /dev/full: can't be written: No space left on device\n")
    assert message(ends("invoke matrix --for gitlab >/dev/full"), "matrix").startswith("stdout: can't be written")


@pytest.mark.parametrize(
    "words", ["--list", "--help build", "--complete -- 'invoke '", "--complete -- 'invoke build --arch '"]
)
def test_a_full_disk_for_what_describes_the_tasks(ends: Ends, words: str) -> None:
    run = ends(f"invoke {words} >/dev/full")
    assert (run.code, run.stderr) == (1, "invoke: stdout: can't be written: No space left on device\n")
    run = ends(f"{{ invoke {words}; echo $? >&2; }} | true")
    assert run.stderr == "0\n"
