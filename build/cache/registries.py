"""The registries that runs have published to, so that `clean` can say what it leaves there."""

from __future__ import annotations

from collections.abc import Iterable

from build.cache.cache import Cache

_NOTE = "registries"


def remember(cache: Cache, registries: Iterable[str]) -> None:
    """Note where a run has published."""
    before = remembered(cache)
    if new := {*registries} - {*before}:
        cache.put_note(_NOTE, "\n".join([*before, *sorted(new)]).encode(errors="surrogateescape"))


def remembered(cache: Cache) -> list[str]:
    """The registries that runs have published to since the cache is there, as their users wrote them."""
    return (cache.get_note(_NOTE) or b"").decode(errors="surrogateescape").splitlines()
