"""Containers of a Docker daemon, through docker-py: the image itself is run, with no network."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build.config.arches import Arch
from build.daemon.client import explained, followed, inspected
from build.daemon.images import checked_image
from build.errors import BuildError
from build.image.layer import File, tar
from build.verify.driver import Ended, Running, Site, Subject, Way
from build.verify.emulators import in_a_container
from build.verify.processes import Process, Watch

if TYPE_CHECKING:
    from docker import APIClient

# Seconds until a container's first process is there, on a machine that has a lot to do.
_PATIENCE = 30


@dataclass(frozen=True)
class Docker:
    """The driver that runs images in a daemon on this machine: what happens in it is read from /proc."""

    client: Callable[[], APIClient]
    name: str = "docker"
    direct: bool = False

    def prepare(self) -> None:
        """See whether a daemon answers."""
        self.client()

    def way(self, arch: Arch) -> Way:
        """Natively, or as binfmt_misc is set up."""
        by = in_a_container(arch)
        return Way(f"docker, {by or 'native'}", native=not by)

    @contextmanager
    def site(self, subject: Subject, watch: Watch) -> Iterator[Site]:
        """The daemon with the image."""
        client, archive = self.client(), subject.image()
        # The last of its names takes an image along: one that was there with none must be given none.
        there = _found_nameless(client, archive)
        words, name = ("", there) if there else _load(client, archive, subject.arch)
        try:
            checked_image(client, name, subject.arch.platform, None)
            yield _Daemon(client, name, subject, watch)
        finally:
            if words == "Loaded image":  # one without a name was there before
                with explained(f"{name}: docker rmi"):
                    client.remove_image(name, force=True)


def _found_nameless(client: APIClient, archive: bytes) -> str:
    """The id of the archive's image, if the daemon has it under no name; else nothing."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        listing = files.extractfile("manifest.json")
        [entry] = json.load(listing) if listing else [{}]
    digest = "sha256:" + re.sub(r".*/|\.json", "", entry["Config"])
    found = inspected(client, digest)
    return digest if found and not found["RepoTags"] else ""


def _load(client: APIClient, archive: bytes, arch: Arch) -> tuple[str, str]:
    """What the daemon says that it did, and the image's name or id."""
    doing = f"{arch.name}: docker load"
    with explained(doing):
        lines = client.load_image(archive)  # type: ignore[no-untyped-call]
    words, _, name = "".join(str(line.get("stream", "")) for line in followed(lines, doing)).strip().partition(": ")
    return words, name


@dataclass(frozen=True)
class _Daemon:
    client: APIClient
    image: str
    subject: Subject
    watch: Watch

    @contextmanager
    def start(self, *arguments: str, first: bool = True) -> Iterator[Running]:
        from docker.types import LogConfig

        client = self.client
        with explained(f"{self.subject.arch.name}: docker create"):
            container = client.create_container(
                self.image,
                list(arguments),
                labels=["io.k8s.pause.verify"],
                platform=str(self.subject.arch.platform),
                host_config=client.create_host_config(
                    network_mode="none", pid_mode=None if first else "host", log_config=LogConfig(type="json-file")
                ),
            )["Id"]
        try:
            with explained(f"{self.subject.arch.name}: docker start"):
                client.put_archive(container, "/", tar([File("/orphan", 0o755, self.subject.orphan)], 0))
                client.start(container)
            yield _Container(client, container, self)
        finally:
            with explained(f"{self.subject.arch.name}: docker rm"):
                client.remove_container(container, v=True, force=True)


@dataclass
class _Container:
    client: APIClient
    id: str
    site: _Daemon
    _found: list[Process] = field(default_factory=list)

    @property
    def process(self) -> Process:
        """The one process here whose cgroup bears the container's id: the daemon may count in another namespace."""
        if not self._found:
            ran = self.site.watch.until(lambda: bool(self._look()) or not self._state()["Running"], _PATIENCE)
            if not self._found and not ran:
                raise BuildError(
                    f"{self.site.subject.arch.name}: container {self.id[:12]} runs, but its processes are not seen here"
                    "\n  run this on the daemon's own machine, or do without it: --with namespaces"
                )
        return self._found[0] if self._found else Process(0)

    def _look(self) -> list[Process]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if self.id in (entry / "cgroup").read_text() and self._is_it(Process(int(entry.name))):
                        self._found.append(Process(int(entry.name)))
        return self._found

    def _is_it(self, process: Process) -> bool:
        # Before it becomes the program it is the runtime, and says so.
        return not process.status().get("Name", "runc").startswith(("runc", "crun", "exe"))

    def _state(self) -> dict[str, Any]:
        with explained(f"{self.id[:12]}: docker inspect"):
            state: dict[str, Any] = self.client.inspect_container(self.id)["State"]
            return state

    def send(self, number: int) -> None:
        from docker.errors import APIError

        with explained(f"{self.id[:12]}: docker kill"):
            try:
                self.client.kill(self.id, number)
            except APIError as error:
                if error.status_code != 409:  # it does not run any more
                    raise

    def outcome(self, seconds: float) -> Ended | None:
        if not self.site.watch.until(lambda: not self._state()["Running"], seconds):
            return None
        with explained(f"{self.id[:12]}: docker logs"):
            out, err = (
                self.client.logs(self.id, stdout=out, stderr=not out).decode(errors="replace") for out in (True, False)
            )
        return Ended(self._state()["ExitCode"], out, err)

    def cut(self) -> Ended:
        self.send(9)
        ended = self.outcome(_PATIENCE)
        if ended is None:
            raise BuildError(f"{self.site.subject.arch.name}: docker kill has done nothing in {_PATIENCE} s")
        return ended

    def leave_orphans(self, count: int, seconds: float) -> Ended:
        del seconds  # docker-py has its own limit
        with explained(f"{self.site.subject.arch.name}: docker exec"):
            run = self.client.exec_create(self.id, ["/orphan", str(count)])["Id"]
            out, err = self.client.exec_start(run, demux=True)
            status = self.client.exec_inspect(run)["ExitCode"]
        return Ended(status, (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace"))
