"""Checks an image byte by byte: digests, sizes, diff_ids, and the platform in list, config and program."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from build.compilers import variant
from build.compilers.formats import program
from build.config.arches import Arch, header_of
from build.engines.published import LARGEST_PROGRAM, check_entrypoint, entrypoint
from build.errors import BuildError, ImageError, PublishError
from build.image.reader import LayerReader
from build.image.rootfs import Files
from build.oci.descriptor import Blob, Descriptor
from build.oci.media_types import LARGEST_MANIFEST, is_gzip
from build.oci.parse import NO_CONFIG, Config, Manifest, parse_config
from build.oci.platform import UNKNOWN, Platform
from build.oci.reference import Repository
from build.stores.store import Source

# Bytes.
_LARGEST_BLOB = 64 << 30


@dataclass(frozen=True)
class Finding:
    """A fault in published content or, if `fault` is false, a note about something that was not checked.

    Faults with the same `reason` are shown once.
    """

    where: str
    text: str
    fault: bool = True
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True)
class Subject:
    """A published image to check.

    `name` is the reference without the digest, `listed` the platform in the list's entry, and `arch` the arch that the
    image should be for, if there is one. `tag` is empty if only a list led here.
    """

    source: Source = field(repr=False)
    repository: Repository
    name: str
    digest: str
    manifest: Manifest
    listed: Platform | None = None
    arch: Arch | None = None
    tag: str = ""

    def fault(self, digest: str, text: str) -> Finding:
        """A fault in the blob with this digest."""
        return Finding(f"{self.repository}@{digest}", text)

    def note(self, digest: str, text: str) -> Finding:
        """A note about the blob with this digest."""
        return Finding(f"{self.repository}@{digest}", text, fault=False)


@dataclass(frozen=True)
class Proof:
    """The findings about an image; `config` is None if it is not an image, or its config is invalid."""

    subject: Subject
    config: Config | None
    findings: tuple[Finding, ...]


async def prove(subject: Subject, spool: Path) -> Proof:
    """Fetch an image and check all of it. Large layers are files in `spool`, a folder for this image only."""
    findings: list[Finding] = []
    config = await _prove(subject, spool, findings)
    return Proof(subject, config, tuple(findings))


async def _prove(subject: Subject, spool: Path, findings: list[Finding]) -> Config | None:
    manifest = subject.manifest
    blob = None
    if manifest.config != NO_CONFIG:
        blob = await _blob(subject, manifest.config, spool, findings, LARGEST_MANIFEST)
    if subject.listed == UNKNOWN or manifest.artifact:
        for layer, elsewhere in zip(manifest.layers, manifest.elsewhere, strict=True):
            if not elsewhere:
                await _blob(subject, layer, spool, findings)
        what = "an attestation" if subject.listed == UNKNOWN else f"not an image but {manifest.artifact}"
        if subject.arch:
            findings.append(subject.fault(subject.digest, f"{what}, expected an image for arch {subject.arch.name}"))
        else:
            findings.append(subject.note(subject.digest, f"{what}: only its digests are checked"))
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
    """The blob, whose digest and size have been checked; None after a fault."""
    if wanted.size > largest:
        findings.append(subject.fault(wanted.digest, f"size: found {wanted.size} bytes, expected at most {largest}"))
        return None
    try:
        return await subject.source.blob(subject.repository, wanted, spool)
    except PublishError as error:
        findings.append(subject.fault(wanted.digest, str(error)))
        return None


@dataclass(frozen=True)
class _Layers:
    """The layers of an image, and the filesystem that they make.

    `above` is whether they are all but the lowest ones, which are stored elsewhere.
    """

    blobs: tuple[Blob, ...]
    files: Files
    above: bool = False


async def _layers(subject: Subject, config: Config | None, spool: Path, findings: list[Finding]) -> _Layers | None:
    """All layers, after checking their diff_ids; None if one can't be read."""
    manifest, files, blobs, complete = subject.manifest, Files(), list[Blob](), True
    diff_ids = list(config.diff_ids) if config else []
    if config and len(diff_ids) != len(manifest.layers):
        text = f"diff_ids: found {len(diff_ids)}, expected {len(manifest.layers)}, one for each layer"
        findings.append(subject.fault(manifest.config.digest, text))
        diff_ids = []
    for number, layer in enumerate(manifest.layers):
        if manifest.elsewhere[number]:
            findings.append(subject.note(layer.digest, "a layer that is stored elsewhere: not checked"))
            # What is above the layers of a base that only Microsoft may distribute is known all the same.
            complete = complete and config is not None and config.platform.is_windows and not blobs
            continue
        blob = await _blob(subject, layer, spool, findings)
        if blob is None:
            complete = False
        elif is_gzip(layer.media_type) is None:
            text = f"{layer.media_type}: only its digest is checked, not its diff_id and files"
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
    return _Layers(tuple(blobs), files, any(manifest.elsewhere)) if complete else None


