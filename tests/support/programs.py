"""pause and orphan compiled for tests, pauses with a fault, and an image of such a program for container engines."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex

from build.cache.cache import Cache
from build.compilers.compiler import RUNTIME, Program
from build.compilers.zig import Zig
from build.config.arches import Arch
from build.verify.driver import Subject
from tests.support.checkout import SOURCE

VERSION = "v3.1-test"
CFLAGS = ("-Os", "-Wall", "-static")


class Programs:
    """Compiles into `folder`: each edit replaces a text of pause.c that occurs exactly once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.zig = Zig(Cache(folder / "zig"))

    def compile(self, arch: Arch, source: str, root: Path = SOURCE) -> bytes:
        program = Program(source.removesuffix(".c"), (source,), CFLAGS, VERSION)

        async def compiled() -> bytes:
            async with self.zig.session(root, [(program, arch)], self.folder) as compile_:
                return await compile_(program, arch)

        return asyncio.run(compiled())

    def pause(self, arch: Arch, *edits: tuple[str, str]) -> bytes:
        root = self.folder / f"pause-{token_hex(6)}"
        shutil.copytree(SOURCE / RUNTIME, root / RUNTIME)
        text = (SOURCE / "pause.c").read_text()
        for old, new in edits:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (root / "pause.c").write_text(text)
        return self.compile(arch, "pause.c", root)

    def subject(self, arch: Arch, *edits: tuple[str, str]) -> Subject:
        """What drivers run; an engine loads its image under a name that nothing else has."""
        program = self.pause(arch, *edits)

        async def archive(file: Path) -> None:
            file.write_bytes(docker_archive(program, arch, f"localhost/verify-{token_hex(6)}:{arch.name}"))

        return Subject(arch, program, f"pause.c {VERSION}", self.compile(arch, "orphan.c"), archive)


def docker_archive(program: bytes, arch: Arch, name: str) -> bytes:
    """What `docker load` reads: an image whose one layer holds /pause, written without any code of the project."""
    layer = _tar({"pause": program})
    config = {
        "os": arch.platform.os,
        "architecture": arch.platform.architecture,
        **({"variant": arch.platform.variant} if arch.platform.variant else {}),
        "config": {"Entrypoint": ["/pause"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    raw = json.dumps(config).encode()
    path = f"{hashlib.sha256(raw).hexdigest()}.json"
    listing = {"Config": path, "RepoTags": [name] if name else None, "Layers": ["layer.tar"]}
    return _tar({path: raw, "layer.tar": layer, "manifest.json": json.dumps([listing]).encode()})


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def processes_of(base: Path) -> dict[int, Path]:
    """The processes that run a pause or an orphan from a folder below `base`: PID and folder."""
    found = {}
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        for path in (Path(word) for word in words if word.startswith(f"{base}/") and "zig" not in words[0]):
            if path.name.startswith(("pause-", "orphan-")):
                found[int(process.name)] = path.parent
    return found
