"""Containers of Podman, through its command: it has no daemon, and its Python library wants one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

from build import trace
from build.config.arches import Arch
from build.errors import BuildError
from build.verify.driver import Ended, Running, Site, Subject, Way
from build.verify.emulators import in_a_container
from build.verify.processes import Process, Watch

# Seconds for one command, on a machine that has a lot to do.
_PATIENCE = 120
# The exit statuses of podman run that need not be the container's (podman-run(1), "Exit Status").
_ITS_OWN = (125, 126, 127)


@dataclass(frozen=True)
class Podman:
    """The driver that runs images in Podman, as containers.conf and storage.conf have it."""

    name: str = "podman"
    direct: bool = False

    def prepare(self) -> None:
        """See whether there is a Podman that works."""
        if shutil.which("podman") is None:
            raise BuildError("podman: not installed\n  apt-get install podman, or do without it: --with namespaces")
        _podman("info")

    def way(self, arch: Arch) -> Way:
        """Natively, or as binfmt_misc is set up."""
        by = in_a_container(arch)
        return Way(f"podman, {by or 'native'}", native=not by)

    @contextmanager
    def site(self, subject: Subject, watch: Watch) -> Iterator[Site]:
        """Podman's storage with the image."""
        with TemporaryDirectory(prefix="verify-") as folder:
            orphan = Path(folder, "orphan")
            orphan.write_bytes(subject.orphan)
            orphan.chmod(0o755)
            before = set(_podman("images", "--all", "--quiet", "--no-trunc").split())
            name = _podman("load", data=subject.image()).split()[-1]
            there = _podman("image", "inspect", "--format=sha256:{{.Id}}", name).strip() in before
            try:
                yield _Storage(name, subject, orphan, watch)
            finally:
                if not there:
                    _podman("rmi", "--force", name)
                elif not name.startswith("sha256:"):
                    _podman("untag", name, name)


@dataclass(frozen=True)
class _Storage:
    image: str
    subject: Subject
    orphan: Path
    watch: Watch

    @contextmanager
    def start(self, *arguments: str, first: bool = True) -> Iterator[Running]:
        name = f"verify-{token_hex(6)}"
        flags = [f"--name={name}", f"--platform={self.subject.arch.platform}", f"--volume={self.orphan}:/orphan:ro"]
        flags += ["--network=none", "--pull=never", "--log-driver=k8s-file", *([] if first else ["--pid=host"])]
        # A session of its own: Ctrl-C is for us, and we tell the others.
        command = ["podman", "run", *flags, self.image, *arguments]
        trace.command(command)
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as run:
            try:
                yield _Container(name, run, self)
            finally:
                self.watch_gone(name, run)

    def watch_gone(self, name: str, run: subprocess.Popen[str]) -> None:
        """Have container and command end; the one may not be there yet, while the other makes it."""
        try:
            _until_made(name, run)
            _podman("rm", "--force", "--time=0", name)
        finally:
            run.kill()


@dataclass
class _Container:
    name: str
    run: subprocess.Popen[str]
    site: _Storage
    _found: list[Process] = field(default_factory=list)

    @property
    def process(self) -> Process:
        """The container's first process."""

        def there() -> bool:
            if self.run.poll() is None:
                _until_made(self.name, self.run)
                pid = int(_podman("inspect", "--format={{.State.Pid}}", self.name))
                self._found = [Process(pid)] if pid else []
            return bool(self._found) or self.run.poll() is not None

        if not self._found and not self.site.watch.until(there, _PATIENCE):
            raise BuildError(f"{self.site.subject.arch.name}: podman run has started nothing in {_PATIENCE} s")
        return self._found[0] if self._found else Process(0)

    def send(self, number: int) -> None:
        command = ["podman", "kill", f"--signal={number}", self.name]
        trace.command(command)
        subprocess.run(command, check=False, capture_output=True)

    def outcome(self, seconds: float) -> Ended | None:
        # After its container's end podman has some things to put away.
        if not self.site.watch.until(lambda: self.run.poll() is not None, seconds + _PATIENCE / 4):
            return None
        stdout, stderr = self.run.communicate()
        if self.run.returncode in _ITS_OWN and stderr.startswith("Error: "):
            raise BuildError(f"{self.site.subject.arch.name}: podman run: {stderr.strip()}")
        return Ended(self.run.returncode, stdout, stderr)

    def cut(self) -> Ended:
        self.send(9)
        ended = self.outcome(_PATIENCE)
        if ended is None:
            raise BuildError(f"{self.site.subject.arch.name}: podman kill has done nothing in {_PATIENCE} s")
        return ended

    def leave_orphans(self, count: int, seconds: float) -> Ended:
        command = ["podman", "exec", self.name, "/orphan", str(count)]
        trace.command(command)
        try:
            run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise BuildError(f"{self.site.subject.arch.name}: orphan {count} has not ended after {seconds} s") from None
        return Ended(run.returncode, run.stdout, run.stderr)


def _until_made(name: str, run: subprocess.Popen[str]) -> None:
    Watch().until(lambda: run.poll() is not None or _exists(name), _PATIENCE)


def _exists(name: str) -> bool:
    command = ["podman", "container", "exists", name]
    trace.command(command)
    return subprocess.run(command, check=False, capture_output=True, timeout=_PATIENCE).returncode == 0


def _podman(*words: str, data: bytes | None = None) -> str:
    trace.command(["podman", *words])
    run = subprocess.run(["podman", *words], input=data, check=False, capture_output=True, timeout=_PATIENCE)
    if run.returncode:
        raise BuildError(f"podman {words[0]}: {run.stderr.decode(errors='replace').strip() or run.returncode}")
    return run.stdout.decode(errors="replace").strip()
