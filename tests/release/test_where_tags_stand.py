"""A release in one repository, under several tags, with annotations: in every store and task, killed at any point."""

from __future__ import annotations

import json
import random
import tarfile
from functools import partial
from typing import Any

import pytest

from tests.release.test_crash import kill_after, kill_upon
from tests.support.checkout import RELEASE, Checkout, results
from tests.support.pidns import until
from tests.support.reading import complete, digest, inspect, layout_tags
from tests.support.registries import Recorder, fetch, registry, registry_reader

ROW = 'arch-reference: "{registry}/pause-{arch}:{tag}"'
UPSTREAM = 'arch-reference: "{registry}/pause:{tag}-linux-{arch}"'
ALSO = ("--also-tag", "latest")
LATEST = sorted(f"latest-linux-{arch}" for arch in RELEASE)
READS = ("HEAD", "GET")


def names(*tags: str) -> list[str]:
    return [f"{tag}{end}" for tag in tags for end in ("", *(f"-linux-{arch}" for arch in RELEASE))]


def tags(host: str, *wanted: str) -> dict[str, str]:
    """The digests of those of the repository's tags that are there, and all that they lead to."""
    found = {}
    for name in names(*wanted):
        status, data = fetch(host, f"pause/manifests/{name}")
        assert status in (200, 404)
        if status == 200:
            found[name] = digest(data)
            complete(registry_reader(host, "pause"), found[name])
    return found


@pytest.fixture
def one(checkout: Checkout) -> Checkout:
    """A checkout whose image has one repository, and a tag that is meant to move."""
    checkout.edit("arches.yaml", ROW, f"{UPSTREAM}\n    moving: [latest]")
    checkout.commit("one repository")
    return checkout


def test_all_tags_stand_in_one_repository(one: Checkout, recorder: Recorder) -> None:
    run = one("all-push", *ALSO, REGISTRY=recorder.host)
    assert list(run.digests) == [f"{recorder.host}/pause:{name}" for name in names("3.1", "latest")]
    found = tags(recorder.host, "3.1", "latest")
    assert [found[name] for name in names("latest")] == [found[name] for name in names("3.1")]
    assert {line.split("/")[2] for line in recorder.lines if line.startswith("PUT ")} == {"pause"}
    uploads = [line for line in recorder.lines if line.startswith("PUT ") and "/blobs/" in line]
    assert len(uploads) == len(set(uploads)) == 2 * len(RELEASE)
    assert not [line for line in recorder.lines if "mount=" in line]
    moved = [line.rpartition("/")[2] for line in recorder.lines if line.startswith("PUT ") and "/sha256:" not in line
             and "/manifests/" in line]  # fmt: skip
    assert moved.index("3.1") == len(RELEASE) < moved.index("latest-linux-arm")
    assert moved[-1] == "latest"
    recorder.forget()
    assert one("all-push", *ALSO, REGISTRY=recorder.host).stdout == run.stdout
    assert one("push-manifest", *ALSO, REGISTRY=recorder.host).digests.items() <= run.digests.items()
    assert not [line for line in recorder.lines if not line.startswith(("HEAD", "GET"))]
    checked = results(one("check", *ALSO, "--json", REGISTRY=recorder.host))
    assert {each["reference"] for each in checked} == set(run.digests)
    assert [each["tag"] for each in checked if each["kind"] == "list"] == ["3.1", "latest"]
    message = one.refuses(1, "check", "--tag", "9", *ALSO, REGISTRY=recorder.host)
    assert message.startswith("6 faults in what is published\n"), "what is not there has no further tags"
    assert f"{recorder.host}/pause@{found['3.1']}" in one("use", REGISTRY=recorder.host).stdout
    other = one("all-push", "--rev", "other", "--overwrite", REGISTRY=recorder.host)
    message = one.refuses(1, "check", *ALSO, REGISTRY=recorder.host)
    assert (
        f"{recorder.host}/pause:latest: found {found['3.1']}, expected {next(iter(other.digests.values()))}" in message
    )


