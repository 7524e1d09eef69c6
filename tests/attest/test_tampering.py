"""Whatever is changed in what is attached to a signed release, `check --key` finds it, and names it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.keys import Pair
from tests.support.reading import digest
from tests.support.signed import BUNDLE, INDEX, PREDICATE, PROVENANCE, SIGNATURE, Place, SignedRelease, tag_of

Json = dict[str, Any]
Change = Callable[[Json], None]
WRONG = "its signature is wrong"


def dump(members: Json) -> bytes:
    return json.dumps(members, separators=(",", ":"), sort_keys=True).encode()


def flipped(text: str) -> str:
    """The base64 of the same bytes, but for a bit of the last one."""
    data = base64.b64decode(text)
    return base64.b64encode(data[:-1] + bytes([data[-1] ^ 1])).decode()


def in_statement(change: Change) -> Change:
    """A change of the statement in an envelope."""

    def changed(envelope: Json) -> None:
        statement = json.loads(base64.b64decode(envelope["payload"]))
        change(statement)
        envelope["payload"] = base64.b64encode(dump(statement)).decode()

    return changed


def in_envelope(change: Change) -> Change:
    """A change of the envelope in a bundle."""
    return lambda bundle: change(bundle["dsseEnvelope"])


def flip_signature(envelope: Json) -> None:
    [signature] = envelope["signatures"]
    signature["sig"] = flipped(signature["sig"])


def no_signature(envelope: Json) -> None:
    envelope["signatures"] = []


def other_subject(statement: Json) -> None:
    statement["subject"] = [{"digest": {"sha256": 64 * "0"}}]


def further_subject(statement: Json) -> None:
    statement["subject"].append({"digest": {"sha256": 64 * "0"}})


def other_predicate(statement: Json) -> None:
    statement["predicate"]["runDetails"] = {"builder": {"id": "https://elsewhere.example"}}


def other_type(statement: Json) -> None:
    statement["predicateType"] = "https://example.com/other"


def other_payload_type(envelope: Json) -> None:
    envelope["payloadType"] = "text/plain"


def other_hint(bundle: Json) -> None:
    bundle["verificationMaterial"]["publicKey"]["hint"] = flipped(bundle["verificationMaterial"]["publicKey"]["hint"])


def no_envelope(bundle: Json) -> None:
    del bundle["dsseEnvelope"]


# What is changed in a bundle, the type of its statement, and what the message says.
BUNDLES: dict[str, tuple[Change, str, str]] = {
    "signature": (in_envelope(flip_signature), SIGNATURE, WRONG),
    "signature of provenance": (in_envelope(flip_signature), PROVENANCE, WRONG),
    "no signature": (in_envelope(no_signature), PROVENANCE, WRONG),
    "subject": (in_envelope(in_statement(other_subject)), PROVENANCE, f"subject: found sha256:{64 * '0'}"),
    "further subject": (in_envelope(in_statement(further_subject)), SIGNATURE, WRONG),
    "predicate": (in_envelope(in_statement(other_predicate)), PROVENANCE, WRONG),
    "predicate type": (in_envelope(in_statement(other_type)), PROVENANCE, "predicateType: found"),
    "payload type": (in_envelope(other_payload_type), PROVENANCE, "payloadType: found"),
    "hint": (other_hint, PROVENANCE, "hint: found"),
    "envelope": (no_envelope, PROVENANCE, "envelope: found"),
}


def other_annotation(manifest: Json) -> None:
    manifest["annotations"][PREDICATE] = "https://example.com/other"


def other_manifest_subject(manifest: Json) -> None:
    manifest["subject"]["digest"] = f"sha256:{64 * '0'}"


def other_artifact_type(manifest: Json) -> None:
    manifest["artifactType"] = "application/vnd.example.other"


MANIFESTS: dict[str, tuple[Change, str]] = {
    "annotation": (other_annotation, f"{PREDICATE}: found 'https://example.com/other'"),
    "subject": (other_manifest_subject, f"subject: found sha256:{64 * '0'}"),
    "artifact type": (other_artifact_type, "artifactType: found 'application/vnd.example.other'"),
}


def replaced(place: Place, subject: str, old: str, manifest: Json, annotations: Json | None = None) -> str:
    """Have the index of referrers list this manifest instead of `old`; returns its digest."""
    data = dump(manifest)
    place.put(digest(data), data)
    index = place.index(subject)
    for entry in index["manifests"]:
        if entry["digest"] == old:
            entry |= {
                "digest": digest(data),
                "size": len(data),
                **({"annotations": annotations} if annotations else {}),
            }
    place.put(tag_of(subject), dump(index), INDEX)
    return digest(data)


def with_bundle(place: Place, subject: str, predicate: str, change: Change) -> str:
    """Change the bundle with a statement of this type; returns the digest of its new manifest."""
    entry = place.bundle(subject, predicate)
    manifest = place.json(entry["digest"])
    bundle = place.json(manifest["layers"][0]["digest"])
    change(bundle)
    manifest["layers"] = [{"mediaType": BUNDLE, **place.put_blob(dump(bundle))}]
    return replaced(place, subject, entry["digest"], manifest)


def refuses(signed: SignedRelease, place: Place, key: Path | None = None) -> str:
    words = ["--registry", place.host, "--key", str(key or signed.keys.public)]
    return signed.checkout.refuses(1, "check", *words)


@pytest.mark.parametrize("what", BUNDLES)
@pytest.mark.parametrize("number", [0, 2], ids=["list", "image"])
def test_a_changed_bundle(signed: SignedRelease, tmp_path: Path, what: str, number: int) -> None:
    change, predicate, words = BUNDLES[what]
    subject = signed.digests[number]
    with signed.copied(tmp_path / "registry") as place:
        changed = with_bundle(place, subject, predicate, change)
        message = refuses(signed, place)
        assert message.startswith("1 fault in what is published\n")
        assert f"{place}@{changed}: " in message
        assert words in message


@pytest.mark.parametrize("what", MANIFESTS)
def test_a_changed_manifest_of_a_bundle(signed: SignedRelease, tmp_path: Path, what: str) -> None:
    change, words = MANIFESTS[what]
    [subject, *_] = signed.digests
    with signed.copied(tmp_path / "registry") as place:
        old = place.bundle(subject, PROVENANCE)["digest"]
        manifest = place.json(old)
        change(manifest)
        changed = replaced(place, subject, old, manifest)
        message = refuses(signed, place)
        assert f"{place}@{changed}: " in message
        assert words in message


def test_a_changed_annotation_in_manifest_and_list(signed: SignedRelease, tmp_path: Path) -> None:
    """The statement itself says another type."""
    [subject, *_] = signed.digests
    with signed.copied(tmp_path / "registry") as place:
        old = place.bundle(subject, PROVENANCE)["digest"]
        manifest = place.json(old)
        other_annotation(manifest)
        changed = replaced(place, subject, old, manifest, manifest["annotations"])
        message = refuses(signed, place)
        assert f"{place}@{changed}: " in message
        assert "predicateType: found" in message


def test_a_bundle_that_is_another_images(signed: SignedRelease, tmp_path: Path) -> None:
    """A whole manifest of another subject in the index: it proves nothing here."""
    subject, other = signed.digests[1:3]
    with signed.copied(tmp_path / "registry") as place:
        wanted, found = (place.bundle(each, SIGNATURE)["digest"] for each in (subject, other))
        replaced(place, subject, wanted, place.json(found))
        message = refuses(signed, place)
        assert f"{place}@{found}: " in message
        assert f"subject: found {other}, expected {subject}" in message


def with_layer(place: Place, subject: str, end: str, change: Callable[[Json, Json], None]) -> str:
    """Change the first layer of the manifest under one of cosign's tags, and its content; returns the tag."""
    tag = tag_of(subject, end)
    manifest = place.json(tag)
    layer, *others = manifest["layers"]
    content = place.json(layer["digest"])
    change(layer, content)
    manifest["layers"] = [{**layer, **place.put_blob(dump(content))}, *others]
    place.put(tag, dump(manifest))
    return tag


