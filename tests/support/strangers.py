"""Images that this project did not make, written by hand into an image layout; with every kind of damage."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from build.oci.reference import Reference
from build.release.check.check import check_reference
from build.stores.layout.layout import Layout
from tests.support.reading import digest

OCI = "application/vnd.oci.image."
GZIP, PLAIN = OCI + "layer.v1.tar+gzip", OCI + "layer.v1.tar"
Json = dict[str, Any]
# machine, class and byte order, as <elf.h> numbers them
_ELF = {"amd64": (62, 2, 1), "arm": (40, 1, 1), "arm64": (183, 2, 1), "s390x": (22, 2, 2), "386": (3, 1, 1)}


def elf(architecture: str, kind: int = 2, interpreter: str = "") -> bytes:
    """The beginning of a program for this architecture, which may name an interpreter, and a kilobyte of whatever."""
    machine, bits, order = _ELF[architecture]
    ending: Literal["little", "big"] = "little" if order == 1 else "big"
    ident = b"\x7fELF" + bytes((bits, order, 1)) + bytes(9)
    start = ident + kind.to_bytes(2, ending) + machine.to_bytes(2, ending)
    if not interpreter:
        return start + bytes(1024)
    wide, path = bits == 2, interpreter.encode() + b"\0"
    word, at = 8 if wide else 4, 64 if wide else 52

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, ending)

    def segment(kind: int, offset: int, size: int) -> bytes:
        flags, words = number(4, 4), b"".join(number(each, word) for each in (offset, 0, 0, size, size))
        return number(kind, 4) + (flags + words if wide else words + flags) + number(1, word)

    sizes = b"".join(number(each, 2) for each in (at, 56 if wide else 32, 2, 0, 0, 0))
    header = start + number(1, 4) + number(0, word) + number(at, word) + number(0, word + 4) + sizes
    segments = segment(1, 0, 256 + len(path)) + segment(3, 256, len(path))  # PT_LOAD, PT_INTERP
    return (header + segments).ljust(256, b"\0") + path + bytes(1024)


def tape(files: Mapping[str, bytes | str | None], hard: Mapping[str, str] | None = None, mode: int = 0o755) -> bytes:
    """A tar archive of files (bytes), symlinks (text) and folders (None), in this order, then hard links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mode = mode
            if content is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
        for name, target in (hard or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = tarfile.LNKTYPE, target, mode
            archive.addfile(member)
    return buffer.getvalue()


@dataclass(frozen=True)
class Shelf:
    """An image layout to put things into."""

    folder: Path

    def put(self, data: bytes, media_type: str) -> Json:
        """Store bytes; the descriptor of them."""
        path = self.path(digest(data))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def path(self, wanted: str) -> Path:
        return self.folder / "blobs" / wanted.replace(":", "/")

    def json(self, value: Json, kind: str) -> Json:
        return self.put(json.dumps(value).encode(), OCI + kind + ".v1+json")

    def read(self, descriptor: Json) -> Json:
        found: Json = json.loads(self.path(descriptor["digest"]).read_bytes())
        return found

    def image(
        self,
        platform: str = "linux/amd64",
        tapes: Iterable[bytes] | None = None,
        settings: Json | None = None,
        packed: str = GZIP,
        more: Json | None = None,
    ) -> Json:
        """An image, and the descriptor of its manifest with its platform; `more` replaces members of its config."""
        named = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
        archives = [tape({"app": elf(named["architecture"])})] if tapes is None else list(tapes)
        layers = [self.put(gzip.compress(each, mtime=0) if packed == GZIP else each, packed) for each in archives]
        rootfs = {"type": "layers", "diff_ids": [digest(each) for each in archives]}
        settings = {"Entrypoint": ["/app"]} if settings is None else settings
        config = self.json({**named, "config": settings, "rootfs": rootfs, **(more or {})}, "config")
        return {**self.manifest(config, layers), "platform": named}

    def manifest(self, config: Json, layers: list[Json]) -> Json:
        kind = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json"}
        return self.json({**kind, "config": config, "layers": layers}, "manifest")

    def index(self, *entries: Json) -> Json:
        kind = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json"}
        return self.json({**kind, "manifests": list(entries)}, "index")

    def tag(self, name: str, descriptor: Json) -> str:
        """Let a tag refer to it; the reference for `check`."""
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        entry = {**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}}
        (self.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        return f"oci:{self.folder}:{name}"


def proved(asked: str) -> tuple[list[str], list[str]]:
    """What `check` proves of a reference on disk: platforms (or "list"), and its notes."""
    notes: list[str] = []
    with TemporaryDirectory() as scratch:
        made = asyncio.run(
            check_reference(
                Layout(Path("/")), Reference.parse(asked), lambda note: notes.append(str(note)), Path(scratch)
            )
        )
    return [each.platform or "list" for each in made], [*filter(None, notes)]
