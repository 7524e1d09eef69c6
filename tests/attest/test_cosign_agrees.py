"""What cosign signs, `check --key` proves, and the reverse; by a policy, skopeo takes what is signed only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import results
from tests.support.cosign import cosign, skopeo
from tests.support.keys import Pair
from tests.support.signed import KEY_ONLY, Place, SignedRelease, bundle_words, cosign_proves, tag_of

PASSWORD = "open sesame"
ENVIRONMENT = {"COSIGN_PASSWORD": PASSWORD}
NO_LOG = "--tlog-upload=false"


@pytest.fixture(scope="module")
def cosigns(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A pair of keys as cosign makes it."""
    folder = tmp_path_factory.mktemp("cosign")
    cosign("generate-key-pair", env=ENVIRONMENT, folder=folder)
    return Pair(folder / "cosign.key", folder / "cosign.pub")


def proved(release: SignedRelease, place: Place, public: Path) -> dict[str, list[str]]:
    """What `check --key` proves of each digest."""
    run = release.checkout("check", "--json", "--registry", place.host, "--key", str(public))
    return {each["digest"]: each["attached"] for each in results(run) if each["kind"] == "signed"}


def each_has(release: SignedRelease, *what: str) -> dict[str, list[str]]:
    return {digest: [*what] for digest in release.digests}


def cosign_signs(place: Place, keys: Pair) -> None:
    words = ["sign", "--recursive", "--yes", NO_LOG, "--key", str(keys.private), f"{place}:3.1"]
    cosign(*words, env=ENVIRONMENT)


def test_what_cosign_signs_is_proved(unsigned: SignedRelease, cosigns: Pair, tmp_path: Path) -> None:
    with unsigned.copied(tmp_path / "registry") as place:
        cosign_signs(place, cosigns)
        assert proved(unsigned, place, cosigns.public) == each_has(unsigned, "signature")


@pytest.mark.parametrize("form", ["tag", "bundle"])
def test_what_cosign_attests_is_proved(unsigned: SignedRelease, cosigns: Pair, tmp_path: Path, form: str) -> None:
    """Beside the signature, which it takes in any case."""
    predicate = tmp_path / "predicate.json"
    definition = {"buildType": "any", "externalParameters": {}}
    details = {"builder": {"id": "https://builder.example"}}
    predicate.write_text(json.dumps({"buildDefinition": definition, "runDetails": details}))
    words = ["--new-bundle-format"] if form == "bundle" else []
    with unsigned.copied(tmp_path / "registry") as place:
        cosign_signs(place, cosigns)
        for digest in unsigned.digests:
            known = [NO_LOG, "--yes", "--key", str(cosigns.private), f"{place}@{digest}"]
            what = ["--predicate", str(predicate), "--type", "slsaprovenance1"]
            cosign("attest", *words, *what, *known, env=ENVIRONMENT)
        assert proved(unsigned, place, cosigns.public) == each_has(unsigned, "signature", "provenance")


def test_cosign_keeps_our_signatures_beside_its_own(signed: SignedRelease, cosigns: Pair, tmp_path: Path) -> None:
    with signed.copied(tmp_path / "registry") as place:
        cosign_signs(place, cosigns)
        everything = each_has(signed, "signature", "provenance", "SBOM")
        everything[signed.digests[0]].remove("SBOM")  # the list is described by its images
        assert proved(signed, place, signed.keys.public) == everything
        assert proved(signed, place, cosigns.public) == each_has(signed, "signature")
        for digest in signed.digests:
            cosign_proves(f"{place}@{digest}", signed.keys.public, tmp_path)
            cosign("verify", KEY_ONLY, "--key", str(cosigns.public), f"{place}@{digest}")


@pytest.mark.parametrize("task", ["all-push", "sign"])
def test_we_keep_cosigns_signatures_beside_ours(
    unsigned: SignedRelease, cosigns: Pair, keys: Pair, tmp_path: Path, task: str
) -> None:
    with unsigned.copied(tmp_path / "registry") as place:
        cosign_signs(place, cosigns)
        words = ["all-push", "--registry", place.host] if task == "all-push" else ["sign", f"{place}:3.1"]
        unsigned.checkout(*words, "--sign", str(keys.private))
        assert set(proved(unsigned, place, cosigns.public)) == set(unsigned.digests)
        assert set(proved(unsigned, place, keys.public)) == set(unsigned.digests)
        for digest in unsigned.digests:
            for pair in (cosigns, keys):
                cosign("verify", KEY_ONLY, "--key", str(pair.public), f"{place}@{digest}")
            assert len(place.json(tag_of(digest, ".sig"))["layers"]) == 2


