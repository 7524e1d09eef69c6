"""What a source holds under a tag, fetched and proved from its bytes."""

from __future__ import annotations

import json
import sys
from typing import Any

from build.compilers import elf
from build.config.arches import Arch
from build.errors import BuildError, ImageError, PublishError
from build.image.rootfs import USUAL_PATH, Command, Files, program
from build.image.tar import Tape
from build.image.validate import validate
from build.oci.oci import MANIFESTS, Blob, Content, Image, Platform
from build.oci.parse import read_config
from build.release.senders import together
from build.stores.store import Source, Tag

# What Python says of JSON that is none, or not of the shape that it should have.
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, EOFError, OverflowError, RecursionError)


async def image_of(source: Source, tag: Tag, arch: Arch) -> Image:
    """The image of `arch` under `tag`: one platform in its config, in the row, and in the ELF header of its program.

    Raises PublishError if there is none or it can't be fetched, ImageError or ElfError if it is not what it should be;
    each message names the arch.
    """
    try:
        image = await _fetched(source, tag)
        if image.platform != arch.platform:
            raise ImageError(f"found platform {image.platform}, expected {arch.platform}\n  build and push it again")
        elf.check(_program(validate(image)), arch.elf, "its program")
        return image
    except BuildError as error:
        raise type(error)(f"{arch.name}: {tag}: {error}") from None
    except _MALFORMED as error:
        raise ImageError(f"{arch.name}: {tag}: its config or a layer is not well-formed: {error!r}") from None


async def _fetched(source: Source, tag: Tag) -> Image:
    manifest = await source.manifest(tag.repository, tag.name)
    if manifest is None:
        raise PublishError("no such image\n  push it first: invoke push --arch …")
    if manifest.media_type not in MANIFESTS:
        raise ImageError(f"found {manifest.media_type}, expected an image's manifest")
    try:
        claims: dict[str, Any] = json.loads(manifest.data)
        named = [(each["mediaType"], each["digest"]) for each in (claims["config"], *claims["layers"])]
        fetched = await together(source.blob(tag.repository, digest) for _, digest in named)
        config, *layers = (Blob(kind, data) for (kind, _), data in zip(named, fetched, strict=True))
        content = Content(config, tuple(layers))
        return Image(Platform.of(json.loads(config.data)), manifest, lambda: content)
    except _MALFORMED as error:
        raise ImageError(f"its manifest or config is not well-formed: {error!r}") from None


def _program(image: Content) -> bytes:
    """The file that the image's entrypoint or command names, as the layers stack it."""
    config = read_config(image.config.data)
    if not config.words:
        raise ImageError("its config names no entrypoint and no command")
    files = Files()
    for layer in image.layers:
        files.add(Tape(layer.data, compressed=True))
    command = Command(config.words, USUAL_PATH if config.path is None else config.path, config.folder)
    return program(files, command, lambda number: Tape(image.layers[number].data, compressed=True), sys.maxsize).data
