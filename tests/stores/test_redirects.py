"""Redirects: followed on every method with the body, credentials left behind at another origin, and none in a body."""

from __future__ import annotations

import asyncio
import json
import random
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from build.errors import PublishError
from build.oci.descriptor import Blob, digest_of
from build.oci.reference import Repository
from build.stores.http.access import Access
from build.stores.registry.registry import Registry
from build.stores.store import SMALL
from tests.support.fronts import Asked, Front, Said, front, passed_on
from tests.support.logins import PASSWORD, USER
from tests.support.registries import fetch, registry

MANIFEST = Blob.of("application/vnd.oci.image.index.v1+json", b'{"schemaVersion":2,"manifests":[]}')
LARGE = random.Random(3).randbytes(2 * SMALL + 1)
IDENTITY = "an-identity-token"


@dataclass(frozen=True)
class Site:
    """A registry with a front that redirects to it, and one that takes the requests that were redirected."""

    real: str
    first: Front
    second: Front

    def redirect(self, status: int, target: str = "") -> None:
        """Redirect everything from the first front to the second, or to `target`."""

        def instead(asked: Asked) -> Said:
            return Said(status, [("Location", target or f"http://{self.second.host}{asked.path}")])

        self.first.instead = instead

    def run(self, use: Callable[[Registry, Repository], Awaitable[object]], config: Path = Path("none")) -> None:
        async def run() -> None:
            store = Registry(self.first.host, Access((config,), timeout=20))
            try:
                await use(store, Repository.parse(f"{self.first.host}/some/one"))
            finally:
                await store.close()

        asyncio.run(run())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with registry(tmp_path / "registry") as real, front(real) as first, front(real) as second:
        yield Site(real, first, second)


@pytest.mark.parametrize("status", [307, 308])
def test_uploads_are_redirected_with_their_bodies(site: Site, tmp_path: Path, status: int) -> None:
    site.redirect(status)
    file = tmp_path / "large"
    file.write_bytes(LARGE)
    large = Blob("application/octet-stream", digest_of(LARGE), len(LARGE), file)
    small = Blob.of("application/octet-stream", b"small")

    async def push(store: Registry, repository: Repository) -> None:
        for blob in (large, small):
            await store.put_blob(repository, blob)
        await store.put_manifest(repository, MANIFEST)

    site.run(push)
    assert fetch(site.real, f"some/one/blobs/{large.digest}") == (200, LARGE)
    assert fetch(site.real, f"some/one/blobs/{small.digest}") == (200, b"small")
    assert fetch(site.real, f"some/one/manifests/{MANIFEST.digest}") == (200, MANIFEST.data)
    methods = [asked.method for asked in site.second.asked]
    assert methods == ["HEAD", "POST", "PUT", "POST", "PUT", "PUT"], "what is large is first asked for"
    assert f"PUT /v2/some/one/manifests/{MANIFEST.digest}" in map(str, site.first.asked)


@pytest.mark.parametrize("status", [301, 302, 303])
def test_other_redirects_of_an_upload_are_not_followed(site: Site, status: int) -> None:
    site.redirect(status)

    async def push(store: Registry, repository: Repository) -> None:
        await store.put_manifest(repository, MANIFEST)

    with pytest.raises(PublishError, match=f"PUT http://{site.first.host}/v2/some/one/manifests/.*: {status} "):
        site.run(push)
    assert site.second.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_reading_is_redirected(site: Site, status: int) -> None:
    site.redirect(status)
    site.first.instead, redirect = lambda _: None, site.first.instead

    async def both(store: Registry, repository: Repository) -> None:
        await store.put_manifest(repository, MANIFEST)
        site.first.instead = redirect
        assert await store.digest(repository, MANIFEST.digest) == MANIFEST.digest
        assert await store.manifest(repository, MANIFEST.digest) == MANIFEST

    site.run(both)
    assert [asked.method for asked in site.second.asked] == ["HEAD", "GET"]


def test_a_redirect_without_end(site: Site) -> None:
    site.redirect(307, "/v2/again")

    async def push(store: Registry, repository: Repository) -> None:
        await store.put_manifest(repository, MANIFEST)

    with pytest.raises(PublishError, match=r"PUT http://.*/v2/again: redirected more than 5 times"):
        site.run(push)


@pytest.mark.parametrize("target", ["http://[", "ftp://localhost/", "https://localhost:port/"])
def test_a_redirect_to_nowhere(site: Site, target: str) -> None:
    site.redirect(307, target)

    async def push(store: Registry, repository: Repository) -> None:
        await store.put_manifest(repository, MANIFEST)

    with pytest.raises(PublishError, match="found an invalid URL in the Location of its answer"):
        site.run(push)


