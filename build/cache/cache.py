"""A cache of build results on disk. A damaged entry counts as missing."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from build.errors import BuildError
from build.system import leftovers, write_whole

# The first line is fixed by https://bford.info/cachedir/; backup tools skip folders that have this file.
_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55\n# The cache of invoke. `invoke clean` removes it.\n"
_SIGNATURE_FILE = "CACHEDIR.TAG"
# The folder in a cache for temporary files of runs.
SCRATCH = "tmp"
# Hexadecimal digits of the checksum that an entry starts with.
_CHECKSUM_LENGTH = 64


def key_of(*parts: str | bytes) -> str:
    """The SHA-256 of the parts in hexadecimal. Each part is prefixed with its length, so ("ab", "c") and ("a", "bc")
    differ.
    """
    hashed = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogateescape") if isinstance(part, str) else part  # names may be any bytes
        hashed.update(b"%d:" % len(data))
        hashed.update(data)
    return hashed.hexdigest()


@functools.cache
def code() -> str:
    """The digest of this package's own source, in hexadecimal. It is part of every key, so new code rebuilds."""
    files = sorted(Path(__file__).parent.parent.rglob("*.py"))
    return key_of(*(part for file in files for part in (file.name, file.read_bytes())))


@dataclass(frozen=True)
class Cache:
    """A folder of entries. If `keep` is false it is read but never written."""

    folder: Path
    keep: bool = True

    def get(self, key: str) -> bytes | None:
        """The entry that this version of the code stored under `key`, or None if there is none or it is damaged."""
        return _read(self._path(code(), key), key)

    def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`."""
        self._write(self._path(code(), key), key, data)

    def get_note(self, name: str) -> bytes | None:
        """The last note under `name`, whichever version of the code wrote it."""
        return _read(self._path("note", name), name)

    def put_note(self, name: str, data: bytes) -> None:
        """Replace the note under `name`."""
        if self.keep and self.get_note(name) != data:
            self._write(self._path("note", name), name, data)

    def sign(self) -> None:
        """Mark the folder as a cache, before anything else is written to it; `clear` removes only marked folders."""
        if self.keep and not (self.folder / _SIGNATURE_FILE).exists():
            write_whole(self.folder / _SIGNATURE_FILE, _SIGNATURE)

    def clear(self, dry: bool = False) -> list[Path]:
        """Remove the folder if it is marked as a cache, and return what was removed. If `dry`, only list it.

        Raises BuildError if the folder is a link: what it leads to may be somebody else's cache, too.
        """
        import shutil

        signature = self.folder / _SIGNATURE_FILE
        partial = leftovers(signature)  # of a run that was killed in `sign`
        if not signature.is_file() and not (partial and sorted(partial) == sorted(self.folder.iterdir())):
            return []
        if self.folder.is_symlink():
            raise BuildError(
                f"{self.folder}: found a link to {os.readlink(self.folder)}, expected a folder"
                "\n  remove the link, and what it leads to if nothing else uses it, and retry"
            )
        if not dry:
            shutil.rmtree(self.folder)
        return [self.folder]

    def _path(self, *parts: str) -> str:
        name = key_of(*parts)
        return os.path.join(self.folder, name[:2], name[2:])

    def _write(self, path: str, key: str, data: bytes) -> None:
        if self.keep:
            self.sign()
            write_whole(Path(path), key_of(key, data).encode() + data)


def _read(path: str, key: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            checksum, data = file.read(_CHECKSUM_LENGTH), file.read()
    except OSError:
        return None
    return data if checksum.decode("ascii", "replace") == key_of(key, data) else None
