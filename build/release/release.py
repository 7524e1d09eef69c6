"""What a release is: the values that decide what is made and where it goes, and those that come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from build.cache.cache import Cache
from build.compilers.compiler import Compiler, Program
from build.config.arches import Arch, ImageSettings
from build.config.revision import Revision
from build.events import Event, Report
from build.oci.oci import Format
from build.oci.reference import Repository, archive_file
from build.release.publish import Order, not_moved
from build.stores.store import Sink, Tag

if TYPE_CHECKING:
    from docker import APIClient

    from build.stores.registry.auth import Credentials
    from build.verify.driver import Driver

# The companion that verify runs.
ORPHAN = "orphan"


@dataclass(frozen=True)
class Release:
    """What is published, and where. `report` hears of progress."""

    image: ImageSettings
    arches: tuple[Arch, ...]
    registry: str
    tag: str
    sink: Callable[[], Sink]
    report: Report
    order: Order

    @property
    def dry(self) -> bool:
        """Whether nothing is to be changed anywhere."""
        return self.order.dry

    def gated(self, before_tags: Callable[[], None]) -> Release:
        """The same, with what has to hold before the first tag moves."""
        return replace(self, order=replace(self.order, before_tags=before_tags))

    def tell(self, arch: Arch, stage: str, text: str = "", size: int = 0) -> None:
        """Report what an arch is at, see `Event`."""
        self.report(Event(text, self.image.name, arch.name, stage, size))

    def arch_tag(self, arch: Arch) -> Tag:
        """Where the image of one arch is published."""
        return self._tag(self.image.arch_repository, arch=arch.name)

    def list_tag(self) -> Tag:
        """Where the manifest list is published."""
        return self._tag(self.image.repository)

    def _tag(self, template: str, **names: str) -> Tag:
        if archive_file(self.registry):  # whose content is the same wherever it came from
            return Tag(Repository(self.registry, template.removeprefix("{registry}/").format(**names)), self.tag)
        return Tag(Repository.parse(template.format(registry=self.registry, **names)), self.tag)


@dataclass(frozen=True)
class Daemon:
    """The Docker daemon that makes and pushes the images, and who we are to the registry of a host."""

    client: Callable[[], APIClient]
    login: Callable[[str], Credentials | None]


@dataclass(frozen=True)
class Verifying:
    """What runs the programs, and whether an arch that can't be run here is let pass.

    `orphan` are the sources of the program that leaves orphans behind, in whichever image's row it stands.
    """

    driver: Callable[[], Driver]
    orphan: tuple[str, ...]
    allow_not_run: bool


@dataclass(frozen=True)
class Workshop:
    """How the images of a release are made: in which checkout, of which revision, and with what.

    The images of a run have all of it in common but the `releases`, which are one, to several registries, and `cflags`.
    With a `daemon` that is the docker engine, without one the embedded.
    With `verifying` no tag moves before every arch has been run.
    """

    releases: tuple[Release, ...]
    root: Path
    revision: Revision
    cflags: tuple[str, ...]
    form: Format
    compiler: Compiler
    cache: Cache
    daemon: Daemon | None = None
    verifying: Verifying | None = None

    @property
    def release(self) -> Release:
        """The first: they differ in nothing but their registries."""
        return self.releases[0]

    def program(self, companion: str = "") -> Program:
        """The image's program, or a companion of it; both call themselves `vTAG-REV`."""
        image = self.release.image
        sources = image.companions[companion] if companion else image.sources
        return Program(companion or image.name, sources, self.cflags, f"v{self.release.tag}-{self.revision.name}")


@dataclass(frozen=True, slots=True)
class Made:
    """One result: its name (a path or a reference), its digest, its platform (none for a manifest list).

    The digest is unknown only where the daemon would still have to choose it.

    `change` is what was done, or with a dry release would be: "made", "pushed", "moved", or "kept" as it was; and
    `why` the reasons for it.
    """

    name: str
    digest: str | None
    platform: str | None
    change: str
    why: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else self.name


def why_a_tag(tag: Tag, before: str | None, change: str) -> tuple[str, ...]:
    """Why a tag is to be set, which referred to the digest `before`, or to nothing."""
    place = "layout" if tag.repository.on_disk else "registry"
    if change == "kept":
        return ()
    return (f"the {place} has another digest: {before}" if before else f"not in the {place}",)


def refuse_plan(steps: Iterable[Made]) -> None:
    """Raise PublishError if a step of a plan would be refused."""
    lines = [f"{step.name}: {'; '.join(step.why)}" for step in steps if step.change == "refused"]
    if lines:
        raise not_moved(lines)
