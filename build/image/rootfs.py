"""The root filesystem that an image's layers make (image-spec layer.md, "Applying Changesets").

Only file locations are kept: nothing is unpacked, and memory grows with the number of files, not with their size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from build.errors import ImageError
from build.image.reader import Entry, LayerReader

# Files in all layers, and characters of their names and of the targets of links.
MAX_FILES, MAX_CHARACTERS = 1_000_000, 64 << 20
# Linux' limit of symlinks in one path.
_MAX_SYMLINKS = 40
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_HARD_LINK, _SYMLINK, _FOLDER = b"1", b"2", b"5"


@dataclass(frozen=True)
class Location:
    """Where a file's content is: the layer, and the member in its archive, both counted from 0."""

    layer: int
    member: int


@dataclass(slots=True)
class _Node:
    """A file (`location`), a symlink (`target`), a folder (`children`), or something else.

    `touched` is the last layer that added the node or something below it; `hidden` is the last layer with an opaque
    whiteout of it.
    """

    touched: int
    mode: int = 0
    location: Location | None = None
    target: str | None = None
    children: dict[str, _Node] | None = None
    hidden: int = -1


class Files:
    """The filesystem of an image, built from its layers."""

    def __init__(self) -> None:
        self._root = _Node(-1, children={})
        self._layer = -1
        self._entries, self._characters = 0, 0

    def add(self, reader: LayerReader) -> None:
        """Apply a layer; raise ImageError if it is not a tar archive, or if there are more than a million files."""
        self.apply(reader.entries())

    def apply(self, entries: Iterable[Entry]) -> None:
        """Apply the members of a layer; see `add`."""
        self._layer += 1
        for member, entry in enumerate(entries):
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
                new = children[name] = self._new(name, entry.mode, entry.target)
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
        """Permission bits and location of the file at an absolute path, following links; None if there is none."""
        found = self._find(path.split("/"))
        return (found.mode, found.location) if found and found.location else None

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder at an absolute path, following links."""
        found = self._find(path.split("/"))
        return found is not None and found.children is not None

    def real_path(self, path: str) -> str:
        """An absolute path without links, as far as it exists, and without `..`."""
        done, pending, links = list[str](), path.split("/")[::-1], 0
        while pending:
            part = pending.pop()
            if part == "..":
                del done[-1:]
            if part in ("", ".", ".."):
                continue
            node = self._find([*done, part], follow_last=False)
            if node is None or node.target is None:
                done.append(part)
                continue
            links += 1
            if links > _MAX_SYMLINKS:
                raise ImageError(f"more than {_MAX_SYMLINKS} links in the path {path!r}")
            if node.target.startswith("/"):
                done = []
            pending += node.target.split("/")[::-1]
        return "/" + "/".join(done)

    def copy(self) -> Files:
        """The same filesystem, to add other layers to."""
        other = Files()
        other._layer, other._entries, other._characters = self._layer, self._entries, self._characters
        other._root = replace(self._root, children=dict(self._root.children or {}))
        pending = [other._root]
        while pending:
            children = pending.pop().children or {}
            for name, node in children.items():
                children[name] = replace(node, children=None if node.children is None else dict(node.children))
            pending += children.values()
        return other

    def walk(self) -> Iterator[tuple[str, int, Location | str | bool]]:
        """Path and permission bits of everything below the root, in the order of paths, links not followed.

        With it, the location of a file, the target of a symlink, or else whether it is a folder.
        """
        pending = [("", self._root)]
        while pending:
            path, node = pending.pop()
            if path:
                symlink = node.children is not None if node.target is None else node.target
                yield path, node.mode, node.location or symlink
            below = sorted((node.children or {}).items(), reverse=True)
            pending += [(f"{path}/{name}", child) for name, child in below]

    def _new(self, name: str, mode: int, target: str = "") -> _Node:
        self._entries += 1
        self._characters += len(name) + len(target)
        if self._entries > MAX_FILES:
            raise ImageError(f"more than {MAX_FILES} files in the layers")
        if self._characters > MAX_CHARACTERS:
            raise ImageError(f"more than {MAX_CHARACTERS} characters in the paths of the layers")
        return _Node(self._layer, mode)

    def _hide(self, folder: _Node | None) -> None:
        """Remove what lower layers added below a folder; a whiteout does not affect its own layer."""
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
        """The children of a folder, which is created if it is missing."""
        trail = self._trail(parts, make=True)
        if trail is None:
            raise ImageError(f"more than {_MAX_SYMLINKS} links in the path {'/'.join(parts)!r}")
        for node in trail:
            node.touched = self._layer
        if trail[-1].children is None:
            trail[-1].children, trail[-1].location = {}, None
        return trail[-1].children

    def _trail(self, parts: Iterable[str], make: bool, follow_last: bool = True) -> list[_Node] | None:
        """The nodes from the root to the path, following links inside the root; None if there is no such path."""
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
                node = here.children[part] = self._new(part, 0o755)
                node.children = {}
            if node is None:
                return None
            if node.target is None or (not pending and not follow_last):
                trail.append(node)
                continue
            links += 1
            if links > _MAX_SYMLINKS:
                return None
            if node.target.startswith("/"):
                trail = [self._root]
            pending += node.target.split("/")[::-1]
        return trail


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
