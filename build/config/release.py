"""The tags that a release publishes: one image, for a set of arches, in one registry, under one tag."""

from __future__ import annotations

from dataclasses import dataclass

from build.config.arches import Arch, ImageSettings
from build.oci.reference import Repository, Tag, archive_file


@dataclass(frozen=True)
class Release:
    """One image of the image table, its arches, and where it is published."""

    image: ImageSettings
    arches: tuple[Arch, ...]
    registry: str
    tag: str

    def arch_tag(self, arch: Arch) -> Tag:
        """The tag of the image for one arch; raise UsageError if it is not a valid reference."""
        return self._tag(self.image.arch_repository, arch=arch.name)

    def list_tag(self) -> Tag:
        """The tag of the manifest list; raise UsageError if it is not a valid reference."""
        return self._tag(self.image.repository)

    def _tag(self, template: str, **names: str) -> Tag:
        if archive_file(self.registry):  # names in an archive don't depend on where it was copied from
            return Tag(Repository(self.registry, template.removeprefix("{registry}/").format(**names)), self.tag)
        return Tag(Repository.parse(template.format(registry=self.registry, **names)), self.tag)
