"""The cross compilers of a kube-cross image: one container for a whole run, through docker-py.

Sources are copied in and binaries out, which works with a remote daemon, too, and leaves no files owned by root.
The container has no network, no capability and no writable root; it ends when its standard input does, and so with
this process.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build.compilers.compiler import Compile, Job, Program, Tool, failed, gcc_flags
from build.compilers.sources import packed
from build.config.arches import Arch
from build.daemon.client import PATIENCE, Daemon
from build.daemon.images import pull_image
from build.errors import BuildError, CompileError
from build.oci.reference import Repository
from build.report import Report, indented, trace_command
from build.stores.registry.credentials import Credentials

if TYPE_CHECKING:
    from docker import APIClient

# Seconds, in case the daemon does not notice that this process is gone.
LONGEST_LIFE = 600
NOBODY = 65534
_WORK = "/work"
_LABEL = "io.k8s.pause.toolchain"
_INSTEAD = "build a toolchain image of your own, and name it: invoke kube-cross; or compile without one: --compiler zig"


@dataclass(frozen=True)
class KubeCross:
    """The toolchain image `image` (NAME:TAG), pulled, with progress to `report`, if the daemon does not have it."""

    connect: Callable[[], Awaitable[Daemon]]
    credentials: Callable[[Repository], Awaitable[Credentials | None]]
    image: str
    report: Report
    may_pull: bool
    _ids: list[str] = field(default_factory=list, compare=False)

    async def identity(self, arch: Arch) -> str:  # noqa: ARG002
        """The image's content id: another image under the same tag is another compiler."""
        return f"kube-cross {await self._image_id(await self.connect())}"

    async def tool(self, root: Path, arch: Arch) -> Tool:  # noqa: ARG002
        """The image, by the digest that it was pulled by, or by its ID if it was built here."""
        daemon = await self.connect()
        image_id = await self._image_id(daemon)
        found = await daemon.inspect(image_id) or {}
        digests = [each.rpartition("@")[2] for each in found.get("RepoDigests") or ()]
        name, _, tag = self.image.rpartition(":")
        return Tool(name, tag, f"docker://{self.image}", (digests[0] if digests else image_id,))

    @asynccontextmanager
    async def session(self, root: Path, jobs: Collection[Job], scratch: Path) -> AsyncIterator[Compile]:  # noqa: ARG002
        """See `Compiler`."""
        daemon = await self.connect()
        image_id = await self._image_id(daemon)
        container = f"pause-toolchain-{os.urandom(6).hex()}"
        sources = packed(root, jobs, NOBODY)
        starting = daemon.call(f"a container of {self.image}", partial(_start, image_id, container, sources))
        removing = f"container {container} can't be removed"
        async with daemon.created(starting, removing, partial(_remove, container)) as standard_input:
            yield partial(self._compile, daemon, container)
            standard_input.close()

    async def _compile(self, daemon: Daemon, container: str, program: Program, arch: Arch) -> bytes:
        output = f"{_WORK}/out/{program.name}-{arch.name}"
        what = f"{program.name} for {arch.name}"
        # The binary comes by standard output: the daemon takes ten times as long to pack one file into an archive.
        compile_and_show = 'output=$1; shift; "$@" -o "$output" && cat "$output"'
        command = ["sh", "-c", compile_and_show, "sh", output, f"{arch.triple}-gcc", *gcc_flags(program, arch)]
        trace_command(["docker", "exec", f"--workdir={_WORK}", f"--env=TMPDIR={_WORK}/out", container, *command])
        status, binary, words = await daemon.call(what, partial(_exec, container, command), LONGEST_LIFE)
        if status in (126, 127):  # POSIX, "Exit Status for Commands": not found; 126 if there is not even sh
            task = "invoke kube-cross --windows" if arch.platform.is_windows else "invoke kube-cross"
            raise CompileError(
                f"{what}: {self.image} has no {arch.triple}-gcc"
                f"\n  build a toolchain image that has it: {task}; or compile with --compiler zig"
            )
        if status or not binary:
            text = indented((words or b"").decode(errors="replace"))
            raise failed(program, arch, f"{arch.triple}-gcc", status, text)
        return binary

    async def _image_id(self, daemon: Daemon) -> str:
        if not self._ids:
            found = await daemon.inspect(self.image)
            if found is None and not self.may_pull:
                raise CompileError(f"{self.image}: not in the daemon, and a dry run pulls nothing\n  {_INSTEAD}")
            if found is None:
                await self._pull(daemon)
                found = await daemon.inspect(self.image)
            if found is None:
                raise CompileError(f"{self.image}: pulled, but not in the daemon\n  {_INSTEAD}")
            self._ids.append(str(found["Id"]))
        return self._ids[0]

    async def _pull(self, daemon: Daemon) -> None:
        try:
            await pull_image(daemon, self.image, self.credentials, self.report)
        except BuildError as error:
            raise CompileError(f"{error}\n  {_INSTEAD}") from None


def _start(image_id: str, container: str, sources: bytes, api: APIClient) -> Any:
    """Start the container with the sources in it; it ends when the socket that is returned is closed."""
    _remove_stillborn(api)
    api.create_container(image_id, name=container, **_settings(api))
    lifeline = api.attach_socket(container, {"stdin": True, "stream": True})
    api.start(container)
    api.put_archive(container, _WORK, sources)
    return lifeline


def _exec(container: str, command: list[str], api: APIClient) -> tuple[int, bytes | None, bytes | None]:
    run = api.exec_create(container, command, workdir=_WORK, environment={"TMPDIR": f"{_WORK}/out"})["Id"]
    binary, words = api.exec_start(run, demux=True)
    return api.exec_inspect(run)["ExitCode"], binary, words


def _settings(api: APIClient) -> dict[str, Any]:
    return {
        "entrypoint": ["timeout", str(LONGEST_LIFE), "cat"],
        "stdin_open": True,  # and, as docker-py attaches it, closed when this process is gone
        "user": f"{NOBODY}:{NOBODY}",
        "volumes": [_WORK],  # the only writable place; it goes with the container
        "labels": [_LABEL],
        "host_config": api.create_host_config(
            auto_remove=True,
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            pids_limit=256,
        ),
    }


def _remove_stillborn(api: APIClient) -> None:
    """Remove what a run left that was killed between creating a container and starting it."""
    for each in api.containers(all=True, filters={"label": _LABEL, "status": "created"}):
        if each["Created"] < time.time() - PATIENCE:
            _remove(each["Id"], api)


def _remove(container: str, api: APIClient) -> None:
    from docker import errors
    from requests.exceptions import ConnectionError as Gone

    try:
        api.remove_container(container, v=True, force=True)
    except errors.APIError as error:
        if error.status_code not in (404, 409):  # gone already, or about to be
            raise
    except Gone:
        pass  # there is no daemon any more, and what failed because of that has been reported
