"""Containers of Podman, through its command: there is no daemon, which its Python library requires."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from build import system
from build.config.arches import Arch
from build.errors import BuildError
from build.report import indented
from build.verify.driver import Ended, Method, Running, Site, Subject
from build.verify.emulators import method_in_container
from build.verify.processes import Process, until

# Seconds for one command, on a busy machine.
_PATIENCE = 120
# The exit statuses that may be those of podman instead of the container (podman-run(1), "Exit Status").
_PODMANS = (125, 126, 127)


@dataclass(frozen=True)
class Podman:
    """The driver that runs images in Podman, configured by containers.conf and storage.conf.

    The test helper and the image are written to scratch folders below `base`; the helper is mounted from there.
    """

    base: Path
    name: str = "podman"
    direct: bool = False

    async def prepare(self) -> None:
        """Check that Podman is installed and works."""
        if shutil.which("podman") is None:
            raise BuildError("podman: not installed\n  apt-get install podman, or do without it: --with namespaces")
        await _podman("info")

    def method(self, arch: Arch) -> Method:
        """Natively, or through binfmt_misc."""
        return method_in_container(self.name, arch)

    @asynccontextmanager
    async def site(self, subject: Subject) -> AsyncIterator[Site]:
        """Podman's storage with the image."""
        with system.scratch(self.base) as folder:
            archive = folder.absolute() / "image.tar"
            await subject.archive(archive)
            orphan = folder.absolute() / "orphan"
            orphan.write_bytes(subject.orphan)
            orphan.chmod(0o755)
            existing = set((await _podman("images", "--all", "--quiet", "--no-trunc")).split())
            # A load that is killed would leave temporary files behind.
            name = (await system.finish(_podman("load", "--input", str(archive)))).split()[-1]
            try:
                yield _Storage(name, subject.arch, orphan)
            finally:
                await system.finish(_unload(name, existing))


async def _unload(name: str, existing: set[str]) -> None:
    """Remove the image, or only its name if podman had the image before."""
    if await _podman("image", "inspect", "--format=sha256:{{.Id}}", name) not in existing:
        await _podman("rmi", "--force", name)
    elif not name.startswith("sha256:"):
        await _podman("untag", name, name)


@dataclass(frozen=True)
class _Storage:
    image: str
    arch: Arch
    orphan: Path

    @asynccontextmanager
    async def start(self, *arguments: str, first: bool = True) -> AsyncIterator[Running]:
        name = f"verify-{token_hex(6)}"
        flags = [f"--name={name}", f"--platform={self.arch.platform}", f"--volume={self.orphan}:/orphan:ro"]
        flags += ["--network=none", "--pull=never", "--log-driver=k8s-file", *([] if first else ["--pid=host"])]
        await system.finish(_podman("create", *flags, self.image, *arguments))
        attached = asyncio.create_task(system.run(["podman", "start", "--attach", name]))
        try:
            yield _Container(name, attached, await self._executed(name, attached), self.arch.name)
        finally:
            # Before the command is killed: halfway through a start, only podman knows what it has started.
            await system.finish(_remove(name))
            attached.cancel()
            await system.finish(asyncio.wait({attached}))

    async def _executed(self, name: str, attached: asyncio.Task[system.Completed]) -> Process:
        """The container's first process, once the runtime has executed the program, or it has ended."""
        found: list[Process] = []

        async def executed() -> bool:
            if not found:
                pid = int(await _podman("inspect", "--format={{.State.Pid}}", name))
                found[:] = [Process(pid)] if pid else []
            return attached.done() or bool(found and not found[0].is_runtime())

        if not await until(executed, _PATIENCE):
            raise BuildError(f"{self.arch.name}: podman start has started nothing in {_PATIENCE} s")
        return found[0] if found else Process(0)


@dataclass(frozen=True)
class _Container:
    name: str
    attached: asyncio.Task[system.Completed]
    process: Process
    arch: str

    async def send(self, number: int) -> None:
        await system.run(["podman", "kill", f"--signal={number}", self.name], timeout=_PATIENCE)

    async def ended(self, seconds: float) -> Ended | None:
        # After the container has ended, podman has to clean up before it ends.
        done, _ = await asyncio.wait({self.attached}, timeout=seconds + _PATIENCE / 4)
        if not done:
            return None
        ended = _ended(self.attached.result())
        if ended.status in _PODMANS and ended.stderr.startswith("Error: "):
            raise BuildError(f"{self.arch}: podman start: {indented(ended.stderr)}")
        return ended

    async def kill(self) -> Ended:
        await self.send(9)
        ended = await self.ended(_PATIENCE)
        if ended is None:
            raise BuildError(f"{self.arch}: podman kill has had no effect for {_PATIENCE} s")
        return ended

    async def leave_orphans(self, count: int, seconds: float) -> Ended:
        try:
            run = await system.run(["podman", "exec", self.name, "/orphan", str(count)], timeout=seconds)
        except TimeoutError:
            raise BuildError(f"{self.arch}: orphan {count} has not ended after {seconds:g} s") from None
        return _ended(run)


async def _remove(container: str) -> None:
    command = ("rm", "--force", "--time=0", container)
    try:
        await _podman(*command)
    except BuildError:
        # Podman refuses to kill a container that has ended since it looked; now it knows that.
        await _podman(*command)


def _ended(run: system.Completed) -> Ended:
    return Ended(run.status, run.stdout.decode(errors="replace"), run.stderr.decode(errors="replace"))


async def _podman(*words: str) -> str:
    """What `podman WORDS` prints; raise BuildError if it fails."""
    doing = f"podman {words[0]}"
    try:
        run = await system.run(["podman", *words], timeout=_PATIENCE)
    except TimeoutError:
        raise BuildError(f"{doing}: has not ended after {_PATIENCE} s") from None
    except OSError as error:
        raise BuildError(f"{doing}: can't be run: {error.strerror}") from None
    if run.status:
        reason = run.stderr.decode(errors="replace").strip() or f"exit status {run.status}"
        raise BuildError(f"{doing}: {indented(reason)}")
    return run.stdout.decode(errors="replace").strip()
