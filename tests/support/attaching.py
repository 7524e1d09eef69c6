"""What refers to an image or a list: made by hand on a shelf, put into each kind of place, and read from there."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from tests.support.model_registry import Model
from tests.support.reading import digest
from tests.support.registries import fetch
from tests.support.strangers import OCI, Json, Shelf

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
NOTATION = "application/vnd.cncf.notary.signature"
IN_TOTO = "application/vnd.in-toto+json"
ARTIFACT = OCI.replace("image.", "artifact.manifest.v1+json")
SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
DSSE = "application/vnd.dsse.envelope.v1+json"
NAME = "org.opencontainers.image.ref.name"
KIND = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json"}
_FIELDS = ("mediaType", "digest", "size")


def referrer(shelf: Shelf, subject: Json, kind: str, words: str, **annotations: str) -> Json:
    """An artifact of this kind with a `subject`, as its entry in an index of referrers."""
    config = shelf.put(b"{}", "application/vnd.oci.empty.v1+json")
    members = {**KIND, "artifactType": kind, "config": config, "layers": [shelf.put(words.encode(), kind)]}
    more = {"annotations": annotations} if annotations else {}
    made = shelf.json({**members, "subject": {name: subject[name] for name in _FIELDS}, **more}, "manifest")
    return {**made, "artifactType": kind, **more}


def artifact_manifest(shelf: Shelf, subject: Json, words: str) -> Json:
    """An artifact manifest of image-spec 1.1.0-rc2, which few registries store."""
    blob = shelf.put(words.encode(), IN_TOTO)
    named = {name: subject[name] for name in _FIELDS}
    members = {"mediaType": ARTIFACT, "artifactType": IN_TOTO, "blobs": [blob], "subject": named}
    return {**shelf.put(json.dumps(members).encode(), ARTIFACT), "artifactType": IN_TOTO}


def by_cosign(shelf: Shelf, media_type: str, *words: str) -> Json:
    """What cosign puts under a tag: a layer for each signature or attestation."""
    layers = [
        {**shelf.put(each.encode(), media_type), "annotations": {"dev.cosignproject.cosign/signature": each}}
        for each in words
    ]
    rootfs = {"type": "layers", "diff_ids": [each["digest"] for each in layers]}
    return shelf.manifest(shelf.json({"architecture": "", "os": "", "rootfs": rootfs}, "config"), layers)


def hyphened(digest: str, end: str = "") -> str:
    return digest.replace(":", "-") + end


@dataclass
class Attached:
    """What is under a tag, what refers to it by the digest of its subject, and what is under cosign's tags."""

    root: Json
    referrers: dict[str, list[Json]] = field(default_factory=dict)
    tags: dict[str, Json] = field(default_factory=dict)

    @property
    def listed(self) -> dict[str, set[str]]:
        return {subject: {each["digest"] for each in several} for subject, several in self.referrers.items()}

    @property
    def digests(self) -> dict[str, str]:
        return {tag: each["digest"] for tag, each in self.tags.items()}


def attached(shelf: Shelf, *, artifacts: bool = False) -> Attached:
    """A list of two images with everything that refers to the list or to an image; one with an artifact manifest, too.

    The second image has a signature only.
    """
    images = [shelf.image("linux/amd64"), shelf.image("linux/arm64")]
    made = Attached(shelf.index(*images))
    for subject in (made.root, images[0]):
        of = subject["digest"]
        signed = referrer(shelf, subject, BUNDLE, f"bundle {of}", predicate="x")
        notation = referrer(shelf, subject, NOTATION, f"notation {of}", **{"io.cncf.notary": "[]"})
        stated = (
            artifact_manifest(shelf, subject, f"stated {of}")
            if artifacts
            else referrer(shelf, subject, IN_TOTO, f"stated {of}")
        )
        made.referrers[of] = [signed, notation, stated]
        # One that refers to a referrer, and one that refers to that in turn.
        above = referrer(shelf, stated, BUNDLE, f"bundle of {of}'s statement")
        made.referrers[stated["digest"]] = [above]
        made.referrers[above["digest"]] = [referrer(shelf, above, NOTATION, f"above {of}")]
        for end, kind in ((".sig", SIMPLE), (".att", DSSE), (".sbom", "text/spdx+json")):
            made.tags[hyphened(of, end)] = by_cosign(shelf, kind, f"{end} {of}")
    made.referrers[images[1]["digest"]] = [referrer(shelf, images[1], BUNDLE, "bundle arm64")]
    return made


