"""One fault on the way to a registry: a passing one delays `all-push`, a lasting one ends it with one message."""

from __future__ import annotations

import itertools
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.checkout import RELEASE, Checkout, Run
from tests.support.components import need
from tests.support.faults import Fault, Faulty, answering, faulty, matching
from tests.support.reading import inspect
from tests.support.registries import registry, whole_tags
from tests.support.token_server import certificate

Released = tuple[Checkout, Run]
UPLOADS = "/blobs/uploads/"
PLACE = itertools.count()


@dataclass
class Shop:
    """A checkout with everything compiled, and a registry that fails as planned; each case has a path of its own."""

    checkout: Checkout
    proxy: Faulty
    place: str = field(default_factory=lambda: f"case-{next(PLACE)}")

    @property
    def registry(self) -> str:
        return f"{self.proxy.host}/{self.place}"

    def tags(self) -> dict[str, str]:
        """The digests under the tags, and all that these lead to is there."""
        return whole_tags(self.proxy.upstream, f"{self.place}/")


@pytest.fixture(scope="module")
def opened(source: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Checkout, Faulty]]:
    folder = tmp_path_factory.mktemp("faults")
    checkout = Checkout.clone(source.root, folder / "checkout")
    checkout("all-container")
    with registry(folder / "registry") as host, faulty(host) as proxy:
        yield checkout, proxy


@pytest.fixture
def shop(opened: tuple[Checkout, Faulty]) -> Shop:
    checkout, proxy = opened
    proxy.follow(faults.no_fault)
    return Shop(checkout, proxy)


JSON = ("UNAVAILABLE", "back soon")
PASSING: dict[str, Fault] = {
    "refused": faults.refused,
    "lost": faults.lost,
    "cut in its headers": faults.cut_in_headers,
    "cut in a header": faults.cut_in_telling_header,
    "429 now": answering(429, "TOOMANYREQUESTS", "slowly", Retry_After="0"),
    "429 in a second": answering(429, Retry_After="1"),
    "429 until a date": faults.busy_until(1),
    "429 until a date that is over": faults.busy_until(-5),
    "429 with nonsense": answering(429, Retry_After="soon"),
    **{f"{status}": answering(status) for status in (500, 502, 503, 504)},
    **{f"{status} in JSON": answering(status, *JSON) for status in (500, 502, 503, 504)},
    "503 in broken JSON": lambda _request, _registry: faults.Answer(503, {}, b'{"errors": [{"code": "UNAV'),
}
REQUESTS = {
    "a question": ("HEAD", "/pause/manifests/3.1"),
    "an upload's begin": ("POST", f"/pause-arm64{UPLOADS}$"),
    "a blob": ("PUT", f"/pause-arm64{UPLOADS}"),
    "a mount": ("POST", "mount=.*from=.*pause-arm$"),
    "a manifest": ("PUT", "/pause-s390x/manifests/sha256:"),
    "a tag": ("PUT", "/pause-ppc64le/manifests/3.1"),
    "the list's tag": ("PUT", "/pause/manifests/3.1"),
}


ANYWHERE = ("refused", "lost", "cut in its headers", "cut in a header", "503 in JSON")


def all_is_there(shop: Shop, run: Run, released: Released) -> None:
    """As if nothing had happened."""
    assert run.stdout == released[1].stdout.replace("oci:dist", shop.registry)
    assert shop.tags() == {name.rpartition("/")[2].removesuffix(":3.1"): each for name, each in run.digests.items()}


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("fault", ANYWHERE)
def test_one_fault_anywhere_is_overcome(shop: Shop, released: Released, request_: str, fault: str) -> None:
    shop.proxy.follow(matching(PASSING[fault], *REQUESTS[request_], times=1))
    run = shop.checkout("all-push", REGISTRY=shop.registry)
    assert shop.proxy.spoilt == 1
    all_is_there(shop, run, released)


@pytest.mark.parametrize("fault", [name for name in PASSING if name not in ANYWHERE])
def test_whatever_a_busy_registry_says(shop: Shop, released: Released, fault: str) -> None:
    shop.proxy.follow(matching(PASSING[fault], "PUT|HEAD", "/pause-(arm|amd64)/", times=2))
    run = shop.checkout("all-push", REGISTRY=shop.registry)
    assert shop.proxy.spoilt == 2
    all_is_there(shop, run, released)
    assert inspect(f"docker://{shop.registry}/pause:3.1", "--raw")[0] == run.digests[f"{shop.registry}/pause:3.1"]


