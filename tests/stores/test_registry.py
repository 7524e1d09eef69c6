"""What goes over the wire: nothing twice, in an order that shows nothing half-done, and no tag moved unasked."""

from __future__ import annotations

import re

import pytest

from tests.support.checkout import RELEASE, REPOSITORIES, Checkout
from tests.support.reading import inspect
from tests.support.registries import Exchange, Recorder


def sending(recorder: Recorder) -> list[str]:
    return [str(each) for each in recorder.exchanges if each.method not in ("HEAD", "GET")]


def manifests(recorder: Recorder, reference: str, repository: str = r"[^/]+") -> list[Exchange]:
    """The requests that stored a manifest under a reference of this pattern."""
    path = re.compile(rf"/v2/{repository}/manifests/{reference}")
    return [each for each in recorder.exchanges if each.method == "PUT" and path.fullmatch(each.path)]


def blobs(recorder: Recorder, repository: str = r"[^/]+") -> list[Exchange]:
    """The requests that brought blobs."""
    path = re.compile(rf"/v2/{repository}/blobs/uploads/.*")
    return [each for each in recorder.exchanges if path.fullmatch(each.path)]


def listed(recorder: Recorder, name: str) -> list[Exchange]:
    """The requests that brought the blobs of a repository's image into the list's repository."""
    sent = [each.path for each in blobs(recorder, name) if each.method == "PUT"]
    digests = [path.rpartition("digest=sha256%3A")[2] for path in sent]
    return [each for each in blobs(recorder, "pause") if any(digest in each.path for digest in digests)]


def before(first: list[Exchange], then: list[Exchange]) -> bool:
    assert first
    assert then
    return max(each.ended for each in first) < min(each.began for each in then)


def test_nothing_to_do_is_six_questions(recorder: Recorder, checkout: Checkout) -> None:
    first = checkout("all-push", REGISTRY=recorder.host)
    recorder.forget()
    again = checkout("all-push", REGISTRY=recorder.host)
    assert sorted(recorder.lines) == sorted(f"HEAD /v2/{name}/manifests/3.1" for name in REPOSITORIES)
    assert again.stdout == first.stdout
    assert again.stderr.count(" unchanged, ") == len(RELEASE)
    assert " compiled, " not in again.stderr


def test_what_is_in_bin_comes_back(recorder: Recorder, checkout: Checkout) -> None:
    checkout("all-push", REGISTRY=recorder.host)
    made = {path.name: path.read_bytes() for path in (checkout.root / "bin").iterdir()}
    for path in (checkout.root / "bin").iterdir():
        path.unlink()
    (checkout.root / "bin").rmdir()
    recorder.forget()
    checkout("all-push", REGISTRY=recorder.host)
    assert {path.name: path.read_bytes() for path in (checkout.root / "bin").iterdir()} == made
    assert sending(recorder) == []


def test_another_clone_sends_nothing(recorder: Recorder, checkout: Checkout, source: Checkout) -> None:
    checkout("all-push", REGISTRY=recorder.host)
    other = Checkout.clone(source.root, checkout.root.with_name("other"))
    recorder.forget()
    other("all-push", REGISTRY=recorder.host)
    assert sending(recorder) == []


def test_a_missing_arch_alone_is_sent(recorder: Recorder, checkout: Checkout) -> None:
    checkout("push", "--arch", "arm", "--arch", "s390x", REGISTRY=recorder.host)
    recorder.forget()
    checkout("all-push", REGISTRY=recorder.host)
    touched = {each.path.split("/")[2] for each in recorder.exchanges if each.method in ("POST", "PUT")}
    assert touched == {"pause", "pause-amd64", "pause-arm64", "pause-ppc64le"}


def test_blobs_then_manifests_then_tags_then_the_lists_tag(recorder: Recorder, checkout: Checkout) -> None:
    checkout("all-push", REGISTRY=recorder.host)
    by_digest, tags = manifests(recorder, "sha256:[0-9a-f]{64}"), manifests(recorder, r"3\.1")
    for name in REPOSITORIES[1:]:
        assert before(blobs(recorder, name), manifests(recorder, "[^/]*", name))
        [stored] = manifests(recorder, "sha256:.*", name)
        digest = stored.path.rpartition("/")[2]
        assert before(listed(recorder, name), manifests(recorder, digest, "pause"))
    assert before(by_digest, tags)
    assert len(by_digest) == 2 * len(RELEASE)
    assert sorted(each.path for each in tags) == sorted(f"/v2/{name}/manifests/3.1" for name in REPOSITORIES)
    [list_tag] = manifests(recorder, r"3\.1", "pause")
    written = [each for each in recorder.exchanges if each.method != "HEAD"]
    assert before([each for each in written if each is not list_tag], [list_tag])
    # Then the tags are read back.
    sent = max(each.ended for each in by_digest)
    read = [each.path for each in recorder.exchanges if each.method == "HEAD" and each.began > sent]
    assert sorted(read) == sorted(each.path for each in tags)
    assert all(200 <= each.status < 300 or each.method in ("HEAD", "GET") for each in recorder.exchanges)


def test_the_lists_blobs_are_not_sent_again(recorder: Recorder, checkout: Checkout) -> None:
    checkout("all-push", REGISTRY=recorder.host)
    for arch in RELEASE:
        brought = [each for each in listed(recorder, f"pause-{arch}") if each.status == 201]
        # Mounted; or sent, once, if the machine is so busy that the registry seems far away.
        assert len(brought) == 2
        assert {each.method for each in brought} in ({"POST"}, {"PUT"})


@pytest.mark.parametrize("task", ["all-push", "push"])
def test_a_tag_is_not_moved_unasked(recorder: Recorder, checkout: Checkout, task: str) -> None:
    name = f"{recorder.host}/pause-amd64:3.1"
    old = checkout(task, REGISTRY=recorder.host).digests
    checkout.edit("pause.c", "while (waitpid(-1, NULL, WNOHANG) > 0)", "while (0 < waitpid(-1, NULL, WNOHANG))")
    checkout.commit("other words")
    planned = checkout("--dry", task, "--overwrite", REGISTRY=recorder.host)
    assert planned.stdout.startswith("moved")
    new = planned.digests
    assert new[name] != old[name]

    recorder.forget()
    message = checkout.refuses(1, task, REGISTRY=recorder.host)
    for part in (name, f"found {old[name]}", f"expected {new[name]}", "--overwrite"):
        assert part in message
    assert sending(recorder) == []
    assert inspect(f"docker://{name}", "--raw")[0] == old[name]

    assert checkout(task, "--overwrite", REGISTRY=recorder.host).digests == new
    for each, published in new.items():
        assert inspect(f"docker://{each}", "--raw")[0] == published


def test_one_moved_tag_keeps_all_others_from_being_sent(recorder: Recorder, checkout: Checkout) -> None:
    checkout("push", "--arch", "s390x", REGISTRY=recorder.host, REV="another")
    recorder.forget()
    message = checkout.refuses(1, "all-push", REGISTRY=recorder.host)
    assert "pause-s390x:3.1" in message
    assert "pause-amd64:3.1" not in message
    assert sending(recorder) == []


def test_a_registry_below_a_path(recorder: Recorder, checkout: Checkout) -> None:
    run = checkout("all-push", "--registry", f"{recorder.host}/a/b-c")
    for name, published in run.digests.items():
        assert name.startswith(f"{recorder.host}/a/b-c/pause")
        assert inspect(f"docker://{name}", "--raw")[0] == published
