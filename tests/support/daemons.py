"""A real Docker daemon, the machine's or one of the tests' own, and a stand-in for the kube-cross image."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from build.system import lock
from tests.support.components import lack, need
from tests.support.pidns import Process, until

LABEL = "io.k8s.pause.toolchain"
_CROSS = (("aarch64", "arm64"), ("arm", "armhf"), ("powerpc64le", "ppc64el"), ("s390x", "s390x"))
PACKAGES = (
    *("gcc", "libc6-dev"),
    *(f"gcc-{cpu}-linux-gnu{'eabihf' * (cpu == 'arm')}" for cpu, _ in _CROSS),
    *(f"libc6-dev-{debian}-cross" for _, debian in _CROSS),
)
# Half of the files, which compiling never reads: documentation, link-time optimisation, sanitizers.
UNREAD = ("share/doc/*", "share/info/*", "share/locale/*", "share/man/*", "bin/*lto-dump*", "lib/gcc*lto1", "lib*san.*")


@dataclass(frozen=True)
class Docker:
    """A daemon: its address, and, if it is ours, the parent of the first process of its namespaces."""

    host: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def ours(self) -> bool:
        return self.process is not None

    def run(self, *words: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """How `docker WORDS` ends, without any user's configuration."""
        command = [need("docker", "docker.io"), "--host", self.host, *words]
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "DOCKER_BUILDKIT": "0"}
        return subprocess.run(command, env=environment, input=data, check=False, capture_output=True, timeout=120)

    def __call__(self, *words: str, data: bytes | None = None) -> str:
        """The stdout of `docker WORDS`, which must succeed."""
        run = self.run(*words, data=data)
        assert run.returncode == 0, run.stderr.decode()
        return run.stdout.decode().strip()

    def image(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("image", "inspect", name))[0]
        return found

    def toolchains(self, *only: str) -> list[str]:
        """The containers created for compiling, running or not."""
        return self("ps", "--all", "--quiet", "--no-trunc", f"--filter=label={LABEL}", *only).split()

    @property
    def enter(self) -> tuple[str, ...]:
        """The command prefix that enters the namespaces of our daemon: PID, mount and network."""
        assert self.process
        [first] = Process(self.process.pid).children()
        return (need("nsenter", "util-linux"), f"--target={first}", "--pid", "--mount", "--net")

    def kill(self) -> None:
        """Kill it with everything that it runs: when PID 1 of a namespace ends, the kernel kills all others."""
        assert self.process
        for each in Process(self.process.pid).children():
            os.kill(each, signal.SIGKILL)
        self.process.wait()

    def import_(self, tar: Path | bytes, name: str) -> str:
        """Import a root filesystem as an image; returns its id."""
        if isinstance(tar, bytes):
            return self("import", "-", name, data=tar)
        return self("import", str(tar), name)


def machines() -> Docker | None:
    """The daemon of the machine's docker context, if it answers."""
    shown = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    need("docker", "docker.io")
    host = os.environ.get("DOCKER_HOST") or subprocess.run(shown, check=True, capture_output=True, text=True).stdout
    docker = Docker(host.strip())
    return docker if docker.run("version").returncode == 0 else None


# Makes $ROOT the root of this mount namespace; only /run and /tmp can be written. dockerd refuses a plain chroot.
_PIVOT = """set -e
mount --bind "$ROOT" "$ROOT"
mount -o remount,bind,ro "$ROOT"
for each in proc sys dev tmp; do mount --rbind "/$each" "$ROOT/$each"; done
mount -t tmpfs tmpfs "$ROOT/run"
cd "$ROOT"
pivot_root . mnt
umount -l /mnt
exec "$@"
"""


@contextmanager
def private(
    data: Path | None = None, bridge: bool = False, root: Path | None = None, **settings: object
) -> Iterator[Docker]:
    """A daemon of our own, in namespaces that contain its processes and mounts; its images are removed with it.

    It shares our network, so that it reaches registries on the loopback interface, and has no bridge. With `bridge` it
    has one, in an isolated network namespace of its own. It is this machine's dockerd, or that of another `root`;
    `settings` are those of its daemon.json.
    """
    daemon, unshare = need("dockerd", "docker.io"), need("unshare", "util-linux")
    need("docker", "docker.io")
    if os.geteuid() != 0:
        lack("dockerd: needs root")
    # Paths of sockets have to be short.
    with TemporaryDirectory(prefix="docker", dir="/tmp") as folder, Path(folder, "log").open("w") as log:
        Path(folder, "daemon.json").write_text(json.dumps(settings))
        command = [unshare, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        if root:
            need("pivot_root", "util-linux")
            daemon = "/usr/sbin/dockerd"
            command += ["env", f"ROOT={root}", "sh", "-c", _PIVOT, "sh"]
        if bridge:
            need("iptables", "iptables")
            up = f'{need("busybox", "busybox-static")} ip link set lo up && exec "$@"'
            command += ["--net", "sh", "-c", up, "sh", daemon, "--ip6tables=false"]
        else:
            command += [daemon, "--bridge=none", "--iptables=false", "--ip6tables=false"]
        command += [f"--data-root={data or f'{folder}/data'}", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
        command += [f"--host=unix://{folder}/s", f"--config-file={folder}/daemon.json"]
        with subprocess.Popen(command, stdout=log, stderr=log) as process:
            docker = Docker(f"unix://{folder}/s", process)
            try:
                answers = lambda: process.poll() is not None or docker.run("version").returncode == 0  # noqa: E731
                until("dockerd answers", answers, patience=60)
                assert process.poll() is None, Path(folder, "log").read_text()
                yield docker
            finally:
                docker.kill()


@contextmanager
def any_daemon() -> Iterator[Docker]:
    """The machine's daemon if one answers, else our own."""
    found = machines()
    if found:
        yield found
    else:
        with private() as ours:
            yield ours


def toolchain_root() -> Path:
    """The tar of a Debian with the release's cross compilers, built once per machine."""
    return debian("kube-cross", "bookworm", PACKAGES, UNREAD, ".tar")


def newer_docker() -> Path:
    """The folder of a Debian whose Docker has a containerd image store, built once per machine."""
    return debian("docker", "trixie", ("docker.io",), ("share/doc/*", "share/locale/*", "share/man/*"))


def debian(name: str, suite: str, packages: Sequence[str], unread: Sequence[str], suffix: str = "") -> Path:
    """A Debian with these packages: a tar, or with no `suffix` a folder."""
    key = hashlib.sha256("\n".join((*packages, *unread)).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pause-image"
    made = cache / f"{name}-{key}{suffix}"
    if made.exists():
        return made
    mmdebstrap = need("mmdebstrap", "mmdebstrap")
    cache.mkdir(parents=True, exist_ok=True)
    part = cache / f".{name}-{key}.{os.getpid()}{suffix}"
    excluded = [f"--dpkgopt=path-exclude=/usr/{path}" for path in unread]
    command = [mmdebstrap, "--variant=minbase", *excluded, f"--include={','.join(packages)}", suite, str(part)]
    with lock(cache):  # tests that run side by side want it at once
        if not made.exists():
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=600)
                os.replace(part, made)
            finally:
                shutil.rmtree(part, ignore_errors=True)
                part.unlink(missing_ok=True)
    return made
