"""Which images run on a platform, the best first: as containerd's platforms.Only, but of one architecture."""

from __future__ import annotations

import pytest

from build.oci.platform import Platform, usable_on


def of(text: str) -> Platform:
    return Platform(*text.split("/"))


@pytest.mark.parametrize(
    ("platform", "variants"),
    [
        ("linux/amd64", "v1"),
        ("linux/amd64/v3", "v3 v2 v1"),
        ("linux/arm", "v7 v6 v5"),
        ("linux/arm/v6", "v6 v5"),
        ("linux/arm/v8", "v8 v7 v6 v5"),
        ("linux/arm64", "v8"),
        ("linux/arm64/v8.2", "v8.2 v8.1 v8"),
        ("linux/arm64/v9.1", "v9.1 v9 v8.6 v8.5 v8.4 v8.3 v8.2 v8.1 v8"),
        ("linux/s390x", ""),
        ("linux/riscv64/rva22u64", "rva22u64"),
    ],
)
def test_the_order_of_preference(platform: str, variants: str) -> None:
    wanted = of(platform)
    expected = [Platform(wanted.os, wanted.architecture, each) for each in variants.split() or [""]]
    assert usable_on(wanted) == expected


@pytest.mark.parametrize(
    ("platform", "same"),
    [
        ("linux/arm64", "linux/arm64/v8"),
        ("linux/arm64/8", "linux/arm64/v8.0"),
        ("linux/amd64", "linux/amd64/v1"),
        ("linux/arm", "linux/arm/7"),
    ],
)
def test_spellings_of_one_platform(platform: str, same: str) -> None:
    assert of(platform).normal == of(same).normal
