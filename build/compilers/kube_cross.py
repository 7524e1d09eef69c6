"""The cross compilers of a kube-cross image: one container for a whole run, through docker-py.

Sources are copied in and binaries out, which a daemon on another machine can do too, and which leaves no file that is
root's. The container has no network, no capability, no writable root, and no more life than this process: it ends when
its standard input does.
"""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build import trace
from build.compilers.compiler import Compile, Job, Program, files, gcc_flags
from build.compilers.includes import reader
from build.config.arches import Arch
from build.daemon.client import PATIENCE, explained, followed, inspected
from build.errors import BuildError, CompileError
from build.release.outcomes import begun

if TYPE_CHECKING:
    from docker import APIClient

# For the case that the daemon does not see us go: seconds.
LONGEST_LIFE = 600
NOBODY = 65534
_WORK = "/work"
_LABEL = "io.k8s.pause.toolchain"


@dataclass(frozen=True)
class KubeCross:
    """The toolchain image `image` (NAME:TAG); pulled, with a line of progress to `report`, if the daemon has it not."""

    connect: Callable[[], APIClient]
    image: str
    report: Callable[[str], None]
    may_pull: bool

    def identity(self, arch: Arch) -> str:  # noqa: ARG002
        """The image's content id: another image under the same tag is another compiler."""
        return f"kube-cross {self._image_id}"

    @contextmanager
    def at_work(self, root: Path, jobs: Collection[Job]) -> Iterator[Compile]:
        """See `Compiler`. Where nothing is to be compiled there is no container."""
        if not jobs:
            yield _nothing
            return
        container = f"pause-toolchain-{os.urandom(6).hex()}"
        sources = _packed(root, jobs)
        # Ctrl-C comes to the main thread alone. The start goes on in another one, and is waited for: a request that is
        # cut in two may leave a container that the daemon starts after we asked for its removal.
        with ThreadPoolExecutor(1) as starter:
            starting = begun(starter, partial(self._start, container, sources))
            try:
                lifeline = starting.result()
                yield partial(self._compile, container)
                lifeline.close()
            finally:
                starting.failure()  # or it is waited for here
                _remove(self._client, container)

    def _start(self, container: str, sources: bytes) -> Any:
        """Start the container with the sources in it; it ends when the socket that is returned does."""
        client = self._client
        with explained(f"a container of {self.image}"):
            _remove_stillborn(client)
            client.create_container(self._image_id, name=container, **_settings(client))
            lifeline = client.attach_socket(container, {"stdin": True, "stream": True})
            client.start(container)
            client.put_archive(container, _WORK, sources)
        return lifeline

    def _compile(self, container: str, program: Program, arch: Arch) -> bytes:
        output = f"{_WORK}/out/{program.name}-{arch.name}"
        what = f"{program.name} for {arch.name}"
        # The binary comes by standard output: the daemon takes ten times as long to pack one file into an archive.
        compile_and_show = 'output=$1; shift; "$@" -o "$output" && cat "$output"'
        command = ["sh", "-c", compile_and_show, "sh", output, f"{arch.triple}-gcc", *gcc_flags(program, arch)]
        trace.command(["docker", "exec", f"--workdir={_WORK}", f"--env=TMPDIR={_WORK}/out", container, *command])
        with explained(what):
            run = self._client.exec_create(container, command, workdir=_WORK, environment={"TMPDIR": f"{_WORK}/out"})[
                "Id"
            ]
            binary, words = self._client.exec_start(run, demux=True)
            status = self._client.exec_inspect(run)["ExitCode"]
        if status in (126, 127):  # POSIX, "Exit Status for Commands": not found; 126 if there is no sh even
            raise CompileError(
                f"{what}: {self.image} has no {arch.triple}-gcc"
                "\n  make a toolchain image that has it: invoke kube-cross; or compile with --compiler zig"
            )
        if status or not binary:
            said = (words or b"").decode(errors="replace").rstrip()
            raise CompileError(f"{what}: {arch.triple}-gcc failed with exit status {status}:\n{said}")
        return bytes(binary)

    @cached_property
    def _client(self) -> APIClient:
        return self.connect()

    @cached_property
    def _image_id(self) -> str:
        found = self._local_id()
        if found is None and not self.may_pull:
            raise CompileError(f"{self.image}: the daemon has it not, and a dry run pulls nothing\n  {_INSTEAD}")
        if found is None:
            self._pull()
            found = self._local_id()
        if found is None:
            raise CompileError(f"{self.image}: pulled, and yet not there\n  {_INSTEAD}")
        return found

    def _local_id(self) -> str | None:
        found = inspected(self._client, self.image)
        return str(found["Id"]) if found else None

    def _pull(self) -> None:
        name, _, tag = self.image.rpartition(":")
        try:
            with explained(f"{self.image} can't be pulled"):
                lines = self._client.pull(name, tag=tag, stream=True, decode=True)
            for line in followed(lines, f"{self.image} can't be pulled"):
                if "progressDetail" not in line or not line["progressDetail"]:
                    self.report(" ".join(filter(None, (self.image + ":", line.get("id"), line.get("status")))))
        except BuildError as error:
            raise CompileError(f"{error}\n  {_INSTEAD}") from None


_INSTEAD = "make a toolchain image of your own: invoke kube-cross; or compile without one: --compiler zig"


def _nothing(program: Program, arch: Arch) -> bytes:
    raise AssertionError(f"{program.name} for {arch.name}: nothing was to be compiled")


def _settings(client: APIClient) -> dict[str, Any]:
    return {
        "entrypoint": ["timeout", str(LONGEST_LIFE), "cat"],
        "stdin_open": True,  # and, as docker-py attaches it, closed when we are gone
        "user": f"{NOBODY}:{NOBODY}",
        "volumes": [_WORK],  # the one place that can be written to; it goes with the container
        "labels": [_LABEL],
        "host_config": client.create_host_config(
            auto_remove=True,
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            pids_limit=256,
        ),
    }


def _packed(root: Path, jobs: Collection[Job]) -> bytes:
    """The files to compile, and a folder that `NOBODY` may write to."""
    read = reader(root)
    contents = {path: data for job in jobs for path, data in files(read, *job).items()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tape:
        out = tarfile.TarInfo("out")
        out.type, out.mode, out.uid, out.gid = tarfile.DIRTYPE, 0o700, NOBODY, NOBODY
        tape.addfile(out)
        for path, data in contents.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o644
            tape.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _remove_stillborn(client: APIClient) -> None:
    """Remove what a run left that was killed between making a container and starting it: only then does one stay."""
    for each in client.containers(all=True, filters={"label": _LABEL, "status": "created"}):
        if each["Created"] < time.time() - PATIENCE:
            _remove(client, each["Id"])


def _remove(client: APIClient, container: str) -> None:
    from docker import errors
    from requests.exceptions import ConnectionError as Gone

    try:
        client.remove_container(container, v=True, force=True)
    except errors.APIError as error:
        if error.status_code not in (404, 409):  # gone already, or about to be
            raise BuildError(f"container {container} can't be removed: {error.explanation}") from None
    except Gone:
        pass  # there is no daemon any more, and what failed for that has been said
