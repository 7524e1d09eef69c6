"""Settings of the property tests: the same examples in every run, and no time limit for one."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def examples(count: int) -> settings:
    """The decorator of a property test that tries `count` examples."""
    slow = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
    shared = HealthCheck.function_scoped_fixture
    return settings(
        max_examples=count, derandomize=True, deadline=None, database=None, suppress_health_check=[*slow, shared]
    )
