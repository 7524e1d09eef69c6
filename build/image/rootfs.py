"""The files of an image as its layers stack them, and the program among them that a container starts with.

image-spec layer.md, "Applying Changesets", for whiteouts; config.md for entrypoint, command, PATH and working folder.
Only the location of each file is kept: nothing is unpacked, and memory grows with the number of files, not their size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from build.errors import ImageError
from build.image.reader import LayerReader

MOST_ENTRIES = 1_000_000
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# As Linux has them: symlinks in one path, interpreters of interpreters, characters of a #! line.
_MOST_LINKS, _MOST_INTERPRETERS, _LONGEST_LINE = 40, 5, 256
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_HARD_LINK, _SYMLINK, _FOLDER = b"1", b"2", b"5"


@dataclass(frozen=True)
class Location:
    """Where a file's content is: layer and member of its archive, both counted from 0."""

    layer: int
    member: int


@dataclass(frozen=True)
class Command:
    """What a container starts: the arguments, and where a program that is not an absolute path is searched."""

    arguments: tuple[str, ...]
    path: str = USUAL_PATH
    folder: str = "/"


@dataclass(frozen=True)
class Program:
    """The file that the kernel loads: its path, and the beginning of its content."""

    path: str
    data: bytes = field(repr=False)


@dataclass(slots=True)
class _Node:
    """A file (`location`), a symlink (`target`), a folder (`children`), or something else.

    `touched` is the last layer that added it, or something below it; `hidden` the last one that hid what is below it.
    """

    touched: int
    mode: int = 0
    location: Location | None = None
    target: str | None = None
    children: dict[str, _Node] | None = None
    hidden: int = -1


class Files:
    """The files of an image, layer upon layer."""

    def __init__(self) -> None:
        self._root = _Node(-1, children={})
        self._layer = -1
        self._entries = 0

    def add(self, reader: LayerReader) -> None:
        """Put a layer on top; raise ImageError if it is not a tar archive, or has too many members."""
        self._layer += 1
        for member, entry in enumerate(reader.entries()):
            parts = _parts(entry.name)
            if not parts or parts[-1] == "..":
                continue
            *folders, name = parts
            if name == _OPAQUE:
                self._hide(self._find(folders))
            elif name.startswith(_WHITEOUT):
                self._whiteout(self._find(folders), name.removeprefix(_WHITEOUT))
            else:
                children = self._folder(folders)
                old = children.get(name)
                if entry.kind == _FOLDER and old and old.children is not None:
                    old.touched, old.mode = self._layer, entry.mode
                    continue
                new = children[name] = self._new(entry.mode)
                if entry.kind == _FOLDER:
                    new.children = {}
                elif entry.kind == _SYMLINK:
                    new.target = entry.target
                elif entry.kind == _HARD_LINK:
                    linked = self._find(_parts(entry.target), follow_last=False)
                    if linked:
                        new.mode, new.location, new.target = linked.mode, linked.location, linked.target
                elif entry.is_file:
                    new.location = Location(self._layer, member)

    def file(self, path: str) -> tuple[int, Location] | None:
        """Permission bits and place of the file at an absolute path, all links followed, or None."""
        found = self._find(path.split("/"))
        return (found.mode, found.location) if found and found.location else None

    def _new(self, mode: int) -> _Node:
        self._entries += 1
        if self._entries > MOST_ENTRIES:
            raise ImageError(f"more than {MOST_ENTRIES} files in its layers")
        return _Node(self._layer, mode)

    def _hide(self, folder: _Node | None) -> None:
        """Remove what lower layers put below a folder; a whiteout does not affect its own layer."""
        pending = [folder] if folder else []
        while pending:
            here = pending.pop()
            if here.children is None or here.hidden == self._layer:
                continue
            here.hidden = self._layer
            here.children = {name: node for name, node in here.children.items() if node.touched == self._layer}
            pending += here.children.values()

    def _whiteout(self, folder: _Node | None, name: str) -> None:
        node = folder.children.get(name) if folder and folder.children else None
        if folder and folder.children and node:
            if node.touched == self._layer:
                self._hide(node)
            else:
                del folder.children[name]

    def _find(self, parts: Iterable[str], follow_last: bool = True) -> _Node | None:
        trail = self._trail(parts, make=False, follow_last=follow_last)
        return trail[-1] if trail else None

    def _folder(self, parts: Iterable[str]) -> dict[str, _Node]:
        """The children of a folder, which is created if missing."""
        trail = self._trail(parts, make=True)
        if trail is None:
            raise ImageError(f"more than {_MOST_LINKS} links in the path {'/'.join(parts)!r}")
        for node in trail:
            node.touched = self._layer
        if trail[-1].children is None:
            trail[-1].children, trail[-1].location = {}, None
        return trail[-1].children

    def _trail(self, parts: Iterable[str], make: bool, follow_last: bool = True) -> list[_Node] | None:
        """The nodes from the root to the path, following links but never out of the root; None if it leads nowhere."""
        trail, links = [self._root], 0
        pending = list(parts)[::-1]
        while pending:
            part = pending.pop()
            if part == "..":
                del trail[max(1, len(trail) - 1) :]
                continue
            if part in ("", "."):
                continue
            here = trail[-1]
            if here.children is None and make:
                here.children, here.location = {}, None
            node = (here.children or {}).get(part)
            if node is None and make and here.children is not None:
                node = here.children[part] = self._new(0o755)
                node.children = {}
            if node is None:
                return None
            if node.target is None or (not pending and not follow_last):
                trail.append(node)
                continue
            links += 1
            if links > _MOST_LINKS:
                return None
            if node.target.startswith("/"):
                trail = [self._root]
            pending += node.target.split("/")[::-1]
        return trail


