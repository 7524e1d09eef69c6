"""Says what changed between two references, platform by platform."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from build.engines.published import entrypoint
from build.errors import BuildError, ImageError, all_of
from build.image.rootfs import Files
from build.oci.descriptor import Blob
from build.oci.parse import Config, parse_annotations
from build.release.reference.diff.files import File, read_files
from build.release.reference.diff.sides import Described, Side, described
from build.report import Event, Report, one_line
from build.stores.store import SMALL

_LABELS = "config.Labels."
_VERSIONS = ("org.opencontainers.image.version", "org.opencontainers.image.revision")
_BASE = "org.opencontainers.image.base."
# What programs of this project print for -v; see pause.c.
_VERSION = re.compile(rb"[\w.-]+\.c (v[!-~]{1,200})\n\0")
# Bytes of a layer, as in `check`; characters of a value in a line; platforms that are compared at the same time.
_LARGEST_LAYER, _LONGEST, _CONCURRENT = 64 << 30, 200, 2

Value = str | File | None


@dataclass(frozen=True)
class Difference:
    """Something that differs between two references: `before` is None for what was added, `after` for what was removed.

    `platform` is None for what concerns the whole list. `what` is the kind of thing, `name` the one of its kind.
    """

    platform: str | None
    what: str
    name: str
    before: Value
    after: Value

    @property
    def change(self) -> str:
        """What happened to it."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"

    def __str__(self) -> str:
        subject = " ".join(filter(None, (self.what, self.name)))
        before, after = _shown(self.before), _shown(self.after)
        text = f"{before} → {after}" if self.change == "changed" else f"{self.change}: {before or after}"
        return one_line(f"{self.platform}: {subject}: {text}" if self.platform else f"{subject}: {text}")

    def fields(self) -> Mapping[str, object]:
        """The result in the document of --json."""
        before, after = (each.fields() if isinstance(each, File) else each for each in (self.before, self.after))
        return {
            "kind": "difference",
            "platform": self.platform,
            "what": self.what,
            "name": self.name,
            "change": self.change,
            "before": before,
            "after": after,
        }


def _shown(value: Value) -> str:
    text = "" if value is None else str(value) or '""'
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


async def diff(old: Side, new: Side, report: Report) -> list[Difference]:
    """What is different in `new`: the list's digest and annotations, platforms, and per platform what an image has.

    Where layers can't be read, because they are in zstd or elsewhere, a note says so. Raises PublishError or ImageError
    if a part can't be read.
    """
    found = list(_whole(old, new))
    slots = asyncio.Semaphore(_CONCURRENT)

    async def compared(name: str) -> list[Difference]:
        before, after = old.images.get(name), new.images.get(name)
        if not (before and after):
            digests = (each.digest if each else None for each in (before, after))
            return [Difference(name, "platform", "", *digests)]
        if before.digest == after.digest:
            return []
        async with slots:
            return await _images(name, (old, before), (new, after), report)

    by_platform = await all_of(map(compared, dict.fromkeys((*old.images, *new.images))))
    found += [each for differences in by_platform for each in differences]
    if not found:
        report(f"{new.reference}: the same as {old.reference}: {new.root.digest}")
    return found


def _whole(old: Side, new: Side) -> Iterator[Difference]:
    """What differs in the lists, apart from their images."""
    if old.is_list and new.is_list and old.root.digest != new.root.digest:
        yield Difference(None, "list", "", old.root.digest, new.root.digest)
    if old.is_list != new.is_list:
        kinds = (f"{'list' if side.is_list else 'image'} {side.root.digest}" for side in (old, new))
        yield Difference(None, "reference", "", *kinds)
    if old.root.media_type != new.root.media_type and old.is_list and new.is_list:
        yield Difference(None, "media type", "", old.root.media_type, new.root.media_type)
    annotations = [parse_annotations(side.root.data) if side.is_list else {} for side in (old, new)]
    for name, before, after in _changed(*annotations):
        yield Difference(None, _kind(name), name, before, after)
    for name, before, after in _changed(old.others, new.others):
        yield Difference(None, "entry", name, before, after)


def _kind(annotation: str) -> str:
    return "base" if annotation.startswith(_BASE) else "annotation"


async def _images(name: str, old: tuple[Side, Blob], new: tuple[Side, Blob], report: Report) -> list[Difference]:
    """What differs between two images for one platform."""
    before, after = await all_of(described(*each) for each in (old, new))
    found = [Difference(name, "image", "", old[1].digest, new[1].digest)]
    if old[1].media_type != new[1].media_type:
        found.append(Difference(name, "media type", "", old[1].media_type, new[1].media_type))
    for annotation, *values in _changed(before.annotations, after.annotations):
        found.append(Difference(name, _kind(annotation), annotation, *values))
    for member, *values in _changed(before.members, after.members):
        label = member.removeprefix(_LABELS)
        is_version = member.startswith(_LABELS) and label in _VERSIONS
        found.append(Difference(name, *(("version", label) if is_version else ("config", member)), *values))
    digests = [[each.digest for each in image.manifest.layers] for image in (before, after)]
    if digests[0] == digests[1]:
        return found
    found.append(Difference(name, "layers", "", *_layers(*digests)))
    try:
        program, files = await _contents((old[0], before), (new[0], after))
    except ImageError as error:
        report(Event(f"note: {name}: files not compared: {error}", note=True))
        return found
    found += [Difference(name, "version", "program", *program)] if program[0] != program[1] else []
    return found + [Difference(name, "file", path, *values) for path, *values in _changed(*files)]


def _layers(old: list[str], new: list[str]) -> tuple[str, str]:
    """How many layers there are, and how many of the first are the same: those of a common base, as a rule."""
    same = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        same += 1
    return f"{len(old)}", f"{len(new)}, {f'the first {same} unchanged' if same else 'all changed'}"


async def _contents(
    old: tuple[Side, Described], new: tuple[Side, Described]
) -> tuple[tuple[str | None, str | None], tuple[dict[str, File], dict[str, File]]]:
    """The version in the program, and the files, of both images; ImageError if a layer can't be read."""
    (one, before), (other, after) = await all_of(_content(*each) for each in (old, new))
    return (one, other), (before, after)


async def _content(side: Side, image: Described) -> tuple[str | None, dict[str, File]]:
    for layer, elsewhere in zip(image.manifest.layers, image.manifest.elsewhere, strict=True):
        if elsewhere:
            raise ImageError(f"layer {layer.digest} is stored elsewhere")
        if layer.size > _LARGEST_LAYER:
            raise ImageError(f"layer {layer.digest}: found {layer.size} bytes, expected at most {_LARGEST_LAYER}")
    kept, repository = side.kept, side.reference.repository
    layers = await all_of(kept.blob(repository, each, side.spool) for each in image.manifest.layers)
    files, found = await asyncio.to_thread(read_files, layers)
    return await asyncio.to_thread(_program_version, image.config, layers, files), found


def _program_version(config: Config, layers: list[Blob], files: Files) -> str | None:
    """The version that the image's program prints for -v, if it is one of this project's; it is not run."""
    try:
        found = _VERSION.search(entrypoint(config, layers, SMALL, files).data)
    except BuildError:  # an image may have no program
        return None
    return found[1].decode() if found else None


def _changed(old: Mapping[str, Value], new: Mapping[str, Value]) -> Iterator[tuple[str, Value, Value]]:
    """Name and both values of what differs, by name."""
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield name, old.get(name), new.get(name)
