"""The story of a release, top to bottom: compile, image, publish, manifest list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

from build.crew import side_by_side
from build.errors import UsageError
from build.making import binaries, finish_images, leave_archives, leave_binaries
from build.oci import OCI, Image, Index, index
from build.publish import Sink, Source, Survey, Tag, answers, publish, refuse_to_move, survey
from build.reference import archive_file
from build.release import Daemon, Made, Release, Workshop

# Requests wait far more than they work.
SENDERS = 16


def build(shop: Workshop) -> list[Made]:
    """`bin/NAME-A` for every arch: the image's program."""
    return _build(shop, "")


def companions(shop: Workshop) -> list[Made]:
    """`bin/orphan-A` and the like: programs that go with the image's, but never into it."""
    return [made for name in shop.release.image.companions for made in _build(shop, name)]


def container(shop: Workshop) -> list[Made]:
    """`build`, then the image of every arch: in the daemon, or in `bin/NAME-A.tar`, ready to be loaded."""
    program = shop.program()
    with binaries(shop, program) as found, ThreadPoolExecutor(SENDERS) as senders:
        if shop.daemon:
            from build.daemon_images import build_images

            return build_images(shop, shop.daemon, found, senders)
        return leave_archives(shop, finish_images(shop, program, found))


def push(shop: Workshop) -> list[Made]:
    """`container`, then the tag of every arch."""
    return _by_daemon(shop, shop.daemon) if shop.daemon else _make_and_publish(shop, with_list=False)


def all_push(shop: Workshop) -> list[Made]:
    """`push`, then the tag of the manifest list that holds them all."""
    if shop.daemon:
        pushed = _by_daemon(shop, shop.daemon)
        return [_list_of(shop.release, pushed), *pushed]
    return _make_and_publish(shop, with_list=True)


def push_manifest(release: Release) -> list[Made]:
    """The tag of the manifest list, made from what the tags of the arches refer to: nothing is built.

    Raises PublishError or ImageError that names the arch if an image is missing or is not its row's.
    """
    from build.published import image_of

    sink = release.sink()
    with ThreadPoolExecutor(SENDERS) as senders:
        asked = _survey(release, sink, senders)
        images = side_by_side(senders, lambda arch: image_of(sink, release.arch_tag(arch), arch), release.arches)
        return _publish(release, sink, images, index(images), asked, senders)


def copy(origin: Release, source: Source, target: Release, root: Path) -> list[Made]:
    """The tags of `target`, from what the tags of `origin` refer to in `source`: the same bytes throughout.

    An archive to write is seen from `root`.
    Raises PublishError, ImageError or ElfError, before anything is written, if the release there is not whole.
    """
    from build.copying import fetched, pack, refuse_docker_format

    packed, repository = archive_file(target.registry), target.list_tag().repository
    with ThreadPoolExecutor(SENDERS) as senders:
        listed = fetched(source, origin, senders)
        if packed or repository.on_disk:
            refuse_docker_format(listed, origin.list_tag())
        if packed:
            return pack(target, listed, root / packed)
        sink = target.sink()
        return _publish(target, sink, listed.images, listed, _survey(target, sink, senders), senders)


def _build(shop: Workshop, companion: str) -> list[Made]:
    program = shop.program(companion)
    with binaries(shop, program) as found:
        return leave_binaries(shop, program, found)


def _by_daemon(shop: Workshop, daemon: Daemon) -> list[Made]:
    from build.daemon_images import build_images, push_images, refuse_layout

    refuse_layout(shop)
    with binaries(shop, shop.program()) as found, ThreadPoolExecutor(SENDERS) as senders:
        build_images(shop, daemon, found, senders)
        return push_images(shop, daemon, shop.release.sink(), senders)


def _list_of(release: Release, pushed: Sequence[Made]) -> Made:
    """The manifest list, once the daemon has `pushed` the images."""
    if release.dry and any(made.change != "kept" for made in pushed):  # the daemon has yet to choose their digests
        tag = release.list_tag()
        held = release.sink().digest(tag.repository, tag.name)
        return Made(str(tag), None, None, "moved" if held else "pushed")
    return next(made for made in push_manifest(release) if made.platform is None)


def _make_and_publish(shop: Workshop, with_list: bool) -> list[Made]:
    program, release = shop.program(), shop.release
    if release.list_tag().repository.on_disk and shop.form is not OCI:
        raise UsageError(
            f"{release.list_tag()}: found format {shop.form.name}, expected oci: readers of a layout know no other"
            "\n  use --format oci, or publish to a registry"
        )
    with binaries(shop, program) as found, ThreadPoolExecutor(SENDERS) as senders:
        sink = release.sink()
        asked = _survey(release, sink, senders)  # and answered while the compilers work
        images = finish_images(shop, program, found)
        leave_archives(shop, images)
        return _publish(release, sink, images, index(images) if with_list else None, asked, senders)


def _survey(release: Release, sink: Sink, senders: Executor) -> Survey:
    return survey(sink, [*map(release.arch_tag, release.arches), release.list_tag()], senders)


def _publish(
    release: Release, sink: Sink, images: Sequence[Image], listed: Index | None, asked: Survey, senders: Executor
) -> list[Made]:
    tagged = dict(zip(map(release.arch_tag, release.arches), images, strict=True))
    lists = {release.list_tag(): listed} if listed else {}
    wanted: Mapping[Tag, Image | Index] = {**lists, **tagged}
    held = answers(asked)
    if not release.overwrite:
        refuse_to_move(sink, wanted, held)
    if not release.dry:
        publish(sink, tagged, lists, held, senders)
    made = []
    for tag, target in wanted.items():
        change = "kept" if held[tag] == target.digest else "moved" if held[tag] else "pushed"
        release.report(f"{tag} {'would be' if release.dry else 'is'} {change}")
        platform = str(target.platform) if isinstance(target, Image) else None
        made.append(Made(str(tag), target.digest, platform, change))
    return made
