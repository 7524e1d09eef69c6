"""No tag ever refers to what is not signed: runs that are killed, refused, or at work at the same time."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.release.test_crash import kill_after, kill_upon
from tests.support.checkout import REPOSITORIES, Checkout, ended
from tests.support.fronts import Asked, Said, front
from tests.support.keys import Pair
from tests.support.model_registry import refused
from tests.support.pidns import until
from tests.support.registries import Recorder, recording, registry, registry_tags
from tests.support.signed import PREDICATE, PROVENANCE, SIGNATURE, Place, cosign_proves, tag_of


@dataclass
class Scene:
    """A checkout that publishes behind a recorder; how long that takes, and how many requests."""

    checkout: Checkout
    recorder: Recorder
    keys: Pair
    duration: float = 0
    requests: int = 0

    def words(self) -> tuple[str, ...]:
        return ("all-push", "--overwrite", "--registry", self.recorder.host, "--sign", str(self.keys.private))

    def check(self, folder: Path) -> dict[str, str]:
        """Whatever a tag of the release refers to is signed in the repository of the list, in both forms."""
        place = Place(self.recorder.upstream)
        found = registry_tags(self.recorder.upstream)
        for digest in found.values():
            assert {each["annotations"][PREDICATE] for each in place.index(digest)["manifests"]} >= {
                SIGNATURE,
                PROVENANCE,
            }
            assert place.has(tag_of(digest, ".sig"))
            assert place.has(tag_of(digest, ".att"))
            cosign_proves(f"{place}@{digest}", self.keys.public, folder)
        return found


@pytest.fixture(scope="module")
def scene(source: Checkout, keys: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("signed-crash")
    checkout = Checkout.clone(source.root, folder / "checkout")
    with recording() as recorder:
        made = Scene(checkout, recorder, keys)
        checkout("all-container")  # from here on, a run is little but requests
        with registry(folder / "registry") as recorder.upstream:
            recorder.forget()
            began = time.monotonic()
            checkout(*made.words())
            made.duration, made.requests = time.monotonic() - began, len(recorder.exchanges)
        yield made


@pytest.mark.parametrize("seed", range(4))
def test_killed_while_it_signs(scene: Scene, tmp_path: Path, seed: int) -> None:
    """At any time, or upon any request of the second half; in an empty registry, or over an older signed release."""
    chance = random.Random(seed)
    for number in range(4):
        with registry(tmp_path / str(number)) as scene.recorder.upstream:
            if number % 2:
                scene.checkout(*scene.words(), REV="older")
            scene.recorder.forget()
            start = partial(scene.checkout.start, *scene.words())
            if number < 1:
                kill_after(start(), chance.uniform(0, scene.duration))
            else:
                kill_upon(scene.recorder, chance.randint(scene.requests // 2, scene.requests), start)
            until("all requests are answered", lambda: scene.recorder.idle)
            scene.check(tmp_path)
            scene.checkout(*scene.words())
            assert set(scene.check(tmp_path)) == set(REPOSITORIES)
            scene.checkout("check", "--registry", scene.recorder.host, "--key", str(scene.keys.public))


def test_a_run_that_signs_too_late_is_seen(scene: Scene, tmp_path: Path) -> None:
    """The check of these tests fails for a release that is published before it is signed."""
    with registry(tmp_path / "registry") as scene.recorder.upstream:
        scene.checkout("all-push", "--registry", scene.recorder.host)
        with pytest.raises(AssertionError):
            scene.check(tmp_path)


@pytest.mark.parametrize("status", [400, 415])
@pytest.mark.parametrize("earlier", ["nothing", "the same unsigned"])
def test_a_registry_that_refuses_referrers(scene: Scene, tmp_path: Path, status: int, earlier: str) -> None:
    """Before any tag moves, with one message about what was refused."""

    def refuse(asked: Asked) -> Said | None:
        is_referrer = asked.method == "PUT" and "/manifests/" in asked.path and b'"subject"' in asked.body
        return refused(status, "MANIFEST_INVALID") if is_referrer else None

    with registry(tmp_path / "registry") as upstream, front(upstream) as between:
        if earlier != "nothing":
            scene.checkout("all-push", "--registry", between.host)
        before = registry_tags(upstream)
        between.instead = refuse
        words = ("all-push", "--registry", between.host, "--sign", str(scene.keys.private))
        message = scene.checkout.refuses(1, *words)
        assert f"PUT http://{between.host}/v2/pause/manifests/sha256:" in message
        assert f"{status} MANIFEST_INVALID" in message
        assert "--signature-format cosign" in message
        assert registry_tags(upstream) == before
        scene.checkout(*words, "--signature-format", "cosign")
        scene.checkout("check", "--registry", upstream, "--key", str(scene.keys.public))


@pytest.mark.parametrize("end", [".sig", ".att"])
def test_a_registry_that_refuses_cosigns_tags(scene: Scene, tmp_path: Path, end: str) -> None:
    def refuse(asked: Asked) -> Said | None:
        return refused(403, "DENIED") if asked.method == "PUT" and asked.path.endswith(end) else None

    with registry(tmp_path / "registry") as upstream, front(upstream) as between:
        between.instead = refuse
        message = scene.checkout.refuses(1, "all-push", REGISTRY=between.host, SIGN_KEY=str(scene.keys.private))
        assert f"{end}: 403 DENIED" in message
        assert registry_tags(upstream) == {}


def both_are_there(scene: Scene, place: Place, pairs: tuple[Pair, Pair], folder: Path) -> None:
    by_tag = registry_tags(place.host)
    for name, digest in by_tag.items():
        # Signature and provenance by each, and the SBOM of an image.
        assert len(place.index(digest)["manifests"]) == (4 if digest == by_tag["pause"] else 6), name
        assert len(place.json(tag_of(digest, ".sig"))["layers"]) == 2
        for pair in pairs:
            cosign_proves(f"{place}@{digest}", pair.public, folder)
    for pair in pairs:
        scene.checkout("check", "--registry", place.host, "--key", str(pair.public))


def test_another_key_signs_meanwhile(scene: Scene, other_keys: Pair, source: Checkout, tmp_path: Path) -> None:
    """A whole run of the other between the first one's look at what is there and its first tag."""
    other = Checkout.clone(source.root, tmp_path / "other")
    shutil.copytree(scene.checkout.root / ".cache", other.root / ".cache", dirs_exist_ok=True)
    done: list[int] = []

    def run_the_other(number: int) -> None:
        # Uploads are opened ahead, and images are sent as soon as they are built; what is attached comes later.
        exchange = scene.recorder.exchanges[number - 1]
        if not done and exchange.method == "PUT" and exchange.path.startswith("/v2/pause/manifests/sha256:"):
            done.append(number)
            other("all-push", REGISTRY=scene.recorder.upstream, SIGN_KEY=str(other_keys.private))

    with registry(tmp_path / "registry") as scene.recorder.upstream:
        scene.recorder.forget()
        scene.recorder.on_request = run_the_other
        try:
            run = scene.checkout.ends(*scene.words())
        finally:
            scene.recorder.on_request = lambda _: None
        assert run.code == 0, run.stderr
        assert done
        # Each names the registry's place that it has used.
        place = Place(scene.recorder.upstream)
        both_are_there(scene, place, (scene.keys, other_keys), tmp_path)