def test_the_list_of_what_other_jobs_pushed_sends_nothing_again(one: Checkout, recorder: Recorder) -> None:
    one("all-push-images", REGISTRY=recorder.host)
    recorder.forget()
    one("push-manifest", *ALSO, REGISTRY=recorder.host)
    writes = [line.split()[1].removeprefix("/v2/pause/") for line in recorder.lines if line.split()[0] not in READS]
    assert [writes[0], *sorted(writes[1:-1]), writes[-1]] == [f"manifests/{tag}" for tag in ("3.1", *LATEST, "latest")]
    assert tags(recorder.host, "3.1", "latest").keys() == {*names("3.1", "latest")}


def test_a_further_tag_moves_only_if_it_is_meant_to(one: Checkout, recorder: Recorder) -> None:
    one("all-push", *ALSO, "--also-tag", "3", REGISTRY=recorder.host)
    before = tags(recorder.host, "3.1", "latest", "3")
    recorder.forget()
    message = one.refuses(1, "all-push", "--tag", "3.2", *ALSO, "--also-tag", "3", REGISTRY=recorder.host)
    assert f"{recorder.host}/pause:3: found {before['3']}, expected sha256:" in message
    assert "if 3 is meant to move, name it in arches.yaml: images.pause.moving" in message
    assert "latest" not in message
    assert not [line for line in recorder.lines if line.startswith("PUT ")], "nothing is sent"
    run = one("all-push", "--tag", "3.2", *ALSO, REGISTRY=recorder.host)
    now = tags(recorder.host, "3.1", "3.2", "latest", "3")
    assert {name: now[name] for name in names("3.1", "3")} == {name: before[name] for name in names("3.1", "3")}
    assert [now[name] for name in names("latest")] == [now[name] for name in names("3.2")]
    assert next(iter(run.digests.values())) == now["latest"] != before["latest"]


def test_no_two_tags_of_a_run_are_the_same(one: Checkout) -> None:
    message = one.refuses(2, "push", "--also-tag", "3.1-linux-arm", "--arch", "arm")
    assert "pause:3.1-linux-arm: two images would have this tag" in message
    assert "'a b' is not a tag" in one.refuses(2, "push", "--also-tag", "a b")


def test_in_layouts_and_archives(one: Checkout, recorder: Recorder) -> None:
    made = list(one("all-push", *ALSO).digests.values())
    layout = layout_tags(one.root / "dist/pause")
    assert set(layout) == set(names("3.1", "latest"))
    assert set(one("check", *ALSO).digests.values()) == set(made)
    one("copy", "oci:dist", "oci-archive:all.tar", *ALSO)
    one("copy", "oci-archive:all.tar", "oci:there")
    assert layout_tags(one.root / "there/pause") == layout
    one.edit("arches.yaml", f"{UPSTREAM}\n    moving: [latest]", ROW)
    one("copy", "oci-archive:all.tar", recorder.host, "--tag", "3.1", "--also-tag", "stable")
    for name in (
        "pause/manifests/3.1",
        "pause-arm/manifests/3.1",
        "pause/manifests/stable",
        "pause-arm/manifests/stable",
    ):
        assert digest(fetch(recorder.host, name)[1]) in made
    one.edit("arches.yaml", ROW, f"{UPSTREAM}\n    moving: [latest]")
    one("clean", "--registry", "oci:there")
    assert not (one.root / "there").exists()


def test_archives_and_bake_name_every_tag(one: Checkout, recorder: Recorder) -> None:
    one("container", *ALSO, REGISTRY=recorder.host)
    listed = json.loads(inspect_archive(one))
    assert [each["annotations"]["io.containerd.image.name"] for each in listed["manifests"]] == [
        f"{recorder.host}/pause:{tag}-linux-amd64" for tag in ("3.1", "latest")
    ]
    one("bake", *ALSO, REGISTRY=recorder.host)
    targets = json.loads((one.root / "docker-bake.json").read_text())["target"]
    assert targets["pause-arm"]["tags"] == [f"{recorder.host}/pause:{tag}-linux-arm" for tag in ("3.1", "latest")]


