"""The revision of real clones, and REV and SOURCE_DATE_EPOCH in its place."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from build.config.revision import Revision, read_revision
from build.errors import UsageError
from tests.support.checkout import SOURCE
from tests.support.components import lack, need

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
        return asyncio.run(read_revision(self.folder, name, epoch, os.environ))


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
    assert asyncio.run(read_revision(tmp_path, "v1", "1", os.environ)) == Revision("v1", 1)
    for name, epoch in (("v1", None), (None, "1"), (None, None)):
        with pytest.raises(UsageError, match=r"git is not installed\n.*REV=\S+ SOURCE_DATE_EPOCH=0"):
            asyncio.run(read_revision(tmp_path, name, epoch, os.environ))


def test_outside_a_clone_the_message_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    need("git", "git")
    with pytest.raises(UsageError, match=r"REV is not set, and git failed: .*\n.*REV=\S+ SOURCE_DATE_EPOCH=0"):
        asyncio.run(read_revision(tmp_path, None, "1", os.environ))
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH is not set, and git failed: "):
        asyncio.run(read_revision(tmp_path, "v1", None, os.environ))


def test_without_a_commit_the_message_says_what_to_type(tmp_path: Path) -> None:
    subprocess.run([need("git", "git"), "init", "--quiet", tmp_path], check=True)
    with pytest.raises(UsageError, match=r"git failed: .*\n.*REV="):
        asyncio.run(read_revision(tmp_path, None, None, os.environ))


@pytest.mark.parametrize("name", ["v1 2", "v1\n", '"', "$x", "é", "a\\b", "a:b", "a@b", "a\0"])
def test_an_invalid_revision_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"REV .*: expected letters") as raised:
        asyncio.run(read_revision(tmp_path, name, "0", os.environ))
    assert repr(name) in str(raised.value)


@pytest.mark.parametrize("epoch", ["now", "-1", "1.5", " 1", "1\n", "0x1", "8589934592", "99999999999", "1e3"])
def test_an_invalid_time_is_refused(tmp_path: Path, epoch: str) -> None:
    with pytest.raises(UsageError, match=r"SOURCE_DATE_EPOCH .*: expected seconds") as raised:
        asyncio.run(read_revision(tmp_path, "v1", epoch, os.environ))
    assert repr(epoch) in str(raised.value)


def test_the_latest_time_in_a_tar_header(tmp_path: Path) -> None:
    read = asyncio.run(read_revision(tmp_path, "v1", "8589934591", os.environ))
    assert (read.time, read.created) == (8**11 - 1, "2242-03-16T12:56:31Z")


@pytest.mark.parametrize("name", ["v1", "v1.36.0-rc.1~3^2", "feature/x", "0123abcdef01-dirty", "a+b_c"])
def test_names_that_git_prints_are_valid(tmp_path: Path, name: str) -> None:
    assert asyncio.run(read_revision(tmp_path, name, "0", os.environ)).name == name


@pytest.fixture
def other(clone: Clone, tmp_path: Path) -> Clone:
    """Another repository, with a tag and an uncommitted change, which lacks a commit of `clone`."""
    clone.commit("mine")
    (tmp_path / "other").mkdir()
    other = Clone(tmp_path / "other")
    other.git("tag", "v666")
    (other.folder / "file").write_text("changed")
    return other


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GIT_DIR", ".git"),
        ("GIT_WORK_TREE", ""),
        ("GIT_INDEX_FILE", "nothing"),
        ("GIT_OBJECT_DIRECTORY", ".git/objects"),
        ("GIT_SHALLOW_FILE", "file"),
    ],
)
def test_no_variable_of_git_leads_elsewhere(
    clone: Clone, other: Clone, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    clone.git("tag", "v1")
    monkeypatch.setenv(variable, str(other.folder / value))
    assert clone.read() == Revision("v1", TIME)


def test_in_a_hook_of_another_repository(clone: Clone, other: Clone) -> None:
    """git sets GIT_DIR and GIT_INDEX_FILE there."""
    clone.git("tag", "v1")
    other.git("commit", "--quiet", "--all", "-m", "clean")
    program = (
        "import asyncio, os, pathlib; from build.config.revision import read_revision;"
        f"print(asyncio.run(read_revision(pathlib.Path({str(clone.folder)!r}), None, None, os.environ)))"
    )
    hook = other.folder / ".git" / "hooks" / "post-commit"
    hook.parent.mkdir(exist_ok=True)
    said = shlex.quote(str(other.folder / "said"))
    run = shlex.join([sys.executable, "-c", program])
    hook.write_text(f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(str(SOURCE))} GIT_DIR\n{run} >{said} 2>&1\n")
    hook.chmod(0o755)
    linked = Clone.__new__(Clone)
    linked.folder = other.folder.with_name("linked")
    other.git("worktree", "add", "--quiet", str(linked.folder))
    linked.commit("third")
    assert (other.folder / "said").read_text() == f"{Revision('v1', TIME)}\n"


def test_the_users_configuration_has_no_effect(clone: Clone, tmp_path: Path) -> None:
    head, blank, message = clone.git("cat-file", "commit", "HEAD").partition("\n\n")
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n aaaa\n -----END PGP SIGNATURE-----"
    (tmp_path / "commit").write_text(f"{head}\n{signature}{blank}{message}\n")
    clone.git("reset", "--soft", clone.git("hash-object", "-t", "commit", "-w", str(tmp_path / "commit")))
    clone.git("tag", "v1")
    settings = {
        "log.showSignature": "true",
        "log.decorate": "full",
        "log.date": "iso",
        "format.pretty": "fuller",
        "color.ui": "always",
        "column.ui": "always",
        "core.quotePath": "true",
        "status.branch": "true",
        "status.short": "false",
        "status.showUntrackedFiles": "all",
        "status.relativePaths": "true",
        "status.renames": "copies",
        "core.checkStat": "minimal",
        "core.trustctime": "false",
        "trace2.normalTarget": "1",
        "alias.describe": "log",
        "alias.status": "log",
    }
    for name, value in settings.items():
        clone.git("config", "--global", name, value)
    assert clone.read() == Revision("v1", TIME)
    (clone.folder / "file").rename(clone.folder / "other")
    clone.git("add", "--all")
    assert clone.read().changed == ("file", "other")


def test_no_monitor_and_no_times_hide_a_change(clone: Clone) -> None:
    clone.git("tag", "v1")
    (clone.folder / "monitor").write_text("#!/bin/sh\nprintf token\\\\0\n")  # nothing has changed, it says
    (clone.folder / "monitor").chmod(0o755)
    clone.git("config", "--global", "core.fsmonitor", str(clone.folder / "monitor"))
    clone.git("update-index", "--fsmonitor")
    clone.git("status")
    (clone.folder / "file").write_text("changed")
    assert clone.git("status", "--porcelain", "-uno") == ""
    assert clone.read().name == "v1-dirty"


def test_a_replaced_commit_is_read_as_it_is(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "commit").write_text(clone.git("cat-file", "commit", "HEAD").replace(str(TIME), "1") + "\n")
    clone.git("replace", "HEAD", clone.git("hash-object", "-t", "commit", "-w", str(tmp_path / "commit")))
    assert clone.git("log", "-1", "--format=%ct") == "1"
    assert clone.read().time == TIME


@pytest.mark.parametrize(
    "name", ["a b", "naïve", "tab\there", b"latin-\xe9".decode(errors="surrogateescape"), "a\nb", '"']
)
def test_a_changed_file_of_any_name_is_told_by_it(clone: Clone, name: str) -> None:
    (clone.folder / name).touch()
    clone.git("add", "--all")
    assert clone.read().changed == (name,)


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ('v1"2', "v1_2"),
        ("v1$(x)", "v1__x_"),
        ("v1,2;3", "v1_2_3"),
        ("v1@b", "v1_b"),
        ("v1#%&'!=<>|`{}]", "v1" + 13 * "_"),
        ("vé", "v_"),
        (b"v\xff".decode(errors="surrogateescape"), "v_"),
        ("v/x+y_z.1-2", "v/x+y_z.1-2"),
    ],
)
def test_every_tag_that_git_allows_is_taken(clone: Clone, tag: str, name: str) -> None:
    clone.git("tag", tag)
    assert clone.read() == Revision(name, TIME)


def test_a_shallow_clone_is_read(clone: Clone, tmp_path: Path) -> None:
    clone.commit("second")
    clone.git("clone", "--quiet", "--depth=1", f"file://{clone.folder}", str(tmp_path / "shallow"))
    expected = Revision(clone.git("rev-parse", "HEAD")[:12], TIME)
    assert asyncio.run(read_revision(tmp_path / "shallow", None, None, os.environ)) == expected


def test_somebody_elses_checkout_names_gits_remedy(clone: Clone) -> None:
    if os.geteuid() != 0:
        lack("chown: needs root")
    os.chown(clone.folder, 65534, 65534)
    with pytest.raises(UsageError, match="git failed: fatal: detected dubious ownership") as raised:
        clone.read()
    remedy = re.search(r"if you trust its owner: (git config --global --add safe\.directory .+)\n", str(raised.value))
    assert remedy
    subprocess.run(shlex.split(remedy[1]), check=True)
    assert re.fullmatch("[0-9a-f]{12}", clone.read().name)


def test_the_reason_is_gits_last_word_and_in_english(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text("[trace2]\n normalTarget = 2\n")
    for variable, value in {"GIT_TRACE": "1", "GIT_TRACE_SETUP": "1", "LC_ALL": "C.UTF-8", "LANGUAGE": "de"}.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match="git failed: fatal: not a git repository"):
        asyncio.run(read_revision(tmp_path, None, None, os.environ))


def test_a_git_that_cannot_be_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_bytes(b"\x7fELF")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"git can't be run: .*\n.*REV="):
        asyncio.run(read_revision(tmp_path, None, None, os.environ))
