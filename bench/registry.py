"""Real registries on free ports of the loopback interface, for as long as a measurement takes."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.running import FailedError


@dataclass(frozen=True)
class Counted:
    """A registry that counts: its HOST:PORT, and its log of requests."""

    host: str
    log: Path

    def requests(self) -> int:
        """How many requests it has answered so far; the one that asks whether it is up is not among them."""
        return len(self.log.read_text().splitlines()) - 1


@contextmanager
def empty_registry() -> Iterator[str]:
    """Run Debian's docker-registry, give its HOST:PORT. It keeps everything in memory: no disk is measured."""
    with _served("log: {level: error, accesslog: {disabled: true}}", None) as host:
        yield host


@contextmanager
def counting_registry() -> Iterator[Counted]:
    """The same, with a log of requests."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with _served("log: {level: error}", log) as host:
            yield Counted(host, log)


@contextmanager
def _served(logging: str, log: Path | None) -> Iterator[str]:
    if not shutil.which("docker-registry"):
        raise FailedError("docker-registry: not found\n  on Debian: apt-get install docker-registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"localhost:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder, open(log or "/dev/null", "w") as out:
        config = Path(folder, "config.yml")
        config.write_text(
            f"version: 0.1\n{logging}\nstorage: {{inmemory: {{}}}}\nhttp: {{addr: {host}, secret: any}}\n"
        )
        server = subprocess.Popen(["docker-registry", "serve", config], stdout=out, stderr=subprocess.DEVNULL)
        try:
            _await(f"http://{host}/v2/", server)
            yield host
        finally:
            server.terminate()
            server.wait()


def _await(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(1000):
        if server.poll() is not None:
            raise FailedError("docker-registry ended at once; is another one in its place?")
        try:
            urllib.request.urlopen(url).close()
            return
        except OSError:
            time.sleep(0.01)
    raise FailedError(f"{url}: no answer")
