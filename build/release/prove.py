"""One image proved from its bytes: digests, sizes and diff_ids, and one platform in list, config and ELF header."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from build.compilers import elf
from build.config.arches import Arch
from build.errors import BuildError, ImageError, PublishError, all_of
from build.image.reader import LayerReader
from build.image.rootfs import USUAL_PATH, Command, Files, Program, program
from build.image.validate import validate
from build.oci.descriptor import Blob, Descriptor
from build.oci.image import Image
from build.oci.media_types import CONFIGS, LARGEST_MANIFEST, MANIFESTS
from build.oci.parse import Config, Manifest, parse_config, parse_manifest
from build.oci.platform import Platform
from build.oci.reference import Repository, Tag
from build.stores.store import Source

# Bytes.
_LARGEST_BLOB, _LARGEST_PROGRAM = 64 << 30, 64 << 20
# BuildKit's platform for attestations.
_UNKNOWN = Platform("unknown", "unknown")
# containerd's platforms.Normalize: these variants are implied.
_IMPLIED = {"amd64": "v1", "arm": "v7", "arm64": "v8"}
# What Python raises for JSON that is malformed, or not of the expected shape.
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, EOFError, OverflowError, RecursionError)


async def fetch_image(source: Source, tag: Tag, arch: Arch, spool: Path) -> Image:
    """The image of `arch` under `tag`, proved: one platform in its config, in the row, and in its program's ELF header.

    Large layers are files in `spool`. Raises PublishError if there is no image or it can't be fetched, ImageError or
    ElfError if it is not what it should be; each message names the arch.
    """
    try:
        image = await _fetched(source, tag, spool)
        if image.platform != arch.platform:
            raise ImageError(f"found platform {image.platform}, expected {arch.platform}\n  build and push it again")
        await asyncio.to_thread(validate, image)
        found = await asyncio.to_thread(_entrypoint, parse_config(image.config.data), image.layers, _LARGEST_PROGRAM)
        elf.check(found.data, arch.elf, "its program")
        return image
    except BuildError as error:
        raise type(error)(f"{arch.name}: {tag}: {error}") from None
    except _MALFORMED as error:
        raise ImageError(f"{arch.name}: {tag}: its config or a layer is malformed: {error!r}") from None


async def _fetched(source: Source, tag: Tag, spool: Path) -> Image:
    manifest = await source.manifest(tag.repository, tag.name)
    if manifest is None:
        raise PublishError("no such image\n  push it first: invoke push --arch …")
    if manifest.media_type not in MANIFESTS:
        raise ImageError(f"found {manifest.media_type}, expected an image's manifest")
    parsed = parse_manifest(manifest.data, manifest.media_type)
    if not isinstance(parsed, Manifest):
        raise ImageError("found an index, expected an image's manifest")
    wanted = (parsed.config, *parsed.layers)
    config, *layers = await all_of(source.blob(tag.repository, each, spool) for each in wanted)
    return Image(parse_config(config.data).platform, manifest, config, tuple(layers))


def _entrypoint(config: Config, layers: Sequence[Blob], most: int, files: Files | None = None) -> Program:
    """The first `most` bytes of the program that a container starts; raise ImageError if it could not start one."""
    if not config.command or not config.command[0]:
        raise ImageError("its config names no entrypoint and no command")
    if files is None:
        files = Files()
        for layer in layers:
            with layer.open() as stream:
                files.add(LayerReader(stream, _is_gzip(layer.media_type) is not False))
    path = USUAL_PATH if config.path is None else config.path
    command = Command(config.command, path, config.folder)
    return program(files, command, lambda number: _reader(layers[number]), most)


def _reader(layer: Blob) -> LayerReader:
    return LayerReader(layer.open(), _is_gzip(layer.media_type) is not False)


@dataclass(frozen=True)
class Finding:
    """What is wrong with something that is published or, if it is not a `fault`, what could not be proved."""

    where: str
    text: str
    fault: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True)
class Subject:
    """An image in a repository: its manifest, what the list's entry says, and the row that it should match.

    `name` is the name that led here, without the digest.
    """

    source: Source = field(repr=False)
    repository: Repository
    name: str
    digest: str
    manifest: Manifest
    listed: Platform | None = None
    arch: Arch | None = None

    def fault(self, digest: str, text: str) -> Finding:
        """Something that is wrong with the blob with this digest."""
        return Finding(f"{self.repository}@{digest}", text)

    def note(self, digest: str, text: str) -> Finding:
        """Something that is not proved of the blob with this digest."""
        return Finding(f"{self.repository}@{digest}", text, fault=False)


@dataclass(frozen=True)
class Proof:
    """The findings about an image; `config` is None for what is not an image, and for one whose config is invalid."""

    subject: Subject
    config: Config | None
    findings: tuple[Finding, ...]


async def prove(subject: Subject, spool: Path) -> Proof:
    """Fetch all of an image and prove it. Large layers are files in `spool`, a folder for this image only."""
    findings: list[Finding] = []
    config = await _prove(subject, spool, findings)
    return Proof(subject, config, tuple(findings))


async def _prove(subject: Subject, spool: Path, findings: list[Finding]) -> Config | None:
    manifest = subject.manifest
    blob = await _blob(subject, manifest.config, spool, findings, LARGEST_MANIFEST)
    if subject.listed == _UNKNOWN or manifest.config.media_type not in CONFIGS:
        for layer, elsewhere in zip(manifest.layers, manifest.elsewhere, strict=True):
            if not elsewhere:
                await _blob(subject, layer, spool, findings)
        what = "an attestation" if subject.listed == _UNKNOWN else f"not an image but {manifest.config.media_type}"
        findings.append(subject.note(subject.digest, f"{what}: its digests are proved; no platform is expected"))
        return None
    config = None
    if blob is not None:
        try:
            config = parse_config(blob.data)
        except ImageError as error:
            findings.append(subject.fault(manifest.config.digest, f"config: {error}"))
    layers = await _layers(subject, config, spool, findings)
    if config:
        findings += _platform(subject, config.platform)
        findings += await asyncio.to_thread(_program, subject, config, layers)
    return config


async def _blob(
    subject: Subject, wanted: Descriptor, spool: Path, findings: list[Finding], largest: int = _LARGEST_BLOB
) -> Blob | None:
    """A blob of the right digest and size; None after a fault."""
    if wanted.size > largest:
        findings.append(subject.fault(wanted.digest, f"size: found {wanted.size} bytes, expected {largest} at most"))
        return None
    try:
        return await subject.source.blob(subject.repository, wanted, spool)
    except PublishError as error:
        findings.append(subject.fault(wanted.digest, str(error)))
        return None


@dataclass(frozen=True)
class _Layers:
    """The layers of an image, and the files as they stack them."""

    blobs: tuple[Blob, ...]
    files: Files


async def _layers(subject: Subject, config: Config | None, spool: Path, findings: list[Finding]) -> _Layers | None:
    """All layers, each with the right diff_id; None if one can't be read."""
    manifest, files, blobs, complete = subject.manifest, Files(), list[Blob](), True
    diff_ids = list(config.diff_ids) if config else []
    if config and len(diff_ids) != len(manifest.layers):
        text = f"diff_ids: found {len(diff_ids)}, expected {len(manifest.layers)}, one for each layer"
        findings.append(subject.fault(manifest.config.digest, text))
        diff_ids = []
    for number, layer in enumerate(manifest.layers):
        if manifest.elsewhere[number]:
            findings.append(subject.note(layer.digest, "a layer that is stored elsewhere: nothing is proved"))
            complete = False
            continue
        blob = await _blob(subject, layer, spool, findings)
        if blob is None:
            complete = False
        elif _is_gzip(layer.media_type) is None:
            text = f"{layer.media_type}: its digest is proved, its diff_id and files are not"
            findings.append(subject.note(layer.digest, text))
            complete = False
        else:
            blobs.append(blob)
            try:
                found = await asyncio.to_thread(_stack, files if complete else None, blob)
                if diff_ids and found != diff_ids[number]:
                    text = f"diff_id: found {found}, expected {diff_ids[number]}"
                    findings.append(subject.fault(layer.digest, text))
            except ImageError as error:
                findings.append(subject.fault(layer.digest, f"layer: {error}"))
                complete = False
    return _Layers(tuple(blobs), files) if complete else None


