"""A real registry on a free port of the loopback interface, for as long as a measurement takes."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LocalRegistry:
    """Where it listens, and the folder that it keeps everything in."""

    host: str
    folder: Path

    def empty(self) -> None:
        """Make it hold nothing."""
        shutil.rmtree(self.folder / "docker", ignore_errors=True)


@contextmanager
def local_registry(folder: Path) -> Iterator[LocalRegistry]:
    """Run Debian's docker-registry with its content in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"localhost:{free.getsockname()[1]}"
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}}}}}\n"
        f"http: {{addr: {host}}}\n"
    )
    server = subprocess.Popen(["docker-registry", "serve", str(config)], stderr=subprocess.DEVNULL)
    try:
        _await(f"http://{host}/v2/", server)
        yield LocalRegistry(host, folder)
    finally:
        server.terminate()
        server.wait()


def _await(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(500):
        if server.poll() is not None:
            raise SystemExit("docker-registry ended at once; is another one in its place?")
        try:
            urllib.request.urlopen(url).close()
            return
        except OSError:
            time.sleep(0.01)
    raise SystemExit(f"{url}: no answer")
