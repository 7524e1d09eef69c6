"""A signed release: cosign and oras find its signatures and its provenance, `check --key` proves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import RELEASE, Checkout, results
from tests.support.cosign import cosign, oras
from tests.support.keys import Pair, openssl
from tests.support.registries import Recorder, registry, registry_tags
from tests.support.signed import (
    BUNDLE,
    PREDICATE,
    PROVENANCE,
    SBOM,
    SIGNATURE,
    Place,
    SignedRelease,
    cosign_proves,
    tag_of,
)

WRITES = ("POST", "PUT", "PATCH", "DELETE")


def writes(recorder: Recorder) -> list[str]:
    return [line for line in recorder.lines if line.startswith(WRITES)]


def hint(public: Path) -> str:
    """The base64 of the SHA-256 of the public key's DER, by openssl."""
    der = openssl("pkey", "-pubin", "-in", str(public), "-outform", "DER")
    return openssl("base64", "-A", data=openssl("dgst", "-sha256", "-binary", data=der)).decode()


@pytest.mark.parametrize("number", range(1 + len(RELEASE)))
def test_cosign_proves_the_list_and_each_image(signed: SignedRelease, tmp_path: Path, number: int) -> None:
    digest = signed.digests[number]
    cosign_proves(f"{signed.place}@{digest}", signed.keys.public, tmp_path)


def test_cosign_proves_the_tag(signed: SignedRelease, tmp_path: Path) -> None:
    cosign_proves(f"{signed.place}:3.1", signed.keys.public, tmp_path)


def test_cosign_takes_no_other_key_for_it(signed: SignedRelease, other_keys: Pair) -> None:
    words = ["--insecure-ignore-tlog=true", "--key", str(other_keys.public), f"{signed.place}:3.1"]
    assert cosign("verify", *words, check=False).returncode != 0
    assert cosign("verify-attestation", "--type", "slsaprovenance1", *words, check=False).returncode != 0


def test_a_key_of_cosign_with_a_password(checkout: Checkout, recorder: Recorder, tmp_path: Path) -> None:
    secret = {"COSIGN_PASSWORD": "correct horse"}
    cosign("generate-key-pair", env=secret, folder=tmp_path)
    run = checkout("all-push", REGISTRY=recorder.host, SIGN_KEY=str(tmp_path / "cosign.key"), **secret)
    public = tmp_path / "cosign.pub"
    for digest in run.digests.values():
        cosign_proves(f"{recorder.host}/pause@{digest}", public, tmp_path)
    checkout("check", REGISTRY=recorder.host, VERIFY_KEY=str(public))


def test_all_that_is_signed_is_told(signed: SignedRelease) -> None:
    """On stdout after the tags, and in --json."""
    said = signed.run.stdout.splitlines()[1 + len(RELEASE) :]
    key = hint(signed.keys.public)
    kinds = ["signature, provenance", *["signature, provenance, SBOM"] * len(RELEASE)]
    assert said == [
        f"{signed.place}@{digest}  {each}  key {key}" for digest, each in zip(signed.digests, kinds, strict=True)
    ]
    told = results(signed.checkout("check", "--json", REGISTRY=signed.host, VERIFY_KEY=str(signed.keys.public)))
    proved = {each["digest"]: each for each in told if each["kind"] == "signed"}
    assert list(proved) == signed.digests
    assert {each["change"] for each in proved.values()} == {"verified"}
    assert {each["key"] for each in proved.values()} == {key}
    assert [", ".join(each["attached"]) for each in proved.values()] == kinds


def discovered(reference: str, *words: str) -> list[Any]:
    found = json.loads(oras("discover", *words, "--verbose", "--format", "json", reference).stdout)
    return list(found.get("manifests") or found.get("referrers"))


def test_oras_lists_the_referrers(signed: SignedRelease) -> None:
    for number, digest in enumerate(signed.digests):
        found = discovered(f"{signed.place}@{digest}", "--plain-http")
        assert {each["artifactType"] for each in found} == {BUNDLE}
        kinds = {SIGNATURE, PROVENANCE, *([SBOM] if number else [])}
        assert {each["annotations"][PREDICATE] for each in found} == kinds
        assert {each["annotations"]["dev.sigstore.bundle.content"] for each in found} == {"dsse-envelope"}
        assert {each["annotations"]["org.opencontainers.image.created"] for each in found} == {"2001-02-02T21:05:06Z"}