def test_cosign_attests_beside_our_bundles(signed: SignedRelease, cosigns: Pair, tmp_path: Path) -> None:
    """A bundle by somebody else is a note; ours stay in the index of referrers."""
    predicate = tmp_path / "predicate.json"
    predicate.write_text('{"said": "so"}')
    [digest, *_] = signed.digests
    with signed.copied(tmp_path / "registry") as place:
        known = [NO_LOG, "--yes", "--key", str(cosigns.private), f"{place}@{digest}"]
        what = ["--predicate", str(predicate), "--type", "https://example.com/any"]
        cosign("attest", "--new-bundle-format", *what, *known, env=ENVIRONMENT)
        assert len(place.index(digest)["manifests"]) == 3
        run = signed.checkout("check", "--registry", place.host, "--key", str(signed.keys.public))
        assert "not proved by this key" in run.stderr
        cosign_proves(f"{place}@{digest}", signed.keys.public, tmp_path)
        words = [KEY_ONLY, *bundle_words(tmp_path), "--key", str(cosigns.public), f"{place}@{digest}"]
        cosign("verify-attestation", "--type", "https://example.com/any", *words)


class Policy:
    """A policy.json by which nothing is taken but what `key` has signed, and registries.d that has signatures read."""

    def __init__(self, folder: Path, place: Place, key: Path, signed_as: str = "") -> None:
        folder.mkdir()
        self.file, self.registries = folder / "policy.json", folder / "registries.d"
        self.registries.mkdir()
        rule: dict[str, Any] = {"type": "sigstoreSigned", "keyPath": str(key)}
        rule["signedIdentity"] = {"type": "matchRepository"}
        if signed_as:
            rule["signedIdentity"] = {"type": "exactRepository", "dockerRepository": signed_as}
        self.file.write_text(
            json.dumps({"default": [{"type": "reject"}], "transports": {"docker": {str(place): [rule]}}})
        )
        settings = {"docker": {place.host: {"use-sigstore-attachments": True}}}
        (self.registries / "here.yaml").write_text(json.dumps(settings))  # JSON is YAML, too

    @property
    def words(self) -> list[str]:
        return ["--policy", str(self.file), "--registries.d", str(self.registries)]


def takes(policy: Policy, reference: str, folder: Path, *words: str) -> str:
    """Empty if skopeo copies what the policy allows, else why it does not."""
    run = skopeo(
        *policy.words,
        *("copy", "--src-tls-verify=false", "--remove-signatures", *words),
        f"docker://{reference}",
        f"dir:{folder}",
        check=False,
    )
    return run.stderr if run.returncode else ""


def test_skopeo_takes_what_is_signed(signed: SignedRelease, tmp_path: Path) -> None:
    """The list by its tag with all its images, and each image by its digest."""
    policy = Policy(tmp_path / "policy", signed.place, signed.keys.public)
    assert takes(policy, f"{signed.place}:3.1", tmp_path / "list", "--all") == ""
    for number, digest in enumerate(signed.digests):
        assert takes(policy, f"{signed.place}@{digest}", tmp_path / str(number), *(["--all"] * (number == 0))) == ""


def test_skopeo_refuses_what_is_not(
    signed: SignedRelease, unsigned: SignedRelease, other_keys: Pair, tmp_path: Path
) -> None:
    policy = Policy(tmp_path / "unsigned", unsigned.place, signed.keys.public)
    assert "signature was required" in takes(policy, f"{unsigned.place}:3.1", tmp_path / "a", "--all")
    assert "signature was required" in takes(policy, f"{unsigned.place}@{unsigned.digests[1]}", tmp_path / "b")
    policy = Policy(tmp_path / "other", signed.place, other_keys.public)
    assert "invalid signature" in takes(policy, f"{signed.place}:3.1", tmp_path / "c", "--all")
    assert "invalid signature" in takes(policy, f"{signed.place}@{signed.digests[1]}", tmp_path / "d")


def test_skopeo_takes_a_copy_by_the_name_that_was_signed(signed: SignedRelease, tmp_path: Path) -> None:
    """A mirror's own name is another one, which `check` says."""
    with signed.copied(tmp_path / "registry") as place:
        policy = Policy(tmp_path / "own", place, signed.keys.public)
        assert takes(policy, f"{place}:3.1", tmp_path / "a", "--all") != ""
        policy = Policy(tmp_path / "signed", place, signed.keys.public, signed_as=str(signed.place))
        assert takes(policy, f"{place}:3.1", tmp_path / "b", "--all") == ""
        run = signed.checkout("check", f"{place}:3.1", "--key", str(signed.keys.public))
        assert f"signed as {signed.place}" in run.stderr
