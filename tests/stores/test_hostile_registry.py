"""A registry that lies or sends without an end costs one message, and neither the memory nor a traceback."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event

import pytest

from build.errors import ImageError
from build.oci.reference import Reference
from build.release.check.check import check_reference
from build.stores.http.access import Access
from build.stores.registry.registry import Registry
from tests.support.registries import serving
from tests.support.strangers import OCI, Shelf

MANIFEST, INDEX = OCI + "manifest.v1+json", OCI + "index.v1+json"


class Liar(BaseHTTPRequestHandler):
    """Answers every GET with `status`, and `body` of `media_type`; after that noise until the other side goes."""

    status, body, media_type, endless = 200, b"", MANIFEST, False

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Type", self.media_type)
        if self.endless:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)
        with suppress(ConnectionError):
            while self.endless:
                self.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")

    do_HEAD = do_GET  # noqa: N815


def message(handler: type[Liar], tmp_path: Path, name: str = "some/one:1", timeout: float = 60) -> str:
    with serving(handler) as host:
        access = Access((tmp_path / "config.json",), timeout=timeout)

        async def check() -> None:
            store = Registry(host, access)
            try:
                await check_reference(store, Reference.parse(f"{host}/{name}"), lambda _: None, tmp_path)
            finally:
                await store.close()

        with pytest.raises(ImageError, match="fault") as raised:
            asyncio.run(check())
    return str(raised.value)


@pytest.mark.parametrize("status", [200, 404, 500, 401])
def test_an_answer_without_an_end(tmp_path: Path, status: int) -> None:
    error = message(type("Endless", (Liar,), {"status": status, "endless": True}), tmp_path)
    assert "found more than 4194304 bytes" in error


def test_an_answer_that_never_quite_ends(tmp_path: Path) -> None:
    """Each piece of it comes soon enough."""

    class Drops(Liar):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "300")
            self.end_headers()
            with suppress(ConnectionError):
                for _ in range(300):
                    self.wfile.write(b" ")
                    over.wait(0.1)

    over = Event()
    error = message(Drops, tmp_path, timeout=1)
    over.set()
    assert "no answer in time" in error
    assert "--timeout 1 (seconds)" in error


def test_a_blob_without_an_end(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf")
    image = shelf.image()
    manifest = shelf.path(image["digest"]).read_bytes()

    class Blobs(Liar):
        def do_GET(self) -> None:
            self.endless = "/blobs/" in self.path
            self.body = b"" if self.endless else manifest
            super().do_GET()

    error = message(Blobs, tmp_path)
    for descriptor in (shelf.read(image)["config"], *shelf.read(image)["layers"]):
        assert descriptor["digest"] in error
        assert f"found more than {descriptor['size']} bytes" in error


@pytest.fixture
def bodies() -> dict[str, bytes]:
    """What stands for a manifest."""
    entry = {"mediaType": MANIFEST, "digest": "sha256:" + "1" * 64, "size": 3}
    return {
        "another manifest": json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode(),
        "no JSON": b"\xff\xfe",
        "depth": b"[" * 200_000,
        "nothing": b"",
    }


@pytest.mark.parametrize("name", ["another manifest", "no JSON", "depth", "nothing"])
def test_bodies(tmp_path: Path, bodies: dict[str, bytes], name: str) -> None:
    error = message(type("Body", (Liar,), {"body": bodies[name], "media_type": INDEX}), tmp_path)
    assert "@sha256:" in error


def test_the_bytes_of_another_digest(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf")
    data = shelf.path(shelf.image()["digest"]).read_bytes()
    asked = "sha256:" + "1" * 64
    error = message(type("Other", (Liar,), {"body": data}), tmp_path, f"some/one@{asked}")
    assert asked in error
    assert shelf.image()["digest"] in error
