"""An origin, however it is spelled: credentials go there, and to no other."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from build.oci.descriptor import Blob
from build.oci.media_types import OCI
from build.oci.reference import Repository
from build.stores.http.access import Access
from build.stores.http.urls import origin_of, resolved
from build.stores.registry.registry import Registry
from tests.support.fronts import Asked, Said, front
from tests.support.logins import encoded

BLOB = Blob.of(OCI.config, b"{}")


async def push(host: str, access: Access) -> None:
    store = Registry(host, access)
    try:
        await store.put_blob(Repository.parse(f"{host}/some/one"), BLOB)
    finally:
        await store.close()


def test_a_location_in_another_spelling_is_the_registrys_own(tmp_path: Path) -> None:
    """Its host in capitals: the upload needs the credentials all the same."""
    config = tmp_path / "config.json"
    with front() as between:
        config.write_text(json.dumps({"auths": {between.host: encoded()}}))

        def instead(asked: Asked) -> Said:
            if not asked.authorization:
                return Said(401, [("WWW-Authenticate", "Basic")])
            location = [("Location", f"http://{between.host.upper()}/up")]
            return Said(202, location) if asked.method == "POST" else Said(201)

        between.instead = instead
        asyncio.run(push(between.host, Access((config,))))
    assert [each.method for each in between.asked if not each.authorization] == ["POST"]


@pytest.mark.parametrize(
    ("url", "other", "same"),
    [
        ("https://a.test/x", "https://a.test:443/y?z", True),
        ("http://a.test:80", "http://A.TEST", True),
        ("https://user:password@a.test", "https://a.test", True),
        ("https://a.test.", "https://A.test:443", True),
        ("https://a.test:5000", "https://a.test.:5000", True),
        ("https://a.test", "http://a.test", False),
        ("https://a.test", "http://a.test:443", False),
        ("https://a.test", "https://a.test:5000", False),
        ("https://a.test", "https://b.a.test", False),
        ("https://a.test", "https://a.test@b.test", False),
        ("https://[2001:db8::1]", "https://[2001:DB8::1]:443", True),
    ],
)
def test_origins(url: str, other: str, same: bool) -> None:
    assert (origin_of(url) == origin_of(other)) == same


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/up?state=a%2Fb", "https://a.test/up?state=a%2Fb"),
        ("https://A.test.:443/up?state=a%2Fb", "https://a.test/up?state=a%2Fb"),
        ("https://user:password@a.test/up", "https://a.test/up"),
        ("https://a.test:5000/up", "https://a.test:5000/up"),
        ("HTTPS://B.test/up", "HTTPS://B.test/up"),
    ],
)
def test_settings_by_host_apply_to_every_spelling(target: str, found: str) -> None:
    assert resolved("https://a.test/v2/", target, "Location").lower() == found.lower()
