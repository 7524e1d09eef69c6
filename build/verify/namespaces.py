"""Plain namespaces, with no daemon: `unshare` and `nsenter` of util-linux, which every Linux has.

Python learnt to make namespaces in 3.12 only, and a process of many threads must not fork to prepare one by itself. Who
is not root gets a user namespace about the others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from build import trace
from build.config.arches import Arch
from build.errors import BuildError
from build.verify.driver import Ended, Running, Site, Subject, Way
from build.verify.emulators import by_any_means
from build.verify.processes import Process, Watch, kill_group

# Seconds until a namespace is there, on a machine that has a lot to do.
_PATIENCE = 30
_OTHERS = "or let an engine do it: --with docker or --with podman"


@dataclass(frozen=True)
class Namespaces:
    """The driver that needs no daemon."""

    name: str = "namespaces"
    direct: bool = True

    def prepare(self) -> None:
        """See whether we may make namespaces."""
        command = [*_unshare(), "true"]
        trace.command(command)
        probe = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_PATIENCE)
        if probe.returncode:
            who = "root" if os.geteuid() == 0 else "no root"
            raise BuildError(
                f"namespaces: found {who} and {probe.stderr.strip() or 'no word'}, expected a PID namespace to be made"
                "\n  be root where capabilities are not dropped, allow user namespaces"
                f" (sysctl kernel.unprivileged_userns_clone=1),\n  {_OTHERS}"
            )

    def way(self, arch: Arch) -> Way:
        """Natively, or with an emulator."""
        return by_any_means(arch)

    @contextmanager
    def site(self, subject: Subject, watch: Watch) -> Iterator[Site]:
        """A folder with the programs."""
        way = self.way(subject.arch)
        with TemporaryDirectory(prefix="verify-") as folder:
            programs = {"pause": subject.program, "orphan": subject.orphan}
            for name, data in programs.items():
                path = Path(folder, f"{name}-{subject.arch.name}")
                path.write_bytes(data)
                path.chmod(0o755)
            if not way.emulator and os.statvfs(folder).f_flag & os.ST_NOEXEC:
                raise BuildError(f"{folder}: no program may run there\n  set TMPDIR to a folder that is not noexec")
            yield _Folder(Path(folder), subject.arch.name, way.emulator, watch)


@dataclass(frozen=True)
class _Folder:
    folder: Path
    arch: str
    emulator: tuple[str, ...]
    watch: Watch

    @contextmanager
    def start(self, *arguments: str, first: bool = True) -> Iterator[Running]:
        command = [*_with_us(), *(_unshare() if first else ()), *self.command("pause"), *arguments]
        trace.command(command)
        # A session of its own: Ctrl-C is for us, and we tell the others.
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as parent:
            try:
                yield _Pod(parent, self._started(parent, first), self)
            finally:
                # With PID 1 its namespace goes, also where unshare has forked and not yet asked for that.
                kill_group(parent)

    def command(self, name: str) -> Sequence[str]:
        return (*self.emulator, str(self.folder / f"{name}-{self.arch}"))

    def _started(self, parent: subprocess.Popen[str], first: bool) -> Process:
        """The program, once it is neither us nor util-linux any more, or has ended."""
        found: list[Process] = []

        def there() -> bool:
            found[:] = [Process(pid) for pid in Process(parent.pid).children()] if first else [Process(parent.pid)]
            return parent.poll() is not None or bool(found and (found[0].ended() or _is_another(found[0])))

        if not self.watch.until(there, _PATIENCE):
            raise BuildError(f"{self.arch}: no program is there after {_PATIENCE} s")
        return found[0] if found else Process(parent.pid)


@dataclass(frozen=True)
class _Pod:
    parent: subprocess.Popen[str]
    process: Process
    site: _Folder

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def outcome(self, seconds: float) -> Ended | None:
        if not self.site.watch.until(lambda: self.parent.poll() is not None, seconds):
            return None
        stdout, stderr = self.parent.communicate()
        return Ended(self.parent.returncode, stdout, stderr)

    def cut(self) -> Ended:
        kill_group(self.parent)  # not the program alone: unshare would have words of its own for that
        stdout, stderr = self.parent.communicate()
        return Ended(self.parent.returncode, stdout, stderr)

    def leave_orphans(self, count: int, seconds: float) -> Ended:
        as_user = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
        enter = (_tool("nsenter"), f"--target={self.process.pid}", *as_user, "--pid", "--mount")
        command = [*_with_us(), *enter, *self.site.command("orphan"), str(count)]
        trace.command(command)
        try:
            run = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                check=False,
                capture_output=True,
                text=True,
                timeout=seconds,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise BuildError(f"{self.site.arch}: orphan {count} has not ended after {seconds} s") from None
        return Ended(run.returncode, run.stdout, run.stderr)


def _is_another(process: Process) -> bool:
    program = process.program()
    return bool(program) and Path(program).name not in {"unshare", "setpriv"} and not program.endswith(" (deleted)")


def _unshare() -> tuple[str, ...]:
    as_user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return (_tool("unshare"), *as_user, "--pid", "--fork", "--mount-proc", "--kill-child")


def _with_us() -> tuple[str, ...]:
    """What lets a command end with us, even if we are killed."""
    return (_tool("setpriv"), "--pdeathsig", "KILL")


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BuildError(f"namespaces: {name} is not installed\n  apt-get install util-linux, {_OTHERS}")
    return found
