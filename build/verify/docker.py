"""Containers of a Docker daemon: the image itself is run, without a network."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from build.config.arches import Arch
from build.daemon.client import Daemon
from build.daemon.images import checked_image, load_image
from build.errors import BuildError
from build.oci.tar import File, tar
from build.system import scratch
from build.verify.driver import Ended, Method, Running, Site, Subject
from build.verify.emulators import method_in_container
from build.verify.processes import Process, until

if TYPE_CHECKING:
    from docker import APIClient

# Seconds until a container's first process exists, or has ended after a kill, on a busy machine.
_PATIENCE = 30
_LABEL = "io.k8s.pause.verify"


@dataclass
class Docker:
    """The driver that runs images in a daemon on this machine: processes are watched through /proc.

    Images are packed in scratch folders below `base`.
    """

    connect: Callable[[], Awaitable[Daemon]]
    base: Path
    name: str = "docker"
    direct: bool = False
    _daemon: Daemon | None = None

    async def prepare(self) -> None:
        """Connect to the daemon."""
        await self._connected()

    async def _connected(self) -> Daemon:
        if self._daemon is None:
            self._daemon = await self.connect()
        return self._daemon

    def method(self, arch: Arch) -> Method:
        """Natively, or through binfmt_misc."""
        return method_in_container(self.name, arch)

    @asynccontextmanager
    async def site(self, subject: Subject) -> AsyncIterator[Site]:
        """The daemon with the image."""
        daemon = await self._connected()
        with scratch(self.base) as folder:
            await subject.archive(folder / "image.tar")
            async with _loaded(daemon, folder / "image.tar", subject.arch) as image:
                await checked_image(daemon, image, subject.arch.platform, None)
                yield _Site(daemon, image, subject)


@asynccontextmanager
async def _loaded(daemon: Daemon, archive: Path, arch: Arch) -> AsyncIterator[str]:
    """The image of the archive, under the name that it has there, which goes when the context ends; or its id."""
    config, name = _identity(archive)
    existing = await daemon.inspect(config)
    if existing is not None and not existing["RepoTags"]:
        # Loading would name an image that has no name, and removing its last name removes the image.
        yield config
    elif not name:
        yield await load_image(daemon, archive, arch.name)
    else:
        loading = load_image(daemon, archive, arch.name)
        async with daemon.created(loading, f"{name}: docker rmi", lambda client: _remove_name(client, name)) as image:
            yield image


def _identity(archive: Path) -> tuple[str, str]:
    """The digest of the config of the archive's image, and its name, which may be empty."""
    with tarfile.open(archive) as files:
        listing = files.extractfile("manifest.json")
        [entry] = json.load(listing) if listing else [{}]
    return "sha256:" + re.sub(r".*/|\.json", "", entry["Config"]), next(iter(entry.get("RepoTags") or ()), "")


@dataclass(frozen=True)
class _Site:
    daemon: Daemon
    image: str
    subject: Subject

    @asynccontextmanager
    async def start(self, *arguments: str, first: bool = True) -> AsyncIterator[Running]:
        name, arch = f"verify-{token_hex(6)}", self.subject.arch

        def start(client: APIClient) -> str:
            from docker.types import LogConfig

            container: str = client.create_container(
                self.image,
                list(arguments),
                name=name,
                labels=[_LABEL],
                platform=str(arch.platform),
                host_config=client.create_host_config(
                    network_mode="none", pid_mode=None if first else "host", log_config=LogConfig(type="json-file")
                ),
            )["Id"]
            client.put_archive(name, "/", tar([File("/orphan", 0o755, self.subject.orphan)], 0))
            client.start(name)
            return container

        starting = self.daemon.call(f"{arch.name}: docker run", start)
        removing = f"{arch.name}: docker rm"
        async with self.daemon.created(starting, removing, lambda client: _remove(client, name)) as container:
            yield _Container(self.daemon, container, arch.name, await self._executed(container))

    async def _executed(self, container: str) -> Process:
        """The container's first process, once the runtime has executed the program, or it has ended.

        It is recognised by its cgroup, because the daemon may run in another PID namespace.
        """
        found: list[Process] = []

        async def executed() -> bool:
            found[:] = [process for process in _processes() if _is_of(container, process)]
            return bool(found) or not await _is_running(self.daemon, container, self.subject.arch.name)

        if not await until(executed, _PATIENCE):
            raise BuildError(
                f"{self.subject.arch.name}: container {container[:12]} is running, but its processes are not visible"
                " here\n  run this on the daemon's machine, or use --with namespaces"
            )
        return found[0] if found else Process(0)


def _remove_name(client: APIClient, name: str) -> None:
    from docker.errors import ImageNotFound

    with suppress(ImageNotFound):  # it was never loaded
        client.remove_image(name, force=True)


def _remove(client: APIClient, container: str) -> None:
    from docker.errors import NotFound

    with suppress(NotFound):  # it was never created
        client.remove_container(container, v=True, force=True)


@dataclass(frozen=True)
class _Container:
    daemon: Daemon
    id: str
    arch: str
    process: Process

    async def send(self, number: int) -> None:
        def kill(client: APIClient) -> None:
            from docker.errors import APIError

            try:
                client.kill(self.id, number)
            except APIError as error:
                if error.status_code != 409:  # it is not running
                    raise

        await self.daemon.call(f"{self.arch}: docker kill", kill)

    async def ended(self, seconds: float) -> Ended | None:
        async def has_ended() -> bool:
            return not await _is_running(self.daemon, self.id, self.arch)

        if not await until(has_ended, seconds):
            return None

        def ended(client: APIClient) -> Ended:
            stdout, stderr = (
                client.logs(self.id, stdout=out, stderr=not out).decode(errors="replace") for out in (True, False)
            )
            return Ended(client.inspect_container(self.id)["State"]["ExitCode"], stdout, stderr)

        return await self.daemon.call(f"{self.arch}: docker logs", ended)

    async def kill(self) -> Ended:
        await self.send(9)
        ended = await self.ended(_PATIENCE)
        if ended is None:
            raise BuildError(f"{self.arch}: docker kill has had no effect for {_PATIENCE} s")
        return ended

    async def leave_orphans(self, count: int, seconds: float) -> Ended:
        def orphan(client: APIClient) -> Ended:
            run = client.exec_create(self.id, ["/orphan", str(count)])["Id"]
            stdout, stderr = ((data or b"").decode(errors="replace") for data in client.exec_start(run, demux=True))
            return Ended(client.exec_inspect(run)["ExitCode"], stdout, stderr)

        return await self.daemon.call(f"{self.arch}: docker exec orphan", orphan, seconds)


async def _is_running(daemon: Daemon, container: str, arch: str) -> bool:
    def is_running(client: APIClient) -> bool:
        return bool(client.inspect_container(container)["State"]["Running"])

    return await daemon.call(f"{arch}: docker inspect", is_running)


def _processes() -> list[Process]:
    return [Process(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _is_of(container: str, process: Process) -> bool:
    try:
        cgroup = Path(f"/proc/{process.pid}/cgroup").read_text()
    except OSError:
        return False
    return container in cgroup and not process.ended() and not process.is_runtime()
