"""The tags of a release: what they refer to now, whether they may move, moving them, and reading them back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from build.config.arches import Arch
from build.config.release import Release
from build.engines.moves import Digests, not_moved, other_revision
from build.errors import PublishError, all_of
from build.oci.image import Image, Index
from build.oci.reference import Tag
from build.release.publish.destination import Destination
from build.report import DONE, Event, Result

# The image of each arch, None where it is known only after a daemon has pushed it.
Targets = Mapping[Arch, Image | None]


@dataclass(frozen=True)
class Tags:
    """The tags of a release under one name: of the manifest list, if there is one, and of the image of each arch.

    `to` is where, and `current` has the digests of before this run.
    """

    to: Destination
    release: Release
    index: Tag | None
    arches: Mapping[Arch, Tag]
    current: Digests

    @property
    def every(self) -> list[Tag]:
        """All of them, that of the list first."""
        return [*([self.index] if self.index else []), *self.arches.values()]

    @property
    def may_move(self) -> bool:
        """Whether those that exist may be moved."""
        return self.to.overwrite or self.release.is_moving or not self.to.store.keeps_tags

    def wanted(self, targets: Targets, index: Index | None) -> dict[Tag, str | None]:
        """The digest that each is to refer to, None where it is not known yet."""
        listed = {self.index: index.digest} if self.index and index else {}
        images = {self.arches[arch]: image.tagged if image else None for arch, image in targets.items()}
        return {**listed, **images}

    def new(self, targets: Targets) -> list[Arch]:
        """The arches whose tags have to move."""
        return [arch for arch, image in targets.items() if not image or image.tagged != self.current[self.arches[arch]]]

    def has_new_list(self, index: Index | None) -> bool:
        """Whether the tag of the list has to move."""
        return self.index is not None and (index is None or index.digest != self.current[self.index])

    def refused(self, targets: Targets, index: Index | None) -> list[str]:
        """A line for each tag that would have to move, and may not."""
        return (
            []
            if self.may_move
            else [
                f"{tag}: found {self.current[tag]}, expected {digest or 'an image that this daemon pushed'} or no tag"
                for tag, digest in self.wanted(targets, index).items()
                if self.current[tag] not in (None, digest)
            ]
        )

    async def notes(self, targets: Targets, index: Index | None) -> tuple[str, ...]:
        """Why tags that may not move, or that a plan would move, have another digest, as far as that is known."""
        if not self.to.store.keeps_tags or (self.may_move and not self.to.dry):
            return ()
        known = [(self.arches[arch], image.tagged, image) for arch, image in targets.items() if image]
        if self.index and index:
            known.append((self.index, index.digest, index.images[0]))
        for tag, digest, image in known:
            if (current := self.current[tag]) not in (None, digest):  # one is enough: all have the same REV
                return await other_revision(self.to.store, tag.repository, current, image)
        return ()

    async def put(self, targets: Mapping[Arch, Image]) -> None:
        """Move the tags of arches to images that the store has."""
        new = self.new(targets)
        await all_of(self._put(self.arches[arch], _below_tag(targets[arch])) for arch in new)
        for arch in new:
            self.reached(arch, targets[arch])

    async def put_list(self, index: Index | None) -> None:
        """Move the tag of the list."""
        if self.index and index:
            refuse_to_move([self], {}, index)
            if self.has_new_list(index):
                await self._put(self.index, index)
            self.reached(None, index)

    async def _put(self, tag: Tag, target: Image | Index) -> None:
        await self.to.store.put_tag(tag.repository, tag.name, target)

    async def verify(self, targets: Targets, index: Index | None) -> None:
        """Read the tags back, because registries have no locks; raise PublishError if another run moved one."""
        wanted = {tag: digest for tag, digest in self.wanted(targets, index).items() if digest}
        settled = self.to.store.settled_digest
        digests = await all_of(settled(t.repository, t.name, digest, self.current[t]) for t, digest in wanted.items())
        found = dict(zip(wanted, digests, strict=True))
        lines = [f"  {tag}: found {found[tag]}, expected {want}" for tag, want in wanted.items() if found[tag] != want]
        if lines:
            raise PublishError(
                "another run published at the same time and moved these tags\n"
                + "\n".join(lines)
                + "\n  to decide the winner, rerun it with --overwrite"
            )

    def reached(self, arch: Arch | None, target: Image | Index | None, notes: Sequence[str] = ()) -> None:
        """Report that the tag of an arch, or of the list (None), is as it should be, or in a dry run would be."""
        result = self._result(arch, target, notes)
        name, stage = (arch.name, DONE) if arch else ("", "")
        self.to.report(Event(_line(result, self.to.dry), self.release.image.name, name, stage, result=result))

    def results(self, targets: Targets, index: Index | None, notes: Sequence[str]) -> list[Result]:
        """What was done to each tag, or would be done."""
        listed = [self._result(None, index, notes)] if self.index else []
        return listed + [self._result(arch, target, notes) for arch, target in targets.items()]

    def _result(self, arch: Arch | None, target: Image | Index | None, notes: Sequence[str]) -> Result:
        tag = self.arches[arch] if arch else self.release.list_tag()
        store = "layout" if tag.repository.on_disk else "registry"
        digest, current = target.tagged if target else None, self.current[tag]
        change, why = "moved", (f"the {store} has another digest: {current}", *notes)
        if digest and digest == current:
            change, why = "kept", ()
        elif not current:
            change, why = "pushed", (f"not in the {store}",)
        image = target.platform if isinstance(target, Image) else None  # of Windows, it says which
        name, platform = (arch.name, str(image or arch.platform)) if arch else (None, None)
        base = target.origin.fields() if isinstance(target, Image) and target.origin else None
        return Result(str(tag), digest, platform, change, why, arch=name, place=tag.place, base=base)


def _below_tag(image: Image) -> Image | Index:
    """What the tag of an image refers to: BuildKit's index of it, so that its attestations stay with it, or itself."""
    return Index(image.index, (image,)) if image.index else image


def tags_of(to: Destination, arches: Collection[Arch], current: Digests, *, with_list: bool) -> list[Tags]:
    """The tags of a release, and then those of each further name that it gets."""
    return [
        Tags(to, each, each.list_tag() if with_list else None, {arch: each.arch_tag(arch) for arch in arches}, current)
        for each in (to.release, *to.release.further)
    ]


def refuse_to_move(named: Sequence[Tags], targets: Targets, index: Index | None, notes: Sequence[str] = ()) -> None:
    """Raise PublishError if a tag would have to move, and may not."""
    lines, remedies = [], []
    for each in named:
        if refused := each.refused(targets, index):
            lines += refused
            if each.release.tag in each.to.release.also:
                where = f"images.{each.release.image.name}.moving"
                remedies.append(f"if {each.release.tag} is meant to move, name it in arches.yaml: {where}")
    if lines:
        raise not_moved([*lines, *notes, *remedies])


def _line(result: Result, dry: bool) -> str:
    if result.change == "kept":
        return f"{result.name}: already published"
    return f"{result.name}: {'would be ' if dry else ''}{result.change}"
