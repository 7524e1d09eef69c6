"""--parallel: how many requests are in flight to a registry, for every task that talks to one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.checkout import Checkout, Run
from tests.support.model_registry import Model, model_registry

Released = tuple[Checkout, Run]


@pytest.fixture
def model() -> Iterator[Model]:
    """Anyone needs a token here."""
    with model_registry() as made:
        made.hides = 401
        yield made


@pytest.mark.parametrize("number", [1, 3])
def test_so_many_are_in_flight_and_no_more(checkout: Checkout, released: Released, model: Model, number: int) -> None:
    model.gather = number
    run = checkout("all-push", "--parallel", str(number), REGISTRY=model.host, PARALLEL="9")
    assert list(run.digests.values()) == list(released[1].digests.values())
    assert model.most == number


def test_one_after_the_other_in_every_task(checkout: Checkout, model: Model) -> None:
    environment = {"REGISTRY": model.host, "PARALLEL": "1"}
    checkout("all-push-images", **environment)
    checkout("push-manifest", **environment)
    checkout("push", "--overwrite", **environment, REV="other")
    checkout("push", "--overwrite", **environment)
    for task in ("check", "plan", "use"):
        checkout(task, **environment)
    checkout("copy", model.host, f"{model.host}/to", PARALLEL="1")
    checkout("copy", f"{model.host}/to", "oci-archive:release.tar", PARALLEL="1")
    assert model.most == 1


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "many", "9" * 5000], ids=lambda text: text[:5])
@pytest.mark.parametrize("name", ["parallel", "timeout"])
def test_anything_but_a_positive_whole_number(released: Released, name: str, given: str) -> None:
    for words, environment in (([f"--{name}={given}"], {}), ([], {name.upper(): given})):
        message = released[0].refuses(2, "check", *words, **environment)
        assert f"{name}: found {given!r}, expected a positive whole number of " in message
