"""One release to one registry: what is published, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from build.config.arches import Arch
from build.errors import UsageError
from build.events import DONE, FAILED, PUSH, silent
from build.oci.oci import OCI, Image, Index, index
from build.release.outcomes import Outcome
from build.release.publish import publish
from build.release.release import Daemon, Made, Release, Workshop, why_a_tag
from build.release.senders import Senders
from build.stores.store import Sink


def refuse_layouts(shops: Iterable[Workshop]) -> None:
    """Raise UsageError if an image is to go to a folder that is of no use there, or can't get there."""
    for maker, release in ((shop, release) for shop in shops for release in shop.releases):
        if not release.list_tag().repository.on_disk:
            continue
        if maker.daemon:
            raise UsageError(
                f"REGISTRY {release.registry}: found a folder, expected a registry, as a daemon pushes to no other"
                "\n  name one, as REGISTRY=localhost:5000; or write the folder with --engine embedded"
            )
        if maker.form is not OCI:
            raise UsageError(
                f"{release.list_tag()}: found format {maker.form.name}, expected oci: readers of a layout know no other"
                "\n  use --format oci, or publish to a registry"
            )


def _list_of(senders: Senders, release: Release, sink: Sink, pushed: Sequence[Made]) -> Made:
    """The manifest list, once the daemon has `pushed` the images."""
    if release.dry and any(made.change != "kept" for made in pushed):  # the daemon has yet to choose their digests
        tag = release.list_tag()
        held = senders.run(sink.digest(tag.repository, tag.name))
        change = "moved" if held else "pushed"
        return Made(str(tag), None, None, change, why_a_tag(tag, held, change))
    return next(made for made in publish_list(senders, release, sink) if made.platform is None)


def publish_list(senders: Senders, release: Release, sink: Sink) -> list[Made]:
    """The tag of the manifest list, made from what the tags of the arches refer to.

    Raises PublishError or ImageError that names the arch if an image is missing or is not its row's.
    """
    from build.release.published import image_of

    images = {arch: senders.begin(image_of(sink, release.arch_tag(arch), arch)) for arch in release.arches}
    return publish_images(images, index, senders, release, sink)


def publish_images(
    images: Mapping[Arch, Outcome[Image]],
    listing: Callable[[Sequence[Image]], Index] | None,
    senders: Senders,
    release: Release,
    sink: Sink,
) -> list[Made]:
    """The tag of every arch to its image, which may still be in the making, and of their list if there is a `listing`.

    Raises what `publish` raises.
    """
    tagged = {release.arch_tag(arch): image for arch, image in images.items()}
    arches = dict(zip(tagged, images, strict=True))
    for arch, image in images.items():
        image.when_there(partial(_tell_of, image, release, arch))
    order = replace(release.order, told=lambda tag, stage, size: release.tell(arches[tag], stage, size=size))
    list_tag = release.list_tag() if listing else None
    made = []
    for each in senders.run(publish(sink, tagged, list_tag, order, listing or index)):
        change = "kept" if each.before == each.target.digest else "moved" if each.before else "pushed"
        told = partial(release.tell, arches[each.tag], DONE) if each.tag in arches else release.report
        told(f"{each.tag} {'would be' if release.dry else 'is'} {change}")
        platform = str(each.target.platform) if isinstance(each.target, Image) else None
        made.append(Made(str(each.tag), each.target.digest, platform, change, why_a_tag(each.tag, each.before, change)))
    return made


def _tell_of(image: Outcome[Image], release: Release, arch: Arch) -> None:
    release.tell(arch, FAILED if image.failure() else PUSH)


def push_by_daemon(
    daemon: Daemon, built: Sequence[Made], with_list: bool, senders: Senders, release: Release, sink: Sink
) -> list[Made]:
    """The tag of every arch to the image that the daemon has `built`, and with that the manifest list's."""
    from build.engines.docker import push_images

    pushed = push_images(release, daemon, sink, senders, built)
    return [*([_list_of(senders, release, sink, pushed)] if with_list else []), *pushed]


def as_far_as_asked(publishing: Callable[[Release, Sink], list[Made]], release: Release, sink: Sink) -> list[Made]:
    """What `publishing` a dry release would do if it were let, and which of it is refused."""
    willing = replace(release, order=replace(release.order, overwrite=True), report=silent)
    refused = sink.keeps_tags and not release.order.overwrite
    return [
        replace(made, change="refused") if refused and made.change == "moved" else made
        for made in publishing(willing, sink)
    ]
