"""One image proved from its bytes: digests, sizes and diff_ids, and one platform in list, config and ELF header."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from build.compilers import elf
from build.config.arches import Arch
from build.errors import BuildError, ImageError, PublishError
from build.image.rootfs import USUAL_PATH, Command, Files, program
from build.image.tar import Tape
from build.oci.descriptor import Descriptor
from build.oci.media_types import LARGEST_MANIFEST
from build.oci.platform import Platform
from build.oci.parse import CONFIGS, ConfigClaims, ImageClaims, read_config
from build.oci.reference import Repository

# A blob is in memory as it came.
_LARGEST_BLOB = 4 << 30
# A program that is checked whole is one of ours.
_LARGEST_PROGRAM = 64 << 20
# BuildKit's platform for attestations.
_UNKNOWN = Platform("unknown", "unknown")
# containerd's platforms.Normalize: these variants go without saying.
_IMPLIED = {"amd64": "v1", "arm": "v7", "arm64": "v8"}


@dataclass(frozen=True)
class Finding:
    """What is wrong with something that is published; or, with no `fault`, what could not be proved of it."""

    where: str
    text: str
    fault: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True)
class Subject:
    """An image in a repository: what its manifest claims, what the list's entry says, and the row that it should be of.

    `name` is what it was asked for by, without the digest; `fetch` gets the blob of a digest that has at most so many
    bytes, or raises PublishError.
    """

    fetch: Callable[[str, int], bytes]
    repository: Repository
    name: str
    digest: str
    claims: ImageClaims
    listed: Platform | None = None
    arch: Arch | None = None

    def blob(self, descriptor: Descriptor) -> bytes:
        """The bytes that a descriptor stands for."""
        return self.fetch(descriptor.digest, descriptor.size)

    def fault(self, digest: str, text: str) -> Finding:
        """Something that is wrong with the blob of this digest."""
        return Finding(f"{self.repository}@{digest}", text)

    def note(self, digest: str, text: str) -> Finding:
        """Something that is not proved of the blob of this digest."""
        return Finding(f"{self.repository}@{digest}", text, fault=False)


@dataclass(frozen=True)
class Proof:
    """What came of it; `config` is None for what is no image, and for one whose config can't be read."""

    subject: Subject
    config: ConfigClaims | None
    findings: tuple[Finding, ...]


def prove(subject: Subject) -> Proof:
    """Fetch all of an image and prove it; one layer at a time is in memory."""
    findings: list[Finding] = []
    steps = _prove(subject)
    while True:
        try:
            findings.append(next(steps))
        except StopIteration as end:
            return Proof(subject, end.value, tuple(findings))


def _prove(subject: Subject) -> Generator[Finding, None, ConfigClaims | None]:
    claims = subject.claims
    data = yield from _fetched(subject, claims.config, LARGEST_MANIFEST)
    if subject.listed == _UNKNOWN or claims.config.media_type not in CONFIGS:
        for layer, elsewhere in zip(claims.layers, claims.elsewhere, strict=True):
            if not elsewhere:
                yield from _fetched(subject, layer)
        what = "an attestation" if subject.listed == _UNKNOWN else f"no image but {claims.config.media_type}"
        yield subject.note(subject.digest, f"{what}: its digests are proved, and no platform is asked for")
        return None
    config = None
    if data is not None:
        try:
            config = read_config(data)
        except ImageError as error:
            yield subject.fault(claims.config.digest, f"config: {error}")
    files = yield from _stacked(subject, config)
    if config:
        yield from _platform(subject, config.platform)
        yield from _program(subject, config, files)
    return config


def _fetched(
    subject: Subject, blob: Descriptor, largest: int = _LARGEST_BLOB
) -> Generator[Finding, None, bytes | None]:
    """The bytes of a blob, of the right digest and size; None after a fault."""
    if blob.size > largest:
        yield subject.fault(blob.digest, f"size: found {blob.size} bytes, expected {largest} at most")
        return None
    try:
        data = subject.blob(blob)
    except PublishError as error:
        yield subject.fault(blob.digest, str(error))
        return None
    if len(data) != blob.size:
        yield subject.fault(blob.digest, f"size: found {len(data)} bytes, expected {blob.size} as its descriptor says")
        return None
    return data


def _stacked(subject: Subject, config: ConfigClaims | None) -> Generator[Finding, None, Files | None]:
    """The files of all layers, each of the right diff_id; None if a layer's can't be told."""
    claims, files, whole = subject.claims, Files(), True
    diff_ids = list(config.diff_ids) if config else []
    if config and len(diff_ids) != len(claims.layers):
        text = f"diff_ids: found {len(diff_ids)}, expected {len(claims.layers)}, one for each layer"
        yield subject.fault(claims.config.digest, text)
        diff_ids = []
    for number, layer in enumerate(claims.layers):
        compressed = _is_gzip(layer.media_type)
        if claims.elsewhere[number]:
            yield subject.note(layer.digest, "a layer to be fetched from elsewhere: nothing of it is proved")
            whole = False
            continue
        data = yield from _fetched(subject, layer)
        if data is None:
            whole = False
        elif compressed is None:
            yield subject.note(layer.digest, f"{layer.media_type}: its digest is proved, its diff_id and files are not")
            whole = False
        else:
            try:
                tape = Tape(data, compressed)
                if whole:
                    files.add(tape)
                found = tape.digest()
                if diff_ids and found != diff_ids[number]:
                    yield subject.fault(layer.digest, f"diff_id: found {found}, expected {diff_ids[number]}")
            except ImageError as error:
                yield subject.fault(layer.digest, f"layer: {error}")
                whole = False
        del data
    return files if whole else None


def _is_gzip(media_type: str) -> bool | None:
    """Whether layers of this type are gzip (True) or plain tar (False); None for any other compression."""
    if media_type.endswith(("tar+gzip", "tar.gzip")):
        return True
    return False if media_type.endswith(".tar") else None


def _platform(subject: Subject, found: Platform) -> Iterator[Finding]:
    config = subject.claims.config.digest
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
        yield subject.note(config, f"platform: {found} in the config, and {listed}, which means the same, in the list")


def _normal(platform: Platform) -> Platform:
    variant = platform.variant or _IMPLIED.get(platform.architecture, "")
    return Platform(platform.os, platform.architecture, variant)


def _program(subject: Subject, config: ConfigClaims, files: Files | None) -> Iterator[Finding]:
    promise = subject.arch.elf if subject.arch else elf.PROMISES.get(config.platform.architecture)
    unproved = None
    if config.platform.os != "linux":
        unproved = f"it is for {config.platform.os or 'no os'}"
    elif not config.words or not config.words[0]:
        unproved = "its config names no entrypoint and no command"
    elif promise is None:
        unproved = f"what an ELF header says on {config.platform.architecture} is not known here"
    elif files is None:
        unproved = "not all of its layers could be read"
    if unproved or files is None or promise is None:
        yield subject.note(subject.digest, f"no program is proved: {unproved}")
        return

    def tape(number: int) -> Tape:
        layer = subject.claims.layers[number]
        return Tape(subject.blob(layer), bool(_is_gzip(layer.media_type)))

    command = Command(config.words, USUAL_PATH if config.path is None else config.path, config.folder)
    try:
        found = program(files, command, tape, _LARGEST_PROGRAM if subject.arch else elf.HEADER)
        judge = elf.check if subject.arch else elf.check_start
        judge(found.data, promise, f"program {found.path!r}")
    except BuildError as error:
        yield subject.fault(subject.digest, str(error))
