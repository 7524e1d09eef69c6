"""What was published, as others read it: skopeo, tar, and plain HTTP."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.components import need

# Reads the bytes under a digest; AssertionError or OSError if there are none.
Read = Callable[[str], bytes]


def skopeo(*words: str | Path, cwd: Path | None = None) -> bytes:
    """The stdout of skopeo, which trusts anyone here."""
    command = [need("skopeo", "skopeo"), "--insecure-policy", *words]
    run = subprocess.run(command, cwd=cwd, check=False, capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout


def inspect(reference: str, *options: str, cwd: Path | None = None) -> tuple[str, Any]:
    """The digest of what skopeo reads under `reference` (with --raw, or --config in `options`), and the JSON in it."""
    insecure = ["--tls-verify=false"] if reference.startswith("docker:") else []
    data = skopeo("inspect", *insecure, *options, reference, cwd=cwd)
    return digest(data), json.loads(data)


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def complete(read: Read, root: str) -> set[str]:
    """All digests that `root` leads to; AssertionError unless each is there, of the right size and the right digest."""
    data = read(root)
    assert digest(data) == root
    manifest = json.loads(data)
    for below in manifest.get("manifests", ()):
        assert len(read(below["digest"])) == below["size"]
    found = {each for below in manifest.get("manifests", ()) for each in complete(read, below["digest"])}
    for blob in (manifest["config"], *manifest["layers"]) if "config" in manifest else ():
        content = read(blob["digest"])
        assert (digest(content), len(content)) == (blob["digest"], blob["size"])
        found.add(blob["digest"])
    return {root, *found}


def layout_reader(folder: Path) -> Read:
    return lambda wanted: (folder / "blobs" / wanted.replace(":", "/")).read_bytes()


def layout_tags(folder: Path) -> dict[str, str]:
    """The digests under the tags of an image layout; none if it is not there yet."""
    if not (folder / "index.json").exists():
        return {}
    entries = json.loads((folder / "index.json").read_bytes())["manifests"]
    return {each["annotations"]["org.opencontainers.image.ref.name"]: each["digest"] for each in entries}


def program(layer: bytes) -> bytes:
    """The one file of a layer, which must be /pause, root's, 0755."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as tape:
        [member] = tape.getmembers()
        assert (member.name, member.mode, member.uid, member.gid) == ("pause", 0o755, 0, 0)
        assert (member.uname, member.gname, member.isfile()) == ("", "", True)
        file = tape.extractfile(member)
        assert file
        return file.read()


def says(binary: bytes, qemu: str, folder: Path) -> str:
    """What a program prints for -v, on its own CPU or an emulated one."""
    path = folder / "program"
    path.write_bytes(binary)
    path.chmod(0o755)
    emulator = need(f"qemu-{qemu}-static", "qemu-user-static")
    return subprocess.run([emulator, path, "-v"], check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