def lay_out(shelf: Shelf, made: Attached, tag: str = "1") -> str:
    """Have the shelf's index.json name all of it, with indexes of referrers under their tags; the reference."""
    entries = {tag: made.root, **made.tags}
    entries |= {hyphened(subject): shelf.index(*several) for subject, several in made.referrers.items()}
    (shelf.folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    named = [
        {**{key: each[key] for key in _FIELDS}, "annotations": {NAME: name}} for name, each in sorted(entries.items())
    ]
    (shelf.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": named}))
    return f"oci:{shelf.folder}:{tag}"


def upload(host: str, name: str, shelf: Shelf, made: Attached, *, indexes: bool, tag: str = "1") -> str:
    """Put all of it into a registry, with `indexes` of referrers under their tags; the reference."""
    for each in _order(shelf, made):
        send(host, name, shelf, each, each["digest"])
    for at, each in {tag: made.root, **made.tags}.items():
        send(host, name, shelf, each, at)
    for subject, several in made.referrers.items() if indexes else ():
        send(host, name, shelf, shelf.index(*several), hyphened(subject))
    return f"{host}/{name}:{tag}"


def send(host: str, name: str, shelf: Shelf, manifest: Json, reference: str) -> None:
    """Store a manifest from the shelf, and its blobs."""
    body = shelf.read(manifest)
    for blob in (body.get("config"), *body.get("layers", ()), *body.get("blobs", ())):
        if blob:
            begun = urllib3.request("POST", f"http://{host}/v2/{name}/blobs/uploads/", retries=False)
            place = begun.headers["Location"]
            place = place if place.startswith("http") else f"http://{host}{place}"
            place += ("&" if "?" in place else "?") + f"digest={blob['digest']}"
            done = urllib3.request("PUT", place, body=shelf.path(blob["digest"]).read_bytes(), retries=False)
            assert done.status == 201, done.data
    done = urllib3.request(
        "PUT",
        f"http://{host}/v2/{name}/manifests/{reference}",
        body=shelf.path(manifest["digest"]).read_bytes(),
        headers={"Content-Type": manifest["mediaType"]},
        retries=False,
    )
    assert done.status == 201, done.data


def _order(shelf: Shelf, made: Attached) -> Iterator[Json]:
    yield from shelf.read(made.root).get("manifests", ())
    yield made.root
    yield from (each for several in made.referrers.values() for each in several)


@dataclass(frozen=True)
class Seen:
    """What is in a place: manifests and blobs by digest, digests by tag, and what is listed for each subject."""

    content: Mapping[str, bytes]
    tags: Mapping[str, str]
    listed: Mapping[str, set[str]]


def in_registry(host: str, name: str, made: Attached) -> Seen:
    """By the Referrers Tag Schema."""
    content: dict[str, bytes] = {}
    tags, listed = {}, {}
    for tag in ("1", *made.tags, *map(hyphened, made.referrers)):
        status, data = fetch(host, f"{name}/manifests/{tag}")
        if status == 200:
            listed[tag] = {each["digest"] for each in json.loads(data).get("manifests", ())}
            tags[tag] = _kept(content, data)
    pending = [each for several in listed.values() for each in several]
    for each in pending:
        _kept(content, fetch(host, f"{name}/manifests/{each}")[1])
    for data in [*content.values()]:
        for blob in _blobs(json.loads(data)):
            _kept(content, fetch(host, f"{name}/blobs/{blob}")[1])
    return Seen(content, tags, {s: listed[hyphened(s)] for s in made.referrers if hyphened(s) in listed})


def in_model(model: Model, name: str, made: Attached) -> Seen:
    """By the Referrers API."""
    has = model.repositories[name]
    listed = {}
    for subject in made.referrers:
        path = f"{name}/referrers/{subject}"
        answer = urllib3.request("GET", f"http://{model.host}/v2/{path}", retries=False)
        listed[subject] = {each["digest"] for each in json.loads(answer.data)["manifests"]}
    return Seen({**has.manifests, **has.blobs}, dict(has.tags), {s: found for s, found in listed.items() if found})


def in_layout(folder: Path, made: Attached) -> Seen:
    blobs = (folder / "blobs/sha256").iterdir()
    content = {f"sha256:{path.name}": path.read_bytes() for path in blobs}
    return _laid_out(content, json.loads((folder / "index.json").read_bytes()), "", made)


def in_archive(file: Path, name: str, made: Attached) -> Seen:
    with tarfile.open(file) as archive:
        files = {each.name: archive.extractfile(each) for each in archive.getmembers() if each.isfile()}
        read = {path: content.read() for path, content in files.items() if content}
    content = {
        path.removeprefix("blobs/").replace("/", ":"): data for path, data in read.items() if path.startswith("blobs")
    }
    # What engines load is apart from what only refers to it.
    index, beside = (json.loads(read.get(each, b'{"manifests":[]}')) for each in ("index.json", "referrers.json"))
    assert not [each for each in index["manifests"] if ":sha256-" in each["annotations"][NAME]]
    return _laid_out(content, {"manifests": [*index["manifests"], *beside["manifests"]]}, f"{name}:", made)


def _laid_out(content: Mapping[str, bytes], index: Any, prefix: str, made: Attached) -> Seen:
    names = {each.get("annotations", {}).get(NAME, ""): each["digest"] for each in index["manifests"]}
    tags = {name.removeprefix(prefix): digest for name, digest in names.items() if name.startswith(prefix)}
    listed = {
        subject: {each["digest"] for each in json.loads(content[tags[hyphened(subject)]])["manifests"]}
        for subject in made.referrers
        if hyphened(subject) in tags
    }
    return Seen(content, tags, listed)


def _kept(content: dict[str, bytes], data: bytes) -> str:
    content[digest(data)] = data
    return digest(data)


def _blobs(manifest: Json) -> Iterator[str]:
    for each in (manifest.get("config"), *manifest.get("layers", ()), *manifest.get("blobs", ())):
        if each:
            yield each["digest"]


def is_whole(seen: Seen, shelf: Shelf, made: Attached) -> None:
    """AssertionError unless all that refers to anything is there, byte by byte, and is found."""
    assert seen.listed == made.listed
    assert made.digests.items() <= seen.tags.items()
    for each in (*made.tags.values(), *(each for several in made.referrers.values() for each in several)):
        for wanted in (each["digest"], *_blobs(shelf.read(each))):
            assert seen.content[wanted] == shelf.path(wanted).read_bytes()
