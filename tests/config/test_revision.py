"""The revision of real clones, and REV and SOURCE_DATE_EPOCH in its place."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from build.config.revision import Revision, read_revision
from build.errors import UsageError
from tests.support.components import need

TIME = 1700000000


class Clone:
    """A repository with one commit, isolated from the git configuration of the user who runs the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("first")

    def git(self, *words: str) -> str:
        who = {f"GIT_{role}_{part}": "tester" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
        when = {f"GIT_{role}_DATE": f"{TIME} +0100" for role in ("AUTHOR", "COMMITTER")}
        command = [need("git", "git"), "-c", "commit.gpgSign=false", "-c", "tag.gpgSign=false", "-C", str(self.folder)]
        return subprocess.run(
            [*command, *words], env={**os.environ, **who, **when}, check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()

    def commit(self, content: str) -> None:
        (self.folder / "file").write_text(content)
        self.git("add", "file")
        self.git("commit", "--quiet", "-m", content)

    def read(self, name: str | None = None, epoch: str | None = None) -> Revision:
        return asyncio.run(read_revision(self.folder, name, epoch))


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "clone").mkdir()
    return Clone(tmp_path / "clone")


def test_a_tag_names_its_commit_and_those_before(clone: Clone) -> None:
    clone.commit("second")
    clone.git("tag", "v1")
    assert clone.read().name == "v1"
    clone.git("checkout", "--quiet", "HEAD~1")
    assert clone.read().name == "v1~1"


def test_an_annotated_tag_names_its_commit(clone: Clone) -> None:
    clone.git("tag", "-a", "-m", "one", "v1")
    assert clone.read().name == "v1^0"


@pytest.mark.parametrize("tag", [None, "1.0", "release-v1"])
def test_without_a_version_tag_it_is_twelve_digits(clone: Clone, tag: str | None) -> None:
    if tag:
        clone.git("tag", tag)
    assert clone.read().name == clone.git("rev-parse", "HEAD")[:12]


def test_a_commit_after_the_tag_is_not_the_tags(clone: Clone) -> None:
    clone.git("tag", "v1")
    clone.commit("second")
    assert re.fullmatch("[0-9a-f]{12}", clone.read().name)


@pytest.mark.parametrize("digits", ["4", "40", "auto"])
def test_core_abbrev_has_no_effect(clone: Clone, digits: str) -> None:
    clone.git("config", "--global", "core.abbrev", digits)
    clone.git("config", "core.abbrev", digits)
    assert clone.read().name == clone.git("rev-parse", "HEAD")[:12]


@pytest.mark.parametrize("staged", [True, False])
def test_a_changed_file_makes_it_dirty(clone: Clone, staged: bool) -> None:
    clone.git("tag", "v1")
    (clone.folder / "file").write_text("changed")
    if staged:
        clone.git("add", "file")
    assert clone.read().name == "v1-dirty"
    clone.git("checkout", "--quiet", "HEAD", "--", "file")
    assert clone.read().name == "v1"


def test_an_untracked_file_does_not(clone: Clone) -> None:
    clone.git("tag", "v1")
    clone.git("config", "status.showUntrackedFiles", "all")
    (clone.folder / "other").write_text("new")
    assert clone.read().name == "v1"


def test_the_time_is_the_commits(clone: Clone) -> None:
    read = clone.read()
    assert read.time == TIME
    assert read.created == "2023-11-14T22:13:20Z"


def test_given_values_take_precedence_over_git(clone: Clone) -> None:
    (clone.folder / "file").write_text("changed")
    assert clone.read(name="v9") == Revision("v9", TIME)
    assert clone.read(epoch="7") == Revision(clone.git("rev-parse", "HEAD")[:12] + "-dirty", 7, ("file",))
    assert clone.read(name="v9", epoch="0") == Revision("v9", 0)


def test_nothing_is_written_to_the_clone(clone: Clone) -> None:
    os.utime(clone.folder / "file", (1, 1))  # git status would refresh its index
    index = clone.folder / ".git" / "index"
    before = index.read_bytes()
    clone.read()
    assert index.read_bytes() == before


def test_git_is_not_needed_if_both_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("git") is None
    assert asyncio.run(read_revision(tmp_path, "v1", "1")) == Revision("v1", 1)
    for given in (("v1", None), (None, "1"), (None, None)):
        with pytest.raises(UsageError, match=r"git is not installed\n.*REV=\S+ SOURCE_DATE_EPOCH=0"):
            asyncio.run(read_revision(tmp_path, *given))


def test_outside_a_clone_the_message_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    need("git", "git")
    with pytest.raises(UsageError, match=r"REV is not set, and git failed: .*\n.*REV=\S+ SOURCE_DATE_EPOCH=0"):
        asyncio.run(read_revision(tmp_path, None, "1"))
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH is not set, and git failed: "):
        asyncio.run(read_revision(tmp_path, "v1", None))


def test_without_a_commit_the_message_says_what_to_type(tmp_path: Path) -> None:
    subprocess.run([need("git", "git"), "init", "--quiet", tmp_path], check=True)
    with pytest.raises(UsageError, match=r"git failed: .*\n.*REV="):
        asyncio.run(read_revision(tmp_path, None, None))


@pytest.mark.parametrize("name", ["v1 2", "v1\n", '"', "$x", "é", "a\\b", "a:b", "a@b", "a\0"])
def test_an_invalid_revision_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"REV .*: expected letters") as raised:
        asyncio.run(read_revision(tmp_path, name, "0"))
    assert repr(name) in str(raised.value)


@pytest.mark.parametrize("epoch", ["now", "-1", "1.5", " 1", "1\n", "0x1", "8589934592", "99999999999", "1e3"])
def test_an_invalid_time_is_refused(tmp_path: Path, epoch: str) -> None:
    with pytest.raises(UsageError, match=r"SOURCE_DATE_EPOCH .*: expected seconds") as raised:
        asyncio.run(read_revision(tmp_path, "v1", epoch))
    assert repr(epoch) in str(raised.value)


def test_the_latest_time_in_a_tar_header(tmp_path: Path) -> None:
    read = asyncio.run(read_revision(tmp_path, "v1", "8589934591"))
    assert (read.time, read.created) == (8**11 - 1, "2242-03-16T12:56:31Z")


@pytest.mark.parametrize("name", ["v1", "v1.36.0-rc.1~3^2", "feature/x", "0123abcdef01-dirty", "a+b_c"])
def test_names_that_git_prints_are_valid(tmp_path: Path, name: str) -> None:
    assert asyncio.run(read_revision(tmp_path, name, "0")).name == name
