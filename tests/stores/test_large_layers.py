"""No blob is ever whole in memory: a layer of 700 MB is copied and checked with at most 100 MB resident."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from build.oci.platform import Platform
from tests.support.checkout import Checkout
from tests.support.reading import layout_reader, layout_tags, program
from tests.support.registries import registry
from tests.support.strangers import GZIP, Json, Shelf

LAYER, RESIDENT = 700 * 1000 * 1000, 100 * 1000 * 1000
_PIECE = bytes(1 << 20)

# `invoke`, and the most that it had in memory, for a file that is the first argument.
_MEASURED = """
import atexit, sys
from pathlib import Path
file = Path(sys.argv.pop(1))
atexit.register(lambda: file.write_text(Path("/proc/self/status").read_text()))
from invoke.main import program
program.run(["invoke", *sys.argv[1:]])
"""


class _Hashing(io.RawIOBase):
    """A file that hashes what is written to it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file, self.hash, self.size = path.open("wb"), hashlib.sha256(), 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.hash.update(data)
        self.size += len(data)
        return self.file.write(data)


def layer(shelf: Shelf, pause: bytes) -> tuple[Json, str]:
    """A layer with the program and a file of zeros, stored rather than compressed: its descriptor and diff_id."""
    path = shelf.folder / "layer"
    output, tar = _Hashing(path), hashlib.sha256()
    with output.file, gzip.GzipFile("", "wb", 0, output, 0) as packed:

        def add(data: bytes) -> None:
            tar.update(data)
            packed.write(data)

        for name, size in (("pause", len(pause)), ("filler", LAYER)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = size, 0o755
            add(member.tobuf(tarfile.USTAR_FORMAT))
            if name == "pause":
                add(pause + bytes(-size % 512))
        for _ in range(LAYER // len(_PIECE)):
            add(_PIECE)
        add(bytes(LAYER % len(_PIECE) + -LAYER % 512 + 1024))
    found = f"sha256:{output.hash.hexdigest()}"
    path.rename(shelf.path(found))
    return {"mediaType": GZIP, "digest": found, "size": output.size}, f"sha256:{tar.hexdigest()}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for large files, which does not outlast the test."""
    with TemporaryDirectory(dir=tmp_path) as made:
        yield Path(made)


@pytest.fixture
def release(checkout: Checkout, folder: Path) -> Path:
    """Layouts with a release for amd64 whose layer is large."""
    checkout("push", "--arch", "amd64", REGISTRY="oci:dist")
    small = layout_reader(checkout.root / "dist" / "pause-amd64")
    tags = layout_tags(checkout.root / "dist" / "pause-amd64")
    manifest = json.loads(small(tags["3.1"]))
    pause = program(small(manifest["layers"][0]["digest"]))

    listing, image = Shelf(folder / "release" / "pause"), Shelf(folder / "release" / "pause-amd64")
    for shelf in (listing, image):
        (shelf.folder / "blobs" / "sha256").mkdir(parents=True)
    descriptor, diff_id = layer(image, pause)
    config = json.loads(small(manifest["config"]["digest"]))
    config["rootfs"]["diff_ids"] = [diff_id]
    entry = image.manifest(image.json(config, "config"), [descriptor])
    image.tag("3.1", entry)
    platform = Platform.of(config).fields()
    listing.put(image.path(entry["digest"]).read_bytes(), entry["mediaType"])
    for each in (descriptor, image.read(entry)["config"]):
        listing.path(each["digest"]).hardlink_to(image.path(each["digest"]))
    listing.tag("3.1", listing.index({**entry, "platform": platform}))
    return folder / "release"


def resident(checkout: Checkout, *words: str) -> int:
    """The most bytes that `invoke WORDS` had in memory."""
    note = checkout.side / "status"
    command = [sys.executable, "-c", _MEASURED, str(note), *words]
    environment = checkout.environment()
    run = subprocess.run(
        command, check=False, cwd=checkout.root, env=environment, capture_output=True, text=True, timeout=280
    )
    assert run.returncode == 0, run.stderr
    found = re.search(r"^VmHWM:\s*(\d+) kB$", note.read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def test_a_large_layer_is_copied_and_checked(checkout: Checkout, folder: Path, release: Path) -> None:
    with registry(folder / "registry", storage={"filesystem": {"rootdirectory": str(folder / "storage")}}) as host:
        pushed = resident(checkout, "copy", "--arch", "amd64", f"oci:{release}", f"{host}/a")
        assert pushed < RESIDENT
        pulled = resident(checkout, "copy", "--arch", "amd64", f"{host}/a", f"oci:{folder}/there")
        assert pulled < RESIDENT
        checked = resident(checkout, "check", f"{host}/a/pause:3.1")
        assert checked < RESIDENT
    assert layout_tags(folder / "there" / "pause") == layout_tags(release / "pause")
    blobs = folder / "there" / "pause-amd64" / "blobs" / "sha256"
    assert max(path.stat().st_size for path in blobs.iterdir()) > LAYER


def test_a_large_layer_of_a_base_is_built_upon(checkout: Checkout, folder: Path, release: Path) -> None:
    checkout.edit("Dockerfile.j2", "FROM scratch\n", f"FROM oci:{release}/pause-amd64:3.1\n")
    with registry(folder / "registry", storage={"filesystem": {"rootdirectory": str(folder / "storage")}}) as host:
        assert resident(checkout, "push", "--arch", "amd64", "--registry", f"{host}/a") < RESIDENT
        assert resident(checkout, "push", "--arch", "amd64", "--registry", f"{host}/a", "--tag", "3.2") < RESIDENT
    assert (checkout.root / "bin/pause-amd64.tar").stat().st_size > LAYER
    checkout("clean")


def test_a_large_layer_is_copied_by_reference_and_compared(checkout: Checkout, folder: Path, release: Path) -> None:
    listed = layout_tags(release / "pause")["3.1"]
    with registry(folder / "registry", storage={"filesystem": {"rootdirectory": str(folder / "storage")}}) as host:
        pushed = resident(checkout, "copy", f"oci:{release}/pause:3.1", f"{host}/a:1")
        assert pushed < RESIDENT
        pulled = resident(checkout, "copy", f"{host}/a:1", f"oci-archive:{folder}/a.tar")
        assert pulled < RESIDENT
        compared = resident(checkout, "diff", "oci:dist/pause-amd64:3.1", f"{host}/a:1")
        assert compared < RESIDENT
    assert checkout("tags", f"oci-archive:{folder}/a.tar").stdout.startswith(f"oci-archive:{folder}/a.tar:a:1@{listed}")
