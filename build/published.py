"""What a source holds under a tag, fetched and proved from its bytes."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import PurePosixPath
from typing import Any

from build import elf
from build.arches import Arch
from build.errors import BuildError, ImageError, PublishError
from build.oci import FORMATS, Blob, Image, Platform, unpacked, validate
from build.publish import Source, Tag

# What Python says of JSON that is none, or not of the shape that it should have.
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, EOFError, OverflowError, RecursionError)


def image_of(source: Source, tag: Tag, arch: Arch) -> Image:
    """The image of `arch` under `tag`: one platform in its config, in the row, and in the ELF header of its program.

    Raises PublishError if there is none or it can't be fetched, ImageError or ElfError if it is not what it should be;
    each message names the arch.
    """
    try:
        image = _fetched(source, tag)
        if image.platform != arch.platform:
            raise ImageError(f"found platform {image.platform}, expected {arch.platform}\n  build and push it again")
        validate(image)
        elf.check(_program(image), arch.elf, "its program")
        return image
    except BuildError as error:
        raise type(error)(f"{arch.name}: {tag}: {error}") from None
    except (*_MALFORMED, tarfile.TarError) as error:
        raise ImageError(f"{arch.name}: {tag}: its config or a layer is not well-formed: {error!r}") from None


def _fetched(source: Source, tag: Tag) -> Image:
    manifest = source.manifest(tag.repository, tag.name)
    if manifest is None:
        raise PublishError("no such image\n  push it first: invoke push --arch …")
    if manifest.media_type not in {form.manifest for form in FORMATS.values()}:
        raise ImageError(f"found {manifest.media_type}, expected an image's manifest")
    try:
        claims: dict[str, Any] = json.loads(manifest.data)
        config, *layers = (
            Blob(each["mediaType"], source.blob(tag.repository, each["digest"]))
            for each in (claims["config"], *claims["layers"])
        )
        return Image(Platform.of(json.loads(config.data)), manifest, config, tuple(layers))
    except _MALFORMED as error:
        raise ImageError(f"its manifest or config is not well-formed: {error!r}") from None


def _program(image: Image) -> bytes:
    """The file that the image's entrypoint (or command) names: the last layer that has it wins."""
    settings = json.loads(image.config.data).get("config") or {}
    command = settings.get("Entrypoint") or settings.get("Cmd")
    if not command:
        raise ImageError("its config names no entrypoint and no command")
    path = PurePosixPath("/", command[0])
    for layer in reversed(image.layers):
        with tarfile.open(fileobj=io.BytesIO(unpacked(layer))) as tape:
            for entry in tape:
                file = tape.extractfile(entry) if PurePosixPath("/", entry.name) == path and entry.isfile() else None
                if file:
                    return file.read()
    raise ImageError(f"no file {path} in its layers")
