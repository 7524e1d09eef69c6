"""The image of a Spec: assembled from its Dockerfile and its binary, or taken from the cache."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from build.cache.cache import Cache
from build.cache.inputs import Inputs
from build.cache.installed import version
from build.errors import ImageError
from build.image.layer import layer
from build.image.spec import Spec
from build.oci.descriptor import Blob, digest_of
from build.oci.image import Image, dump, image_of
from build.oci.platform import Platform
from build.oci.tar import File

if TYPE_CHECKING:
    from build.image.dockerfile import Recipe

# They influence what is made, or whether it may be.
_LIBRARIES = (("jinja2",), ("dockerfile_parse",), ("elftools", "pyelftools"))


def variables(spec: Spec) -> Mapping[str, object]:
    """The names that Dockerfile.j2 may use."""
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
        "image": settings,
        "tag": spec.tag,
        "rev": revision.name,
        "created": revision.created,
        "labels": dict(sorted({**settings.labels, **computed}.items())),
    }


def assemble(spec: Spec, binary: bytes, digest: str, cache: Cache, prove: Callable[[], None]) -> Image:
    """The image of `spec` with `binary`; before it is assembled, `prove` checks that the binary is the row's.

    The key of a cached image contains the digest of its binary, the row, and the code that assembled it. Raises
    ImageError for a Dockerfile that can't be used.
    """
    key = _inputs(spec, _template(spec), digest).key
    packed = cache.get(key)
    if packed is None or not _is_valid(spec, packed):
        prove()
        packed = _packed(*_assembled(spec, binary))
        cache.put(key, packed)
    return _unpacked(spec.arch.platform, packed)


def image_inputs(spec: Spec, digest: str, cache: Cache, before: Iterable[str]) -> Inputs:
    """Everything the image of `spec` is made from.

    Of files that are neither its binary nor its Dockerfile: those that the cache knows of, else those that were used
    `before` and still exist.
    """
    found = _inputs(spec, _template(spec), digest)
    entry = cache.get(found.key)
    known = json.loads(entry.partition(b"\n")[0])["others"] if entry else before
    others = [path for path in known if path not in found.files and (spec.root / path).is_file()]
    return found.and_files({path: digest_of(_file(spec, path)) for path in others})


def rendered(spec: Spec) -> str:
    """The Dockerfile of `spec`; raise ImageError if its template can't be read or rendered."""
    from build.image import dockerfile

    return dockerfile.render(_template(spec), spec.settings.dockerfile, variables(spec))


def recipe_of(spec: Spec) -> Recipe:
    """What the Dockerfile of `spec` asks for; raise ImageError if it can't be used."""
    from build.image import dockerfile

    return dockerfile.read(rendered(spec), f"{spec.settings.dockerfile} for {spec.arch.name}")


def _template(spec: Spec) -> str:
    try:
        return _file(spec, spec.settings.dockerfile).decode()
    except UnicodeDecodeError as error:
        raise ImageError(f"{spec.settings.dockerfile}: byte {error.start} is not UTF-8") from None


def _inputs(spec: Spec, template: str, binary: str) -> Inputs:
    settings = {
        "TAG": spec.tag,
        "REV": spec.revision.name,
        "SOURCE_DATE_EPOCH": str(spec.revision.time),
        "FORMAT": spec.form.name,
        f"the row of {spec.arch.name}": repr(spec.arch),
        **{name.replace("_", "-"): str(value) for name, value in vars(spec.settings).items()},
        **{library: version(library, *distribution) for library, *distribution in _LIBRARIES},
    }
    return Inputs(settings, {spec.settings.dockerfile: digest_of(template.encode()), spec.binary_path: binary})


def _packed(image: Image, others: Mapping[str, str]) -> bytes:
    """A cache entry: a line that lists what follows it, then the bytes of manifest, config and layers."""
    blobs = (image.manifest, image.config, *image.layers)
    listed = {"others": others, "blobs": [[blob.media_type, blob.size] for blob in blobs]}
    return dump(listed) + b"\n" + b"".join(blob.data for blob in blobs)


def _is_valid(spec: Spec, packed: bytes) -> bool:
    """Whether none of the other files in a cached image has changed since."""
    others = json.loads(packed.partition(b"\n")[0])["others"]
    return all(digest_of(_file(spec, path)) == digest for path, digest in others.items())


def _unpacked(platform: Platform, packed: bytes) -> Image:
    manifest, config, *layers = _blobs(packed)
    return Image(platform, manifest, config, tuple(layers))


def _blobs(packed: bytes) -> Iterator[Blob]:
    line, _, data = packed.partition(b"\n")
    for media_type, size in json.loads(line)["blobs"]:
        yield Blob.of(media_type, data[:size])
        data = data[size:]


def _assembled(spec: Spec, binary: bytes) -> tuple[Image, Mapping[str, str]]:
    """The image, and path and digest of each file in it that is not the binary."""
    from build.image import dockerfile

    recipe = recipe_of(spec)
    files, others = [], {}
    for copy in recipe.copies:
        if copy.source == spec.binary_path:
            files.append(File(copy.target, 0o755, binary))
            continue
        data = _file(spec, copy.source)
        others[copy.source] = digest_of(data)
        runs = os.access(spec.root / copy.source, os.X_OK)
        files.append(File(copy.target, 0o755 if runs else 0o644, data))
    config = dockerfile.config(recipe, spec.arch.platform, spec.revision.created)
    return image_of(config, [layer(files, spec.revision.time)], spec.form), others


def _file(spec: Spec, path: str) -> bytes:
    try:
        return (spec.root / path).read_bytes()
    except OSError as error:
        raise ImageError(
            f"{path}: can't be read for the image of {spec.arch.name}: {error.strerror}"
            f"\n  it is named by {'arches.yaml' if path == spec.settings.dockerfile else spec.settings.dockerfile}"
        ) from None
