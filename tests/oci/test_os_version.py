"""os.version: in platforms, as a parser of what others wrote takes it, and as containerd matches it."""

from __future__ import annotations

import json

import pytest

from build.errors import ImageError
from build.oci.image import image_of, index_of
from build.oci.media_types import OCI
from build.oci.parse import parse_config, parse_manifest
from build.oci.platform import Platform

LTSC2022 = "windows(10.0.20348.3091)/amd64"


def config(**members: object) -> bytes:
    return json.dumps({"rootfs": {"type": "layers", "diff_ids": []}, **members}).encode()


def listing(platform: dict[str, object]) -> bytes:
    entry = {
        "mediaType": OCI.manifest,
        "digest": "sha256:" + "0" * 64,
        "size": 1,
        "platform": {"architecture": "amd64", **platform},
    }
    return json.dumps({"schemaVersion": 2, "mediaType": OCI.index, "manifests": [entry]}).encode()


def test_its_spelling_is_containerds() -> None:
    platform = Platform("windows", "amd64", os_version="10.0.20348.3091")
    assert str(platform) == LTSC2022
    assert Platform.parse(LTSC2022) == platform
    assert platform.fields() == {"architecture": "amd64", "os": "windows", "os.version": "10.0.20348.3091"}
    assert Platform.of(platform.fields()) == platform
    assert str(platform.unversioned) == "windows/amd64"
    assert "os.version" not in Platform("linux", "amd64").fields()


@pytest.mark.parametrize("text", ["windows()/amd64", "windows(10.0/amd64", "windows(1 0)/amd64", "windows/(10.0)amd64"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("image", "node", "runs"),
    [
        ("windows(10.0.17763.1)/amd64", "windows(10.0.17763.6775)/amd64", True),
        ("windows(10.0.17763.1)/amd64", "windows(10.0.20348.1)/amd64", False),
        ("windows(10.0.20348.1)/amd64", "windows(10.0.17763.1)/amd64", False),
        ("windows(10.0.20348.1)/amd64", "windows(10.0.26100.1)/amd64", True),
        ("windows(10.0.26100.1)/amd64", "windows(10.0.20348.1)/amd64", False),
        ("windows(10.1.20348.1)/amd64", "windows(10.0.20348.1)/amd64", False),
        ("windows/amd64", "windows(10.0.20348)/amd64", True),
        ("windows(10.0.17763.1)/amd64", "windows/amd64", True),
        ("windows(10.0.20348.1)/amd64", "windows(10.0.20348.1)/arm64", False),
        ("windows(10.0.20348.1)/amd64", "linux/amd64", False),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux(5.10)/amd64", "linux/amd64", True),
    ],
)
def test_nodes_take_what_they_can_run(image: str, node: str, runs: bool) -> None:
    assert Platform.parse(image).runs_on(Platform.parse(node)) is runs


def test_it_is_read_from_configs_and_lists() -> None:
    version = {"os.version": "10.0.20348.3091"}
    parsed = parse_config(config(os="windows", architecture="amd64", **version))
    assert str(parsed.platform) == LTSC2022
    entries = parse_manifest(listing({"os": "windows", **version}), OCI.index)
    assert isinstance(entries, tuple)
    assert str(entries[0].platform) == LTSC2022


@pytest.mark.parametrize("version", ["ltsc2022", "10", "10.0", "10.0.x", "10.0.20348.1.2", "../../x"])
def test_a_version_that_readers_could_take_differently(version: str) -> None:
    with pytest.raises(ImageError, match=r"os\.version: found"):
        parse_config(config(os="windows", architecture="amd64", **{"os.version": version}))
    with pytest.raises(ImageError, match=r"manifests\[0\]: os\.version: found"):
        parse_manifest(listing({"os": "windows", "os.version": version}), OCI.index)


@pytest.mark.parametrize("version", [1, ["10.0"], {}])
def test_a_version_that_is_no_string(version: object) -> None:
    with pytest.raises(ImageError, match=r"os\.version: found"):
        parse_config(config(os="linux", architecture="amd64", **{"os.version": version}))


def test_two_entries_of_one_platform_differ_in_it() -> None:
    base = {"os": "windows", "architecture": "amd64", "config": {}, "history": []}
    one, other = (image_of({**base, "os.version": f"10.0.{build}.1"}, [], OCI) for build in (17763, 20348))
    index = index_of([one, other])
    found = [each["platform"]["os.version"] for each in json.loads(index.manifest.data)["manifests"]]
    assert found == ["10.0.17763.1", "10.0.20348.1"]
    with pytest.raises(ImageError, match=r"more than one image for platform windows\(10\.0\.17763\.1\)/amd64"):
        index_of([one, other, one])
