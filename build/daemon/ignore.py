"""What .dockerignore leaves out of a build context (Dockerfile reference, ".dockerignore file")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

IGNORE_FILE = ".dockerignore"
# What is left out if there is no such file.
_DEFAULT = (".git", ".venv", ".cache", "dist")


@dataclass(frozen=True)
class Ignored:
    """The paths of the checkout `root` that are not in the build context, as for `docker build .`."""

    root: Path

    @cached_property
    def _matcher(self) -> Any:
        from docker.utils.build import PatternMatcher

        try:
            lines = (self.root / IGNORE_FILE).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except FileNotFoundError:
            lines = list(_DEFAULT)
        return PatternMatcher([text for line in lines if (text := line.strip()) and not text.startswith("#")])

    def leaves_out(self, path: str) -> bool:
        """Whether a path, relative to the root, is left out."""
        return bool(self._matcher.matches(path))

    def leaves_out_all(self, folder: str) -> bool:
        """Whether a folder is left out, and no pattern brings back what is in it."""
        if not self.leaves_out(folder):
            return False
        return not any(each.exclusion and each.cleaned_pattern.startswith(folder) for each in self._matcher.patterns)

    def admitted(self) -> Iterator[str]:
        """Every path that is not left out."""
        yield from self._matcher.walk(str(self.root))


def allowed(root: Path) -> Mapping[str, bytes]:
    """The content by path of the files that .dockerignore admits."""
    return {path: (root / path).read_bytes() for path in Ignored(root).admitted() if (root / path).is_file()}
