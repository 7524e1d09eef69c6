"""The tags that a release publishes: one image, for a set of arches, in one registry, under one tag or several."""

from __future__ import annotations

from dataclasses import dataclass, replace

from build.config.arches import Arch, ImageSettings
from build.oci.reference import Repository, Tag, archive_file, check_tag


@dataclass(frozen=True)
class Release:
    """One image of the image table, its arches, where it is published, its tag, and further tags for the same."""

    image: ImageSettings
    arches: tuple[Arch, ...]
    registry: str
    tag: str
    also: tuple[str, ...] = ()

    def arch_tag(self, arch: Arch) -> Tag:
        """The tag of the image for one arch; raise UsageError if it is not a valid reference."""
        return self._tag(self.image.arch_reference.replace("{arch}", arch.name))

    def list_tag(self) -> Tag:
        """The tag of the manifest list; raise UsageError if it is not a valid reference."""
        return self._tag(f"{self.image.repository}:{{tag}}")

    @property
    def further(self) -> tuple[Release, ...]:
        """The same release under each of its further tags."""
        return tuple(replace(self, tag=each, also=()) for each in self.also)

    @property
    def is_moving(self) -> bool:
        """Whether its tag is one of those that are meant to move from release to release."""
        return self.tag in self.image.moving

    def _tag(self, reference: str) -> Tag:
        template, _, tag = reference.rpartition(":")
        tag = check_tag(tag.replace("{tag}", self.tag))
        if archive_file(self.registry):  # names in an archive don't depend on where it was copied from
            return Tag(Repository(self.registry, template.removeprefix("{registry}/")), tag)
        return Tag(Repository.parse(template.replace("{registry}", self.registry)), tag)
