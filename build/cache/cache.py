"""What was made before, under a key of all that it was made from. An entry that is damaged is one that is not there."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

from build.system import leftovers, write_whole

# The standard's own words, which backup tools look for: https://bford.info/cachedir/
_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55\n# What invoke made before. `invoke clean` removes it.\n"
_SIGNATURE_FILE = "CACHEDIR.TAG"
# The folder in a cache for temporary files of runs.
SCRATCH = "tmp"


def key_of(*parts: str | bytes) -> str:
    """A hex digest of the parts, in which their borders count."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(b"%d:" % len(data) + data)
    return whole.hexdigest()


@once
def code() -> str:
    """A hex digest of this package's own source: what other code made is made again."""
    files = sorted(Path(__file__).parent.parent.rglob("*.py"))
    return key_of(*(part for file in files for part in (file.name, file.read_bytes())))


@dataclass(frozen=True)
class Cache:
    """A folder of entries. With `keep` off it is read but never written."""

    folder: Path
    keep: bool = True

    def get(self, key: str) -> bytes | None:
        """The entry that this very code put under `key`, or None if there is none that is whole."""
        return _read(self._path(code(), key), key)

    def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`."""
        self._write(self._path(code(), key), key, data)

    def noted(self, name: str) -> bytes | None:
        """What was noted last of `name`, by whichever version of this code."""
        return _read(self._path("note", name), name)

    def note(self, name: str, data: bytes) -> None:
        """Keep `data` in the place of what was noted of `name` before."""
        if self.keep and self.noted(name) != data:
            self._write(self._path("note", name), name, data)

    def sign(self) -> None:
        """Mark the folder as a cache, before anything else is in it: by that `clear` knows it for one."""
        if self.keep and not (self.folder / _SIGNATURE_FILE).exists():
            write_whole(self.folder / _SIGNATURE_FILE, _SIGNATURE)

    def clear(self, dry: bool = False) -> list[Path]:
        """Remove the folder if it bears a cache's signature, or began to; return what goes."""
        import shutil

        signature = self.folder / _SIGNATURE_FILE
        begun = leftovers(signature)
        if not signature.is_file() and not (begun and sorted(begun) == sorted(self.folder.iterdir())):
            return []
        if not dry:
            shutil.rmtree(self.folder)
        return [self.folder]

    def _path(self, *parts: str) -> str:
        # Not a Path, which interns every part: for hundreds of entries Python's table of names would double.
        name = key_of(*parts)
        return os.path.join(self.folder, name[:2], name[2:])

    def _write(self, path: str, key: str, data: bytes) -> None:
        if self.keep:
            self.sign()
            write_whole(Path(path), key_of(key, data).encode() + data)


def _read(path: str, key: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            entry = file.read()
    except OSError:
        return None
    proof, data = entry[:64], entry[64:]
    return data if proof.decode("ascii", "replace") == key_of(key, data) else None
