"""The keys of an image's row that say what its program is, C sources or a prebuilt file, and for which arches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from posixpath import normpath

from build.config.arches import Arch, ImageSettings, Windows, nearest
from build.config.yaml import Node

# Keys that have no meaning for a program that is not compiled.
_OF_SOURCES = ("sources", "cflags", "libc", "companions")


def sources(node: Node, fields: Mapping[str, Node]) -> tuple[str, ...]:
    """The C sources; raise UsageError unless the row has these or `binary`, and only keys that go with it."""
    node.require(
        "sources" in fields or "binary" in fields,
        "no key 'sources'",
        "C sources, or binary: the path of a program that was built elsewhere",
    )
    if "binary" not in fields:
        if "elf" in fields:
            raise fields["elf"].error("'elf' without 'binary'", "no such key: what is compiled is an ELF file")
        return fields["sources"].strings(r".+\.c", "a C file, relative to arches.yaml")
    for key in _OF_SOURCES:
        if key in fields:
            raise fields[key].error(f"{key!r} beside 'binary'", "one of them, because what is prebuilt isn't compiled")
    return ()


def template(fields: Mapping[str, Node]) -> str:
    """The path of the prebuilt program, with placeholders, relative to arches.yaml; empty if it is compiled."""
    return fields["binary"].string() if "binary" in fields else ""


def elf(fields: Mapping[str, Node]) -> bool:
    """Whether the program is an ELF file, and not a script."""
    if "elf" in fields:
        fields["elf"].string("none", "none, for a script; the ELF header of a program is that of its arch")
    return "elf" not in fields


def windows(fields: Mapping[str, Node]) -> Windows | None:
    """What the image is made from for Windows; None without the key. Raises UsageError for sources beside `binary`."""
    if "windows" not in fields:
        return None
    optional = () if "binary" in fields else ("sources",)
    own = fields["windows"].fields("dockerfile", "entrypoint", *optional)
    return Windows(
        own["dockerfile"].string(),
        own["sources"].strings(r".+\.c", "a C file, relative to arches.yaml") if "sources" in own else (),
        own["entrypoint"].strings(),
    )


def check_images(node: Node, images: Mapping[str, ImageSettings], arches: Mapping[str, Arch]) -> None:
    """Raise UsageError for an unknown arch or placeholder, and for a prebuilt program where `build` writes one."""
    written = {
        f"bin/{program}-{arch}{end}"
        for image in images.values()
        for program in (image.name, *image.companions)
        for arch in arches
        for end in ("", ".tar")
    }
    for name, row in node.items():
        fields, image = dict(row.items()), images[name]
        for arch in image.arches:
            if arch not in arches:
                raise fields["arches"].error(repr(arch), f"the name of an arch{nearest(arch, arches)}")
        if image.binary:
            known = next(iter(arches.values())).spellings
            _check_template(fields["binary"], image.binary, known)
            paths = [normpath(image.binary.format_map(arch.spellings)) for arch in arches.values()]
            if taken := next((path for path in paths if path in written), None):
                raise fields["binary"].error(taken, "another path, because build writes that file and clean removes it")


def _check_template(node: Node, text: str, known: Mapping[str, str]) -> None:
    for name in re.findall(r"\{(.*?)\}", text):
        node.require(name in known, f"unknown placeholder {{{name}}}", f"a placeholder{nearest(name, known)}")
    if re.search(r"[{}]", re.sub(r"\{.*?\}", "", text)):
        raise node.error(repr(text), 'a path with placeholders in braces, for example "out/app-{arch}"')
