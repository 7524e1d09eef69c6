"""Writes docker-bake.json, which builds the release on BuildKit builders, from arches.yaml and Dockerfile.j2.

Keys follow Docker's Bake file reference; the options in `output` are those of BuildKit's image exporter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any

from build.compilers.binary import Prebuilt
from build.compilers.compiler import Program, files, gcc_flags
from build.compilers.includes import reader
from build.config.arches import Arch
from build.daemon.ignore import allowed
from build.errors import ImageError, UsageError
from build.image.assemble import rendered
from build.oci.descriptor import digest_of
from build.oci.media_types import OCI
from build.oci.reference import ARCHIVE
from build.release.build import Build
from build.report import Result
from build.system import differs, write_whole

FILE = "docker-bake.json"


def bake(builds: Sequence[Build], toolchain: str) -> list[Result]:
    """Write docker-bake.json with a target for every image and arch, compiled in the image `toolchain` (NAME:TAG).

    A program that was built elsewhere is copied as it is. Raises UsageError for a layout, or for a file that builders
    can't copy; CompileError for a missing file, and ElfError for a prebuilt one of another arch; ImageError for a
    Dockerfile that doesn't copy the binary.
    """
    build = builds[0]  # the builds of a run have the same checkout
    for each in builds:
        if isinstance(program := each.program(), Prebuilt):
            program.read(each.root, each.arches)
            _check_sources(each, [normpath(program.path(arch)) for arch in each.arches])
    targets = {_target_name(each, arch): _target(each, arch, toolchain) for each in builds for arch in each.arches}
    document = {"group": {"default": {"targets": list(targets)}}, "target": targets}
    data = json.dumps(_literal(document), indent=2).encode() + b"\n"
    changed = differs(build.root / FILE, data)
    if changed and not build.dry:
        write_whole(build.root / FILE, data)
    return [Result(FILE, digest_of(data), None, "made" if changed else "kept", size=len(data))]


def _target_name(build: Build, arch: Arch) -> str:
    return f"{build.release.image.name}-{arch.name}".replace(".", "_")


def _target(build: Build, arch: Arch, toolchain: str) -> Mapping[str, Any]:
    releases = [each for release in build.releases for each in (release, *release.further)]
    tags = [release.arch_tag(arch) for release in releases]
    for release, tag in zip(releases, tags, strict=True):
        if tag.repository.on_disk:
            raise UsageError(
                f"REGISTRY {release.registry}: found a folder, expected a registry: builders push only to registries"
                "\n  name one, for example REGISTRY=localhost:5000"
            )
    program = build.program()
    stage = _compile(build, program, arch, toolchain) if isinstance(program, Program) else ()
    media_types = f"oci-mediatypes={'true' if build.form is OCI else 'false'}"
    return {
        "context": ".",
        "dockerfile-inline": "".join(f"{line}\n" for line in (*stage, *_image(build, arch))),
        "args": {"SOURCE_DATE_EPOCH": str(build.revision.time)},
        "platforms": [str(arch.platform)],
        "tags": [str(tag) for tag in tags],
        "output": [f"type=image,{media_types},rewrite-timestamp=true"],
        # Provenance would turn every image into an index, and a manifest list must contain images.
        "attest": ["type=provenance,disabled=true"],
    }


def _compile(build: Build, program: Program, arch: Arch, toolchain: str) -> Iterator[str]:
    """The stage `compile`, which runs on the builder's CPU and writes the binary to `_output`."""
    sources = list(files(reader(build.root), program, arch))
    _check_sources(build, sources)
    yield f"FROM --platform=$BUILDPLATFORM {toolchain} AS compile"
    yield "WORKDIR /work"
    for folder in sorted({str(PurePosixPath(source).parent) for source in sources}):
        inside = [source for source in sources if str(PurePosixPath(source).parent) == folder]
        yield f"COPY {json.dumps([*inside, f'{folder}/'])}"
    yield f"RUN {json.dumps([f'{arch.triple}-gcc', *gcc_flags(program, arch), '-o', _output(build, arch)])}"


def _check_sources(build: Build, sources: Iterable[str]) -> None:
    """Raise UsageError for a source that COPY would not find, or would interpret as a pattern or a variable."""
    context = allowed(build.root)
    for source in sources:
        if not re.fullmatch(r"(?!\.\./|/)[\w./+-]+", source):
            raise UsageError(f"{source}: expected a path in the checkout, with only letters, digits and . _ / + -")
        if source not in context:
            raise UsageError(
                f"{source}: .dockerignore excludes it from the build context\n  add a line there: !{source}"
            )


def _output(build: Build, arch: Arch) -> str:
    return f"/{build.release.image.name}-{arch.name}"


def _image(build: Build, arch: Arch) -> Iterator[str]:
    """The rendered Dockerfile, with the binary copied from the stage `compile`, or from its row's path."""
    from dockerfile_parse import DockerfileParser

    spec = build.spec(arch)
    image = spec.settings
    binary, program = spec.binary_path, build.program()
    parser = DockerfileParser(fileobj=BytesIO(rendered(spec).encode()), env_replace=False)
    is_copied = False
    for step in parser.structure:
        if step["instruction"] == "FROM" and step["value"].startswith(("oci:", ARCHIVE)):
            where = f"{image.dockerfile}:{step['startline'] + 1}: FROM {step['value']}"
            raise ImageError(f"{where}: builders find bases in registries only")
        words = _words(step["value"]) if step["instruction"] in ("COPY", "ADD") else []
        sources = [str(PurePosixPath(word)) for word in words[:-1] if not word.startswith("--")]
        if binary not in sources or any(word.startswith("--from") for word in words):
            yield step["content"].rstrip("\n")
            continue
        if len(sources) > 1:
            where = f"{image.dockerfile}:{step['startline'] + 1}: {step['instruction']} {step['value']}"
            raise ImageError(f"{where}: found other files with the binary\n  use a separate COPY for the binary")
        flags = [word for word in words[:-1] if word.startswith("--")]
        if isinstance(program, Prebuilt):
            source, target = normpath(program.path(arch)), words[-1]
            if target.endswith("/"):
                target += PurePosixPath(binary).name
            if not any(flag.startswith("--chmod") for flag in flags):
                flags.append("--chmod=755")
            yield " ".join(["COPY", *flags, json.dumps([source, target])])
        else:
            yield " ".join(["COPY --from=compile", *flags, json.dumps([_output(build, arch), words[-1]])])
        is_copied = True
    if not is_copied:
        raise ImageError(f"{image.dockerfile}: no COPY of {{{{ binary }}}}, so the image would have no program")


def _words(value: str) -> list[str]:
    """Flags, sources and target of a COPY, in either form."""
    flags, rest = re.fullmatch(r"((?:--\S+\s+)*)(.*)", value, re.DOTALL).groups()  # type: ignore[union-attr]
    try:
        words = json.loads(rest)
    except ValueError:
        words = None
    return [*flags.split(), *(words if isinstance(words, list) else rest.split())]


def _literal(value: Any) -> Any:
    """The same value with `${` and `%{` doubled in every string, because bake reads them as expressions."""
    if isinstance(value, str):
        return re.sub(r"([$%])\{", r"\1\1{", value)
    if isinstance(value, list):
        return [_literal(each) for each in value]
    return {key: _literal(each) for key, each in value.items()} if isinstance(value, dict) else value