ODD: dict[str, tuple[Fault, str, str]] = {
    "wrong digest of a blob": (faults.wrong_digest, "PUT", f"{UPLOADS}.*digest="),
    "wrong digest of a manifest": (faults.wrong_digest, "PUT", "/manifests/sha256:"),
    "wrong digest of a tag": (faults.wrong_digest, "PUT", "/pause/manifests/3.1"),
    "upload expired": (answering(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown"), "PUT", UPLOADS),
    "upload spoilt": (answering(400, "BLOB_UPLOAD_INVALID", "blob upload invalid"), "PUT", UPLOADS),
    "relative Location": (faults.relative_location, "POST", f"{UPLOADS}$"),
    "mount not done": (faults.mount_not_done, "POST", "mount="),
    "mount forbidden": (answering(403, "DENIED", "not there"), "POST", "mount="),
}


@pytest.mark.parametrize("times", [1, float("inf")])
@pytest.mark.parametrize("odd", ODD)
def test_what_registries_may_do(shop: Shop, released: Released, odd: str, times: float) -> None:
    fault, method, path = ODD[odd]
    lasting = times > 1 and odd.startswith(("wrong", "upload"))
    shop.proxy.follow(matching(fault, method, path, times=2 if lasting else times))
    all_is_there(shop, shop.checkout("all-push", REGISTRY=shop.registry), released)
    assert shop.proxy.spoilt >= 1


def test_uploads_that_go_on_elsewhere(shop: Shop, released: Released) -> None:
    with faulty(shop.proxy.upstream) as elsewhere:
        shop.proxy.follow(matching(faults.location_at(elsewhere.host), "POST", f"{UPLOADS}$"))
        all_is_there(shop, shop.checkout("all-push", REGISTRY=shop.registry), released)
        assert {each.method for each in elsewhere.seen} == {"PUT"}
        assert len(elsewhere.seen) == 2 * len(RELEASE)


def test_behind_a_proxy_that_ends_tls(shop: Shop, released: Released, tmp_path: Path) -> None:
    """The registry, which knows nothing of it, gives locations with http: they are ours, and mean https."""
    need("openssl", "openssl")
    key, pem = certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem, key)
    with faulty(shop.proxy.upstream, tls) as encrypted:
        trusted = shop.checkout.side / ".config" / "docker" / "certs.d" / encrypted.host
        trusted.mkdir(parents=True)
        shutil.copy(pem, trusted / "ca.crt")
        run = shop.checkout("all-push", REGISTRY=f"{encrypted.host}/{shop.place}")
        assert any(each.headers.get("Location", "").startswith("http://") for each in encrypted.given)
        assert list(run.digests.values()) == list(released[1].digests.values())
        assert set(shop.tags().values()) == set(run.digests.values())


def test_a_digest_that_is_not_told_is_computed(shop: Shop, released: Released) -> None:
    shop.proxy.follow(matching(faults.no_digest, "HEAD|GET|PUT", "/v2/"))
    for _ in range(2):
        all_is_there(shop, shop.checkout("all-push", REGISTRY=shop.registry), released)


READING: dict[str, Fault] = {
    name: PASSING[name]
    for name in ("refused", "lost", "cut in its headers", "cut in a header", "429 now", "503", "503 in JSON")
} | {
    "cut in its body": faults.cut_in_body,
    "cut in a chunk": faults.cut_in_chunk,
    "corrupted": faults.corrupted,
    "wrong digest": faults.wrong_digest,
}


@pytest.mark.parametrize("kind", ["blobs", "manifests"])
@pytest.mark.parametrize("fault", READING)
def test_reading_overcomes_one_fault(shop: Shop, released: Released, fault: str, kind: str) -> None:
    shop.checkout("all-push-images", REGISTRY=shop.registry)
    shop.proxy.follow(matching(READING[fault], "GET", f"/pause-arm/{kind}/", times=1))
    all_is_there(shop, shop.checkout("push-manifest", REGISTRY=shop.registry), released)
    assert shop.proxy.spoilt == 1
