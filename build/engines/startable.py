"""Checks an image before anything of it is published: its programs are for its CPU, and a container can start it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from build.compilers import elf, variant
from build.compilers.binary import check_prebuilt
from build.compilers.formats import program
from build.errors import BuildError
from build.image.spec import Spec
from build.oci.descriptor import Blob
from build.oci.image import Image

if TYPE_CHECKING:
    from build.image.base import Base
    from build.image.rootfs import Files

# The media types of layers, by the first bytes of a layer.
_GZIP, _LAYER = b"\x1f\x8b", "application/vnd.oci.image.layer.v1.tar"


def check_binary(binary: bytes, spec: Spec) -> None:
    """Raise ElfError unless the program of an image is for its CPU; what is compiled has to be static, too."""
    if spec.settings.binary:
        check_prebuilt(binary, spec.arch, spec.binary_path, is_elf=spec.settings.elf)
    else:
        program.check(binary, spec.arch.header, spec.binary_path)


def check_assembled(
    spec: Spec, image: Image, files: Mapping[str, bytes], binary: bytes, base: Base | None = None
) -> None:
    """Raise ElfError or ImageError for an image of `files` on `base` that could not start, or is for another CPU."""
    from build.engines.published import stacked

    check_files(files, spec)
    all_files = stacked(image.own_layers, base.files) if base else None
    check_entrypoint(image.config.data, image.layers, spec, binary, all_files)


def check_files(files: Mapping[str, bytes], spec: Spec) -> None:
    """Raise ElfError for an executable or library among `files`, by path, that is for another CPU."""
    for path, data in files.items():
        if program.is_program(data, spec.arch.header):
            name = f"{path} ({spec.arch.name})"
            program.check_start(data, spec.arch.header, name)
            variant.check(data, spec.arch.platform, name)


def check_entrypoint(
    config: bytes, layers: Sequence[Blob], spec: Spec, binary: bytes, files: Files | None = None
) -> None:
    """Raise ImageError unless a container can start the entrypoint, and ElfError if that is for another CPU.

    The same holds for the interpreters of dynamic programs, of the image's `binary`, too. `files` is the filesystem of
    the layers, if it is known.
    """
    from build.engines import published
    from build.oci.parse import parse_config

    try:
        parsed, files = parse_config(config), files or published.stacked(layers)
        published.check_entrypoint(parsed, layers, spec.arch.header, files)
        if spec.settings.binary and elf.is_program(binary):
            published.check_interpreter(binary, spec.binary_path, parsed, layers, spec.arch.header, files)
    except BuildError as error:
        raise type(error)(f"{spec.settings.dockerfile} ({spec.arch.name}): {error}") from None


def check_saved(archive: bytes, of_base: int, spec: Spec, binary: bytes) -> None:
    """Check an image as `docker save` writes it, whose first `of_base` layers are those of another image.

    Raises ElfError for a file that COPY or ADD has put there and that is for another CPU; see `check_entrypoint`.
    """
    import tarfile

    from build.engines.published import LARGEST_PROGRAM
    from build.image.reader import LayerReader

    with tarfile.open(fileobj=io.BytesIO(archive)) as saved:

        def content(name: str) -> bytes:
            file = saved.extractfile(name)
            return file.read() if file else b""

        [listing] = json.loads(content("manifest.json"))
        config, contents = content(listing["Config"]), [content(name) for name in listing["Layers"]]
    layers = [Blob.of(f"{_LAYER}{'+gzip' if data.startswith(_GZIP) else ''}", data) for data in contents]
    history = json.loads(config).get("history") or ()
    made = [each.get("created_by", "") for each in history if not each.get("empty_layer")]
    # A base may have no history, or not one entry for each layer: what was made of it comes last.
    for layer, created_by in zip(reversed(layers[of_base:]), reversed(made), strict=False):
        if re.search(r"\b(COPY|ADD)\b", created_by):
            with layer.open() as stream:
                reader = LayerReader(stream, layer.media_type.endswith("gzip"), layer.size)
                for each in reader.entries():
                    if each.is_file:
                        check_files({f"/{each.name}": reader.read(LARGEST_PROGRAM)}, spec)
    check_entrypoint(config, layers, spec, binary)