def _stack(files: Files | None, blob: Blob) -> str:
    """Apply a layer to `files`; return its diff_id."""
    with blob.open() as stream:
        reader = LayerReader(stream, bool(is_gzip(blob.media_type)), blob.size)
        if files:
            files.add(reader)
        return reader.digest()


def _platform(subject: Subject, found: Platform) -> Iterator[Finding]:
    config = subject.manifest.config.digest
    if not found.os or not found.architecture:
        yield subject.fault(config, f"platform: found {str(found) or 'none'} in the config, expected os/architecture")
        return
    if subject.arch and not subject.arch.is_for(found):
        wanted = f"{subject.arch.platform}{', with os.version,' if subject.arch.platform.is_windows else ''}"
        text = f"platform: found {found} in the config, expected {wanted} for arch {subject.arch.name}"
        yield subject.fault(config, text)
    listed = subject.listed
    if listed and not (found.os_version and listed.os_version):  # builders leave it out of configs, or of lists
        one, other = ("list's entry", "config") if found.os_version else ("config", "list's entry")
        if found.is_windows and found.os_version != listed.os_version:
            text = f"os.version: found {found.os_version or listed.os_version} in the {other}, and none in the {one}"
            yield Finding(f"{subject.repository}@{config}", text, fault=subject.arch is not None)
        found, listed = found.unversioned, listed.unversioned
    if listed and found.normal != listed.normal:
        yield subject.fault(config, f"platform: found {found} in the config, expected {listed} of the list's entry")
    elif listed and found != listed:
        yield subject.note(config, f"platform: {found} in the config is equivalent to {listed} in the list")


def _program(subject: Subject, config: Config, layers: _Layers | None) -> list[Finding]:
    expected = subject.arch.header if subject.arch else header_of(config.platform)
    reason = None
    if config.platform.os not in ("linux", "windows"):
        reason = f"it is for {config.platform.os or 'no os'}"
    elif not config.command or not config.command[0]:
        reason = "its config has no entrypoint and no command"
    elif expected is None:
        form = "PE" if config.platform.is_windows else "ELF"
        reason = f"the {form} header for {config.platform.architecture} is not known here"
    elif layers is None:
        reason = "not all of its layers can be read"
    if reason or layers is None or expected is None:
        return [subject.note(subject.digest, f"program not checked: {reason}")]
    try:
        if subject.arch:
            found = check_entrypoint(config, layers.blobs, expected, layers.files, LARGEST_PROGRAM)
        else:
            limit = LARGEST_PROGRAM if variant.is_recorded(config.platform) else program.START
            found = entrypoint(config, layers.blobs, limit, layers.files)
            program.check_start(found.data, expected, f"program {found.path!r}")
        unproved = variant.check(found.data, config.platform, f"program {found.path!r}")
    except BuildError as error:
        if layers.above and isinstance(error, ImageError):
            return [subject.note(subject.digest, f"program not checked: {error}\n  it may be in a layer below")]
        return [subject.fault(subject.digest, str(error))]
    if not unproved or variant.is_plain(config.platform):
        return []
    return [
        subject.note(subject.digest, f"program {found.path!r}: variant of {config.platform} not proved: {unproved}")
    ]