@pytest.mark.parametrize("kind", ["registry", "layout"])
def test_oras_copies_what_is_proved_there(signed: SignedRelease, tmp_path: Path, kind: str) -> None:
    with registry(tmp_path / "registry") as host:
        copy = f"{host}/mirror/pause:3.1"
        words = ["--to-plain-http", f"{signed.place}:3.1", copy]
        if kind == "layout":
            copy = f"oci:{tmp_path / 'layout'}:3.1"
            words = ["--to-oci-layout", f"{signed.place}:3.1", copy.removeprefix("oci:")]
        oras("cp", "--recursive", "--from-plain-http", *words)
        told = results(signed.checkout("check", copy, "--json", "--key", str(signed.keys.public)))
        proved = [each["digest"] for each in told if each["kind"] == "signed" and "signature" in each["attached"]]
        assert proved == signed.digests


@pytest.mark.parametrize("kind", ["registry", "layout", "archive"])
@pytest.mark.parametrize("by", ["release", "reference"])
def test_a_copy_is_proved_too(signed: SignedRelease, tmp_path: Path, kind: str, by: str) -> None:
    with registry(tmp_path / "registry") as host:
        to = {"registry": f"{host}/mirror", "layout": f"oci:{tmp_path}/layout", "archive": f"oci-archive:{tmp_path}/a"}
        source, target = signed.host, to[kind]
        (tmp_path / "layout").mkdir()
        if by == "reference":
            source, target = f"{signed.place}:3.1", f"{target}{':' if kind == 'archive' else '/'}pause:3.1"
        signed.checkout("copy", source, target)
        key = ("--key", str(signed.keys.public))
        words = ["check", target, *key] if by == "reference" else ["check", "--registry", target, *key]
        if kind == "archive":
            words = ["check", f"oci-archive:{tmp_path}/a:pause:3.1", *key]
        told = results(signed.checkout(*words, "--json"))
        assert [each["digest"] for each in told if each["kind"] == "signed"] == signed.digests


def test_a_copy_without_referrers_has_none(signed: SignedRelease, recorder: Recorder) -> None:
    for source, target in (
        (signed.host, f"{recorder.host}/a"),
        (f"{signed.place}:3.1", f"{recorder.host}/b/pause:3.1"),
    ):
        signed.checkout("copy", source, target, "--without-referrers")
    assert [line for line in recorder.lines if "sha256-" in line or "/referrers/" in line] == []
    for name in ("a/pause", "b/pause"):
        assert Place(recorder.host, name).attached(signed.digests[0]) == {}


def test_two_clones_sign_to_the_same_bytes(source: Checkout, signed: SignedRelease, tmp_path: Path) -> None:
    """With empty caches, in two registries; cosign's signatures name the registry, so that it is one here."""
    again = Checkout.clone(source.root, tmp_path / "again")
    with registry(tmp_path / "other") as elsewhere:
        again("all-push", REGISTRY=elsewhere, SIGN_KEY=str(signed.keys.private))
        for digest in signed.digests:
            first, second = signed.place.attached(digest), Place(elsewhere).attached(digest)
            signatures = tag_of(digest, ".sig")
            assert set(first) == set(second)
            assert {tag: data for tag, data in first.items() if tag != signatures} == {
                tag: data for tag, data in second.items() if tag != signatures
            }


def test_two_clones_sign_the_same_name_to_the_same_bytes(
    source: Checkout, recorder: Recorder, keys: Pair, tmp_path: Path
) -> None:
    """The registry behind one name is replaced by an empty one: every manifest under every tag is the same."""
    found = []
    for number in range(2):
        clone = Checkout.clone(source.root, tmp_path / f"clone-{number}")
        with registry(tmp_path / f"registry-{number}") as recorder.upstream:
            run = clone("all-push", REGISTRY=recorder.host, SIGN_KEY=str(keys.private))
            place = SignedRelease(clone, run, recorder.upstream, tmp_path, keys)
            found.append({digest: place.place.attached(digest) for digest in place.digests})
    assert found[0] == found[1]
    # An image has an SBOM, too.
    assert [len(each) for each in found[0].values()] == [5, *[6] * len(RELEASE)]


def test_a_second_run_sends_nothing(recorder: Recorder, checkout: Checkout, keys: Pair) -> None:
    first = checkout("all-push", REGISTRY=recorder.host, SIGN_KEY=str(keys.private))
    recorder.forget()
    again = checkout("all-push", REGISTRY=recorder.host, SIGN_KEY=str(keys.private))
    assert again.stdout == first.stdout
    assert writes(recorder) == []


