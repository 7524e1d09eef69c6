"""What the SBOM of an image is made from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from build.compilers.compiler import Program, files
from build.compilers.includes import reader
from build.config.arches import Arch
from build.oci.image import Image


@dataclass(frozen=True)
class Source:
    """A file that a program is compiled from: its path relative to the checkout, and its digests in hexadecimal."""

    path: str
    sha1: str
    sha256: str

    @classmethod
    def of(cls, path: str, data: bytes) -> Source:
        """The file `path` with the content `data`."""
        # SPDX 2.3 demands SHA-1 of every file; it is SHA-256 that proves the content.
        return cls(path, hashlib.sha1(data, usedforsecurity=False).hexdigest(), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Described:
    """The image for one arch, its program, and what that was made from.

    `version` is VERSION, `created` the commit time (RFC 3339, in UTC), `binary` the digest of the program, and `path`
    the program's path in the image, empty if it is not known. `sources` are all files that the compiler may have read,
    `compiler` is its identity; a program that was built elsewhere has neither. With `libc`, the compiler's libc is
    linked. `licenses` and `vendor` are the values of the labels org.opencontainers.image.licenses and …vendor that the
    image's row sets, not those of a base; empty if there are none.
    """

    image: Image
    name: str
    tag: str
    arch: str
    version: str
    created: str
    binary: str
    path: str = ""
    sources: Sequence[Source] = ()
    compiler: str = ""
    libc: bool = False
    licenses: str = ""
    vendor: str = ""


def sources_of(root: Path, program: Program, arch: Arch) -> list[Source]:
    """Every file of the checkout `root` that compiling `program` for `arch` may read, sorted by path.

    Raises CompileError for a file that is missing or can't be read.
    """
    return [Source.of(path, data) for path, data in files(reader(root), program, arch).items()]
