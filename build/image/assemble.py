"""Assembles the image of a Spec from its Dockerfile and its binary, or takes it from the cache."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from build.cache.cache import Cache
from build.cache.inputs import Inputs
from build.cache.installed import version
from build.daemon.ignore import IGNORE_FILE
from build.errors import ImageError
from build.image.spec import Spec
from build.oci.descriptor import Blob, digest_of
from build.oci.image import Image, Origin, dump, image_of
from build.oci.platform import Platform

if TYPE_CHECKING:
    from build.image.base import Base
    from build.image.dockerfile.syntax import Dockerfile

# Packages, with the name on PyPI if it differs. Their versions are inputs, because they affect or check the image.
_LIBRARIES = (("jinja2",), ("dockerfile_parse",), ("elftools", "pyelftools"), ("deflate",))

SCRATCH = "scratch"
# Lines that are FROM, or may become it.
_FROM = re.compile(r"^\s*FROM\b|\{.*\bFROM\b|\bFROM\b.*\}", re.IGNORECASE)
# A line that no template engine and no variable changes.
_PLAIN_FROM = re.compile(r"\s*FROM\s+([^\s{}$\\`#-][^\s{}$\\`#]*)\s*", re.IGNORECASE)


def variables(spec: Spec) -> Mapping[str, object]:
    """The variables of Dockerfile.j2."""
    settings, revision = spec.settings, spec.revision
    computed = {
        "org.opencontainers.image.version": spec.tag,
        "org.opencontainers.image.revision": revision.name,
        "org.opencontainers.image.created": revision.created,
    }
    return {
        "arch": spec.arch.name,
        "platform": str(spec.arch.platform),
        "binary": spec.binary_path,
        "base": spec.arch.base,
        "image": settings,
        "tag": spec.tag,
        "rev": revision.name,
        "created": revision.created,
        "labels": dict(sorted({**settings.labels, **computed}.items())),
    }


# Checks an image, given the content of its files by their paths in the checkout.
Check = Callable[[Image, Mapping[str, bytes]], None]


def assemble(spec: Spec, binary: bytes, digest: str, cache: Cache, check: Check, base: Base | None = None) -> Image:
    """The image of `spec` with `binary`, whose digest is `digest`, upon `base`, which is what `base_of` names.

    A cached image has passed `check`. Raises ImageError if the Dockerfile or a file that it copies can't be used, and
    what `check` raises.
    """
    key = _inputs(spec, _template(spec), digest, base.image.origin if base else None).key
    entry = cache.get(key)
    if entry is None or not _is_current(spec, entry):
        image, files, other_files = _assemble(spec, binary, base)
        check(image, files)
        entry = _pack(image, other_files)
        cache.put(key, entry)
    return _unpack(spec, entry, base)


def base_of(spec: Spec) -> str:
    """What FROM names in the Dockerfile of `spec`; empty for `scratch`. Raises ImageError.

    The template is rendered only if it does not say so itself: most do.
    """
    name = plain_base(spec) or _parsed(spec).base
    return "" if name == SCRATCH else name


def plain_base(spec: Spec) -> str:
    """What FROM names in the template of `spec`, if it has only one, and nothing that would be replaced, else ""."""
    lines = [line for line in _template(spec).splitlines() if _FROM.search(line)]
    plain = _PLAIN_FROM.fullmatch(lines[0]) if len(lines) == 1 else None
    return plain[1] if plain else ""


def image_inputs(spec: Spec, digest: str, cache: Cache, before: Iterable[str], origin: Origin | None = None) -> Inputs:
    """All inputs of the image of `spec`, whose binary has this digest, and whose base is `origin`.

    Other sources of COPY are known only after parsing the Dockerfile: they come from the cache entry, or
    else from `before`, the paths of the last build.
    """
    inputs = _inputs(spec, _template(spec), digest, origin)
    entry = cache.get(inputs.key)
    known = _other_files(entry) if entry else before
    return inputs.and_files(_states(spec, (path for path in known if path not in inputs.files)))


def rendered(spec: Spec) -> str:
    """The rendered Dockerfile of `spec`; raise ImageError if its template can't be read or rendered."""
    from build.image.template import render

    return render(_template(spec), spec.settings.dockerfile, variables(spec))


def _template(spec: Spec) -> str:
    try:
        return _read(spec, spec.settings.dockerfile).decode()
    except UnicodeDecodeError as error:
        raise ImageError(f"{spec.settings.dockerfile}: byte {error.start} is not UTF-8") from None


