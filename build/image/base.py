"""The base of an image: what FROM names in its Dockerfile, for one platform."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from build.cache.cache import Cache, key_of
from build.errors import ImageError
from build.oci.descriptor import Blob
from build.oci.image import Image
from build.oci.media_types import is_gzip
from build.oci.parse import parse_config

if TYPE_CHECKING:
    from build.image.reader import Entry
    from build.image.rootfs import Files


@dataclass(frozen=True)
class Base:
    """An image to build upon.

    `reference` is as FROM has it, and `digest` what it refers to: the digest of an index or of a manifest. The layers
    of `image` are files, in the cache as a rule, and its `origin` is the base itself. `cache` keeps what is in a layer.
    """

    reference: str
    digest: str
    image: Image
    cache: Cache | None = field(default=None, repr=False, compare=False)

    @cached_property
    def files(self) -> Files:
        """The filesystem of its layers; raise ImageError if they can't be read, or are not those of its config."""
        from build.image.rootfs import Files

        files = Files()
        diff_ids = parse_config(self.image.config.data).diff_ids
        for layer, expected in zip(self.image.layers, diff_ids, strict=True):
            try:
                if (found := self._apply(layer, files)) != expected:
                    raise ImageError(f"diff_id: found {found}, expected {expected} as its config says")
            except ImageError as error:
                raise ImageError(f"FROM {self.reference}: layer {layer.digest}: {error}") from None
        return files

    def _apply(self, layer: Blob, files: Files) -> str:
        """Apply a layer to `files`, and return its diff_id. A layer is unpacked only once: it may be large."""
        from build.image.reader import Entry, LayerReader

        key = key_of("the files of a layer", layer.digest, layer.media_type)
        if self.cache and (known := self.cache.get(key)):
            diff_id, *members = json.loads(known)
            files.apply(Entry(name, mode, kind.encode("latin-1"), *rest) for name, mode, kind, *rest in members)
            return str(diff_id)
        seen: list[Entry] = []

        def remembered(entries: Iterator[Entry]) -> Iterator[Entry]:
            for entry in entries:
                seen.append(entry)
                yield entry

        with layer.open() as stream:
            reader = LayerReader(stream, is_gzip(layer.media_type) is not False, layer.size)
            files.apply(remembered(reader.entries()))
            diff_id = reader.digest()
        if self.cache:
            listed = [(each.name, each.mode, each.kind.decode("latin-1"), each.target, each.is_file) for each in seen]
            self.cache.put(key, json.dumps([diff_id, *listed]).encode())
        return diff_id