SIGNED = "dev.cosignproject.cosign/signature"


def flip_annotation(layer: Json, _: Json) -> None:
    layer["annotations"][SIGNED] = flipped(layer["annotations"][SIGNED])


def no_annotation(layer: Json, _: Json) -> None:
    del layer["annotations"][SIGNED]


def no_base64(layer: Json, _: Json) -> None:
    layer["annotations"][SIGNED] = "%"


def other_name(_: Json, payload: Json) -> None:
    payload["critical"]["identity"]["docker-reference"] = "elsewhere.example/pause"


def other_digest(_: Json, payload: Json) -> None:
    payload["critical"]["image"]["docker-manifest-digest"] = f"sha256:{64 * '0'}"


TAGS: dict[str, tuple[str, Callable[[Json, Json], None], str]] = {
    "name in the payload": (".sig", other_name, "by another key, or changed"),
    "digest in the payload": (".sig", other_digest, f"docker-manifest-digest: found 'sha256:{64 * '0'}'"),
    "signature": (".sig", flip_annotation, "by another key, or changed"),
    "no signature": (".sig", no_annotation, "by another key, or changed"),
    "no base64": (".sig", no_base64, "expected base64"),
    "signature of an attestation": (".att", lambda _, each: flip_signature(each), "by another key, or changed"),
    "predicate": (".att", lambda _, each: in_statement(other_predicate)(each), "by another key, or changed"),
    "subject": (".att", lambda _, each: in_statement(other_subject)(each), f"subject: found sha256:{64 * '0'}"),
    "predicate type": (".att", lambda _, each: in_statement(other_type)(each), "predicateType: found"),
}