@pytest.mark.parametrize("end", ["", ".sig", ".att"])
def test_what_another_run_overwrites_is_written_again(scene: Scene, tmp_path: Path, end: str) -> None:
    """Tags have no lock: another run that has read them earlier writes them without what was added since."""
    done: list[str] = []

    def overwrite(number: int) -> None:
        exchange = scene.recorder.exchanges[number - 1]
        if done or exchange.method != "PUT" or not exchange.path.endswith("/manifests/3.1"):
            return
        done.append(tag)
        place = Place(scene.recorder.upstream)
        manifest = place.json(tag)
        emptied = {**manifest, ("layers" if end else "manifests"): []}
        place.put(tag, json.dumps(emptied).encode(), manifest["mediaType"])

    with registry(tmp_path / "registry") as scene.recorder.upstream:
        # The digest of the list is known from a run before.
        digest = scene.checkout("--dry", *scene.words()).digests[f"{scene.recorder.host}/pause:3.1"]
        tag = tag_of(digest, end)
        scene.recorder.forget()
        scene.recorder.on_request = overwrite
        try:
            scene.checkout(*scene.words())
        finally:
            scene.recorder.on_request = lambda _: None
        assert done == [tag]
        scene.check(tmp_path)


def test_two_keys_at_the_same_time(scene: Scene, other_keys: Pair, source: Checkout, tmp_path: Path) -> None:
    """Both are there at the end, or one run says that it has lost; then it is run again."""
    other = Checkout.clone(source.root, tmp_path / "other")
    other("all-container")
    with registry(tmp_path / "registry") as host:
        pairs = (scene.keys, other_keys)
        runs = [
            checkout.start("all-push", REGISTRY=host, SIGN_KEY=str(pair.private))
            for checkout, pair in zip((scene.checkout, other), pairs, strict=True)
        ]
        for run, checkout, pair in zip([ended(each) for each in runs], (scene.checkout, other), pairs, strict=True):
            if run.code:
                assert "another run" in run.stderr or "other runs" in run.stderr
                checkout("all-push", REGISTRY=host, SIGN_KEY=str(pair.private))
        both_are_there(scene, Place(host), pairs, tmp_path)
