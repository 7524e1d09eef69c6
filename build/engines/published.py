"""Fetches published images, and checks that they are consistent and for the right arch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from build.compilers import elf
from build.compilers.formats import program as formats
from build.config.arches import Arch, Header
from build.errors import BuildError, ImageError, PublishError
from build.image.program import DEFAULT_PATH, Command, Program, program
from build.image.reader import LayerReader
from build.image.rootfs import Files
from build.image.validate import validate
from build.image.windows import program as windows
from build.oci.descriptor import Blob
from build.oci.image import Image
from build.oci.media_types import is_gzip
from build.oci.parse import Config, parse_config
from build.oci.reference import Tag
from build.stores.store import Source
from build.stores.transfer import fetch

# Bytes: of a whole program, and of its headers and the interpreter's path, which linkers put at its beginning.
LARGEST_PROGRAM, HEADERS = 64 << 20, 1 << 16


async def fetch_image(
    source: Source, tag: Tag, arch: Arch, spool: Path, digest: str | None = None, *, attested: bool = False
) -> Image:
    """The image that `tag` refers to, if its config and its program are for `arch`, and a container can start it.

    With `digest`, it is the image with that digest in the tag's repository. If `attested`, the tag may refer to an
    index of one image and BuildKit's attestations for it. Large layers are files in `spool`. Raises PublishError if
    there is no image or it can't be fetched, ImageError or ElfError if it is inconsistent or for another platform.
    Messages name the arch.
    """
    try:
        image = await fetch(source, tag.repository, digest or tag.name, spool, attested=attested)
        if image is None:
            raise PublishError("no such image\n  publish it first: invoke push --arch …")
        if not arch.is_for(image.platform):
            raise ImageError(f"found platform {image.platform}, expected {arch.platform}\n  build and publish it again")
        await asyncio.to_thread(validate, image)
        config = parse_config(image.config.data)
        await asyncio.to_thread(check_entrypoint, config, image.layers, arch.header, limit=LARGEST_PROGRAM)
        return image
    except BuildError as error:
        raise error.at(f"{arch.name}: {tag}") from None


def check_entrypoint(
    config: Config, layers: Sequence[Blob], expected: Header, files: Files | None = None, limit: int = HEADERS
) -> Program:
    """The program that a container starts; raise ImageError or ElfError if it could not start one on this CPU.

    The same holds for the interpreter of a dynamic program. If `limit` is more than HEADERS, a program of fewer bytes
    is read whole, and must be what `elf.check_program` demands. `files` is the filesystem of the layers, if known.
    """
    files = files or stacked(layers)
    found = entrypoint(config, layers, limit, files)
    name = f"program {found.path!r}"
    check = formats.check_program if limit > HEADERS and len(found.data) < limit else formats.check_start
    check(found.data, expected, name)
    check_interpreter(found.data, name, config, layers, expected, files)
    return found


def check_interpreter(
    data: bytes, name: str, config: Config, layers: Sequence[Blob], expected: Header, files: Files
) -> None:
    """Raise ImageError or ElfError unless an ELF program is static, or its interpreter can be started."""
    if path := elf.interpreter(data):
        name = f"interpreter {path!r} of {name}"
        try:
            loader = entrypoint(replace(config, command=(path,)), layers, elf.START, files)
        except ImageError as error:
            raise ImageError(f"{name}: {error}\n  link it statically, or use a base that has it") from None
        elf.check_start(loader.data, expected, name)


def entrypoint(config: Config, layers: Sequence[Blob], limit: int, files: Files | None = None) -> Program:
    """The first `limit` bytes of the program that a container starts; raise ImageError if it could not start one.

    `files` is the filesystem of the layers, if they have been read already.
    """
    if not config.command or not config.command[0]:
        raise ImageError("its config has no entrypoint and no command")
    if files is None:
        files = stacked(layers)
    is_windows = config.platform.is_windows
    path = (windows.DEFAULT_PATH if is_windows else DEFAULT_PATH) if config.path is None else config.path
    find = windows.windows_program if is_windows else program
    return find(files, Command(config.command, path, config.folder), lambda number: _reader(layers[number]), limit)


def stacked(layers: Sequence[Blob], below: Files | None = None) -> Files:
    """The filesystem that layers make, above that of others if there are any."""
    files = below.copy() if below else Files()
    for layer in layers:
        with layer.open() as stream:
            files.add(LayerReader(stream, is_gzip(layer.media_type) is not False, layer.size))
    return files


def _reader(layer: Blob) -> LayerReader:
    return LayerReader(layer.open(), is_gzip(layer.media_type) is not False, layer.size)