def test_a_redirect_to_plain_http_elsewhere(site: Site) -> None:
    site.redirect(307, "http://registry.test/v2/")

    async def push(store: Registry, repository: Repository) -> None:
        await store.put_manifest(repository, MANIFEST)

    with pytest.raises(PublishError, match=r"http://registry\.test: expected https: nothing is sent unencrypted"):
        site.run(push)


@pytest.fixture
def config(tmp_path: Path, site: Site) -> Path:
    """A config.json with credentials for the first front."""
    file = tmp_path / "config.json"
    login = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    file.write_text(json.dumps({"auths": {site.first.host: {"auth": login}}}))
    return file


BASIC = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def test_credentials_are_left_behind(site: Site, config: Path) -> None:
    def instead(asked: Asked) -> Said:
        if asked.authorization != BASIC:
            return Said(401, [("WWW-Authenticate", 'Basic realm="here"')])
        return Said(307, [("Location", f"http://{site.second.host}{asked.path}")])

    site.first.instead = instead

    async def push(store: Registry, repository: Repository) -> None:
        await store.put_blob(repository, Blob.of("application/octet-stream", b"small"))
        await store.put_manifest(repository, MANIFEST)

    site.run(push, config)
    assert BASIC in site.first.authorizations
    assert site.second.asked
    assert site.second.authorizations == {""}


def test_credentials_stay_within_an_origin(site: Site, config: Path) -> None:
    def instead(asked: Asked) -> Said | None:
        if asked.authorization != BASIC:
            return Said(401, [("WWW-Authenticate", 'Basic realm="here"')])
        if asked.path.startswith("/v2/some/one/manifests/"):
            return Said(308, [("Location", asked.path.replace("/some/one/", "/some/other/"))])
        return None

    site.first.instead = instead

    async def push(store: Registry, repository: Repository) -> None:
        await store.put_manifest(repository, MANIFEST)

    site.run(push, config)
    assert fetch(site.real, f"some/other/manifests/{MANIFEST.digest}") == (200, MANIFEST.data)


@pytest.mark.parametrize("challenge", ['Basic realm="there"', 'Bearer realm="http://{second}/token",service="there"'])
def test_another_origin_is_given_no_credentials(site: Site, config: Path, challenge: str) -> None:
    """Even if it asks for them."""
    site.redirect(307)
    asks = challenge.format(second=site.second.host)
    site.second.instead = lambda _: Said(401, [("WWW-Authenticate", asks)])

    async def push(store: Registry, repository: Repository) -> None:
        await store.put_manifest(repository, MANIFEST)

    with pytest.raises(PublishError, match="401"):
        site.run(push, config)
    assert len(site.second.asked) == 1
    assert site.second.authorizations == {""}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_token_request_with_an_identity_token_is_not_sent_on(
    site: Site, config: Path, status: int, elsewhere: bool
) -> None:
    config.write_text(json.dumps({"auths": {site.first.host: {"identitytoken": IDENTITY}}}))
    bodies = []

    def instead(asked: Asked) -> Said:
        if asked.path != "/token":
            bodies.append(asked.body)
            return Said(401, [("WWW-Authenticate", f'Bearer realm="http://{site.first.host}/token",service="here"')])
        assert IDENTITY.encode() in asked.body
        return Said(status, [("Location", f"http://{site.second.host}/token" if elsewhere else "/other")])

    site.first.instead = instead

    async def push(store: Registry, repository: Repository) -> None:
        await store.put_manifest(repository, MANIFEST)

    with pytest.raises(PublishError) as raised:
        site.run(push, config)
    assert f"POST http://{site.first.host}/token: " in str(raised.value)
    assert IDENTITY not in str(raised.value)
    assert site.second.asked == []
    assert not any(IDENTITY.encode() in body for body in bodies)


def test_a_token_request_without_a_body_leaves_the_password_behind(site: Site, config: Path) -> None:
    def instead(asked: Asked) -> Said | None:
        if asked.path.startswith("/token"):
            assert asked.authorization == BASIC
            return Said(307, [("Location", f"http://{site.second.host}/token")])
        if asked.authorization != "Bearer given":
            return Said(401, [("WWW-Authenticate", f'Bearer realm="http://{site.first.host}/token",service="here"')])
        return passed_on(f"http://{site.real}{asked.path}", asked)

    site.first.instead = instead
    site.second.instead = lambda _: Said(200, [], b'{"token": "given"}')

    async def push(store: Registry, repository: Repository) -> None:
        await store.put_manifest(repository, MANIFEST)

    site.run(push, config)
    assert [asked.path for asked in site.second.asked] == ["/token"]
    assert site.second.authorizations == {""}
