"""The build context: the rendered Dockerfile, and the files that .dockerignore admits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from build.image.layer import File, tar


@dataclass(frozen=True)
class Context:
    """What an image is built from: the Dockerfile, files by their path, and their time (seconds since the epoch)."""

    dockerfile: str
    files: Mapping[str, bytes]
    time: int

    def packed(self) -> bytes:
        """The archive for the daemon. Every file is executable, because the builder copies modes with it."""
        contents = {**self.files, "Dockerfile": self.dockerfile.encode()}
        return tar([File(f"/{path}", 0o755, data) for path, data in contents.items()], self.time)


def allowed(root: Path) -> Mapping[str, bytes]:
    """The files that .dockerignore admits, as for `docker build .`."""
    from docker.utils.build import exclude_paths

    try:
        patterns = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        patterns = [".git", ".venv", ".cache", "dist"]
    kept = [pattern for line in patterns if (pattern := line.strip()) and not pattern.startswith("#")]
    return {path: (root / path).read_bytes() for path in exclude_paths(str(root), kept) if (root / path).is_file()}
