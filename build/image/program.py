"""The program that a container of an image starts (image-spec config.md, "config": entrypoint, command, PATH)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from build.errors import ImageError
from build.image.reader import LayerReader
from build.image.rootfs import Files

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Linux limits: nested interpreters, bytes of a #! line.
_MAX_INTERPRETERS, _MAX_SHEBANG = 5, 256


@dataclass(frozen=True)
class Command:
    """What a container starts: the arguments, the PATH to search, and the working directory."""

    arguments: tuple[str, ...]
    path: str = DEFAULT_PATH
    folder: str = "/"


@dataclass(frozen=True)
class Program:
    """The executable that the kernel loads: its path, and the start of its content."""

    path: str
    data: bytes = field(repr=False)


def program(files: Files, command: Command, open_layer: Callable[[int], LayerReader], limit: int) -> Program:
    """The program of `command`, or the interpreter of a script, with its first `limit` bytes.

    `open_layer` reopens a layer by its number. Raises ImageError if a container could not start the program.
    """
    path = _search(files, command)
    for _ in range(_MAX_INTERPRETERS):
        mode, location = files.file(path) or (0, None)
        if location is None:
            raise ImageError(f"no file {path!r} in the layers")
        if not mode & 0o111:
            raise ImageError(f"{path!r} is not executable: found mode {mode:04o}")
        data = content(open_layer(location.layer), location.member, max(limit, _MAX_SHEBANG))
        if not data.startswith(b"#!"):
            return Program(path, data)
        words = data[2:_MAX_SHEBANG].partition(b"\n")[0].split(None, 1)
        if not words:
            raise ImageError(f"{path!r} is a script without an interpreter in its #! line")
        interpreter = _absolute(words[0].decode("utf-8", "surrogateescape"), command.folder)
        if files.file(interpreter) is None:
            raise ImageError(f"{path!r} is a script, and its interpreter {interpreter!r} is not in the layers")
        path = interpreter
    raise ImageError(f"{path!r}: more than {_MAX_INTERPRETERS} nested interpreters")


def _search(files: Files, command: Command) -> str:
    first = command.arguments[0]
    if "/" in first:
        return _absolute(first, command.folder)
    for folder in command.path.split(":"):
        path = _absolute(f"{folder or '.'}/{first}", command.folder)
        found = files.file(path)
        if found and found[0] & 0o111:
            return path
    raise ImageError(f"no program {first!r} in the layers\n  searched PATH {command.path!r}")


def content(reader: LayerReader, member: int, limit: int) -> bytes:
    """The first `limit` bytes of a member of a layer, counted from 0; raise ImageError if there is no such member."""
    for _ in islice(reader.entries(), member, None):
        return reader.read(limit)
    raise ImageError(f"no member {member} in its archive")


def _absolute(path: str, folder: str) -> str:
    return path if path.startswith("/") else f"/{folder}/{path}".replace("//", "/").replace("/./", "/")
