"""Fixtures: clones of this checkout, and registries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkout import Checkout, Run, origin
from tests.registries import Recorder, recording, registry


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A repository with the checkout's files, for all tests of a worker to clone and none to change."""
    return origin(tmp_path_factory.mktemp("source") / "repository")


@pytest.fixture
def checkout(source: Checkout, tmp_path: Path) -> Checkout:
    """A fresh clone."""
    return Checkout.clone(source.root, tmp_path / "checkout")


@pytest.fixture(scope="session")
def released(source: Checkout, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, Run]:
    """A clone after one `all-push` with nothing set, and how that went; to be read, not changed."""
    checkout = Checkout.clone(source.root, tmp_path_factory.mktemp("released") / "checkout")
    return checkout, checkout("all-push")


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """An empty registry, behind a recorder."""
    with registry(tmp_path / "registry") as host, recording(host) as between:
        yield between