def inspect_archive(checkout: Checkout) -> bytes:
    with tarfile.open(checkout.root / "bin/pause-amd64.tar") as archive:
        file = archive.extractfile("index.json")
        assert file
        return file.read()


def raw(reference: str) -> dict[str, Any]:
    found: dict[str, Any] = inspect(reference, "--raw")[1]
    return found


def test_annotations_are_on_lists_entries_and_manifests(checkout: Checkout, recorder: Recorder) -> None:
    checkout.edit("arches.yaml", "    labels:\n", "    annotations:\n      org.example.team: infra\n    labels:\n")
    run = checkout("all-push", REGISTRY=recorder.host)
    listed = raw(f"docker://{recorder.host}/pause:3.1")
    own = {"org.example.team": "infra"}
    assert listed["annotations"].items() >= own.items()
    assert listed["annotations"]["org.opencontainers.image.title"] == "pause"
    assert listed["annotations"]["org.opencontainers.image.version"] == "3.1"
    assert [each["annotations"] for each in listed["manifests"]] == [own] * len(RELEASE)
    assert raw(f"docker://{recorder.host}/pause-arm:3.1")["annotations"] == own
    checkout("check", REGISTRY=recorder.host)
    elsewhere = f"{recorder.host}/elsewhere"
    checkout("all-push-images", REGISTRY=elsewhere)
    again = checkout("push-manifest", REGISTRY=elsewhere).digests
    assert again[f"{elsewhere}/pause:3.1"] == run.digests[f"{recorder.host}/pause:3.1"]
    docker = checkout("all-push", "--format", "docker", REGISTRY=f"{recorder.host}/docker")
    assert docker.stderr.count("note: pause: annotations are left out: Docker's media types have none") == 1
    assert "annotations" not in raw(f"docker://{recorder.host}/docker/pause:3.1")


@pytest.mark.parametrize("seed", range(2))
def test_killed_while_it_moves_to_a_second_version(one: Checkout, recorder: Recorder, seed: int) -> None:
    """Upon any request, or at any time: each tag is absent, old or complete, and the next run finishes the work."""
    chance, upstream = random.Random(seed), recorder.upstream
    one("all-push", *ALSO, REGISTRY=recorder.host)
    before = tags(upstream, "3.1", "latest")
    words = ("all-push", "--tag", "3.2", *ALSO)
    with registry(one.side / "other") as other:
        wanted = list(one(*words, REGISTRY=other).digests.values())[: len(RELEASE) + 1]
    expected = dict(zip(names("3.2"), wanted, strict=True))
    for number in range(4):
        recorder.forget()
        if number % 2:
            kill_after(one.start(*words, REGISTRY=recorder.host), chance.uniform(0, 0.8))
        else:
            kill_upon(recorder, chance.randint(1, 60), partial(one.start, *words, REGISTRY=recorder.host))
        until("all requests are answered", lambda: recorder.idle)
        found = tags(upstream, "3.1", "3.2", "latest")
        assert {name: found[name] for name in names("3.1")} == {name: before[name] for name in names("3.1")}
        for end in names(""):
            assert found.get(f"3.2{end}") in (None, expected[f"3.2{end}"])
            assert found[f"latest{end}"] in (before[f"latest{end}"], expected[f"3.2{end}"])
            assert found[f"latest{end}"] == before[f"latest{end}"] or found[f"3.2{end}"] == expected[f"3.2{end}"]
    one(*words, REGISTRY=recorder.host)
    found = tags(upstream, "3.2", "latest")
    assert [found[name] for name in names("3.2")] == [found[name] for name in names("latest")] == wanted
