"""Sink: repositories as OCI image layouts on disk (image-spec image-layout.md), one folder each.

A layout is local output: its tags follow the last build. Blobs come before what refers to them, and `index.json`,
which holds the tags, is replaced in one step under a lock that the system drops if the process dies.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
from build.errors import PublishError
from build.oci.descriptor import DIGEST, Blob, Descriptor, digest_of
from build.oci.image import Image, Index, dump
from build.oci.parse import media_type_of
from build.oci.reference import Repository
from build.system import leftovers, write_if_changed, write_whole

_LOCK = ".lock"
_TAG = "org.opencontainers.image.ref.name"
# Tells the tags that `clean` may remove from those that somebody else put into the same folder.
_OURS = {"io.k8s.pause.made-by": "invoke"}


@dataclass(frozen=True)
class Layout:
    """The layouts below a folder; a repository's name is its path from there, or an absolute path."""

    base: Path
    keeps_tags = False
    is_distant = False

    async def digest(self, repository: Repository, tag: str) -> str | None:
        """The digest under `tag`, or None; what is damaged, or not all there, is not there."""
        entry = _tagged(self._index(repository), tag)
        return str(entry["digest"]) if entry and self._is_whole(repository, entry["digest"]) else None

    async def manifest(self, repository: Repository, reference: str) -> Blob | None:
        """The manifest under a tag or digest, or None; raise PublishError if its bytes are not the digest's."""
        entries = self._index(repository)["manifests"]
        entry = _tagged({"manifests": entries}, reference)
        digest = str(entry["digest"]) if entry else reference
        if not DIGEST.fullmatch(digest) or not self._path(repository, digest).is_file():
            return None
        data = self._read(repository, digest)
        return Blob.of(media_type_of(data, (entry or {}).get("mediaType", "")), data)

    async def blob(self, repository: Repository, descriptor: Descriptor, spool: Path) -> Blob:
        return Blob.of(descriptor.media_type, self._read(repository, descriptor.digest, descriptor.size))

    def expect(self, repository: Repository, blobs: int) -> None:
        """A folder needs no preparation."""

    async def put_blob(self, repository: Repository, blob: Blob, mount_from: Repository | None = None) -> int:
        self._write(repository, blob)
        return blob.size

    async def put_manifest(self, repository: Repository, manifest: Blob) -> None:
        """Store a manifest under its digest."""
        self._write(repository, manifest)

    async def put_tag(self, repository: Repository, tag: str, target: Image | Index) -> None:
        """Let `tag` refer to `target`; all that it refers to is stored already."""
        folder = self._folder(repository)
        annotations = {_TAG: tag, **_OURS}
        with _locked(folder):
            self._write(repository, target.manifest)
            write_if_changed(folder / "oci-layout", LAYOUT)
            index = self._index(repository)
            others = [entry for entry in index["manifests"] if entry is not _tagged(index, tag)]
            index["manifests"] = [*others, target.descriptor.fields() | {"annotations": annotations}]
            write_whole(folder / "index.json", dump(index))

    async def close(self) -> None:
        """Nothing is kept open."""

    def clean(self, repository: Repository, dry: bool = False) -> list[Path]:
        """Remove the tags that `put_tag` made, and the blobs that no other tag needs; return the folder if any goes."""
        folder = self._folder(repository)
        index = self._index(repository)
        others = [entry for entry in index["manifests"] if not _OURS.items() <= entry.get("annotations", {}).items()]
        # No index: a run was killed before its first tag. Nothing then needs the blobs that it left.
        if len(others) == len(index["manifests"]) and (folder / "index.json").exists():
            return []
        needed = {digest for entry in others for digest in self._reached(repository, entry["digest"])}
        blobs = folder / "blobs" / "sha256"
        stored = [path for path in blobs.glob("*") if DIGEST.fullmatch(f"sha256:{path.name}")]
        frame = [folder / "index.json", folder / "oci-layout"]
        gone = [path for path in stored if f"sha256:{path.name}" not in needed]
        gone += [path for path in blobs.glob(".*.tmp") if re.fullmatch(r"\.[0-9a-f]{64}\.[0-9a-f]+\.tmp", path.name)]
        gone += [left for path in frame for left in leftovers(path)]
        if not others:
            gone += [path for path in (*frame, folder / _LOCK) if path.exists()]
        if not dry:
            if others:
                write_whole(folder / "index.json", dump(index | {"manifests": others}))
            for path in gone:
                path.unlink()
            for emptied in (blobs, blobs.parent, folder, folder.parent):
                if emptied.is_dir() and not any(emptied.iterdir()):
                    emptied.rmdir()
        return [folder] if gone else []

    def _write(self, repository: Repository, blob: Blob) -> None:
        write_if_changed(self._path(repository, blob.digest), blob.data)

    def _read(self, repository: Repository, digest: str, most: int = sys.maxsize) -> bytes:
        path = self._path(repository, digest)
        try:
            if (found := path.stat().st_size) > most:
                raise PublishError(f"{path}: found {found} bytes, expected {most} at most")
            data = path.read_bytes()
        except OSError as error:
            raise PublishError(f"{repository}: blob {digest}: {error.strerror}") from None
        if digest_of(data) != digest:
            raise PublishError(
                f"{path}: damaged: found {digest_of(data)}, expected {digest}\n  delete it and push again"
            )
        return data

    def _is_whole(self, repository: Repository, digest: str) -> bool:
        try:
            for each in self._reached(repository, digest):
                self._read(repository, each)
            return True
        except PublishError:
            return False

    def _reached(self, repository: Repository, digest: str) -> Iterator[str]:
        yield digest
        try:
            manifest = json.loads(self._read(repository, digest))
            blobs = [each["digest"] for each in (manifest.get("config"), *manifest.get("layers", ())) if each]
            manifests = [each["digest"] for each in manifest.get("manifests", ())]
        except (PublishError, ValueError, AttributeError, KeyError, TypeError):
            return  # a stranger's manifest that is not here, or is none, keeps nothing alive
        yield from blobs
        for each in manifests:
            yield from self._reached(repository, each)

    def _index(self, repository: Repository) -> dict[str, Any]:
        path = self._folder(repository) / "index.json"
        try:
            index = json.loads(path.read_bytes())
            well_formed = isinstance(index["manifests"], list) and all(
                isinstance(entry["digest"], str) and isinstance(entry.get("annotations", {}), dict)
                for entry in index["manifests"]
            )
            if not well_formed:
                raise TypeError
        except FileNotFoundError:
            return {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}
        except OSError as error:
            raise PublishError(f"{path}: can't be read: {error.strerror}") from None
        except (ValueError, TypeError, KeyError):
            raise PublishError(f"{path}: not the index of an image layout\n  delete it, or push elsewhere") from None
        return dict(index)

    def _folder(self, repository: Repository) -> Path:
        return self.base / repository.name

    def _path(self, repository: Repository, digest: str) -> Path:
        return self._folder(repository) / "blobs" / digest.replace(":", "/")


def _tagged(index: dict[str, Any], tag: str) -> dict[str, Any] | None:
    return next((entry for entry in index["manifests"] if entry.get("annotations", {}).get(_TAG) == tag), None)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = folder / _LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=30):
            yield
    except Timeout:
        raise PublishError(f"{lock}: another run has held it for 30 s\n  wait for that run to end") from None
    except OSError as error:
        raise PublishError(f"{folder}: can't be written: {error.strerror}") from None
