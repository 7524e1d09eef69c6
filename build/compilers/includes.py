"""Finds the files of the checkout that a compilation reads, without running a compiler.

Every `#include` is followed, even one that an `#if` would skip: an extra file costs an unnecessary compilation, but a
missing one would publish a stale binary. Headers that are not in the checkout belong to the toolchain, which the
compiler's identity covers.
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
    """A function that reads a file of the checkout, with a cache, and returns None if there is no such file.

    It raises CompileError if the file exists but can't be read.
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
    """The content by path of `sources` and of every file that they include, sorted by path.

    `folders` are the include directories. Raises CompileError for a missing source, and for an include whose file name
    is a macro.
    """
    found: dict[str, bytes] = {}
    searched = tuple(folders)
    pending = [normpath(source) for source in sources]
    for source in pending:
        if read(source) is None:
            raise CompileError(f"{source}: no such file\n  it is named in arches.yaml, or in CFLAGS")
    while pending:
        path = pending.pop()
        data = read(path)
        if data is None or path in found:
            continue
        found[path] = data
        parent = str(PurePosixPath(path).parent)
        for name, is_quoted in _included(path, data):
            # In every folder, not only the first that has the file, which covers `#include_next`.
            pending += [normpath(f"{folder}/{name}") for folder in ((parent,) if is_quoted else ()) + searched]
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
    """The name of each included file, and whether it is in quotes rather than angle brackets."""
    names = []
    # Continuation lines are joined; comments may precede a directive or be inside it.
    for text in _DIRECTIVE.findall(re.sub(rb"\\\r?\n", b"", data)):
        match = re.match(rb'"([^"]+)"|<([^>]+)>', text)
        if not match:
            found = text.decode(errors="replace").strip()
            raise CompileError(
                f"{path}: #include {found}: expected a file name\n  a file that a macro names can't be tracked"
            )
        names.append(((match[1] or match[2]).decode(errors="surrogateescape"), bool(match[1])))
    return tuple(names)


def named_by_flags(flags: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files and include directories that compiler flags name, whether joined (`-Ix`) or separate (`-I x`).

    Raises UsageError for a flag that makes the compiler read files in another way.
    """
    files: list[str] = []
    folders: list[str] = []
    options = {"-include": files, "-imacros": files, "-I": folders}
    options |= dict.fromkeys(("-iquote", "-isystem", "-idirafter"), folders)
    expecting: list[str] | None = None
    for flag in flags:
        if flag.startswith(("@", "-Wp,", "-Xclang", "-Xpreprocessor", "--include", "--sysroot", "-fprofile-use")):
            raise UsageError(
                f"CFLAGS: found {flag}: the files that it makes the compiler read can't be tracked"
                "\n  use -I or -include"
            )
        if expecting is not None:
            expecting.append(flag)
            expecting = None
        elif flag in options:
            expecting = options[flag]
        else:
            joined = next((option for option in options if flag.startswith(option)), None)
            if joined:
                options[joined].append(flag.removeprefix(joined))
    return tuple(files), tuple(folders)
