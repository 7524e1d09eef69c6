"""All images of a run to all of its registries: side by side, and each ends by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from build.release.crew import each_by_itself
from build.release.outcomes import begun
from build.release.release import Made, Release, Workshop
from build.stores.store import Sink

R = TypeVar("R")

# Of one image: the same release for each registry.
Releases = Sequence[Release]
Sinks = Sequence[tuple[Release, Sink]]
# Waits for the end of what is under way, or does it.
End = Callable[[], Sequence[R]]


@contextmanager
def sinks_of(images: Sequence[Releases]) -> Iterator[Sequence[Sinks]]:
    """Where each release goes; at the end, also a sudden one, nothing that leads there is kept open."""
    sinks = [[(release, release.sink()) for release in releases] for releases in images]
    try:
        yield sinks
    finally:
        for places in sinks:
            for _, sink in places:
                sink.close()


def publishers_of(images: Sequence[Releases]) -> Executor:
    """Threads enough for what waits for other threads: every release, and what an image leaves on disk meanwhile."""
    return ThreadPoolExecutor(sum(len(releases) + 1 for releases in images))


def everywhere(publishers: Executor, sinks: Sinks, publishing: Callable[[Release, Sink], list[Made]]) -> End[Made]:
    """Begin it for all registries of an image; what is returned waits for all, and says of each how it ended."""
    ends = {release.registry: begun(publishers, partial(publishing, release, sink)).result for release, sink in sinks}
    return partial(each_by_itself, "registries", ends, sinks[0][0].report)


def each_image(images: Sequence[Releases], ends: Iterable[End[R]]) -> list[R]:
    """The results of all images, in their order; the failure of one stops no other."""
    named = {releases[0].image.name: end for releases, end in zip(images, ends, strict=True)}
    return each_by_itself("images", named, images[0][0].report)


def in_each(shops: Sequence[Workshop], do: Callable[[Workshop], Sequence[R]]) -> list[R]:
    """Do it for one image after another."""
    return each_image([shop.releases for shop in shops], [partial(do, shop) for shop in shops])


def in_turn(images: Sequence[Releases], do: Callable[[Release], Sequence[R]]) -> list[R]:
    """Do it for one release after another."""

    def done(releases: Releases) -> list[R]:
        ends = {release.registry: partial(do, release) for release in releases}
        return each_by_itself("registries", ends, releases[0].report)

    return each_image(images, [partial(done, releases) for releases in images])