def program(files: Files, command: Command, open_layer: Callable[[int], LayerReader], most: int) -> Program:
    """The program of `command`, or the interpreter of a script, and its first `most` bytes.

    `open_layer` opens the layer of a number again. Raises ImageError if a container could not start it.
    """
    path = _search(files, command)
    for _ in range(_MOST_INTERPRETERS):
        mode, location = files.file(path) or (0, None)
        if location is None:
            raise ImageError(f"no file {path!r} in its layers")
        if not mode & 0o111:
            raise ImageError(f"{path!r} is not executable: found mode {mode:04o}")
        data = _content(open_layer(location.layer), location.member, max(most, _LONGEST_LINE))
        if not data.startswith(b"#!"):
            return Program(path, data)
        words = data[2:_LONGEST_LINE].partition(b"\n")[0].split(None, 1)
        if not words:
            raise ImageError(f"{path!r} is a script that names no interpreter")
        interpreter = _absolute(words[0].decode("utf-8", "surrogateescape"), command.folder)
        if files.file(interpreter) is None:
            raise ImageError(f"{path!r} is a script, and its interpreter {interpreter!r} is not in its layers")
        path = interpreter
    raise ImageError(f"{path!r}: more than {_MOST_INTERPRETERS} scripts that are interpreters of each other")


def _search(files: Files, command: Command) -> str:
    first = command.arguments[0]
    if "/" in first:
        return _absolute(first, command.folder)
    for folder in command.path.split(":"):
        path = _absolute(f"{folder or '.'}/{first}", command.folder)
        found = files.file(path)
        if found and found[0] & 0o111:
            return path
    raise ImageError(f"no program {first!r} in its layers\n  searched in PATH {command.path!r}")


def _content(reader: LayerReader, member: int, most: int) -> bytes:
    for _ in islice(reader.entries(), member, None):
        return reader.read(most)
    raise ImageError(f"no member {member} in its archive")


def _absolute(path: str, folder: str) -> str:
    return path if path.startswith("/") else f"/{folder}/{path}".replace("//", "/").replace("/./", "/")


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