def _inputs(spec: Spec, template: str, binary_digest: str, origin: Origin | None) -> Inputs:
    settings = {
        **({f"base {origin.name}": origin.digest} if origin else {}),
        "TAG": spec.tag,
        "REV": spec.revision.name,
        "SOURCE_DATE_EPOCH": str(spec.revision.time),
        "FORMAT": spec.form.name,
        f"arch {spec.arch.name}": repr(spec.arch),
        **{name.replace("_", "-"): str(value) for name, value in vars(spec.settings).items()},
        **{library: version(library, *distribution) for library, *distribution in _LIBRARIES},
    }
    return Inputs(settings, {spec.settings.dockerfile: digest_of(template.encode()), spec.binary_path: binary_digest})


def _pack(image: Image, other_files: Mapping[str, str]) -> bytes:
    """A cache entry: one line of JSON, then the bytes of manifest, config and layers, without those of the base."""
    blobs = (image.manifest, image.config, *image.own_layers)
    head = {"other files": other_files, "blobs": [[blob.media_type, blob.size] for blob in blobs]}
    return dump(head) + b"\n" + b"".join(blob.data for blob in blobs)


def _unpack(spec: Spec, entry: bytes, base: Base | None) -> Image:
    manifest, config, *layers = _blobs(entry)
    below = base.image.layers_as(spec.form) if base else ()
    platform = _platform(spec, base)
    return Image(platform, manifest, config, (*below, *layers), origin=base.image.origin if base else None)


def _blobs(entry: bytes) -> Iterator[Blob]:
    end = entry.index(b"\n") + 1
    for media_type, size in json.loads(entry[:end])["blobs"]:
        yield Blob.of(media_type, entry[end : end + size])
        end += size


def _other_files(entry: bytes) -> Mapping[str, str]:
    """The states of what COPY names in a cached image, except the binary."""
    files: Mapping[str, str] = json.loads(entry[: entry.index(b"\n")])["other files"]
    return files


def _is_current(spec: Spec, entry: bytes) -> bool:
    known = _other_files(entry)
    return _states(spec, known) == known


def _assemble(spec: Spec, binary: bytes, base: Base | None) -> tuple[Image, Mapping[str, bytes], Mapping[str, str]]:
    """The image, the content of its files by path, and the states of what COPY names, except the binary."""
    from build.image.dockerfile.context import Context
    from build.image.dockerfile.stage import carry_out

    context = Context(spec.root, spec.binary_path, binary)
    revision, dockerfile = spec.revision, _parsed(spec)
    if dockerfile.base != (base.reference if base else SCRATCH):
        raise ImageError(f"{dockerfile.location}: FROM {dockerfile.base}: expected FROM as plain text in the template")
    stage = carry_out(dockerfile, base, context, _platform(spec, base), revision.created, revision.time)
    below = base.image if base else None
    image = image_of(stage.config, stage.layers, spec.form, below, spec.settings.annotations or {})
    # With another .dockerignore, a source may have other files.
    used = (*stage.sources, IGNORE_FILE) if stage.sources else ()
    return image, stage.copied, _states(spec, used)


def _platform(spec: Spec, base: Base | None) -> Platform:
    """The platform of the image: that of its row and, of Windows, the version that the base is for."""
    platform = spec.arch.platform
    if not platform.is_windows:
        return platform
    if not (base and base.image.platform.os_version):
        found = f"FROM {base.reference} without os.version in its config" if base else "FROM scratch"
        raise ImageError(f"{spec.settings.dockerfile} ({spec.arch.name}): found {found}, expected a base for Windows")
    return replace(platform, os_version=base.image.platform.os_version)


def _parsed(spec: Spec) -> Dockerfile:
    from build.image.dockerfile.syntax import Location, parse

    location = Location(spec.settings.dockerfile, spec.arch.name, partial(_template_line, spec))
    platform = spec.arch.platform
    target = {"PLATFORM": str(platform), "OS": platform.os, "ARCH": platform.architecture, "VARIANT": platform.variant}
    return parse(rendered(spec), location, {f"TARGET{name}": value for name, value in target.items()})


def _template_line(spec: Spec, line: int) -> int:
    from build.image.template import template_line

    return template_line(_template(spec), variables(spec), line)


def _states(spec: Spec, sources: Iterable[str]) -> Mapping[str, str]:
    """What a layer depends on of each of these sources of COPY, except of those that are not there."""
    wanted = list(sources)
    if not wanted:  # as a rule: there is the binary, which is no source
        return {}
    from build.image.dockerfile.context import state

    states = {source: state(spec.root, source) for source in wanted}
    return {source: found for source, found in states.items() if found}


def _read(spec: Spec, path: str) -> bytes:
    try:
        return (spec.root / path).read_bytes()
    except OSError as error:
        raise ImageError(
            f"{path} ({spec.arch.name}): can't be read: {error.strerror}\n  it is named in arches.yaml"
        ) from None
