"""Plain namespaces, without a daemon: `unshare` and `nsenter` of util-linux, which every Linux system has.

Before Python 3.12 the standard library can't make namespaces. A user who is not root gets a user namespace around them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from build import system
from build.config.arches import Arch
from build.errors import BuildError
from build.verify.driver import Ended, Method, Running, Site, Subject
from build.verify.emulators import method_on_host
from build.verify.processes import Process, until
from build.verify.wine.prefix import prefixed, wine_method

# Seconds until a namespace exists, on a busy machine.
_PATIENCE = 30
_ENGINES = "or use a container engine: --with docker or --with podman"


@dataclass(frozen=True)
class Namespaces:
    """The driver that needs no daemon. Programs are written to scratch folders below `base`."""

    base: Path
    name: str = "namespaces"
    direct: bool = True
    # A prefix of wine's takes several hundred megabytes.
    _one_prefix: asyncio.Lock = field(default_factory=asyncio.Lock, compare=False)

    async def prepare(self) -> None:
        """Make a PID namespace as a probe."""
        try:
            probe = await system.run([*_unshare(), "true"], timeout=_PATIENCE)
        except TimeoutError:
            raise BuildError(f"namespaces: unshare has not ended after {_PATIENCE} s\n  {_ENGINES}") from None
        if probe.status:
            user = "root" if os.geteuid() == 0 else "a user who is not root"
            raise BuildError(
                f"namespaces: can't create a PID namespace as {user}: {probe.words or f'exit status {probe.status}'}"
                "\n  run as root with CAP_SYS_ADMIN, allow user namespaces"
                f" (sysctl kernel.unprivileged_userns_clone=1),\n  {_ENGINES}"
            )

    def method(self, arch: Arch) -> Method:
        """Natively, with an emulator, or through binfmt_misc; with wine for Windows."""
        return wine_method(arch) if arch.platform.is_windows else method_on_host(arch)

    @asynccontextmanager
    async def site(self, subject: Subject) -> AsyncIterator[Site]:
        """A folder with the programs."""
        method = self.method(subject.arch)
        emulator, is_windows = method.emulator, subject.arch.platform.is_windows
        async with AsyncExitStack() as stack:
            if is_windows:
                await stack.enter_async_context(self._one_prefix)
            folder = stack.enter_context(system.scratch(self.base))
            if is_windows:
                emulator = await prefixed(method, folder.absolute(), _unshare())
            for name, data in {"pause": subject.program, "orphan": subject.orphan}.items():
                path = folder / f"{name}-{subject.arch.name}"
                path.write_bytes(data)
                path.chmod(0o755)
            if not emulator and os.statvfs(folder).f_flag & os.ST_NOEXEC:
                raise BuildError(
                    f"{folder}: mounted noexec, so programs can't run there\n  use a checkout on another disk"
                )
            yield _Folder(folder.absolute(), subject.arch.name, emulator)


@dataclass(frozen=True)
class _Folder:
    folder: Path
    arch: str
    emulator: tuple[str, ...]

    @asynccontextmanager
    async def start(self, *arguments: str, first: bool = True) -> AsyncIterator[Running]:
        child = await system.start([*(_unshare() if first else ()), *self.command("pause"), *arguments])
        # Read by a task of its own: a read that is cancelled loses what it has read.
        output = asyncio.create_task(child.communicate())
        try:
            yield _Running(child, output, await self._executed(child, first), self)
        finally:
            # With PID 1 the kernel kills the whole namespace. The group includes PID 1 even before unshare has asked
            # for --kill-child.
            system.kill_group(child)
            await system.finish(output)

    def command(self, name: str) -> Sequence[str]:
        return (*self.emulator, str(self.folder / f"{name}-{self.arch}"))

    async def _executed(self, child: asyncio.subprocess.Process, first: bool) -> Process:
        """The process of the program, once util-linux has executed it, or it has ended."""
        found: list[Process] = []

        def executed() -> bool:
            found[:] = [Process(pid) for pid in Process(child.pid).children()] if first else [Process(child.pid)]
            return child.returncode is not None or bool(found and (found[0].ended() or _is_executed(found[0])))

        if not await until(executed, _PATIENCE):
            raise BuildError(f"{self.arch}: the program has not started after {_PATIENCE} s")
        return found[0] if found else Process(0)


@dataclass(frozen=True)
class _Running:
    child: asyncio.subprocess.Process
    output: asyncio.Task[tuple[bytes, bytes]]
    process: Process
    site: _Folder

    async def send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    async def ended(self, seconds: float) -> Ended | None:
        done, _ = await asyncio.wait({self.output}, timeout=seconds)
        return await self._ended() if done else None

    async def kill(self) -> Ended:
        system.kill_group(self.child)  # the whole group: unshare would report the signal that ended its child
        return await self._ended()

    async def _ended(self) -> Ended:
        stdout, stderr = await asyncio.shield(self.output)
        return Ended(self.child.returncode or 0, stdout.decode(errors="replace"), stderr.decode(errors="replace"))

    async def leave_orphans(self, count: int, seconds: float) -> Ended:
        as_user = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
        enter = (_tool("nsenter"), f"--target={self.process.pid}", *as_user, "--pid", "--mount")
        try:
            run = await system.run([*enter, *self.site.command("orphan"), str(count)], timeout=seconds)
        except TimeoutError:
            raise BuildError(f"{self.site.arch}: orphan {count} has not ended after {seconds:g} s") from None
        return Ended(run.status, run.stdout.decode(errors="replace"), run.stderr.decode(errors="replace"))


def _is_executed(process: Process) -> bool:
    return Path(process.program()).name not in {"", "env", "unshare", "setpriv"}


def _unshare() -> tuple[str, ...]:
    as_user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return (_tool("unshare"), *as_user, "--pid", "--fork", "--mount-proc", "--kill-child")


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BuildError(f"namespaces: {name} is not installed\n  apt-get install util-linux, {_ENGINES}")
    return found
