"""The same commit under another name: a tag that came later changes REV, and with it all digests; everybody says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checkout import RELEASE, Checkout
from tests.support.registries import Recorder


@pytest.fixture
def renamed(checkout: Checkout, recorder: Recorder) -> Checkout:
    """A checkout that was published, and whose commit has a tag now."""
    checkout("all-push", REGISTRY=recorder.host)
    checkout.git("tag", "v9")
    return checkout


def note(checkout: Checkout) -> str:
    old = checkout.revision
    return f"REV was {old} there, and is v9 here: the commit's time is the same, so --rev {old} gives the same digests"


def test_a_tag_is_not_moved_for_a_name(renamed: Checkout, recorder: Recorder) -> None:
    lines = renamed.refuses(1, "all-push", REGISTRY=recorder.host).splitlines()
    assert lines[0] == "refusing to move an existing tag (use --overwrite)"
    assert lines[-2] == f"  {note(renamed)}"
    assert len(lines) == 1 + 1 + len(RELEASE) + 2
    again = renamed("all-push", "--rev", renamed.revision, REGISTRY=recorder.host)
    assert again.stderr.count(": already published") == 1 + len(RELEASE)
    renamed("all-push", "--overwrite", REGISTRY=recorder.host)


def test_a_plan_says_it_with_each_step(renamed: Checkout, recorder: Recorder) -> None:
    run = renamed.ends("plan", REGISTRY=recorder.host)
    assert run.code == 1
    refused = [line for line in run.stdout.splitlines() if line.startswith("refused")]
    assert len(refused) == 1 + len(RELEASE)
    assert all(line.endswith(f"; {note(renamed)})") for line in refused)
    assert run.stderr.count(f"  {note(renamed)}\n") == 1


def test_a_list_alone(renamed: Checkout, recorder: Recorder) -> None:
    renamed("all-push-images", "--overwrite", REGISTRY=recorder.host)
    assert f"  {note(renamed)}\n" in renamed.refuses(1, "push-manifest", REGISTRY=recorder.host)


def test_a_copy_says_it(renamed: Checkout, recorder: Recorder) -> None:
    renamed("copy", recorder.host, "oci-archive:old.tar")
    renamed("all-push")
    assert f"  {note(renamed)}\n" in renamed.refuses(1, "copy", "oci:dist", recorder.host)
    assert f"  {note(renamed)}\n" in renamed.refuses(1, "copy", "oci:dist", "oci-archive:old.tar")
    renamed("copy", "oci:dist", "oci-archive:old.tar", "--overwrite")


def test_check_says_it_of_a_release_of_both_names(renamed: Checkout, recorder: Recorder) -> None:
    renamed("push", "--arch", "arm", "--overwrite", REGISTRY=recorder.host)
    renamed("push-manifest", "--overwrite", REGISTRY=recorder.host)
    message = renamed.refuses(1, "check", REGISTRY=recorder.host)
    assert f"label org.opencontainers.image.revision: found 'v9', expected '{renamed.revision}'" in message
    remedy = f"the commit's time is the same: publish it again with --rev {renamed.revision}, and the list\n"
    assert remedy in message
    renamed("push", "--arch", "arm", "--overwrite", "--rev", renamed.revision, REGISTRY=recorder.host)
    renamed("push-manifest", "--overwrite", REGISTRY=recorder.host)
    renamed("check", REGISTRY=recorder.host)


@pytest.mark.parametrize("there", ["other", "r-dirty"])
def test_of_another_commit_it_promises_nothing(checkout: Checkout, recorder: Recorder, there: str) -> None:
    checkout("push", REGISTRY=recorder.host, REV=there, SOURCE_DATE_EPOCH="1")
    message = checkout.refuses(
        1, "push", REGISTRY=recorder.host, REV="r", SOURCE_DATE_EPOCH="1" if "-" in there else "2"
    )
    assert f"  REV was {there} there, and is r here\n" in message


def test_what_is_not_about_names_is_not_called_so(checkout: Checkout, recorder: Recorder, tmp_path: Path) -> None:
    checkout("push", REGISTRY=recorder.host)
    assert "REV" not in checkout.refuses(1, "push", "--cflags", "-O1", REGISTRY=recorder.host)
    checkout("all-push")
    (tmp_path / "mine").write_text("mine")
    assert "REV" not in checkout.refuses(1, "copy", "oci:dist", f"oci-archive:{tmp_path}/mine")
