"""The story of a release, top to bottom: compile, image, publish, manifest list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from build.compilers.compiler import Program
from build.config.arches import Arch
from build.errors import BuildError
from build.oci.oci import Image, Index, index
from build.oci.reference import archive_file
from build.release.build import Binaries, Found, all_images, binaries, finish_images, leave_archives, leave_binaries
from build.release.crew import side_by_side
from build.release.everywhere import End, Releases, Sinks, each_image, everywhere, in_each, publishers_of, sinks_of
from build.release.outcomes import Outcome, begun, finished
from build.release.publishing import as_far_as_asked, publish_images, publish_list, push_by_daemon, refuse_layouts
from build.release.release import Daemon, Made, Release, Workshop
from build.release.senders import Senders, at_work
from build.stores.store import Sink, Source


def build(shops: Sequence[Workshop]) -> list[Made]:
    """`bin/NAME-A` for every arch: the image's program."""
    return _build(shops, lambda shop: [shop.program()])


def companions(shops: Sequence[Workshop]) -> list[Made]:
    """`bin/orphan-A` and the like: programs that go with the image's, but never into it."""
    return _build(shops, lambda shop: [shop.program(name) for name in shop.release.image.companions])


def container(shops: Sequence[Workshop]) -> list[Made]:
    """`build`, then the image of every arch: in the daemon, or in `bin/NAME-A.tar`, ready to be loaded."""
    with ThreadPoolExecutor(1) as finisher, binaries(shops, [shop.program() for shop in shops]) as found:

        def contained(shop: Workshop) -> list[Made]:
            compiled = found[shop.program()]
            if shop.daemon:
                from build.engines.docker import build_images

                return build_images(shop, shop.daemon, compiled)
            return leave_archives(shop, compiled, all_images(compiled, finish_images(shop, compiled, finisher)))

        return in_each(shops, contained)


def push(shops: Sequence[Workshop]) -> list[Made]:
    """`container`, then the tag of every arch."""
    daemon = shops[0].daemon
    return _by_daemon(shops, daemon, with_list=False) if daemon else _make_and_publish(shops, with_list=False)


def all_push(shops: Sequence[Workshop]) -> list[Made]:
    """`push`, then the tag of the manifest list that holds them all."""
    daemon = shops[0].daemon
    return _by_daemon(shops, daemon, with_list=True) if daemon else _make_and_publish(shops, with_list=True)


def plan(shops: Sequence[Workshop]) -> list[Made]:
    """Every step of `all_push` and why it is due, with dry `shops`; "refused" is what it would not do unasked."""
    with _under_way(shops) as run:

        def planned(shop: Workshop, places: Sinks) -> Sequence[Made]:
            compiled = run.found[shop.program()]
            steps = leave_binaries(shop, shop.program(), compiled)
            if shop.daemon:
                from build.engines.docker import build_images

                built = build_images(shop, shop.daemon, compiled)
                publishing = partial(push_by_daemon, shop.daemon, built, True, run.senders)
            else:
                images = finish_images(shop, compiled, run.finisher)
                built = leave_archives(shop, compiled, all_images(compiled, images))
                publishing = partial(publish_images, images, index, run.senders)
            tags = everywhere(run.publishers, places, partial(as_far_as_asked, publishing))()
            order = [str(arch.platform) for arch in shop.release.arches] + [None]
            return sorted([*steps, *built, *tags], key=lambda made: order.index(made.platform))

        return each_image(run.releases, [partial(planned, *pair) for pair in zip(shops, run.sinks, strict=True)])


def push_manifest(images: Sequence[Releases]) -> list[Made]:
    """The tag of the manifest list, made from what the tags of the arches refer to: nothing is built.

    Raises PublishError or ImageError that names the arch if an image is missing or is not its row's.
    """
    with publishers_of(images) as publishers, sinks_of(images) as sinks, at_work() as senders:
        listing = partial(publish_list, senders)
        return each_image(images, [everywhere(publishers, places, listing) for places in sinks])


