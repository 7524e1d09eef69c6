"""`rebuild`: what is published is built again from its provenance, and differs only for a reason that is told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import RELEASE, Checkout, Run, results
from tests.support.keys import Pair
from tests.support.registries import Recorder
from tests.support.signed import SignedRelease


def same(run: Run) -> list[bool]:
    return [each["same"] for each in results(run)]


@pytest.fixture
def clone(signed: SignedRelease, tmp_path: Path) -> Checkout:
    """Another clone of what was released, in which nothing is built."""
    return Checkout.clone(signed.checkout.root, tmp_path / "clone")


def test_another_clone_builds_the_same_digests(clone: Checkout, signed: SignedRelease) -> None:
    before = clone.git("status", "--porcelain", "--ignored"), clone.git("worktree", "list")
    run = clone("rebuild", f"{signed.place}:3.1", "--key", str(signed.keys.public), "--json")
    assert same(run) == [True] * (1 + len(RELEASE))
    assert [each["digest"] for each in results(run)] == signed.digests
    assert [each["platform"] for each in results(run)][:2] == [None, "linux/amd64"]
    assert not (clone.root / "dist").exists()
    assert not (clone.root / "bin").exists()
    assert (clone.git("status", "--porcelain"), clone.git("worktree", "list")) == ("", before[1])


def test_it_says_so_in_a_line_for_each(clone: Checkout, signed: SignedRelease) -> None:
    run = clone("rebuild", f"{signed.place}:3.1", VERIFY_KEY=str(signed.keys.public))
    lines = run.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["same"] * (1 + len(RELEASE))
    assert lines[0].endswith("manifest list")


def test_without_a_key_a_note_says_that_nothing_is_proved(clone: Checkout, signed: SignedRelease) -> None:
    run = clone("rebuild", f"{signed.place}:3.1", "--quiet")
    assert "its provenance is not proved" in run.stderr


def test_another_key_has_no_provenance(clone: Checkout, signed: SignedRelease, other_keys: Pair) -> None:
    message = clone.refuses(1, "rebuild", f"{signed.place}:3.1", "--key", str(other_keys.public))
    assert "found no provenance by the key" in message


def test_the_variables_of_the_shell_change_nothing(clone: Checkout, signed: SignedRelease) -> None:
    key = str(signed.keys.public)
    run = clone(
        "rebuild", f"{signed.place}:3.1", "--key", key, "--json", TAG="9", CFLAGS="-O0", REGISTRY="oci:elsewhere"
    )
    assert all(same(run))
    assert not (clone.root / "elsewhere").exists()


def test_a_later_commit_does_not_matter(clone: Checkout, signed: SignedRelease) -> None:
    clone.edit("pause.c", '"pause.c ', '"pause.d ')
    clone.commit("another program")
    assert all(same(clone("rebuild", f"{signed.place}:3.1", "--key", str(signed.keys.public), "--json")))


def test_a_later_tag_is_the_reason_for_another_rev(clone: Checkout, signed: SignedRelease) -> None:
    revision = clone.revision
    clone.git("tag", "v9")
    reference, key = f"{signed.place}:3.1", str(signed.keys.public)
    run = clone.ends("rebuild", reference, "--key", key)
    assert run.code == 1
    assert [line.split()[0] for line in run.stdout.splitlines()] == ["differs"] * (1 + len(RELEASE))
    assert f"REV: was {revision}, is v9: a tag that came later names the commit" in run.stderr
    assert run.stderr.count("REV: was") == 1
    assert all(same(clone("rebuild", reference, "--key", key, "--rev", revision, "--json")))


def test_another_compiler_is_the_reason(clone: Checkout, signed: SignedRelease) -> None:
    """Of the commit, another version is declared: as if another one had been installed when it was released."""
    declared = clone.root / "declared.py"
    declared.write_text(
        "import runpy, sys\n"
        "import build.compilers.zig as zig\n"
        "zig.version = lambda package: '0.0.1'\n"
        "sys.argv = ['invoke', *sys.argv[1:]]\n"
        "runpy.run_module('invoke', run_name='__main__')\n"
    )
    command = [sys.executable, str(declared), "rebuild", f"{signed.place}:3.1", "--key", str(signed.keys.public)]
    found = subprocess.run(
        [*command, "--rev", "another"],
        cwd=clone.root,
        env=clone.environment(PYTHONPATH=str(clone.root)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert "compiler: was zig 0.17.1, is 0.0.1" in found.stderr


def test_a_commit_that_the_clone_lacks(signed: SignedRelease, tmp_path: Path) -> None:
    other = Checkout.clone(signed.checkout.root, tmp_path / "other")
    shutil.rmtree(other.root / ".git")
    other.git("init", "--quiet")
    other.git("commit", "--quiet", "--allow-empty", "--message", "nothing")
    message = other.refuses(2, "rebuild", f"{signed.place}:3.1", "--key", str(signed.keys.public))
    commit = signed.checkout.git("rev-parse", "HEAD")
    assert f"commit {commit}: not in this clone\n  git fetch origin {commit}" in message


def test_what_was_built_with_changes_is_nobodys_to_build(checkout: Checkout, keys: Pair, recorder: Recorder) -> None:
    checkout.edit("pause.c", '"pause.c ', '"pause.d ')
    checkout("all-push", REGISTRY=recorder.host, SIGN_KEY=str(keys.private))
    message = checkout.refuses(1, "rebuild", f"{recorder.host}/pause:3.1", "--key", str(keys.public))
    assert "built with uncommitted changes to pause.c" in message


def test_what_is_unsigned_has_no_provenance(clone: Checkout, unsigned: SignedRelease) -> None:
    message = clone.refuses(1, "rebuild", f"{unsigned.place}:3.1")
    assert "found no provenance, expected one as invoke all-push --sign publishes it" in message
    assert "not found" in clone.refuses(1, "rebuild", f"{unsigned.place}:4")


def test_docker_media_types_and_flags_of_the_user(checkout: Checkout, keys: Pair, recorder: Recorder) -> None:
    words = ["--format", "docker", "--tag", "5", "--arch", "arm64", "--arch", "s390x", "--cflags", "-O1 -Wall -static"]
    given = {"SIGN_KEY": str(keys.private), "REV": "mine", "SOURCE_DATE_EPOCH": "77"}
    checkout("all-push", *words, "--registry", recorder.host, **given)
    run = checkout("rebuild", f"{recorder.host}/pause:5", "--key", str(keys.public), "--json")
    assert same(run) == [True] * 3


def test_a_layout_and_a_copy_keep_their_provenance(signed: SignedRelease, clone: Checkout) -> None:
    clone("copy", str(signed.host), "oci:copied")
    run = clone("rebuild", "oci:copied/pause:3.1", "--key", str(signed.keys.public), "--json")
    assert all(same(run))
