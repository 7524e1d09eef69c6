"""A run that fails between its first tag and its last names the tags that it has moved."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.checkout import RELEASE, Checkout
from tests.support.faults import answering, faulty, matching
from tests.support.registries import registry, registry_tags


@pytest.mark.parametrize("refused", ["pause-arm", "pause"])
def test_tags_that_moved_are_reported(checkout: Checkout, tmp_path: Path, refused: str) -> None:
    with registry(tmp_path / "registry") as host, faulty(host) as proxy:
        proxy.follow(matching(answering(403, "DENIED", "not today"), "PUT", f"/{refused}/manifests/3.1"))
        message = checkout.refuses(1, "all-push", REGISTRY=proxy.host)
        assert message.startswith(f"PUT http://{proxy.host}/v2/{refused}/manifests/3.1: 403 DENIED: not today\n")
        moved = dict(re.findall(rf"^  {proxy.host}/(\S+):3.1: moved to (\S+)$", message, re.MULTILINE))
        assert set(moved) == {f"pause-{arch}" for arch in RELEASE} - {refused}
        assert moved == registry_tags(host)


def test_nothing_is_said_of_tags_if_none_has_moved(checkout: Checkout, tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as host, faulty(host) as proxy:
        proxy.follow(matching(answering(403, "DENIED", "not today"), "PUT", "/manifests/3.1"))
        assert "moved" not in checkout.refuses(1, "all-push", REGISTRY=proxy.host)
        assert registry_tags(host) == {}
