"""Signed releases in registries: what cosign says of them, and what is attached to them, to read and to change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from tests.support.checkout import Checkout, Run
from tests.support.cosign import cosign, trusted_root
from tests.support.keys import Pair
from tests.support.reading import digest
from tests.support.registries import fetch, registry, registry_reader

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGNATURE = "https://sigstore.dev/cosign/sign/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
SBOM = "https://spdx.dev/Document"
PREDICATE = "dev.sigstore.bundle.predicateType"
KEY_ONLY = "--insecure-ignore-tlog=true"


@dataclass(frozen=True)
class Place:
    """A repository in a registry that anyone may write to."""

    host: str
    name: str = "pause"

    def __str__(self) -> str:
        return f"{self.host}/{self.name}"

    def read(self, wanted: str) -> bytes:
        """The manifest under a tag or a digest, or the blob under a digest; it must be there."""
        return registry_reader(self.host, self.name)(wanted)

    def json(self, wanted: str) -> Any:
        return json.loads(self.read(wanted))

    def has(self, tag: str) -> bool:
        return fetch(self.host, f"{self.name}/manifests/{tag}")[0] == 200

    def put_blob(self, data: bytes) -> dict[str, Any]:
        """Store a blob; returns digest and size, as in its descriptor."""
        base = f"http://{self.host}/v2/{self.name}/blobs/uploads/"
        upload = urllib3.request("POST", base, retries=False).headers["Location"]
        joint = "&" if "?" in upload else "?"
        stored = urllib3.request("PUT", f"{upload}{joint}digest={digest(data)}", body=data, retries=False)
        assert stored.status == 201, stored.data
        return {"digest": digest(data), "size": len(data)}

    def put(self, reference: str, data: bytes, media_type: str = MANIFEST) -> None:
        """Store a manifest under a tag or its digest."""
        url = f"http://{self.host}/v2/{self.name}/manifests/{reference}"
        stored = urllib3.request("PUT", url, body=data, headers={"Content-Type": media_type}, retries=False)
        assert stored.status == 201, stored.data

    def index(self, subject: str) -> Any:
        """The index of referrers of a digest, in a registry without the Referrers API."""
        return self.json(tag_of(subject))

    def bundle(self, subject: str, predicate: str) -> dict[str, Any]:
        """The entry of the bundle with a statement of this type."""
        [found] = [each for each in self.index(subject)["manifests"] if each["annotations"][PREDICATE] == predicate]
        return dict(found)

    def attached(self, subject: str) -> dict[str, bytes]:
        """The manifests of everything that is attached to a digest, the index of referrers too, by tag or digest."""
        tags = [tag_of(subject, end) for end in ("", ".sig", ".att") if self.has(tag_of(subject, end))]
        found = {tag: self.read(tag) for tag in tags}
        entries = self.index(subject)["manifests"] if tag_of(subject) in found else []
        return found | {each["digest"]: self.read(each["digest"]) for each in entries}


def tag_of(subject: str, end: str = "") -> str:
    """The tag for what is attached to a digest."""
    return subject.replace(":", "-") + end


@dataclass(frozen=True)
class SignedRelease:
    """A release that `checkout` has published and signed in the registry `host`, which keeps it in `storage`."""

    checkout: Checkout
    run: Run
    host: str
    storage: Path
    keys: Pair

    @property
    def digests(self) -> list[str]:
        """The digests of the list and of its images, in order."""
        return list(self.run.digests.values())

    @property
    def place(self) -> Place:
        return Place(self.host)

    @contextmanager
    def copied(self, folder: Path) -> Iterator[Place]:
        """The same in a registry of its own, to be changed."""
        shutil.copytree(self.storage, folder / "storage")
        with registry(folder) as host:
            yield Place(host)


def bundle_words(folder: Path) -> tuple[str, ...]:
    """What cosign takes bundles by, without asking sigstore.dev."""
    return ("--new-bundle-format", "--trusted-root", str(trusted_root(folder)))


def cosign_proves(reference: str, public: Path, folder: Path, *, bundles: bool = True, legacy: bool = True) -> None:
    """cosign takes signature and provenance, in both forms."""
    known = (KEY_ONLY, "--key", str(public), reference)
    if legacy:
        cosign("verify", *known)
        cosign("verify-attestation", "--type", "slsaprovenance1", *known)
    if bundles:
        for kind in ("slsaprovenance1", SIGNATURE):
            cosign("verify-attestation", "--type", kind, *bundle_words(folder), *known)
