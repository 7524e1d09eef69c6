"""A kube-cross image of one's own, built in the daemon."""

from __future__ import annotations

import io

from build.daemon.client import Daemon, Line
from build.errors import BuildError
from build.report import Report


async def build_toolchain(daemon: Daemon, dockerfile: bytes, name: str, more: str, report: Report) -> str:
    """Build the image `name` (NAME:TAG) from a Dockerfile that needs no files; return its id.

    `more` are further packages for it, separated by blanks.
    """

    def progress(line: Line) -> None:
        if text := str(line.get("stream", "")).strip():
            report(text)

    doing = f"{name}: docker build"
    await daemon.stream(
        doing,
        lambda api: api.build(
            fileobj=io.BytesIO(dockerfile), tag=name, rm=True, forcerm=True, decode=True, buildargs={"MORE": more}
        ),
        progress,
    )
    found = await daemon.inspect(name)
    if found is None:
        raise BuildError(f"{doing}: the daemon ended without an image")
    return str(found["Id"])
