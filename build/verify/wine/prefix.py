"""Wine, where it is installed, and a prefix for it: the folder that stands for a Windows installation (wine(1))."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from build import system
from build.config.arches import Arch
from build.errors import BuildError
from build.verify.driver import Method, NotRunError

# Debian's package wine64 has no command on PATH.
_PATHS = ("wine64", "wine", "/usr/lib/wine/wine64")
_SERVERS = ("wineserver", "/usr/lib/wine/wineserver64", "/usr/lib/wine/wineserver")
# Seconds in which wine has made a prefix, on a busy machine.
_PATIENCE = 120


def wine_method(arch: Arch) -> Method:
    """Run with wine, which is for the CPU of this machine only; else NotRunError."""
    found = _found(_PATHS)
    if found is None or arch.platform.architecture != "amd64" or os.uname().machine != "x86_64":
        raise NotRunError(f"{arch.name}: wine64 is not installed\n  on amd64: apt-get install wine64")
    return Method("wine", (found,))


async def prefixed(method: Method, folder: Path, unshare: Sequence[str]) -> tuple[str, ...]:
    """The words in front of a program that is to run in a new prefix in `folder`; `unshare` is the start of a command.

    Raises BuildError if wine can't make a prefix.
    """
    [wine] = method.emulator
    # Neither messages nor installers of what pause doesn't need.
    variables = {"WINEPREFIX": str(folder / "wine"), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}
    words = ("env", "--unset=DISPLAY", *(f"{name}={value}" for name, value in variables.items()))
    server = _found(_SERVERS) or "wineserver"
    # The registry is on the disk only once the server has ended.
    make = ["sh", "-c", '"$1" wineboot --init && "$2" --kill; "$2" --wait', "sh", wine, server]
    try:
        ended = await system.run([*unshare, *words, *make], timeout=_PATIENCE)
    except TimeoutError:
        raise BuildError(f"wine: no prefix after {_PATIENCE} s") from None
    if not (folder / "wine" / "system.reg").exists():
        raise BuildError(f"wine: can't make a prefix: {ended.words or f'exit status {ended.status}'}")
    return (*words, wine)


def _found(names: Sequence[str]) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)
