"""What the checkout says of itself, asked of real clones; and what REV and SOURCE_DATE_EPOCH say instead."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from build.config import revision
from build.config.revision import Revision
from build.errors import UsageError
from tests.support.components import need

TIME = 1700000000


class Clone:
    """A repository with one commit, untouched by the settings of who runs the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("first")

    def git(self, *words: str) -> str:
        who = {f"GIT_{role}_{part}": "nobody" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
        when = {f"GIT_{role}_DATE": f"{TIME} +0100" for role in ("AUTHOR", "COMMITTER")}
        command = [need("git", "git"), "-c", "commit.gpgSign=false", "-c", "tag.gpgSign=false", "-C", str(self.folder)]
        return subprocess.run(
            [*command, *words], env={**os.environ, **who, **when}, check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()

    def commit(self, content: str) -> None:
        (self.folder / "file").write_text(content)
        self.git("add", "file")
        self.git("commit", "--quiet", "-m", content)

    def asked(self, name: str | None = None, epoch: str | None = None) -> Revision:
        return asyncio.run(revision.ask(self.folder, name, epoch))


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
    assert clone.asked().name == "v1"
    clone.git("checkout", "--quiet", "HEAD~1")
    assert clone.asked().name == "v1~1"


def test_an_annotated_tag_names_its_commit(clone: Clone) -> None:
    clone.git("tag", "-a", "-m", "one", "v1")
    assert clone.asked().name == "v1^0"


@pytest.mark.parametrize("tag", [None, "1.0", "release-v1"])
def test_without_a_tag_of_a_version_it_is_twelve_digits(clone: Clone, tag: str | None) -> None:
    if tag:
        clone.git("tag", tag)
    assert clone.asked().name == clone.git("rev-parse", "HEAD")[:12]


def test_a_commit_after_the_tag_is_not_the_tags(clone: Clone) -> None:
    clone.git("tag", "v1")
    clone.commit("second")
    assert re.fullmatch("[0-9a-f]{12}", clone.asked().name)


@pytest.mark.parametrize("digits", ["4", "40", "auto"])
def test_how_many_digits_a_user_likes_to_see_is_no_matter(clone: Clone, digits: str) -> None:
    clone.git("config", "--global", "core.abbrev", digits)
    clone.git("config", "core.abbrev", digits)
    assert clone.asked().name == clone.git("rev-parse", "HEAD")[:12]


@pytest.mark.parametrize("staged", [True, False])
def test_a_changed_file_makes_it_dirty(clone: Clone, staged: bool) -> None:
    clone.git("tag", "v1")
    (clone.folder / "file").write_text("changed")
    if staged:
        clone.git("add", "file")
    assert clone.asked().name == "v1-dirty"
    clone.git("checkout", "--quiet", "HEAD", "--", "file")
    assert clone.asked().name == "v1"


def test_an_untracked_file_does_not(clone: Clone) -> None:
    clone.git("tag", "v1")
    clone.git("config", "status.showUntrackedFiles", "all")
    (clone.folder / "other").write_text("new")
    assert clone.asked().name == "v1"


def test_the_time_is_the_commits(clone: Clone) -> None:
    asked = clone.asked()
    assert asked.time == TIME
    assert asked.created == "2023-11-14T22:13:20Z"


def test_what_is_given_wins_over_git(clone: Clone) -> None:
    (clone.folder / "file").write_text("changed")
    assert clone.asked(name="v9") == Revision("v9", TIME)
    assert clone.asked(epoch="7") == Revision(clone.git("rev-parse", "HEAD")[:12] + "-dirty", 7, ("file",))
    assert clone.asked(name="v9", epoch="0") == Revision("v9", 0)


def test_nothing_is_written_to_the_clone(clone: Clone) -> None:
    os.utime(clone.folder / "file", (1, 1))  # git would like to note the new time in its index
    index = clone.folder / ".git" / "index"
    before = index.read_bytes()
    clone.asked()
    assert index.read_bytes() == before


def test_with_both_given_there_need_be_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("git") is None
    assert asyncio.run(revision.ask(tmp_path, "v1", "1")) == Revision("v1", 1)
    for given in (("v1", None), (None, "1"), (None, None)):
        with pytest.raises(UsageError, match=r"git is not installed\n.*REV=\S+ SOURCE_DATE_EPOCH=0"):
            asyncio.run(revision.ask(tmp_path, *given))


def test_outside_a_clone_it_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    need("git", "git")
    with pytest.raises(UsageError, match=r"REV is not set, and git can't tell: .*\n.*REV=\S+ SOURCE_DATE_EPOCH=0"):
        asyncio.run(revision.ask(tmp_path, None, "1"))
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH is not set, and git can't tell: "):
        asyncio.run(revision.ask(tmp_path, "v1", None))


def test_without_a_commit_it_says_what_to_type(tmp_path: Path) -> None:
    subprocess.run([need("git", "git"), "init", "--quiet", tmp_path], check=True)
    with pytest.raises(UsageError, match=r"git can't tell: .*\n.*REV="):
        asyncio.run(revision.ask(tmp_path, None, None))


@pytest.mark.parametrize("name", ["v1 2", "v1\n", '"', "$x", "é", "a\\b", "a:b", "a@b", "a\0"])
def test_an_odd_revision_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"REV .*: expected letters") as raised:
        asyncio.run(revision.ask(tmp_path, name, "0"))
    assert repr(name) in str(raised.value)


@pytest.mark.parametrize("epoch", ["now", "-1", "1.5", " 1", "1\n", "0x1", "8589934592", "99999999999", "1e3"])
def test_an_odd_time_is_refused(tmp_path: Path, epoch: str) -> None:
    with pytest.raises(UsageError, match=r"SOURCE_DATE_EPOCH .*: expected seconds") as raised:
        asyncio.run(revision.ask(tmp_path, "v1", epoch))
    assert repr(epoch) in str(raised.value)


def test_the_last_second_of_a_tar_header(tmp_path: Path) -> None:
    asked = asyncio.run(revision.ask(tmp_path, "v1", "8589934591"))
    assert (asked.time, asked.created) == (8**11 - 1, "2242-03-16T12:56:31Z")


@pytest.mark.parametrize("name", ["v1", "v1.36.0-rc.1~3^2", "feature/x", "0123abcdef01-dirty", "a+b_c"])
def test_what_git_prints_is_a_revision(tmp_path: Path, name: str) -> None:
    assert asyncio.run(revision.ask(tmp_path, name, "0")).name == name
