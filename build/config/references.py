"""What a row of the image table says of references and annotations, and that no two images have the same reference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import chain

from build.config.arches import Arch, ImageSettings
from build.config.release import Release
from build.config.yaml import Node
from build.oci.reference import Repository, check_tag

_EXAMPLE = "registry.example"
_ANNOTATION = re.compile(r"[\w.-]+(/[\w.-]+)*")


def repository(node: Node) -> str:
    """The repository of the manifest list, a template with {registry}."""
    return _template(node, {"{registry}"}, '"{registry}/name"', Repository.parse)


def arch_reference(fields: Mapping[str, Node]) -> str:
    """The reference of an arch's image, a template with {registry}, {arch} and {tag}."""
    if "arch-repository" in fields:
        old = fields["arch-repository"]
        raise old.error("the key arch-repository", f'arch-reference: "{old.string()}:{{tag}}" instead')
    if "arch-reference" not in fields:
        return f"{fields['repository'].string()}-{{arch}}:{{tag}}"

    def check(text: str) -> None:
        name, _, tag = text.rpartition(":")
        Repository.parse(name)
        check_tag(tag)

    node = fields["arch-reference"]
    before, _, ending = node.string().rpartition(":")
    node.require(
        "{tag}" in ending and "{tag}" not in before,
        repr(node.string()),
        "a reference that ends in a tag with {tag}, and has it nowhere else, for example "
        '"{registry}/name:{tag}-linux-{arch}"',
    )
    return _template(node, {"{registry}", "{arch}", "{tag}"}, '"{registry}/name-{arch}:{tag}"', check)


def moving(fields: Mapping[str, Node]) -> tuple[str, ...]:
    """The tags that are meant to move from release to release."""
    if "moving" not in fields:
        return ()
    tags = fields["moving"].strings()
    with fields["moving"].located():
        for tag in tags:
            check_tag(tag)
    return tags


def own_annotations(fields: Mapping[str, Node]) -> Mapping[str, str] | None:
    """The annotations of a row (image-spec annotations.md, "Rules"); None without the key."""
    if "annotations" not in fields:
        return None
    found = {}
    for key, node in fields["annotations"].items():
        node.require(bool(_ANNOTATION.fullmatch(key)), f"annotation {key!r}", "letters, digits and . _ / -")
        found[key] = node.string()
    return found


def check_references(node: Node, images: Mapping[str, ImageSettings], arches: Mapping[str, Arch]) -> None:
    """Raise UsageError if two images, or a list and an image of an arch, have the same reference."""
    seen: dict[str, str] = {}
    for name, fields in node.items():
        by_key, release = dict(fields.items()), Release(images[name], (), _EXAMPLE, images[name].tag)
        key = by_key.get("arch-reference", fields)
        for where, tag in chain(
            [(by_key["repository"], release.list_tag())], ((key, release.arch_tag(each)) for each in arches.values())
        ):
            text = str(tag).replace(_EXAMPLE, "{registry}", 1)
            where.require(
                text not in seen,
                f"{text}, which image {seen.get(text)!r} has too",
                "another repository or another tag",
            )
            seen[text] = name


def _template(node: Node, wanted: set[str], example: str, check: Callable[[str], object]) -> str:
    template = node.string()
    with node.located():
        node.require(
            template.startswith("{registry}/") and set(re.findall(r"\{.*?\}", template)) == wanted,
            repr(template),
            f"a template with {' and '.join(sorted(wanted, reverse=True))}, for example {example}",
        )
        rendered = template.replace("{registry}", _EXAMPLE).replace("{arch}", "amd64").replace("{tag}", "1")
        check(rendered)
    return template
