"""The files of a checkout that .dockerignore admits into a build context."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def allowed(root: Path) -> Mapping[str, bytes]:
    """The files that .dockerignore admits, as for `docker build .`."""
    from docker.utils.build import exclude_paths

    try:
        patterns = (root / ".dockerignore").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        patterns = [".git", ".venv", ".cache", "dist"]
    kept = [pattern for line in patterns if (pattern := line.strip()) and not pattern.startswith("#")]
    return {path: (root / path).read_bytes() for path in exclude_paths(str(root), kept) if (root / path).is_file()}
