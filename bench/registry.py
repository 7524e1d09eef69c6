"""Real registries on free ports of the loopback interface, for as long as a measurement takes."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def empty_registry() -> Iterator[str]:
    """Run Debian's docker-registry, give its HOST:PORT. It keeps everything in memory: no disk is measured."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"localhost:{free.getsockname()[1]}"
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as config:
        config.write(
            "version: 0.1\n"
            "log: {level: error, accesslog: {disabled: true}}\n"
            "storage: {inmemory: {}}\n"
            f"http: {{addr: {host}}}\n"
        )
        config.flush()
        server = subprocess.Popen(["docker-registry", "serve", config.name], stderr=subprocess.DEVNULL)
        try:
            _await(f"http://{host}/v2/", server)
            yield host
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