@pytest.mark.parametrize("what", TAGS)
@pytest.mark.parametrize("number", [0, 2], ids=["list", "image"])
def test_a_change_under_a_tag_of_cosign(signed: SignedRelease, tmp_path: Path, what: str, number: int) -> None:
    """The bundles beside it are whole."""
    end, change, words = TAGS[what]
    with signed.copied(tmp_path / "registry") as place:
        tag = with_layer(place, signed.digests[number], end, change)
        message = refuses(signed, place)
        assert f"{place}:{tag}: " in message
        assert words in message


@pytest.mark.parametrize("end", ["", ".sig", ".att"])
def test_a_tag_that_is_something_else(signed: SignedRelease, tmp_path: Path, end: str) -> None:
    """The tag for what is attached refers to the image."""
    _, subject, *_ = signed.digests
    with signed.copied(tmp_path / "registry") as place:
        place.put(tag_of(subject, end), place.read(subject))
        message = refuses(signed, place)
        assert f"{place}:{tag_of(subject, end)}: " in message


@pytest.mark.parametrize("what", ["manifest", "bundle", "payload", "envelope"])
def test_a_byte_in_the_registrys_storage(signed: SignedRelease, tmp_path: Path, what: str) -> None:
    """What a registry serves under a digest is not what the digest says."""
    _, subject, *_ = signed.digests
    manifest = signed.place.bundle(subject, PROVENANCE)["digest"]
    wanted = {
        "manifest": manifest,
        "bundle": signed.place.json(manifest)["layers"][0]["digest"],
        "payload": signed.place.json(tag_of(subject, ".sig"))["layers"][0]["digest"],
        "envelope": signed.place.json(tag_of(subject, ".att"))["layers"][0]["digest"],
    }[what]
    with signed.copied(tmp_path / "registry") as place:
        kept = wanted.removeprefix("sha256:")
        file = tmp_path / "registry/storage/docker/registry/v2/blobs/sha256" / kept[:2] / kept / "data"
        data = file.read_bytes()
        at = data.rindex(b"e")
        file.write_bytes(data[:at] + b"f" + data[at + 1 :])
        message = signed.checkout.refuses(
            1, "check", "--registry", place.host, "--key", str(signed.keys.public), "--timeout", "5"
        )
        assert wanted in message


def test_nothing_is_signed(signed: SignedRelease, unsigned: SignedRelease) -> None:
    message = refuses(signed, unsigned.place)
    for digest_ in unsigned.digests:
        assert f"{unsigned.place}@{digest_}: found no signature by the key" in message
    assert "invoke sign REFERENCE --sign KEY" in message


def test_another_key(signed: SignedRelease, other_keys: Pair) -> None:
    message = refuses(signed, signed.place, other_keys.public)
    for digest_ in signed.digests:
        assert f"{signed.place}@{digest_}: found no signature by the key" in message


def test_one_image_is_not_signed(signed: SignedRelease, unsigned: SignedRelease, keys: Pair, tmp_path: Path) -> None:
    """The list and the others are."""
    with unsigned.copied(tmp_path / "registry") as place:
        unsigned.checkout("sign", f"{place}@{unsigned.digests[3]}", "--sign", str(keys.private))
        message = refuses(signed, place)
        assert f"{place}@{unsigned.digests[3]}: found no signature" not in message
        assert message.startswith("5 faults")


def test_without_a_key_it_is_told(signed: SignedRelease) -> None:
    run = signed.checkout("check", REGISTRY=signed.host)
    for subject in signed.digests:
        for predicate, name in ((SIGNATURE, "signature"), (PROVENANCE, "provenance")):
            assert f"  {name}, @{signed.place.bundle(subject, predicate)['digest']}\n" in run.stderr
        assert f"  signature, :{tag_of(subject, '.sig')}\n" in run.stderr
        assert f"  provenance, :{tag_of(subject, '.att')}\n" in run.stderr
    assert run.stderr.count("not proved without --key") == len(signed.digests)
    assert "key" not in run.stdout
