"""The story of a release, top to bottom: compile, image, publish, manifest list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from build.arches import Arch
from build.crew import finished
from build.errors import BuildError, PublishError, UsageError
from build.events import DONE, PUSH, then
from build.making import Binaries, all_images, binaries, finish_images, leave_archives, leave_binaries
from build.oci import OCI, Image, Index, index
from build.publish import Sink, Source, publish, survey
from build.reference import archive_file
from build.release import Daemon, Made, Release, Workshop, why_a_tag

# Requests wait far more than they work, and threads that are not needed are never made.
SENDERS = 256

Sinks = Sequence[tuple[Release, Sink]]


def build(shop: Workshop) -> list[Made]:
    """`bin/NAME-A` for every arch: the image's program."""
    return _build(shop, "")


def companions(shop: Workshop) -> list[Made]:
    """`bin/orphan-A` and the like: programs that go with the image's, but never into it."""
    return [made for name in shop.release.image.companions for made in _build(shop, name)]


def container(shop: Workshop) -> list[Made]:
    """`build`, then the image of every arch: in the daemon, or in `bin/NAME-A.tar`, ready to be loaded."""
    program = shop.program()
    with ThreadPoolExecutor(SENDERS) as pool, binaries(shop, program) as found:
        if shop.daemon:
            from build.daemon_images import build_images

            return build_images(shop, shop.daemon, found, pool)
        return leave_archives(shop, found, all_images(found, finish_images(shop, program, found, pool)))


def push(shop: Workshop) -> list[Made]:
    """`container`, then the tag of every arch."""
    return _by_daemon(shop, shop.daemon, with_list=False) if shop.daemon else _make_and_publish(shop, with_list=False)


def all_push(shop: Workshop) -> list[Made]:
    """`push`, then the tag of the manifest list that holds them all."""
    return _by_daemon(shop, shop.daemon, with_list=True) if shop.daemon else _make_and_publish(shop, with_list=True)


def plan(shop: Workshop) -> list[Made]:
    """Every step of `all_push` and why it is due, with a dry `shop`; "refused" is what it would not do unasked."""
    _refuse_layouts(shop)
    program = shop.program()
    with ThreadPoolExecutor(SENDERS) as pool, binaries(shop, program) as found, _sinks(shop.releases) as sinks:
        steps = leave_binaries(shop, program, found)
        if shop.daemon:
            from build.daemon_images import build_images

            built = build_images(shop, shop.daemon, found, pool)
            steps += built
            publishing = partial(_push_by_daemon, shop.daemon, pool, True, built)
        else:
            images = finish_images(shop, program, found, pool)
            steps += leave_archives(shop, found, all_images(found, images))
            publishing = partial(_publish, images, index, pool)
        steps += _everywhere(pool, sinks, partial(_as_far_as_asked, publishing))
    order = [str(arch.platform) for arch in shop.release.arches] + [None]
    return sorted(steps, key=lambda made: order.index(made.platform))


def push_manifest(releases: Sequence[Release]) -> list[Made]:
    """The tag of the manifest list, made from what the tags of the arches refer to: nothing is built.

    Raises PublishError or ImageError that names the arch if an image is missing or is not its row's.
    """
    with ThreadPoolExecutor(SENDERS) as pool, _sinks(releases) as sinks:
        return _everywhere(pool, sinks, partial(_list_what_is_there, pool))


def copy(origin: Release, source: Source, target: Release, root: Path) -> list[Made]:
    """The tags of `target`, from what the tags of `origin` refer to in `source`: the same bytes throughout.

    An archive to write is seen from `root`.
    Raises PublishError, ImageError or ElfError, before anything is written, if the release there is not whole.
    """
    from build.copying import fetched, pack, refuse_docker_format

    packed, repository = archive_file(target.registry), target.list_tag().repository
    with ThreadPoolExecutor(SENDERS) as pool, closing(source):
        listed = fetched(source, origin, pool)
        if packed or repository.on_disk:
            refuse_docker_format(listed, origin.list_tag())
        if packed:
            return pack(target, listed, root / packed)
        images = {arch: finished(image) for arch, image in zip(target.arches, listed.images, strict=True)}
        with _sinks([target]) as sinks:
            return _everywhere(pool, sinks, partial(_publish, images, lambda _: listed, pool))


def _build(shop: Workshop, companion: str) -> list[Made]:
    program = shop.program(companion)
    with binaries(shop, program) as found:
        return leave_binaries(shop, program, found)


def _refuse_layouts(shop: Workshop) -> None:
    """Raise UsageError if an image is to go to a folder that is of no use there, or can't get there."""
    for release in (each for each in shop.releases if each.list_tag().repository.on_disk):
        if shop.daemon:
            raise UsageError(
                f"REGISTRY {release.registry}: found a folder, expected a registry, as a daemon pushes to no other"
                "\n  name one, as REGISTRY=localhost:5000; or write the folder with --engine embedded"
            )
        if shop.form is not OCI:
            raise UsageError(
                f"{release.list_tag()}: found format {shop.form.name}, expected oci: readers of a layout know no other"
                "\n  use --format oci, or publish to a registry"
            )


def _make_and_publish(shop: Workshop, with_list: bool) -> list[Made]:
    program = shop.program()
    _refuse_layouts(shop)
    with (
        ThreadPoolExecutor(SENDERS) as senders,
        ThreadPoolExecutor(1) as finisher,
        binaries(shop, program) as found,
        _sinks(shop.releases) as sinks,
    ):
        images = finish_images(shop, program, found, finisher)
        archives = senders.submit(lambda: leave_archives(shop, found, all_images(found, images)))
        try:
            with _gated(shop, found, sinks, images=images) as ready:
                made = _everywhere(senders, ready, partial(_publish, images, index if with_list else None, senders))
        except BuildError:
            archives.result()  # a failed compilation explains more than what followed from it
            raise
        archives.result()
        return made


