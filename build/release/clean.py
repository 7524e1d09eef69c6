"""Removes what the tasks made in a checkout, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from build.cache.cache import SCRATCH, Cache
from build.config.arches import ImageSettings
from build.engines.files import BIN
from build.errors import BuildError
from build.oci.reference import Repository
from build.stores.layout.clean import clean_layout
from build.system import leftovers, remove_stale


@dataclass(frozen=True)
class Removed:
    """A path that was removed, or would be by a dry run."""

    name: str
    change: str = "removed"

    def __str__(self) -> str:
        return self.name


def clean(
    root: Path,
    cache: Cache,
    images: Iterable[ImageSettings],
    arches: Iterable[str],
    repositories: Iterable[Repository],
    dry: bool,
) -> list[Removed]:
    """Remove the binaries and archives of `images` for `arches`, docker-bake.json, our tags in layouts, and the cache.

    Raises BuildError if the system refuses.
    """
    programs = [name for image in images for name in (image.name, *image.companions)]
    made = [root / BIN / f"{program}-{arch}{end}" for program in programs for arch in arches for end in ("", ".tar")]
    made.append(root / "docker-bake.json")
    gone = [path for file in made for path in (file, *leftovers(file)) if path.is_file()]
    try:
        if not dry:
            for path in gone:
                path.unlink()
            _remove_if_empty(root / BIN)
        gone += [path for each in repositories if each.on_disk for path in clean_layout(root / each.name, dry)]
        gone += cache.clear(dry)
        if not dry:
            # A run that was killed before it wrote to the cache has left nothing else there.
            remove_stale(cache.folder / SCRATCH)
            _remove_if_empty(cache.folder / SCRATCH)
            _remove_if_empty(cache.folder)
            _remove_if_empty(cache.folder.parent)
    except OSError as error:
        raise BuildError(f"{error.filename}: can't be removed: {error.strerror}") from None
    return [Removed(str(path.relative_to(root) if path.is_relative_to(root) else path)) for path in gone]


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
