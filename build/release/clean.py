"""Removes the files that the tasks created in a checkout, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from build.cache.cache import SCRATCH, Cache
from build.config.arches import ImageSettings
from build.engines.files import BIN
from build.errors import BuildError
from build.oci.reference import Repository
from build.report import Report
from build.stores.layout.clean import clean_layout
from build.system import leftovers, remove_stale


@dataclass(frozen=True)
class Removed:
    """A path that was removed, or in a dry run would be removed."""

    name: str
    change: str = "removed"

    def __str__(self) -> str:
        return self.name

    def fields(self) -> Mapping[str, object]:
        """The result in the document of --json."""
        unknown = dict.fromkeys(("size_bytes", "arch", "platform", "digest"))
        return {"kind": "file", "path": self.name, **unknown, "change": self.change, "reasons": ()}


def clean(
    root: Path,
    cache: Cache,
    images: Iterable[ImageSettings],
    arches: Iterable[str],
    repositories: Iterable[Repository],
    dry: bool,
    report: Report,
) -> list[Removed]:
    """Remove the binaries and archives of `images` for `arches`, docker-bake.json, the layouts, and the cache.

    Of a layout, what others may need is left; `report` receives a note that says so. Raises BuildError if a file can't
    be removed; what can be known before is refused before anything is removed.
    """
    programs = [name for image in images for name in (image.name, *image.companions)]
    files = [root / BIN / f"{program}-{arch}{end}" for program in programs for arch in arches for end in ("", ".tar")]
    files.append(root / "docker-bake.json")
    removed = [path for file in files for path in (file, *leftovers(file)) if path.is_file()]
    layouts = [root / each.name for each in repositories if each.on_disk]
    try:
        cleared = cache.clear(dry=True)
        for layout in layouts:
            clean_layout(layout, dry=True)
        if not dry:
            for path in removed:
                path.unlink()
            _remove_if_empty(root / BIN)
        removed += [path for layout in layouts for path in clean_layout(layout, dry, report)]
        removed += cleared
        if not dry:
            cache.clear()
            # A run that was killed before it wrote to the cache has left nothing else there.
            remove_stale(cache.folder / SCRATCH)
            _remove_if_empty(cache.folder / SCRATCH)
            _remove_if_empty(cache.folder)
            _remove_if_empty(cache.folder.parent)
    except OSError as error:
        raise BuildError(f"{error.filename}: can't be removed: {error.strerror}") from None
    return [Removed(str(path.relative_to(root) if path.is_relative_to(root) else path)) for path in removed]


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()