def test_a_signature_for_what_is_published_already(recorder: Recorder, checkout: Checkout, keys: Pair) -> None:
    """No tag of the release moves."""
    checkout("all-push", REGISTRY=recorder.host)
    tags = registry_tags(recorder.host)
    recorder.forget()
    told = results(checkout("all-push", "--json", REGISTRY=recorder.host, SIGN_KEY=str(keys.private)))
    assert {each["change"] for each in told if each["kind"] == "image"} == {"kept"}
    assert {each["change"] for each in told if each["kind"] == "signed"} == {"signed"}
    assert [line for line in writes(recorder) if "manifests/3.1" in line] == []
    assert registry_tags(recorder.host) == tags
    checkout("check", REGISTRY=recorder.host, VERIFY_KEY=str(keys.public))


@pytest.mark.parametrize("form", ["bundle", "cosign"])
def test_one_form_of_signatures(recorder: Recorder, checkout: Checkout, keys: Pair, tmp_path: Path, form: str) -> None:
    words = ["all-push", "--signature-format", form, "--sign", str(keys.private)]
    [digest, *_] = checkout(*words, REGISTRY=recorder.host).digests.values()
    reference = f"{recorder.host}/pause@{digest}"
    cosign_proves(reference, keys.public, tmp_path, bundles=form == "bundle", legacy=form == "cosign")
    checkout("check", REGISTRY=recorder.host, VERIFY_KEY=str(keys.public))
    written = [line for line in writes(recorder) if "manifests/sha256-" in line]
    assert {line[-4:] in (".sig", ".att") for line in written} == {form == "cosign"}


def test_signed_without_having_been_built_here(unsigned: SignedRelease, keys: Pair, tmp_path: Path) -> None:
    """By `push-manifest`, by `copy` to another place, and by `sign`: the signature, and nothing about the build."""
    key = ("--sign", str(keys.private))
    for task in ("push-manifest", "copy", "sign"):
        with unsigned.copied(tmp_path / task) as place:
            words = {
                "push-manifest": ["push-manifest", *key, "--registry", place.host],
                "copy": ["copy", unsigned.host, f"{place.host}/mirror", *key],
                "sign": ["sign", f"{place}:3.1", *key],
            }
            told = results(unsigned.checkout(*words[task], "--json"))
            made = [each for each in told if each["kind"] == "signed"]
            assert [each["digest"] for each in made] == unsigned.digests
            assert {(each["change"], *each["attached"]) for each in made} == {("signed", "signature")}
            where = f"{place.host}/mirror/pause" if task == "copy" else place
            for digest in unsigned.digests:
                cosign("verify", "--insecure-ignore-tlog=true", "--key", str(keys.public), f"{where}@{digest}")
            again = results(unsigned.checkout(*words[task], "--json"))
            assert {each["change"] for each in again if each["kind"] == "signed"} == {"kept"}


def test_refusals(checkout: Checkout, keys: Pair, tmp_path: Path) -> None:
    key = ("--sign", str(keys.private))
    message = checkout.refuses(2, "all-push", *key, REGISTRY="localhost:1", ENGINE="docker")
    assert "the engine docker lets the daemon push" in message
    assert "invoke sign REFERENCE" in message
    archive = f"oci-archive:{tmp_path / 'a.tar'}"
    checkout("all-push")
    checkout("copy", "oci:dist", archive)
    assert "archive" in checkout.refuses(2, "sign", f"{archive}:pause:3.1", *key)
    assert "archive" in checkout.refuses(2, "copy", "oci:dist", f"oci-archive:{tmp_path / 'b.tar'}", *key)
    message = checkout.refuses(2, "all-push", "--signature-format", "bundle")
    assert "nothing is signed" in message
    assert "--sign" in message
    message = checkout.refuses(2, "all-push", *key, "--signature-format", "pgp")
    assert all(known in message for known in ("'pgp'", "both", "bundle", "cosign"))
    message = checkout.refuses(2, "sign", "oci:dist/pause:3.1")
    assert "--sign" in message
    message = checkout.refuses(2, "all-push", "--sign", str(keys.public))
    assert "found a public key, expected the private one" in message
    message = checkout.refuses(2, "check", "--key", str(keys.private))
    assert "found a private key, expected the public one" in message


def test_a_dry_run_says_what_would_be_signed(recorder: Recorder, checkout: Checkout, keys: Pair) -> None:
    run = checkout("--dry", "all-push", REGISTRY=recorder.host, SIGN_KEY=str(keys.private))
    assert writes(recorder) == []
    assert len(run.digests) == 1 + len(RELEASE)
    for digest in run.digests.values():
        line = f"{recorder.host}/pause@{digest}: would be signed: signature, provenance"
        assert line in run.stderr + run.stdout