def _stack(files: Files | None, blob: Blob) -> str:
    """Add a layer's files to the others; return its diff_id."""
    with blob.open() as stream:
        reader = LayerReader(stream, bool(_is_gzip(blob.media_type)))
        if files:
            files.add(reader)
        return reader.digest()


def _is_gzip(media_type: str) -> bool | None:
    """Whether layers of this type are gzip (True) or plain tar (False); None for any other compression."""
    if media_type.endswith(("tar+gzip", "tar.gzip")):
        return True
    return False if media_type.endswith(".tar") else None


def _platform(subject: Subject, found: Platform) -> Iterator[Finding]:
    config = subject.manifest.config.digest
    if not found.os or not found.architecture:
        yield subject.fault(config, f"platform: found {str(found) or 'none'} in the config, expected os/architecture")
        return
    if subject.arch and found != subject.arch.platform:
        text = f"platform: found {found} in the config, expected {subject.arch.platform} of row {subject.arch.name}"
        yield subject.fault(config, text)
    listed = subject.listed
    if listed and _normal(found) != _normal(listed):
        yield subject.fault(config, f"platform: found {found} in the config, expected {listed} of the list's entry")
    elif listed and found != listed:
        yield subject.note(config, f"platform: {found} in the config and {listed} in the list mean the same")


def _normal(platform: Platform) -> Platform:
    variant = platform.variant or _IMPLIED.get(platform.architecture, "")
    return Platform(platform.os, platform.architecture, variant)


def _program(subject: Subject, config: Config, layers: _Layers | None) -> list[Finding]:
    expected = subject.arch.elf if subject.arch else elf.PROMISES.get(config.platform.architecture)
    reason = None
    if config.platform.os != "linux":
        reason = f"it is for {config.platform.os or 'no os'}"
    elif not config.command or not config.command[0]:
        reason = "its config names no entrypoint and no command"
    elif expected is None:
        reason = f"the ELF header for {config.platform.architecture} is not known here"
    elif layers is None:
        reason = "not all of its layers could be read"
    if reason or layers is None or expected is None:
        return [subject.note(subject.digest, f"no program is proved: {reason}")]
    try:
        most = _LARGEST_PROGRAM if subject.arch else elf.HEADER
        found = _entrypoint(config, layers.blobs, most, layers.files)
        check = elf.check if subject.arch else elf.check_start
        check(found.data, expected, f"program {found.path!r}")
    except BuildError as error:
        return [subject.fault(subject.digest, str(error))]
    return []
