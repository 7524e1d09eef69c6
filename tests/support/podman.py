"""A Podman of the tests' own, with nothing in it before and after."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.components import lack, need
from tests.support.pidns import until


@dataclass(frozen=True)
class Podman:
    """Its storage, and the environment variables that name it."""

    folder: Path
    environment: Mapping[str, str]

    def __call__(self, *words: str) -> str:
        """The stdout of `podman WORDS`, which must succeed."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(["podman", *words], env=environment, check=True, capture_output=True, text=True).stdout

    def containers(self) -> list[str]:
        """The ids of its containers, running or not."""
        return self._ids("containers")

    def images(self) -> list[str]:
        """The ids of its images."""
        return self._ids("images")

    def _ids(self, kind: str) -> list[str]:
        listing = self.folder / f"root/vfs-{kind}/{kind}.json"
        return [each["id"] for each in json.loads(listing.read_text())] if listing.exists() else []


@contextmanager
def own_podman() -> Iterator[Podman]:
    """A Podman for root; it raises no limit that applies to this process."""
    need("podman", "podman")
    need("runc", "runc")
    if os.geteuid() != 0:
        lack("podman: needs root here")
    kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    limits = {name: min(resource.getrlimit(kind)[1], 4096) for name, kind in kinds.items()}
    with TemporaryDirectory(prefix="pause") as folder:
        settings = Path(folder, "containers.conf")
        ulimits = json.dumps([f"{name}={most}:{most}" for name, most in limits.items()])
        settings.write_text(
            f"[containers]\ndefault_ulimits = {ulimits}\n"
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        )
        storage = Path(folder, "storage.conf")
        storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n')
        variables = {"CONTAINERS_CONF": str(settings), "CONTAINERS_STORAGE_CONF": str(storage)}
        podman = Podman(Path(folder), variables)
        yield podman
        until("no container is left", lambda: not podman.containers())
        assert podman.images() == []
