"""One release to several registries: the same digests, independent failures, and a rerun finishes the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.checkout import RELEASE, Checkout, Run, results
from tests.support.daemons import Docker
from tests.support.reading import inspect
from tests.support.registries import Recorder, fetch, recording, registry

Released = tuple[Checkout, Run]


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Recorder]]:
    with ExitStack() as stack:
        hosts = [stack.enter_context(registry(tmp_path / f"registry-{number}")) for number in range(3)]
        yield [stack.enter_context(recording(host)) for host in hosts]


def to(*registries: str) -> list[str]:
    return [word for each in registries for word in ("--registry", each)]


def test_the_same_digests_everywhere(released: Released, checkout: Checkout, three: list[Recorder]) -> None:
    _, elsewhere = released
    hosts = [each.host for each in three[:2]]
    places = [hosts[0], f"{hosts[1]}/below", "oci:out"]
    run = checkout("all-push", *to(*places))
    assert len(run.digests) == 3 * (len(RELEASE) + 1)
    for at, place in enumerate(places):
        lines = run.stdout.splitlines()[at * 6 : at * 6 + 6]
        assert [line.replace(place, "oci:dist", 1) for line in lines] == elsewhere.stdout.splitlines()
        assert f"\n{place}: done\n" in run.stderr
    for name, digest in run.digests.items():
        reference = name if name.startswith("oci:") else f"docker://{name}"
        assert inspect(reference, "--raw", cwd=checkout.root)[0] == digest

    # Each is its own: nothing is sent to where all is there.
    checkout.forget()
    three[0].forget()
    again = checkout("all-push", *to(three[0].host, three[2].host), "--json")
    assert {str(each).partition(" ")[0] for each in three[0].exchanges} == {"HEAD"}
    changes = [each["change"] for each in results(again)]
    assert changes == ["kept"] * 6 + ["pushed"] * 6


def test_a_failure_does_not_affect_the_other_registries(checkout: Checkout, three: list[Recorder]) -> None:
    good, moved, gone = three[0].host, three[1].host, "localhost:1"
    checkout("push", "--arch", "arm", "--registry", moved, REV="another")
    message = checkout.refuses(1, "all-push", *to(good, moved, gone), "--timeout", "5")
    assert message.startswith("2 of 3 registries failed\n")
    assert f"\n  {moved}: refusing to move an existing tag" in message
    assert f"\n  {gone}: HEAD http://localhost:1/v2/" in message
    assert "retry: finished work is kept" in message
    assert fetch(good, "pause/manifests/3.1")[0] == 200
    assert fetch(moved, "pause/manifests/3.1")[0] == 404

    three[0].forget()
    run = checkout("all-push", *to(good, moved), "--overwrite")
    assert {each.method for each in three[0].exchanges} == {"HEAD"}
    assert run.stdout.count("@sha256:") == 12
    assert fetch(moved, "pause/manifests/3.1") == fetch(good, "pause/manifests/3.1")


def test_no_tag_of_a_registry_before_all_of_its_content(checkout: Checkout, three: list[Recorder]) -> None:
    checkout("all-push", *to(*(each.host for each in three)))
    for recorder in three:
        tags = [each for each in recorder.exchanges if each.method == "PUT" and each.path.endswith("/manifests/3.1")]
        others = [each for each in recorder.exchanges if each.method in ("PUT", "POST") and each not in tags]
        assert len(tags) == len(RELEASE) + 1
        assert max(each.ended for each in others) < min(each.began for each in tags)


def test_only_the_list(checkout: Checkout, three: list[Recorder]) -> None:
    hosts = [each.host for each in three]
    checkout("all-push-images", *to(*hosts))
    run = checkout("push-manifest", *to(*hosts))
    assert len(set(run.digests.values())) == len(RELEASE) + 1
    assert {name for name in run.digests if "pause:" in name} == {f"{host}/pause:3.1" for host in hosts}


def test_a_repeated_registry_is_used_once(checkout: Checkout, three: list[Recorder]) -> None:
    run = checkout("push", *to(three[0].host, three[0].host))
    assert run.stdout.count("\n") == 1


@pytest.mark.xdist_group("docker")
def test_the_docker_engine_pushes_one_image_everywhere(
    checkout: Checkout, docker: Docker, three: list[Recorder]
) -> None:
    hosts = [each.host for each in three[:2]]
    words = ("all-push", "--engine", "docker", "--compiler", "zig", "--arch", "arm", "--arch", "arm64")
    run = checkout(*words, *to(*hosts), DOCKER_HOST=docker.host)
    first, second = ([line.replace(host, "") for line in run.stdout.splitlines() if host in line] for host in hosts)
    assert first == second
    assert len(first) == 3
