"""Which rows of the tables the user means, and with which flags they are compiled."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace

from build.cli.options import Options
from build.config.arches import Arch, ImageSettings, Settings
from build.errors import UsageError


def images(options: Options, settings: Settings) -> list[ImageSettings]:
    """The images picked, or all, in the table's order.

    Raises UsageError for a name that has no row, and for several images that would get one tag.
    """
    names = options.flags.get("image") or options.environment.get("IMAGE", "").split() or settings.images
    wanted = [settings.image(name) for name in names]
    picked = [image for image in settings.images.values() if image in wanted]
    tag = options.text("tag", "")
    if tag and len(picked) > 1:
        raise UsageError(f"tag {tag!r}: {several(picked)}, expected one: each has a tag of its own\n  {_PICK_ONE}")
    return picked


def only(picked: Iterable[ImageSettings]) -> ImageSettings:
    """The one image; raise UsageError if there are several, as a node takes one."""
    first, *others = picked
    if others:
        raise UsageError(f"{several([first, *others])}, expected one\n  {_PICK_ONE}")
    return first


def several(picked: Iterable[ImageSettings]) -> str:
    """What was found instead of one image."""
    names = [image.name for image in picked]
    return f"found {len(names)} images ({', '.join(names)})"


_PICK_ONE = "pick it with --image NAME"


def arches(options: Options, settings: Settings, every_arch: bool) -> tuple[Arch, ...]:
    """The rows picked. With `every_arch` no --arch means the release set, else the one default arch."""
    rows = settings.select(_arch_names(options, settings, every_arch))
    # A row without a runtime is one that links the toolchain's libc.
    return tuple(replace(arch, runtime=None) for arch in rows) if options.flags.get("libc") else rows


def _arch_names(options: Options, settings: Settings, every_arch: bool) -> Iterable[str]:
    everything = options.environment.get("ALL_ARCH", "").split() or list(settings.defaults.release)
    one = options.environment.get("ARCH", "").split() or [settings.defaults.arch]
    for name in options.flags.get("arch") or (everything if every_arch else one):
        yield from everything if name == "all" else [name]


def cflags(options: Options, image: ImageSettings) -> tuple[str, ...]:
    """The compiler's flags: the user's, or the image's own; UsageError for what no shell could split."""
    given = options.text("cflags", "")
    try:
        return tuple(shlex.split(given)) or image.cflags
    except ValueError as error:
        raise UsageError(f"CFLAGS {given!r}: {error}") from None
