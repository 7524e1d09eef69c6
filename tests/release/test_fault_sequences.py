"""After any sequence of faults each tag is absent, old or complete, and the next run finishes the work."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build.config.release import Release
from build.engines.engine import Unchanged
from build.engines.published import fetch_image
from build.errors import PublishError
from build.oci.image import Image, index_of
from build.oci.reference import Repository, Tag
from build.release.publish.destination import Destination
from build.release.publish.publish import publish
from build.release.side_by_side import started
from build.report import silent
from build.stores.http import failures, retries
from build.stores.http.access import Access
from build.stores.layout.layout import Layout
from build.stores.registry.registry import Registry
from tests.support import faults
from tests.support.checkout import RELEASE, REPOSITORIES, SETTINGS, Checkout
from tests.support.faults import Fault, Faulty, answering, faulty, matching, no_fault
from tests.support.properties import examples
from tests.support.registries import registry, whole_tags

NOW = {"Retry_After": "0"}
FAULTS: dict[str, Fault] = {
    "refused": faults.refused,
    "lost": faults.lost,
    "cut in its headers": faults.cut_in_headers,
    "cut in a header": faults.cut_in_telling_header,
    "cut in its body": faults.cut_in_body,
    "429": answering(429, "TOOMANYREQUESTS", "slowly", **NOW),
    "500": answering(500),
    "503": answering(503, "UNAVAILABLE", "back soon", **NOW),
    "wrong digest": faults.wrong_digest,
    "no digest": faults.no_digest,
    "no Location": faults.no_location,
    "relative Location": faults.relative_location,
    "upload expired": answering(404, "BLOB_UPLOAD_UNKNOWN", "gone"),
    "400": answering(400, "MANIFEST_INVALID", "manifest invalid"),
    "401": answering(401),
    "403": answering(403, "DENIED", "not you"),
    "mount not done": faults.mount_not_done,
}
# A release over nothing sends this many requests; over an old one, fewer.
REQUESTS = 70


@dataclass(frozen=True)
class Sequence:
    """Faults by the number of their request, and one that lasts from a number on."""

    single: Mapping[int, str]
    last: tuple[int, str] | None

    def plan(self, number: int, _method: str, _path: str) -> Fault | None:
        if self.last and number >= self.last[0]:
            return FAULTS[self.last[1]]
        return FAULTS[self.single[number]] if number in self.single else None


NUMBERS, NAMES = st.integers(1, REQUESTS), st.sampled_from(list(FAULTS))
SEQUENCES = st.builds(
    Sequence,
    st.dictionaries(NUMBERS, NAMES, max_size=12)
    | st.builds(lambda first, names: dict(enumerate(names, first)), NUMBERS, st.lists(NAMES, min_size=2, max_size=30)),
    st.none() | st.tuples(NUMBERS, NAMES),
)


@dataclass
class Shop:
    """Two releases, ready to be published, and a registry that fails as planned."""

    checkout: Checkout
    proxy: Faulty
    digests: Mapping[str, Mapping[str, str]]
    images: Mapping[str, Mapping[str, Image]]

    def publish(self, place: str, revision: str) -> None:
        """What `all-push --overwrite` does once all is made."""
        asyncio.run(self._publish(f"{self.proxy.host}/{place}", self.images[revision]))

    async def _publish(self, home: str, images: Mapping[str, Image]) -> None:
        store = Registry(self.proxy.host, Access(timeout=4))
        arches = SETTINGS.select(RELEASE)
        release = Release(SETTINGS.image("pause"), arches, home, "3.1")

        async def ready(image: Image) -> Image:
            return image

        try:
            async with started({arch: ready(images[f"pause-{arch.name}"]) for arch in arches}) as known:
                await publish(Destination(release, store, silent, overwrite=True), Unchanged(), known, index_of)
        finally:
            await store.close()

    def tags(self, place: str) -> dict[str, str]:
        """The digests under the tags; all that they lead to is there, and right."""
        return whole_tags(self.proxy.upstream, f"{place}/")

    def check(self, place: str, had: Mapping[str, str]) -> None:
        """Every tag is absent, old or complete, and none is lost; nor does the list come before its images."""
        found, new = self.tags(place), self.digests["new"]
        assert set(found) >= set(had)
        assert all(published in (new[name], had.get(name)) for name, published in found.items())
        if found.get("pause") == new["pause"]:
            assert found == new


@pytest.fixture(scope="module")
def shop(source: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("sequences")
    checkout = Checkout.clone(source.root, folder / "checkout")
    digests, images = {}, {}
    for revision, more in (("old", {"REV": "old"}), ("new", {})):
        run = checkout("all-push", REGISTRY=f"oci:{revision}", **more)
        digests[revision] = dict(zip(REPOSITORIES, run.digests.values(), strict=True))
        layout = Layout(checkout.root)
        images[revision] = {
            f"pause-{arch}": asyncio.run(
                fetch_image(
                    layout, Tag(Repository.parse(f"oci:{revision}/pause-{arch}"), "3.1"), SETTINGS.arches[arch], folder
                )
            )
            for arch in RELEASE
        }
    with registry(folder / "registry") as host, faulty(host) as proxy:
        yield Shop(checkout, proxy, digests, images)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for here is no more than a moment."""
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.001)


