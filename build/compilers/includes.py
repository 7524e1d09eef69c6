"""Which files of the checkout a compilation reads, found without a compiler.

Every `#include` is followed, also one that an `#if` would skip: a file too many costs a compilation, one too few
would publish a stale binary. What is found nowhere here is the toolchain's own, and the compiler's identity covers it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from os.path import join, normpath
from pathlib import Path, PurePosixPath

from build.errors import CompileError, UsageError

Reader = Callable[[str], bytes | None]


def reader(root: Path) -> Reader:
    """Reads files of the checkout by their path in it, each once; None for one that is not there.

    Raises CompileError for one that is there and can't be read.
    """

    @cache
    def read(path: str) -> bytes | None:
        try:
            with open(join(root, path), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise CompileError(f"{path}: can't be read: {error.strerror}") from None

    return read


def inputs(read: Reader, sources: Iterable[str], folders: Iterable[str]) -> Mapping[str, bytes]:
    """Path and content of `sources` and of all that they include, sorted by path.

    `folders` are the include folders. Raises CompileError for a source that is not there, and for an include whose
    name is a macro.
    """
    found: dict[str, bytes] = {}
    searched = tuple(folders)
    waiting = [normpath(source) for source in sources]
    for source in waiting:
        if read(source) is None:
            raise CompileError(f"{source}: no such file\n  it is named in arches.yaml, or by CFLAGS")
    while waiting:
        path = waiting.pop()
        data = read(path)
        if data is None or path in found:
            continue
        found[path] = data
        beside = str(PurePosixPath(path).parent)
        for name, quoted in _included(path, data):
            # In all folders, not the first that has it: then `#include_next`, and a new file in an earlier one, count.
            waiting += [normpath(f"{folder}/{name}") for folder in ((beside,) if quoted else ()) + searched]
    return dict(sorted(found.items()))


_BLANK = rb"(?:[ \t\f\v]|/\*(?s:.*?)\*/)*"
_DIRECTIVE = re.compile(
    rb"(?m)^(?:.*\*/)?[ \t\f\v]*(?:#|%:)"
    + _BLANK
    + rb"(?:include|include_next|import|embed)\b"
    + _BLANK
    + rb"([^\r\n]*)"
)


@cache
def _included(path: str, data: bytes) -> tuple[tuple[str, bool], ...]:
    """Name of each included file, and whether it stands in quotes."""
    names = []
    # A directive may go on in the next line, and have comments before and within it.
    for text in _DIRECTIVE.findall(re.sub(rb"\\\r?\n", b"", data)):
        named = re.match(rb'"([^"]+)"|<([^>]+)>', text)
        if not named:
            found = text.decode(errors="replace").strip()
            raise CompileError(
                f"{path}: #include {found}: expected a file's name\n  one that a macro names can't be tracked"
            )
        names.append(((named[1] or named[2]).decode(errors="surrogateescape"), bool(named[1])))
    return tuple(names)


def named_by_flags(flags: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files (`-include F`) and the folders (`-I D`, `-isystem D` and the like) that flags name, joined or apart.

    Raises UsageError for a flag that names files in a way of its own.
    """
    files: list[str] = []
    folders: list[str] = []
    options = {"-include": files, "-imacros": files, "-I": folders}
    options |= dict.fromkeys(("-iquote", "-isystem", "-idirafter"), folders)
    waiting: list[str] | None = None
    for flag in flags:
        if flag.startswith(("@", "-Wp,", "-Xclang", "-Xpreprocessor", "--include", "--sysroot", "-fprofile-use")):
            raise UsageError(
                f"CFLAGS: found {flag}: what it makes the compiler read can't be tracked\n  use -I or -include"
            )
        if waiting is not None:
            waiting.append(flag)
            waiting = None
        elif flag in options:
            waiting = options[flag]
        else:
            joined = next((option for option in options if flag.startswith(option)), None)
            if joined:
                options[joined].append(flag.removeprefix(joined))
    return tuple(files), tuple(folders)
