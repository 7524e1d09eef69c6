"""`check` of the release: the list has exactly the images of the arches, each for its arch, all of one release."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checkout import RELEASE, Checkout, Run, results
from tests.support.reading import skopeo
from tests.support.registries import Recorder
from tests.support.strangers import Json, Shelf, elf, tape

Released = tuple[Checkout, Run]


@pytest.fixture
def mine(released: Released, checkout: Checkout) -> Checkout:
    """A clone with a release in `dist` that may be damaged."""
    shutil.copytree(released[0].root / "dist", checkout.root / "dist")
    return checkout


def shelf(checkout: Checkout, name: str = "") -> Shelf:
    return Shelf(checkout.root / "dist" / ("pause" + (name and f"-{name}")))


def tagged(kept: Shelf) -> Json:
    [entry] = json.loads((kept.folder / "index.json").read_bytes())["manifests"]
    return {key: value for key, value in entry.items() if key != "annotations"}


def test_it_prints_what_all_push_printed(mine: Checkout, released: Released) -> None:
    shutil.rmtree(mine.root / ".git")
    before = mine.snapshot()
    run = mine("check")
    assert run.stdout == released[1].stdout
    notes = run.stderr.splitlines()
    assert len(notes) == 2  # arm's image is in two repositories
    assert all(
        note.endswith("variant of linux/arm/v7 not proved: no record of the CPU can be read in it") for note in notes
    )
    assert mine.snapshot() == before
    told = results(mine("check", "--json"))
    assert {each["change"] for each in told} == {"verified"}
    assert [each["platform"] for each in told[:3]] == [None, "linux/amd64", "linux/arm/v7"]


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_a_release_in_a_registry(checkout: Checkout, recorder: Recorder, form: str) -> None:
    run = checkout("all-push", "--format", form, REGISTRY=f"{recorder.host}/team")
    recorder.forget()
    assert checkout("check", "--registry", f"{recorder.host}/team").stdout == run.stdout
    assert {each.method for each in recorder.exchanges} == {"GET"}
    for line in run.stdout.splitlines():
        assert checkout("check", line).digests


def test_some_arches_only(checkout: Checkout) -> None:
    checkout("all-push", ALL_ARCH="arm riscv64")
    assert len(checkout("check", ALL_ARCH="arm riscv64").digests) == 3
    message = checkout.refuses(1, "check", "--arch", "arm")
    assert "linux/riscv64: found" in message
    assert "expected only the entries of the release" in message


def test_nothing_published(checkout: Checkout) -> None:
    message = checkout.refuses(1, "check")
    assert "6 faults" in message
    assert "oci:dist/pause:3.1: not found\n" in message
    assert "5 more failed for the same reason" in message


def a_mixture(checkout: Checkout) -> list[str]:
    old = tagged(shelf(checkout, "arm"))["digest"]
    checkout("push", "--arch", "arm", REV="other")
    new = tagged(shelf(checkout, "arm"))["digest"]
    return [
        f"linux/arm/v7: found {old}, expected {new}",
        "if the list is from another release",
        "label org.opencontainers",
    ]


def a_list_of_a_mixture(checkout: Checkout) -> list[str]:
    a_mixture(checkout)
    checkout("push-manifest")
    return ["label org.opencontainers.image.revision: found 'other', expected"]


def a_missing_entry(checkout: Checkout) -> list[str]:
    kept = shelf(checkout)
    entries = kept.read(tagged(kept))["manifests"]
    kept.tag("3.1", kept.index(*entries[1:]))
    return ["linux/amd64: found no entry"]


def an_entry_of_others(checkout: Checkout) -> list[str]:
    kept = shelf(checkout)
    kept.tag("3.1", kept.index(*kept.read(tagged(kept))["manifests"], kept.image("linux/386")))
    return ["linux/386: found sha256:", "expected only the entries of the release"]


def a_wrong_variant(checkout: Checkout) -> list[str]:
    kept = shelf(checkout, "arm")
    kept.tag("3.1", kept.image("linux/arm/v6"))
    return ["found linux/arm/v6 in the config, expected linux/arm/v7 for arch arm"]


def a_wrong_program(checkout: Checkout) -> list[str]:
    kept = shelf(checkout, "arm64")
    kept.tag("3.1", kept.image("linux/arm64", [tape({"app": elf("s390x")})]))
    return ["found EM_S390, expected EM_AARCH64"]


def a_program_that_is_not_whole(checkout: Checkout) -> list[str]:
    kept = shelf(checkout, "arm64")
    kept.tag("3.1", kept.image("linux/arm64"))
    return ["program '/app': "]


def a_list_for_an_image(checkout: Checkout) -> list[str]:
    kept = shelf(checkout, "arm64")
    kept.tag("3.1", kept.index(tagged(kept)))
    return ["pause-arm64:3.1: found a list, expected an image"]


def an_image_for_the_list(checkout: Checkout) -> list[str]:
    kept = shelf(checkout)
    kept.tag("3.1", kept.read(tagged(kept))["manifests"][0])
    return ["pause:3.1: found an image, expected a list"]


def a_bit_in_the_lists_repository_alone(checkout: Checkout) -> list[str]:
    kept = shelf(checkout)
    image = kept.read(tagged(kept))["manifests"][2]
    layer = kept.read(image)["layers"][0]["digest"]
    path = kept.path(layer)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes((data[-1] ^ 128,)))
    return [f"oci:dist/pause@{layer}", f"expected {layer}"]


@pytest.mark.parametrize(
    "damage",
    [
        a_mixture,
        a_list_of_a_mixture,
        a_missing_entry,
        an_entry_of_others,
        a_wrong_variant,
        a_wrong_program,
        a_program_that_is_not_whole,
        a_list_for_an_image,
        an_image_for_the_list,
        a_bit_in_the_lists_repository_alone,
    ],
)
def test_damage_is_reported(mine: Checkout, damage: Callable[[Checkout], list[str]]) -> None:
    words = damage(mine)
    message = mine.refuses(1, "check")
    for word in words:
        assert word in message


def test_a_copy_by_skopeo_is_the_same_release(mine: Checkout, recorder: Recorder) -> None:
    for name in ("pause", *(f"pause-{arch}" for arch in RELEASE)):
        target = f"docker://{recorder.host}/{name}:3.1"
        skopeo("copy", "--all", "--dest-tls-verify=false", f"oci:dist/{name}:3.1", target, cwd=mine.root)
    expected = mine("check").stdout.replace("oci:dist", recorder.host)
    assert mine("check", REGISTRY=recorder.host).stdout == expected


def test_dry_has_no_effect(mine: Checkout, tmp_path: Path) -> None:
    assert [line.split()[0] for line in mine("--dry", "check").stdout.splitlines()] == ["verified"] * 6
    assert not any(tmp_path.glob("*.tmp"))
