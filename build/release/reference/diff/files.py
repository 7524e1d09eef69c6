"""The files of an image with size and digest, as its layers make them; large files are hashed as they pass."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from build.errors import ImageError
from build.image.reader import Entry, LayerReader
from build.image.rootfs import Files, Location
from build.oci.descriptor import Blob
from build.oci.media_types import is_gzip
from build.oci.untar import CHUNK


@dataclass(frozen=True, slots=True)
class File:
    """A file of `kind` file, folder, symlink or other, with permission bits; what its kind does not have is None."""

    kind: str
    mode: int
    size: int | None = None
    digest: str | None = None
    target: str | None = None

    def __str__(self) -> str:
        about = [self.kind, f"{self.mode:04o}"]
        if self.size is not None:
            about += [f"{self.size} bytes", str(self.digest)]
        return ", ".join(about) + (f" to {self.target}" if self.target is not None else "")

    def fields(self) -> Mapping[str, object]:
        """The file in the document of --json."""
        return {
            "kind": self.kind,
            "mode": f"{self.mode:04o}",
            "size_bytes": self.size,
            "digest": self.digest,
            "target": self.target,
        }


def read_files(layers: Sequence[Blob]) -> tuple[Files, dict[str, File]]:
    """The filesystem of the layers, and all in it by its absolute path.

    Raises ImageError for a layer that is not a valid archive, or that is compressed in another way than by gzip.
    """
    files, contents = Files(), list[list[tuple[int, str] | None]]()
    for layer in layers:
        packed = is_gzip(layer.media_type)
        if packed is None:
            raise ImageError(f"layer {layer.digest}: found {layer.media_type}, expected tar or gzip")
        try:
            with layer.open() as stream:
                reader = _Hashing(stream, packed, layer.size)
                files.add(reader)
        except ImageError as error:
            raise ImageError(f"layer {layer.digest}: {error}") from None
        contents.append(reader.contents)
    found = {}
    for path, mode, what in files.walk():
        if isinstance(what, Location):
            size, digest = contents[what.layer][what.member] or (0, "")
            found[path] = File("file", mode, size, digest)
        elif isinstance(what, str):
            found[path] = File("symlink", mode, target=what)
        else:
            found[path] = File("folder" if what else "other", mode)
    return files, found


class _Hashing(LayerReader):
    """A layer whose `contents`, size and digest of each member that is a file, are known once it has been read."""

    contents: list[tuple[int, str] | None]

    def entries(self) -> Iterator[Entry]:
        self.contents = []
        for entry in super().entries():
            self.contents.append(self._content() if entry.is_file else None)
            yield entry

    def _content(self) -> tuple[int, str]:
        size, hashed = 0, hashlib.sha256()
        while chunk := self.read(CHUNK):
            size += len(chunk)
            hashed.update(chunk)
        return size, f"sha256:{hashed.hexdigest()}"
