"""The inputs of an image, except its binary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from build.config.arches import Arch, ImageSettings
from build.config.revision import Revision
from build.oci.media_types import Format


@dataclass(frozen=True)
class Spec:
    """The inputs of the image for one arch, except its binary.

    `root` is the checkout, `binary_path` the binary's path in it, as COPY in Dockerfile.j2 names it. `names` are the
    NAME:TAG that the image gets in a daemon or another container engine.
    """

    root: Path
    settings: ImageSettings
    arch: Arch
    tag: str
    revision: Revision
    form: Format
    binary_path: str
    names: tuple[str, ...]