def copy(origins: Releases, source: Source, targets: Releases, root: Path) -> list[Made]:
    """The tags of `targets`, from what the tags of `origins` refer to in `source`: the same bytes throughout.

    Each is of an image. An archive to write is seen from `root`, and holds all of them or is not written.
    Raises PublishError, ImageError or ElfError, before anything of a release is written, if that is not whole there.
    """
    from build.release.copy import fetched, pack, refuse_docker_format

    packed = archive_file(targets[0].registry)
    on_disk = packed or targets[0].list_tag().repository.on_disk
    images = [(target,) for target in targets]
    with publishers_of(images) as publishers, closing(source), at_work() as senders:

        def proved(origin: Release) -> Index:
            listed = fetched(source, origin, senders)
            if on_disk:
                refuse_docker_format(listed, origin.list_tag())
            return listed

        def copied(origin: Release, target: Release, sink: Sink) -> list[Made]:
            listed = proved(origin)
            made = {arch: finished(image) for arch, image in zip(target.arches, listed.images, strict=True)}
            return publish_images(made, lambda _: listed, senders, target, sink)

        if packed:
            return pack(targets, side_by_side(publishers, proved, origins), root / packed)
        with sinks_of(images) as sinks:
            pairs = zip(origins, sinks, strict=True)
            return each_image(images, [everywhere(publishers, into, partial(copied, origin)) for origin, into in pairs])


def _build(shops: Sequence[Workshop], programs: Callable[[Workshop], list[Program]]) -> list[Made]:
    with binaries(shops, [program for shop in shops for program in programs(shop)]) as found:
        return in_each(
            shops, lambda shop: [made for each in programs(shop) for made in leave_binaries(shop, each, found[each])]
        )


@dataclass(frozen=True)
class _Run:
    """What is under way: binaries, and who finishes and sends what comes of them, and where to."""

    releases: Sequence[Releases]
    found: Found
    sinks: Sequence[Sinks]
    senders: Senders
    finisher: Executor
    publishers: Executor


@contextmanager
def _under_way(shops: Sequence[Workshop]) -> Iterator[_Run]:
    """The compilers at work, and all else ready. What ends this first ends all sending, and then the compilers."""
    refuse_layouts(shops)
    releases = [shop.releases for shop in shops]
    with (
        ThreadPoolExecutor(1) as finisher,
        publishers_of(releases) as publishers,
        binaries(shops, [shop.program() for shop in shops]) as found,
        sinks_of(releases) as sinks,
        at_work() as senders,
    ):
        yield _Run(releases, found, sinks, senders, finisher, publishers)


def _make_and_publish(shops: Sequence[Workshop], with_list: bool) -> list[Made]:
    with _under_way(shops) as run, ExitStack() as gates:
        ends = []
        for shop, places in zip(shops, run.sinks, strict=True):
            compiled = run.found[shop.program()]
            images = finish_images(shop, compiled, run.finisher)
            archives = begun(run.publishers, partial(_archived, shop, compiled, images))
            ready = gates.enter_context(_gated(shop, compiled, places, images=images))
            publishing = partial(publish_images, images, index if with_list else None, run.senders)
            ends.append(partial(_ended, everywhere(run.publishers, ready, publishing), archives))
        return each_image(run.releases, ends)


def _archived(shop: Workshop, compiled: Binaries, images: Mapping[Arch, Outcome[Image]]) -> list[Made]:
    return leave_archives(shop, compiled, all_images(compiled, images))


def _ended(published: End[Made], archives: Outcome[list[Made]]) -> Sequence[Made]:
    try:
        made = published()
    except BuildError:
        archives.result()  # a failed compilation explains more than what followed from it
        raise
    archives.result()
    return made


def _by_daemon(shops: Sequence[Workshop], daemon: Daemon, with_list: bool) -> list[Made]:
    """One image after another: the daemon takes its time for each, and moves tags while it pushes."""
    from build.engines.docker import build_images

    with _under_way(shops) as run:

        def published(shop: Workshop, places: Sinks) -> Sequence[Made]:
            compiled = run.found[shop.program()]
            built = build_images(shop, daemon, compiled)
            with _gated(shop, compiled, places, built=built) as ready:
                pushing = partial(push_by_daemon, daemon, built, with_list, run.senders)
                return everywhere(run.publishers, ready, pushing)()

        return each_image(run.releases, [partial(published, *pair) for pair in zip(shops, run.sinks, strict=True)])


@contextmanager
def _gated(
    shop: Workshop,
    found: Binaries,
    sinks: Sinks,
    images: Mapping[Arch, Outcome[Image]] | None = None,
    built: Sequence[Made] = (),
) -> Iterator[Sinks]:
    """The same sinks, where no tag moves before every arch has passed, if that is wanted."""
    if shop.verifying is None:
        yield sinks
        return
    from build.verify.verify import archived, gate, saved

    with gate(
        shop, shop.verifying, found, saved(shop, built) if images is None else archived(shop, images)
    ) as before_tags:
        yield [(release.gated(before_tags), sink) for release, sink in sinks]