def _by_daemon(shop: Workshop, daemon: Daemon, with_list: bool) -> list[Made]:
    from build.daemon_images import build_images

    _refuse_layouts(shop)
    with ThreadPoolExecutor(SENDERS) as pool, binaries(shop, shop.program()) as found, _sinks(shop.releases) as sinks:
        built = build_images(shop, daemon, found, pool)
        with _gated(shop, found, sinks, built=built) as ready:
            return _everywhere(pool, ready, partial(_push_by_daemon, daemon, pool, with_list, built))


def _push_by_daemon(
    daemon: Daemon, pool: Executor, with_list: bool, built: Sequence[Made], release: Release, sink: Sink
) -> list[Made]:
    from build.daemon_images import push_images

    pushed = push_images(release, daemon, sink, pool, built)
    return [*([_list_of(pool, release, sink, pushed)] if with_list else []), *pushed]


def _as_far_as_asked(publishing: Callable[[Release, Sink], list[Made]], release: Release, sink: Sink) -> list[Made]:
    """What publishing would do if it were let, and which of it is refused."""
    willing = replace(release, order=replace(release.order, overwrite=True), report=lambda _: None)
    refused = sink.keeps_tags and not release.order.overwrite
    return [
        replace(made, change="refused") if refused and made.change == "moved" else made
        for made in publishing(willing, sink)
    ]


@contextmanager
def _gated(
    shop: Workshop,
    found: Binaries,
    sinks: Sinks,
    images: Mapping[Arch, Future[Image]] | None = None,
    built: Sequence[Made] = (),
) -> Iterator[Sinks]:
    """The same sinks, where no tag moves before every arch has passed, if that is wanted."""
    if shop.verifying is None:
        yield sinks
        return
    from build.verify import archived, gate, saved

    with gate(
        shop, shop.verifying, found, saved(shop, built) if images is None else archived(shop, images)
    ) as before_tags:
        yield [(release.gated(before_tags), sink) for release, sink in sinks]


def _list_of(pool: Executor, release: Release, sink: Sink, pushed: Sequence[Made]) -> Made:
    """The manifest list, once the daemon has `pushed` the images."""
    if release.dry and any(made.change != "kept" for made in pushed):  # the daemon has yet to choose their digests
        tag = release.list_tag()
        held = sink.digest(tag.repository, tag.name)
        change = "moved" if held else "pushed"
        return Made(str(tag), None, None, change, why_a_tag(tag, held, change))
    return next(made for made in _list_what_is_there(pool, release, sink) if made.platform is None)


def _list_what_is_there(pool: Executor, release: Release, sink: Sink) -> list[Made]:
    from build.published import image_of

    images = {arch: pool.submit(image_of, sink, release.arch_tag(arch), arch) for arch in release.arches}
    return _publish(images, index, pool, release, sink)


def _publish(
    images: Mapping[Arch, Future[Image]],
    listing: Callable[[Sequence[Image]], Index] | None,
    pool: Executor,
    release: Release,
    sink: Sink,
) -> list[Made]:
    tagged = {release.arch_tag(arch): image for arch, image in images.items()}
    arches = dict(zip(tagged, images, strict=True))
    for arch, image in images.items():
        then(image, partial(release.tell, arch), PUSH)
    order = replace(release.order, told=lambda tag, stage, size: release.tell(arches[tag], stage, size=size))
    list_tag = release.list_tag() if listing else None
    asked = survey(sink, [*tagged, *([list_tag] if list_tag else [])], pool)  # and answered while the compilers work
    made = []
    for each in publish(sink, tagged, list_tag, asked, pool, order, listing or index):
        change = "kept" if each.before == each.target.digest else "moved" if each.before else "pushed"
        told = partial(release.tell, arches[each.tag], DONE) if each.tag in arches else release.report
        told(f"{each.tag} {'would be' if release.dry else 'is'} {change}")
        platform = str(each.target.platform) if isinstance(each.target, Image) else None
        made.append(Made(str(each.tag), each.target.digest, platform, change, why_a_tag(each.tag, each.before, change)))
    return made


@contextmanager
def _sinks(releases: Sequence[Release]) -> Iterator[Sinks]:
    """Where each release goes; at the end, also a sudden one, nothing more goes there from any thread."""
    sinks = [(release, release.sink()) for release in releases]
    try:
        yield sinks
    finally:
        for _, sink in sinks:
            sink.close()


def _everywhere(pool: Executor, sinks: Sinks, publishing: Callable[[Release, Sink], list[Made]]) -> list[Made]:
    """Do it for all registries side by side, and say of each how it ended; the failure of one stops no other."""
    running = [(release, pool.submit(publishing, release, sink)) for release, sink in sinks]
    failures = [(release, error) for release, each in running if (error := each.exception())]
    for _, failure in failures:
        if len(sinks) == 1 or not isinstance(failure, BuildError):
            raise failure
    for release, each in running if len(sinks) > 1 else ():
        release.report(f"{release.registry}: {'failed' if each.exception() else 'done'}")
    if failures:
        count = f"{len(failures)} of {len(sinks)} registries failed"
        words = "\n".join(f"{release.registry}: {error}" for release, error in failures)
        raise PublishError(f"{count}\n{words}\n  run this again: what is done is not repeated")
    return [made for _, each in running for made in each.result()]
