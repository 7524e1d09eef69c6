"""The build context: the files of the checkout that COPY may name, and their state, of which a layer depends.

Modes don't depend on the checkout's umask: as in git, only the executable bit counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from build.daemon.ignore import IGNORE_FILE, Ignored
from build.errors import ImageError
from build.oci.descriptor import digest_of

_WILD = re.compile(r"[*?\[\\]")


@dataclass(frozen=True)
class Found:
    """A file (`data`), a symbolic link (`target`) or else a folder of the context.

    `path` is relative to the checkout, `below` to the source that COPY names; that is empty for the source itself.
    """

    path: str
    below: str
    mode: int
    data: bytes | None = field(default=None, repr=False)
    target: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.data is None and self.target is None


@dataclass(frozen=True)
class Context:
    """The checkout `root`, and in it the program at `program_path`, which is there whatever .dockerignore says."""

    root: Path
    program_path: str
    program: bytes = field(repr=False)

    @cached_property
    def _ignored(self) -> Ignored:
        return Ignored(self.root)

    def sources(self, pattern: str) -> list[list[Found]]:
        """What a source of COPY names: for each match itself, and what is below it if it is a folder.

        Raises ImageError if there is none, if it is outside the checkout, or for what is neither file, folder nor link.
        """
        plain = _plain(pattern)
        if plain == self.program_path:
            return [[Found(plain, "", 0o755, self.program)]]
        matches = [each for each in _matches(self.root, plain) if not self._ignored.leaves_out_all(each)]
        found = [each for each in map(self._tree, matches) if each]
        if not found:
            if next(_matches(self.root, plain), None) is None:
                raise ImageError(f"{pattern}: no such file in the checkout")
            raise ImageError(
                f"{pattern}: {IGNORE_FILE} excludes it from the build context\n  add a line there: !{pattern}"
            )
        return found

    def _tree(self, path: str) -> list[Found]:
        """A source and what is below it; a link that is a source itself is followed. Empty if it is left out."""
        real = (self.root / path).resolve()
        if not real.is_relative_to(self.root.resolve()):
            raise ImageError(f"{path}: found a link to {real}, expected a path inside the checkout")
        if real.is_dir():
            below = [each for each in self._below(real, path, "") if each]
            return [Found(path, "", 0o755), *below] if below or not self._left_out(path) else []
        return [] if self._left_out(path) else [_file(real, path, "")]

    def _below(self, folder: Path, path: str, below: str) -> Iterator[Found]:
        with _readable(path):
            names = sorted(os.listdir(folder))
        for name in names:
            here, inner = f"{path}/{name}".removeprefix("./"), f"{below}/{name}".lstrip("/")
            file = folder / name
            if file.is_symlink():
                if not self._left_out(here):
                    yield Found(here, inner, 0o777, target=os.readlink(file))
            elif file.is_dir():
                if not self._ignored.leaves_out_all(here):
                    content = list(self._below(file, here, inner))
                    if content or not self._left_out(here):
                        yield Found(here, inner, 0o755)
                        yield from content
            elif not self._left_out(here):
                yield _file(file, here, inner)

    def _left_out(self, path: str) -> bool:
        return path != "." and self._ignored.leaves_out(path)


def state(root: Path, pattern: str) -> str:
    """What a layer depends on of a source of COPY, whatever .dockerignore says; empty if there is no such file."""
    states = []
    for path in _matches(root, _plain(pattern)):
        file = root / path
        if file.is_dir():
            states += [_state(each, str(each.relative_to(root))) for each in sorted(file.rglob("*"))]
        states.append(_state(file, path))
    return states[0].partition(" ")[2] if len(states) == 1 else digest_of("\n".join(states).encode()) if states else ""


def _state(file: Path, path: str) -> str:
    """A path with the digest and the permission bits of its file, the target of its link, or neither."""
    try:
        if file.is_file():
            return f"{path} {digest_of(file.read_bytes())} {mode_of(file):o}"
        return f"{path} {os.readlink(file) if file.is_symlink() else 'folder'}"
    except OSError as error:
        return f"{path} {error.strerror}"


def _plain(pattern: str) -> str:
    """A source without `.`, double and outer slashes; all of the context is `.`."""
    return "/".join(part for part in pattern.split("/") if part not in ("", ".")) or "."


def _matches(root: Path, pattern: str) -> Iterator[str]:
    """The paths that match, sorted (Go's path.Match)."""
    if not _WILD.search(pattern):
        if os.path.lexists(root / pattern):
            yield pattern
        return
    found = [""]
    for part in pattern.split("/"):
        matching = _matching(part)
        found = [
            f"{folder}/{name}".lstrip("/")
            for folder in found
            if (root / folder).is_dir()
            for name in sorted(os.listdir(root / folder))
            if matching.fullmatch(name)
        ]
    yield from found


def _matching(part: str) -> re.Pattern[str]:
    """The regular expression of one component of a pattern: *, ?, [a-z], [^a-z] and \\ as an escape."""
    pieces, at = [], 0
    token = re.compile(r"\\(.)|\[(\^?)((?:\\.|[^\]\\])+)\]|(\*)|(\?)|(.)", re.DOTALL)
    while at < len(part):
        found = token.match(part, at)
        if not found or found[6] in ("[", "\\"):
            raise ImageError(f"{part}: expected a pattern such as *.txt or file[0-9]")
        escaped, negated, group, star, one, plain = found.groups()
        if group:
            inner = re.sub(r"\\(.)", lambda each: re.escape(each[1]), group.replace("[", r"\["))
            pieces.append(f"[{negated}{inner}]")
        else:
            pieces.append(".*" if star else "." if one else re.escape(escaped or plain))
        at = found.end()
    try:
        return re.compile("".join(pieces), re.DOTALL)
    except re.error:
        raise ImageError(f"{part}: expected a pattern such as *.txt or file[0-9]") from None


def _file(file: Path, path: str, below: str) -> Found:
    if not file.is_file():
        raise ImageError(f"{path}: found something that is neither a file, a folder nor a link")
    with _readable(path):
        return Found(path, below, mode_of(file), file.read_bytes())


@contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ImageError(f"{path}: can't be read: {error.strerror}") from None


def mode_of(file: Path) -> int:
    """The permission bits that a file of the checkout has in an image, unless the Dockerfile says otherwise."""
    return 0o755 if os.access(file, os.X_OK) else 0o644
