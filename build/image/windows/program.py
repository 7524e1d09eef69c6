"""The program that a container of Windows starts: how CreateProcess finds the first word of its command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from build.errors import ImageError
from build.image.program import Command, Program, content
from build.image.reader import LayerReader
from build.image.rootfs import Files
from build.image.windows.paths import FILES, found_in, in_layer

DEFAULT_PATH = r"C:\Windows\system32;C:\Windows"
_EXTENSION = ".exe"


def windows_program(files: Files, command: Command, open_layer: Callable[[int], LayerReader], limit: int) -> Program:
    """The program of `command`, with its first `limit` bytes.

    `open_layer` reopens a layer by its number. Raises ImageError if there is no such program.
    """
    tried = list(dict.fromkeys(_candidates(command)))
    path = next(filter(None, (found_in(files, each) for each in tried)), None)
    location = files.file(path) if path else None
    if path is None or location is None:
        shown = ", ".join(each.removeprefix(FILES) for each in tried)
        raise ImageError(f"no program {command.arguments[0]!r} in the layers: found none of {shown}")
    layer, member = location[1].layer, location[1].member
    return Program(path.removeprefix(FILES), content(open_layer(layer), member, limit))


def _candidates(command: Command) -> Iterator[str]:
    """Where the program may be in the layers: with a path only there, else in the folders of PATH, too."""
    word = command.arguments[0]
    folders = [command.folder]
    if not any(each in word for each in "/\\:"):
        folders += [each for each in command.path.split(";") if each]
    for folder in folders:
        path = in_layer(folder, word)
        yield path
        if not path.casefold().endswith(_EXTENSION):
            yield f"{path}{_EXTENSION}"
