"""Which rows of the tables a task is for, and with which flags they are compiled."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace

from build.cli.options import Options
from build.config.arches import Arch, ImageSettings, Settings
from build.errors import UsageError

_SELECT_ONE = "select it with --image NAME"


def images(options: Options, settings: Settings) -> list[ImageSettings]:
    """The selected images, or all of them, in the table's order.

    Raises UsageError for a name that has no row, and if several images would get the same tag.
    """
    names = options.flags.get("image") or options.environment.get("IMAGE", "").split() or settings.images
    wanted = [settings.image(name) for name in names]
    selected = [image for image in settings.images.values() if image in wanted]
    tag = options.text("tag", "")
    if tag and len(selected) > 1:
        found = _several(selected)
        raise UsageError(f"tag {tag!r}: {found}, expected one: each has a tag of its own\n  {_SELECT_ONE}")
    return selected


def only(selected: Iterable[ImageSettings]) -> ImageSettings:
    """The only image; raise UsageError if there are several, because a node uses one."""
    first, *others = selected
    if others:
        raise UsageError(f"{_several([first, *others])}, expected one\n  {_SELECT_ONE}")
    return first


def _several(selected: Iterable[ImageSettings]) -> str:
    names = [image.name for image in selected]
    return f"found {len(names)} images ({', '.join(names)})"


def arches(options: Options, settings: Settings, every_arch: bool) -> tuple[Arch, ...]:
    """The selected rows. Without --arch: with `every_arch` the release set, else the default arch."""
    rows = settings.select(_arch_names(options, settings, every_arch))
    # A row without a runtime links the toolchain's libc.
    return tuple(replace(arch, runtime=None) for arch in rows) if options.flags.get("libc") else rows


def _arch_names(options: Options, settings: Settings, every_arch: bool) -> Iterable[str]:
    everything = options.environment.get("ALL_ARCH", "").split() or list(settings.defaults.release)
    one = options.environment.get("ARCH", "").split() or [settings.defaults.arch]
    for name in options.flags.get("arch") or (everything if every_arch else one):
        yield from everything if name == "all" else [name]


def cflags(options: Options, image: ImageSettings) -> tuple[str, ...]:
    """The compiler's flags: the user's, else the image's; raise UsageError for what no shell could split."""
    given = options.text("cflags", "")
    try:
        return tuple(shlex.split(given)) or image.cflags
    except ValueError as error:
        raise UsageError(f"CFLAGS {given!r}: {error}") from None