PLACES = itertools.count()


@examples(25)
@given(SEQUENCES, st.booleans())
@pytest.mark.usefixtures("at_once")
def test_no_sequence_of_faults_leaves_anything_incomplete(shop: Shop, sequence: Sequence, over_old: bool) -> None:
    place = f"place-{next(PLACES)}"
    shop.proxy.follow(no_fault)
    if over_old:
        shop.publish(place, "old")
    had = shop.tags(place)
    assert had == (shop.digests["old"] if over_old else {})
    shop.proxy.follow(sequence.plan)
    with suppress(PublishError):
        shop.publish(place, "new")
    shop.proxy.follow(no_fault)
    shop.check(place, had)
    shop.publish(place, "new")
    assert shop.tags(place) == shop.digests["new"]


@examples(8)
@given(SEQUENCES, st.booleans())
def test_no_sequence_of_faults_of_the_whole_program_does(shop: Shop, sequence: Sequence, over_old: bool) -> None:
    place = f"place-{next(PLACES)}"
    shop.proxy.follow(no_fault)
    if over_old:
        shop.publish(place, "old")
    had = shop.tags(place)
    home = f"{shop.proxy.host}/{place}"
    shop.proxy.follow(sequence.plan)
    run = shop.checkout.ends("all-push", "--overwrite", REGISTRY=home, TIMEOUT="20")
    shop.proxy.follow(no_fault)
    shop.check(place, had)
    assert "Traceback" not in run.stderr
    assert (run.code, bool(run.stdout)) in ((0, True), (1, False))
    assert run.code or shop.tags(place) == shop.digests["new"]
    again = shop.checkout("all-push", "--overwrite", REGISTRY=home)
    assert list(again.digests.values()) == list(shop.digests["new"].values())
    assert shop.tags(place) == shop.digests["new"]


@pytest.mark.parametrize("tries", [1, 2])
@pytest.mark.parametrize("name", ["refused", "lost", "cut in its headers", "503", "wrong digest", "upload expired"])
@pytest.mark.usefixtures("at_once")
def test_it_is_the_second_try_that_overcomes_a_fault(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, name: str, tries: int
) -> None:
    """Without one each of these faults ends the run: they do meet it."""
    for kind in (failures.TransientError, failures.UnavailableError):
        monkeypatch.setattr(kind, "tries", tries)
    place = f"place-{next(PLACES)}"
    shop.proxy.follow(matching(FAULTS[name], "PUT", "/blobs/uploads/", times=1))
    if tries == 1:
        with pytest.raises(PublishError):
            shop.publish(place, "new")
    else:
        shop.publish(place, "new")
        assert shop.tags(place) == shop.digests["new"]
    assert shop.proxy.spoilt == 1
