"""The libcs that zig has compiled, kept between runs.

zig links what it finds in its cache, so each libc is proved by its digest before.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from build.cache.cache import Cache, key_of
from build.system import lock

# Seconds between two looks whether another run has finished with a libc.
_POLL = 0.05
# The folders of zig's cache that hold what is linked (o), which inputs it was made from (h), and settings (b). The
# others are for compiling zig code, or for temporary files.
_KEPT = ("b", "h", "o")
# zig touches this file in each run.
_CLOCK = "timestamp"


@asynccontextmanager
async def proved(cache: Cache, name: str, compiler: str, missing: Callable[[str], None]) -> AsyncIterator[Path]:
    """A folder for zig's global cache, which holds the libc `name` just as `compiler` made it, or nothing yet.

    In the latter case, `missing` is called first, with the reason if there was one. What zig has added is recorded when
    the context ends; if it is cancelled, the libc counts as damaged. Other compilations with the same libc wait
    meanwhile, in other runs, too.
    """
    home = cache.folder / name
    folder = home / "cache"
    cache.sign()
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock(home, wait=False))
                break
            except BlockingIOError:
                await asyncio.sleep(_POLL)
        made = cache.get_note(name)
        if made is None or made != await asyncio.to_thread(_record, folder, compiler):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            missing(f"{folder}: not what {compiler} has made: removed; " if made else "")
        folder.mkdir(exist_ok=True)
        yield folder
        cache.put_note(name, await asyncio.to_thread(_record, folder, compiler))


def _record(folder: Path, compiler: str) -> bytes:
    """The digest of everything in `folder` that zig links or goes by, and the compiler that made it."""
    parts = (part for path in _files(folder) for part in (path.removeprefix(str(folder)), Path(path).read_bytes()))
    return f"{compiler}\n{key_of(*parts)}\n".encode()


def _files(folder: Path) -> Iterator[str]:
    for kept in _KEPT:
        for path, folders, names in os.walk(folder / kept):
            folders.sort()
            yield from (os.path.join(path, name) for name in sorted(names) if name != _CLOCK)
