"""Two runs publish different commits at once: the list is one complete release, and the loser gets an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.checkout import RELEASE, REPOSITORIES, Checkout, Run, ended
from tests.support.registries import Recorder, recording, registry, whole_tags

TOLD = "another run published at the same time"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    with registry(tmp_path / "registry") as where:
        yield where


@pytest.fixture
def rival(source: Checkout, checkout: Checkout) -> Checkout:
    """A clone with another commit."""
    other = Checkout.clone(source.root, checkout.root.with_name("rival"))
    other.edit("pause.c", "while (waitpid(-1, NULL, WNOHANG) > 0)", "while (0 < waitpid(-1, NULL, WNOHANG))")
    other.commit("other words")
    return other


def tags(host: str) -> dict[str, str]:
    """The digest under every tag; none is missing, and all that they lead to is there."""
    found = whole_tags(host)
    assert set(found) == set(REPOSITORIES)
    return found


def planned(checkout: Checkout) -> dict[str, str]:
    """The digests that the checkout publishes, by repository."""
    digests = checkout("--dry", "all-push", "--registry", "oci:nowhere").digests
    return {name.removeprefix("oci:nowhere/").removesuffix(":3.1"): digest for name, digest in digests.items()}


def before(recorder: Recorder, request: str, do: Callable[[], object]) -> None:
    """Have something done, once, before this request is passed on."""
    done: list[object] = []

    def watch(number: int) -> None:
        if str(recorder.exchanges[number - 1]) == request and not done:
            done.append(request)
            done.append(do())

    recorder.on_request = watch


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param("PUT /v2/pause/manifests/3.1", id="before the list's tag"),
        pytest.param("PUT /v2/pause-arm/manifests/3.1", id="among the arches' tags"),
        pytest.param("HEAD /v2/pause/manifests/3.1", id="before the list is read back"),
    ],
)
def test_an_overtaken_run_fails(checkout: Checkout, rival: Checkout, host: str, request_: str) -> None:
    ours, theirs = planned(checkout), planned(rival)
    overtaken: list[Run] = []
    with recording(host) as recorder:
        if request_.startswith("HEAD"):  # not the first time, when there is no tag
            written = "PUT /v2/pause/manifests/3.1"

            def watch(number: int) -> None:
                lines = recorder.lines
                if lines[number - 1] == request_ and written in lines and not overtaken:
                    overtaken.append(rival("all-push", "--overwrite", REGISTRY=host))

            recorder.on_request = watch
        else:
            before(recorder, request_, lambda: overtaken.append(rival("all-push", "--overwrite", REGISTRY=host)))
        message = checkout.refuses(1, "all-push", REGISTRY=recorder.host)
    assert overtaken
    assert TOLD in message
    assert "--overwrite" in message
    found = tags(host)
    assert found["pause"] in (ours["pause"], theirs["pause"])
    for name, digest in found.items():
        told = f"/{name}:3.1: found {digest}, expected {ours[name]}\n" in message
        # Of those that are read back at the same time some may be read before the other run moves them.
        assert told is (digest != ours[name]) or (request_.startswith("HEAD") and name != "pause")
    # Whichever of the two it shall be is run again.
    for winner, wanted in ((rival, theirs), (checkout, ours)):
        winner("all-push", "--overwrite", REGISTRY=host)
        assert tags(host) == wanted


def test_a_single_run_succeeds(checkout: Checkout, rival: Checkout, host: str) -> None:
    assert TOLD not in rival("all-push", REGISTRY=host).stderr
    assert TOLD not in checkout("all-push", "--overwrite", REGISTRY=host).stderr
    assert tags(host) == planned(checkout)


def test_concurrent_runs_leave_one_complete_release(checkout: Checkout, rival: Checkout, host: str) -> None:
    ours, theirs = planned(checkout), planned(rival)
    for _ in range(5):
        running = [each.start("all-push", "--overwrite", REGISTRY=host) for each in (checkout, rival)]
        runs = [ended(process) for process in running]
        found = tags(host)
        assert found["pause"] in (ours["pause"], theirs["pause"])
        assert all(found[name] in (ours[name], theirs[name]) for name in found)
        assert all(run.code == 0 or TOLD in run.stderr for run in runs)
        if found not in (ours, theirs):
            assert any(run.code == 1 for run in runs), "a mixture that nobody was told of"
    checkout("all-push", "--overwrite", REGISTRY=host)
    assert tags(host) == ours
    assert len(found) == len(RELEASE) + 1
