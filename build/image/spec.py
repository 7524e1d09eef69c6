"""What the image of an arch is made from, but for its binary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from build.config.arches import Arch, ImageSettings
from build.config.revision import Revision
from build.oci.media_types import Format


@dataclass(frozen=True)
class Spec:
    """What an arch's image is made from, but for its binary.

    `binary_path` is where Dockerfile.j2 finds the binary, relative to `root`, the checkout; `names` (NAME:TAG) are what
    the image is called in a daemon or a container engine.
    """

    root: Path
    settings: ImageSettings
    arch: Arch
    tag: str
    revision: Revision
    form: Format
    binary_path: str
    names: tuple[str, ...]
