"""A signed release for all tests of a worker to read, and none to change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.checkout import Checkout
from tests.support.keys import Pair, key_pair
from tests.support.registries import registry
from tests.support.signed import SignedRelease


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The pair of keys of the signed release."""
    return key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def other_keys(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Somebody else's."""
    return key_pair(tmp_path_factory.mktemp("other-keys"))


@pytest.fixture(scope="session")
def signed(source: Checkout, keys: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedRelease]:
    """A clone after one `all-push` with a key, and the registry that it went to."""
    folder = tmp_path_factory.mktemp("signed")
    checkout = Checkout.clone(source.root, folder / "checkout")
    with registry(folder / "registry") as host:
        run = checkout("all-push", REGISTRY=host, SIGN_KEY=str(keys.private))
        yield SignedRelease(checkout, run, host, folder / "registry" / "storage", keys)


@pytest.fixture(scope="session")
def unsigned(source: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedRelease]:
    """The same release without a signature: its digests are those of the signed one."""
    folder = tmp_path_factory.mktemp("unsigned")
    checkout = Checkout.clone(source.root, folder / "checkout")
    none = Pair(folder / "none", folder / "none")
    with registry(folder / "registry") as host:
        run = checkout("all-push", REGISTRY=host)
        yield SignedRelease(checkout, run, host, folder / "registry" / "storage", none)
