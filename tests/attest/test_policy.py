"""`use --key`: with the settings that it prints, nothing is taken from the repository but what the key has signed."""

from __future__ import annotations

from pathlib import Path

from tests.support.checkout import Checkout, results
from tests.support.cosign import cosign, skopeo
from tests.support.keys import Pair
from tests.support.registries import registry
from tests.support.signed import Place, SignedRelease


def settings(checkout: Checkout, reference: str, key: Path, folder: Path) -> list[str]:
    """skopeo's words for the files that `use` prints, written below `folder` as a node would have them."""
    printed = results(checkout("use", reference, "--key", str(key), "--json"))
    by_path = {each["path"]: each["text"] for each in printed}
    files = ["/etc/containers/policy.json", "/etc/containers/registries.d/50-pause.yaml"]
    for path in files:
        (folder / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (folder / path[1:]).write_text(by_path[path] + "\n")
    policy, registries = (folder / path[1:] for path in files)
    return ["--policy", str(policy), "--registries.d", str(registries.parent)]


def taken(words: list[str], reference: str, folder: Path) -> bool:
    command = [
        *words,
        "copy",
        "--src-tls-verify=false",
        "--remove-signatures",
        f"docker://{reference}",
        f"dir:{folder}",
    ]
    return skopeo(*command, check=False).returncode == 0


def test_skopeo_takes_what_is_signed_and_refuses_the_rest(
    signed: SignedRelease, unsigned: SignedRelease, tmp_path: Path
) -> None:
    words = settings(signed.checkout, f"{signed.place}:3.1", signed.keys.public, tmp_path / "node")
    assert taken(words, f"{signed.place}:3.1", tmp_path / "tag")
    for number, digest in enumerate(signed.digests[1:]):
        assert taken(words, f"{signed.place}@{digest}", tmp_path / str(number))
    # Other repositories are none of this policy's business.
    assert taken(words, f"{unsigned.place}:3.1", tmp_path / "elsewhere")


def test_another_image_in_the_repository_is_refused(checkout: Checkout, signed: SignedRelease, tmp_path: Path) -> None:
    with signed.copied(tmp_path / "registry") as place:
        checkout("sign", f"{place}:3.1", "--sign", str(signed.keys.private))
        words = settings(checkout, f"{place}:3.1", signed.keys.public, tmp_path / "node")
        checkout("all-push", "--tag", "4", REGISTRY=place.host)
        assert taken(words, f"{place}:3.1", tmp_path / "signed")
        assert not taken(words, f"{place}:4", tmp_path / "unsigned")


def test_a_copy_is_taken_by_the_name_that_was_signed(signed: SignedRelease, tmp_path: Path) -> None:
    with signed.copied(tmp_path / "registry") as place:
        words = settings(signed.checkout, f"{place}:3.1", signed.keys.public, tmp_path / "node")
        assert taken(words, f"{place}:3.1", tmp_path / "copy")


def test_what_nodes_would_refuse_gets_no_settings(
    checkout: Checkout, unsigned: SignedRelease, signed: SignedRelease, other_keys: Pair
) -> None:
    message = checkout.refuses(1, "use", f"{unsigned.place}:3.1", "--key", str(signed.keys.public))
    assert "in cosign's form, the only one that nodes know\n  sign it: invoke sign" in message
    assert "found no signature" in checkout.refuses(1, "use", f"{signed.place}:3.1", "--key", str(other_keys.public))


def test_a_list_whose_images_are_not_signed_gets_none(checkout: Checkout, tmp_path: Path) -> None:
    """cosign signs only the list, unless it is told otherwise; nodes ask for the signature of the image."""
    with registry(tmp_path / "registry") as host:
        place = Place(host)
        run = checkout("all-push", REGISTRY=host)
        digest = next(iter(run.digests.values()))
        cosign("generate-key-pair", folder=tmp_path)
        cosign("sign", "--key", str(tmp_path / "cosign.key"), "--tlog-upload=false", f"{place}@{digest}")
        message = checkout.refuses(1, "use", f"{place}:3.1", "--key", str(tmp_path / "cosign.pub"))
    assert "found no signature" in message
    assert f"{place}@{digest}: found" not in message
