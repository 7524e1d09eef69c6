"""How the property tests draw examples: the same ones in every run, and no verdict on how long one takes."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def examples(count: int) -> settings:
    """The decorator of a property test with so many examples."""
    slow = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
    shared = HealthCheck.function_scoped_fixture
    return settings(
        max_examples=count, derandomize=True, deadline=None, database=None, suppress_health_check=[*slow, shared]
    )
