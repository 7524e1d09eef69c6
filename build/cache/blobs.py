"""Content of others by its digest, each in a file of its own: manifests, configs and layers of base images."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from build.cache.cache import Cache
from build.oci.descriptor import Blob
from build.system import replacing

FOLDER = "bases"
# Bytes that are read at once.
_CHUNK = 1 << 20
# The modification time of a file whose digest was verified, in nanoseconds: whoever writes to it gives it another one.
_VERIFIED = 0


@dataclass(frozen=True)
class Blobs:
    """The blobs in a cache. A damaged one counts as missing. Nothing is stored if the cache is only read."""

    cache: Cache

    def get(self, media_type: str, digest: str, size: int | None = None) -> Blob | None:
        """The blob with this digest, in its file, or None; `size` is in bytes if it is known."""
        path = self._path(digest)
        try:
            status = path.stat()
            if size is not None and status.st_size != size:
                return None
            if status.st_mtime_ns != _VERIFIED:
                if _digest(path) != digest:
                    return None
                if self.cache.keep:
                    with suppress(PermissionError):  # somebody else's file, which is as good
                        os.utime(path, ns=(_VERIFIED, _VERIFIED))
        except OSError:
            return None
        return Blob(media_type, digest, status.st_size, path)

    def put(self, blob: Blob, spool: Path | None = None) -> Blob:
        """Store a blob whose digest was verified, and return it as it is stored; a file in `spool` is moved.

        Raises BuildError if the system refuses.
        """
        if not self.cache.keep:
            return blob
        self.cache.sign()
        path = self._path(blob.digest)
        with replacing(path) as temporary:
            if isinstance(blob.source, bytes):
                temporary.write_bytes(blob.source)
            elif blob.source.parent == spool:
                shutil.move(blob.source, temporary)
            else:
                shutil.copyfile(blob.source, temporary)
            os.utime(temporary, ns=(_VERIFIED, _VERIFIED))
        return Blob(blob.media_type, blob.digest, blob.size, path)

    def _path(self, digest: str) -> Path:
        return self.cache.folder / FOLDER / digest.replace(":", "/")


def _digest(path: Path) -> str:
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hashed.update(chunk)
    return f"sha256:{hashed.hexdigest()}"
