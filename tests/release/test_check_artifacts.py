"""`check` of what is not an image: signatures, attestations, SBOMs, bundles; and faults in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from build.errors import ImageError
from tests.support.checkout import Checkout, Run
from tests.support.reading import digest, skopeo
from tests.support.registries import Recorder
from tests.support.strangers import OCI, Json, Shelf, proved

Released = tuple[Checkout, Run]
COSIGN = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
ARTIFACT = OCI.replace("image.", "artifact.manifest.v1+json")
KIND = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json"}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


def by_cosign(media_type: str) -> Callable[[Shelf], Json]:
    """What cosign puts under sha256-….sig and the like: its config is an image's, of no platform."""

    def made(shelf: Shelf) -> Json:
        layer = shelf.put(b"{}", media_type)
        rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
        config = {"architecture": "", "os": "", "created": "0001-01-01T00:00:00Z", "config": {}, "rootfs": rootfs}
        return shelf.manifest(shelf.json(config, "config"), [layer])

    return made


def referrer(shelf: Shelf) -> Json:
    config = shelf.put(b"{}", "application/vnd.oci.empty.v1+json")
    members = {**KIND, "artifactType": BUNDLE, "config": config, "layers": [shelf.put(b'{"a":1}', BUNDLE)]}
    return shelf.json({**members, "subject": shelf.image()}, "manifest")


def artifact(shelf: Shelf) -> Json:
    blob = shelf.put(b"text", "text/spdx")
    value = {"mediaType": ARTIFACT, "artifactType": "text/spdx", "blobs": [blob], "subject": shelf.image()}
    return shelf.put(json.dumps(value).encode(), ARTIFACT)


ARTIFACTS: Mapping[str, tuple[str, Callable[[Shelf], Json], str]] = {
    "a signature": ("sha256-" + "0" * 64 + ".sig", by_cosign(COSIGN), COSIGN),
    "an attestation": ("sha256-" + "0" * 64 + ".att", by_cosign("application/vnd.dsse.envelope.v1+json"), "dsse"),
    "an SBOM": ("sha256-" + "0" * 64 + ".sbom", by_cosign("text/spdx+json"), "text/spdx+json"),
    "a bundle": ("bundle", referrer, BUNDLE),
    "an artifact manifest": ("artifact", artifact, "text/spdx"),
}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_its_digests_are_proved(shelf: Shelf, released: Released, name: str) -> None:
    checkout, _ = released
    tag, make, kind = ARTIFACTS[name]
    made = make(shelf)
    run = checkout("check", shelf.tag(tag, made))
    assert run.digests == {f"oci:{shelf.folder}:{tag}": made["digest"]}
    [note] = run.stderr.splitlines()
    assert re.fullmatch(rf"note: .*@{made['digest']}: not an image but .*: only its digests are checked", note)
    assert kind in note


@pytest.mark.parametrize("part", ["config", "layers", "blobs"])
@pytest.mark.parametrize("name", ARTIFACTS)
def test_a_damaged_part_is_a_fault(shelf: Shelf, name: str, part: str) -> None:
    tag, make, _ = ARTIFACTS[name]
    made = make(shelf)
    if part not in shelf.read(made):
        return
    parts = shelf.read(made)[part]
    damaged = parts["digest"] if part == "config" else parts[0]["digest"]
    shelf.path(damaged).write_bytes(b"[]")
    with pytest.raises(ImageError, match=f"1 fault.*\n.*{damaged}"):
        proved(shelf.tag(tag, made))


def test_a_referrers_list_has_one_note_for_each(shelf: Shelf) -> None:
    """The tag sha256-HEX of registries without the referrers API: entries have no platform."""
    entries = [{**referrer(shelf), "artifactType": BUNDLE}, artifact(shelf)]
    found, notes = proved(shelf.tag("sha256-" + "0" * 64, shelf.index(*entries)))
    assert found == ["list"]
    assert len(notes) == 2
    assert all("only its digests are checked" in note for note in notes)


def test_a_type_does_not_excuse_an_image(shelf: Shelf) -> None:
    """Nodes run it all the same."""
    image = shelf.read(shelf.image("linux/amd64", more={"architecture": "arm64"}))
    with pytest.raises(ImageError, match="found EM_X86_64, expected EM_AARCH64"):
        proved(shelf.tag("1", shelf.json({**image, "artifactType": "text/x"}, "manifest")))


def test_a_release_has_images_only(checkout: Checkout) -> None:
    checkout("all-push")
    shelf = Shelf(checkout.root / "dist/pause-arm")
    shelf.tag("3.1", by_cosign(COSIGN)(shelf))
    assert f"not an image but {COSIGN}, expected an image for arch arm" in checkout.refuses(1, "check")


def test_registries_are_asked_for_artifacts(shelf: Shelf, released: Released) -> None:
    """No registry here stores that kind, so one that does is modelled: it gives what is on the shelf."""
    checkout, _ = released
    made = artifact(shelf)

    class Model(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.path.rpartition("/")[2]
            path = shelf.path(made["digest"] if wanted == "sbom" else wanted)
            accepted = "/manifests/" not in self.path or ARTIFACT in self.headers.get("Accept", "")
            found = accepted and path.is_file()
            body = path.read_bytes() if found else b"{}"
            self.send_response(200 if found or self.path == "/v2/" else 404)
            self.send_header("Content-Type", ARTIFACT if "/manifests/" in self.path else "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            name = f"localhost:{server.server_port}/some/one:sbom"
            assert checkout("check", name).digests == {name: digest(shelf.path(made["digest"]).read_bytes())}
        finally:
            server.shutdown()
            thread.join()


def test_in_a_registry(shelf: Shelf, released: Released, recorder: Recorder) -> None:
    checkout, _ = released
    tag, make, _ = ARTIFACTS["a signature"]
    name = f"{recorder.host}/some/one:{tag}"
    skopeo("copy", "--dest-tls-verify=false", shelf.tag(tag, make(shelf)), f"docker://{name}")
    assert list(checkout("check", name).digests) == [name]
