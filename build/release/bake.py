"""docker-bake.json: the release as targets for a farm of BuildKit builders, from the same table and Dockerfile.j2.

Keys and values follow Docker's Bake file reference, options of `output` BuildKit's image exporter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

from build.compilers.compiler import files, gcc_flags
from build.compilers.includes import reader
from build.config.arches import Arch
from build.engines.docker import allowed
from build.engines.embedded import rendered
from build.errors import ImageError, UsageError
from build.files import differs, write_whole
from build.oci.oci import OCI, digest_of
from build.release.build import image_plan
from build.release.release import Made, Workshop

FILE = "docker-bake.json"


def bake(shops: Sequence[Workshop]) -> list[Made]:
    """Write docker-bake.json: a target for every image and arch, which compiles as the shops' `KubeCross` does.

    Raises UsageError where no builder could push, or could read a source; CompileError for a source that is not there;
    ImageError for a Dockerfile that does not take the binary.
    """
    from build.compilers.kube_cross import KubeCross

    shop = shops[0]  # they differ in nothing but their images
    if not isinstance(shop.compiler, KubeCross):
        raise TypeError("builders compile in the kube-cross image")
    toolchain = shop.compiler.image
    targets = {
        _target_name(each, arch): _target(each, arch, toolchain) for each in shops for arch in each.release.arches
    }
    document = {"group": {"default": {"targets": list(targets)}}, "target": targets}
    data = json.dumps(_literal(document), indent=2).encode() + b"\n"
    changed = differs(shop.root / FILE, data)
    if changed and not shop.release.dry:
        write_whole(shop.root / FILE, data)
    return [Made(FILE, digest_of(data), None, "made" if changed else "kept")]


def _target_name(shop: Workshop, arch: Arch) -> str:
    return f"{shop.release.image.name}-{arch.name}".replace(".", "_")


def _target(shop: Workshop, arch: Arch, toolchain: str) -> Mapping[str, Any]:
    tags = [release.arch_tag(arch) for release in shop.releases]
    for release, tag in zip(shop.releases, tags, strict=True):
        if tag.repository.on_disk:
            raise UsageError(
                f"REGISTRY {release.registry}: found a folder, expected a registry, as builders push to no other"
                "\n  name one, as REGISTRY=localhost:5000"
            )
    media_types = f"oci-mediatypes={'true' if shop.form is OCI else 'false'}"
    return {
        "context": ".",
        "dockerfile-inline": "".join(f"{line}\n" for line in (*_compile(shop, arch, toolchain), *_image(shop, arch))),
        "args": {"SOURCE_DATE_EPOCH": str(shop.revision.time)},
        "platforms": [str(arch.platform)],
        "tags": [str(tag) for tag in tags],
        "output": [f"type=image,{media_types},rewrite-timestamp=true"],
        # Provenance would make an index of every image, and a list has to be one of images.
        "attest": ["type=provenance,disabled=true"],
    }


def _compile(shop: Workshop, arch: Arch, toolchain: str) -> Iterator[str]:
    """The stage `compile`, which leaves the binary where `_output` says; it runs on the builder's own CPU."""
    program = shop.program()
    sources = list(files(reader(shop.root), program, arch))
    _refuse_unreadable(shop, sources)
    yield f"FROM --platform=$BUILDPLATFORM {toolchain} AS compile"
    yield "WORKDIR /work"
    for folder in sorted({str(PurePosixPath(source).parent) for source in sources}):
        inside = [source for source in sources if str(PurePosixPath(source).parent) == folder]
        yield f"COPY {json.dumps([*inside, f'{folder}/'])}"
    yield f"RUN {json.dumps([f'{arch.triple}-gcc', *gcc_flags(program, arch), '-o', _output(shop, arch)])}"


def _refuse_unreadable(shop: Workshop, sources: Iterable[str]) -> None:
    """Raise UsageError for a source that `COPY` would not find, or would take for a pattern or a variable."""
    context = allowed(shop.root)
    for source in sources:
        if not re.fullmatch(r"(?!\.\./|/)[\w./+-]+", source):
            raise UsageError(f"{source}: expected a file of the checkout, in letters, digits and . _ / + -")
        if source not in context:
            raise UsageError(f"{source}: .dockerignore keeps it from the builders\n  add a line there: !{source}")


def _output(shop: Workshop, arch: Arch) -> str:
    return f"/{shop.release.image.name}-{arch.name}"


def _image(shop: Workshop, arch: Arch) -> Iterator[str]:
    """The rendered Dockerfile, with the binary out of the stage `compile`."""
    from dockerfile_parse import DockerfileParser

    image, plan = shop.release.image, image_plan(shop, arch)
    binary = plan.binary_path
    parser = DockerfileParser(fileobj=BytesIO(rendered(plan).encode()), env_replace=False)
    taken = False
    for step in parser.structure:
        words = _words(step["value"]) if step["instruction"] in ("COPY", "ADD") else []
        sources = [str(PurePosixPath(word)) for word in words[:-1] if not word.startswith("--")]
        if binary not in sources or any(word.startswith("--from") for word in words):
            yield step["content"].rstrip("\n")
            continue
        if len(sources) > 1:
            place = f"{image.dockerfile}:{step['startline'] + 1}: {step['instruction']} {step['value']}"
            raise ImageError(f"{place}: found other files beside the binary\n  give it a COPY of its own")
        flags = [word for word in words[:-1] if word.startswith("--")]
        yield " ".join(["COPY --from=compile", *flags, json.dumps([_output(shop, arch), words[-1]])])
        taken = True
    if not taken:
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
    """The same with every string as bake reads it: its `${` and `%{` begin an expression unless they are doubled."""
    if isinstance(value, str):
        return re.sub(r"([$%])\{", r"\1\1{", value)
    if isinstance(value, list):
        return [_literal(each) for each in value]
    return {key: _literal(each) for key, each in value.items()} if isinstance(value, dict) else value
