"""An arch's image on the embedded engine: Dockerfile.j2 and the binary in, the image out; or the one made before."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING

from build.cache.cache import Cache
from build.cache.inputs import Ingredients
from build.cache.installed import version
from build.compilers.binary import Binary
from build.config.arches import Arch, ImageSettings
from build.config.revision import Revision
from build.errors import ImageError
from build.image.layer import File, layer
from build.oci.oci import Blob, Content, Format, Image, Platform, digest_of, dump, image

if TYPE_CHECKING:
    from build.image.dockerfile import Recipe


# They have a say in what is made, or in whether it may be.
_LIBRARIES = (("jinja2",), ("dockerfile_parse",), ("elftools", "pyelftools"))


@dataclass(frozen=True)
class Plan:
    """What an image is made from, but for its binary. `binary_path` is where Dockerfile.j2 finds that."""

    root: Path
    settings: ImageSettings
    arch: Arch
    tag: str
    revision: Revision
    form: Format
    binary_path: str

    @property
    def variables(self) -> Mapping[str, object]:
        """What Dockerfile.j2 may name."""
        settings, revision = self.settings, self.revision
        computed = {
            "org.opencontainers.image.version": self.tag,
            "org.opencontainers.image.revision": revision.name,
            "org.opencontainers.image.created": revision.created,
        }
        return {
            "arch": self.arch.name,
            "platform": str(self.arch.platform),
            "binary": self.binary_path,
            "image": settings,
            "tag": self.tag,
            "rev": revision.name,
            "created": revision.created,
            "labels": dict(sorted({**settings.labels, **computed}.items())),
        }


def assembled(plan: Plan, binary: Binary, cache: Cache, recipe: Recipe | None = None) -> Image:
    """The image of `plan`; its Dockerfile may have been read already, as a `recipe`.

    The key of a cached image holds the digest of its binary, the row, and the code that checked and assembled it: what
    is found under it has passed the same check. Raises ImageError for a Dockerfile that can't be used, ElfError for a
    binary that is not its row's.
    """
    key = _ingredients(plan, _template(plan), binary.digest).key
    packed = cache.get(key)
    if packed is None or not _is_valid(plan, packed):
        packed = _packed(*_assemble(plan, recipe or recipe_of(plan), binary.read()))
        cache.put(key, packed)
    return _unpacked(plan.arch.platform, packed, cache.later(key, packed))


def ingredients(plan: Plan, binary: Binary, cache: Cache, before: Iterable[str]) -> Ingredients:
    """All that the image of `plan` is made from; of files that are neither its binary nor its Dockerfile, those that
    the cache knows of, else those that were used `before` and are there.
    """
    found = _ingredients(plan, _template(plan), binary.digest)
    entry = cache.get(found.key)
    known = json.loads(entry.partition(b"\n")[0])["others"] if entry else before
    others = [path for path in known if path not in found.files and (plan.root / path).is_file()]
    return found.and_files({path: digest_of(_file(plan, path)) for path in others})


def rendered(plan: Plan) -> str:
    """The Dockerfile of `plan`; raise ImageError if its template can't be read or rendered."""
    from build.image import dockerfile

    return dockerfile.render(_template(plan), plan.settings.dockerfile, plan.variables)


def recipe_of(plan: Plan) -> Recipe:
    """What the Dockerfile of `plan` asks for; raise ImageError if it can't be used."""
    from build.image import dockerfile

    return dockerfile.read(rendered(plan), f"{plan.settings.dockerfile} for {plan.arch.name}")


def _template(plan: Plan) -> str:
    try:
        return _file(plan, plan.settings.dockerfile).decode()
    except UnicodeDecodeError as error:
        raise ImageError(f"{plan.settings.dockerfile}: byte {error.start} is not UTF-8") from None


def _ingredients(plan: Plan, template: str, binary: str) -> Ingredients:
    settings = {
        "TAG": plan.tag,
        "REV": plan.revision.name,
        "SOURCE_DATE_EPOCH": str(plan.revision.time),
        "FORMAT": plan.form.name,
        f"the row of {plan.arch.name}": repr(plan.arch),
        **{name.replace("_", "-"): str(value) for name, value in vars(plan.settings).items()},
        **{library: version(library, *distribution) for library, *distribution in _LIBRARIES},
    }
    return Ingredients(settings, {plan.settings.dockerfile: digest_of(template.encode()), plan.binary_path: binary})


def _packed(image: Image, others: Mapping[str, str]) -> bytes:
    """A cache entry: a line that says what follows it, then the bytes of manifest, config and layers."""
    content = image.read()
    blobs = (image.manifest, content.config, *content.layers)
    listed = {"others": others, "blobs": [[blob.media_type, len(blob.data)] for blob in blobs]}
    return dump(listed) + b"\n" + b"".join(blob.data for blob in blobs)


def _is_valid(plan: Plan, packed: bytes) -> bool:
    """Whether none of the other files in a cached image has changed since."""
    others = json.loads(packed.partition(b"\n")[0])["others"]
    return all(digest_of(_file(plan, path)) == digest for path, digest in others.items())


def _unpacked(platform: Platform, packed: bytes, again: Callable[[], bytes]) -> Image:
    """The image in a cache entry, which will be read again for its content."""
    return Image(platform, next(_blobs(packed)), _Packed(again))


@dataclass(frozen=True, slots=True)
class _Packed:
    entry: Callable[[], bytes]

    def __call__(self) -> Content:
        _, config, *layers = _blobs(self.entry())
        return Content(config, tuple(layers))


def _blobs(packed: bytes) -> Iterator[Blob]:
    line, _, data = packed.partition(b"\n")
    for media_type, size in json.loads(line)["blobs"]:
        yield Blob(intern(media_type), data[:size])
        data = data[size:]


def _assemble(plan: Plan, recipe: Recipe, binary: bytes) -> tuple[Image, Mapping[str, str]]:
    """The image, and path and digest of each file in it that is not the binary."""
    from build.compilers import elf
    from build.image import dockerfile

    elf.check(binary, plan.arch.elf, plan.binary_path)
    files, others = [], {}
    for copy in recipe.copies:
        if copy.source == plan.binary_path:
            files.append(File(copy.target, 0o755, binary))
            continue
        data = _file(plan, copy.source)
        others[copy.source] = digest_of(data)
        runs = os.access(plan.root / copy.source, os.X_OK)
        files.append(File(copy.target, 0o755 if runs else 0o644, data))
    config = dockerfile.config(recipe, plan.arch.platform, plan.revision.created)
    return image(config, [layer(files, plan.revision.time)], plan.form), others


def _file(plan: Plan, path: str) -> bytes:
    try:
        return (plan.root / path).read_bytes()
    except OSError as error:
        raise ImageError(
            f"{path}: can't be read for the image of {plan.arch.name}: {error.strerror}"
            f"\n  it is named by {'arches.yaml' if path == plan.settings.dockerfile else plan.settings.dockerfile}"
        ) from None
