"""Packs the sources of a compilation for a container."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection
from pathlib import Path

from build.compilers.compiler import Job, files
from build.compilers.includes import reader


def packed(root: Path, jobs: Collection[Job], owner: int) -> bytes:
    """A tar archive of all files that `jobs` read, and a folder `out` that the user with UID `owner` may write to."""
    read = reader(root)
    contents = {path: data for job in jobs for path, data in files(read, *job).items()}
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        out = tarfile.TarInfo("out")
        out.type, out.mode, out.uid, out.gid = tarfile.DIRTYPE, 0o700, owner, owner
        archive.addfile(out)
        for path, data in contents.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return output.getvalue()
