"""Things done side by side, with one answer for all of their failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

from build.errors import BuildError
from build.release.outcomes import Outcome, begun

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(pool: Executor, do: Callable[[T], R], things: Iterable[T]) -> list[R]:
    """Do it for all things at once; return the results in the things' order, or raise as `results` does."""
    return results([begun(pool, partial(do, thing)) for thing in things])


def results(running: Iterable[Outcome[R]]) -> list[R]:
    """The results, once none is under way any more.

    Raises the first failure; where several things failed for reasons of their own, its message holds them all.
    """
    return all_or_failures([each.failure() or each.result() for each in running])


def all_or_failures(ends: Sequence[R | BaseException]) -> list[R]:
    """The results, if there is no failure among them; else raise as `results` does."""
    failures = [end for end in ends if isinstance(end, BaseException)]
    for failure in failures:
        if not isinstance(failure, BuildError):
            raise failure
    if failures:
        raise type(failures[0])("\n".join(dict.fromkeys(map(str, failures)))) from None
    return [end for end in ends if not isinstance(end, BaseException)]


def each_by_itself(
    things: str, ends: Mapping[str, Callable[[], Sequence[R]]], report: Callable[[str], None]
) -> list[R]:
    """The results of several `things`, by their names and in their order; the failure of one stops no other.

    Each end is waited for, and told to `report`. Raises BuildError with all that failed. Of one thing alone nothing is
    said, and its failure is raised as it is.
    """
    if len(ends) == 1:
        return [result for end in ends.values() for result in end()]
    made: list[R] = []
    failures: dict[str, Exception] = {}
    for name, end in ends.items():
        try:
            made += end()
        except Exception as error:  # noqa: BLE001
            failures[name] = error
        report(f"{name}: {'failed' if name in failures else 'done'}")
    for failure in failures.values():
        if not isinstance(failure, BuildError):
            raise failure
    if failures:
        words = "\n".join(f"{name}: {error}" for name, error in failures.items()).replace(_AGAIN, "")
        raise BuildError(f"{len(failures)} of {len(ends)} {things} failed\n{words}{_AGAIN}")
    return made


_AGAIN = "\n  run this again: what is done is not repeated"
