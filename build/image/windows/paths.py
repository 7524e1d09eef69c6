"""Paths in containers of Windows, and where layers have them: below Files (image-spec layer.md has Linux' form only).

Paths are not case-sensitive, have a drive, and may be written with either slash.
"""

from __future__ import annotations

import re
from posixpath import join, normpath

from build.errors import ImageError
from build.image.rootfs import Files

FILES, HIVES = "/Files", "/Hives"
_DRIVE = re.compile(r"[A-Za-z]:")


def in_layer(folder: str, path: str) -> str:
    """Where layers have what a container has under `path`, seen from `folder`; a slash at the end stays.

    Raises ImageError for a path on another drive than C:, which layers don't have.
    """
    inside = join("/", _plain(folder), _plain(path))
    end = "/" if inside.endswith("/") else ""
    return f"{FILES}{normpath(inside)}".rstrip("/").replace("//", "/") + end


def found_in(files: Files, path: str) -> str | None:
    """The path of the file in the layers that differs from `path` in case at most; None if there is none."""
    if files.file(path):
        return path
    wanted = path.casefold()
    return next((each for each, _, _ in files.walk() if each.casefold() == wanted and files.file(each)), None)


def _plain(path: str) -> str:
    plain = path.replace("\\", "/")
    if drive := _DRIVE.match(plain):
        if drive[0].upper() != "C:":
            raise ImageError(f"{path}: found a path on drive {drive[0]}, expected one on C:")
        plain = "/" + plain[2:].lstrip("/")
    return plain
