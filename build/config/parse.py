"""Parses arches.yaml strictly, and checks that its rows don't collide."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from build.config.arches import (
    CHECKS,
    ENGINES,
    Arch,
    Defaults,
    Expected,
    ImageSettings,
    Settings,
)
from build.config.programs import check_images, elf, sources, template, windows
from build.config.references import arch_reference, check_references, moving, own_annotations, repository
from build.config.rows import arch, check_platforms, links_libc
from build.config.yaml import Node, load
from build.oci.media_types import FORMATS
from build.oci.reference import Repository, check_tag

# Names of images and companions: their programs are built as bin/NAME-ARCH.
_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
_NAME_EXPECTED = "lower-case letters and digits, joined by . _ or -, because it becomes part of a file's name"


def read_settings(path: Path) -> Settings:
    """Read arches.yaml; raise UsageError with file, line, key, what was found and what was expected."""
    top = load(path).fields("arches", "images", "defaults")
    arches = {name: arch(name, node) for name, node in top["arches"].items()}
    top["arches"].require(bool(arches), "no row", "at least one")
    check_platforms(top["arches"], arches)
    defaults = _defaults(top["defaults"], arches)
    images = {name: _image(name, node, defaults.cflags) for name, node in top["images"].items()}
    top["images"].require(bool(images), "no image", "at least one")
    _check_programs(top["images"])
    check_images(top["images"], images, arches)
    check_references(top["images"], images, arches)
    return Settings(arches, images, defaults)


def _check_programs(node: Node) -> None:
    seen: dict[str, str] = {}
    for image, fields in node.items():
        companions = dict(fields.items()).get("companions")
        for program, program_node in ((image, fields), *(companions.items() if companions else ())):
            program_node.require(
                program not in seen,
                f"program {program!r}, which image {seen.get(program)!r} has too",
                "distinct program names, because each is built as bin/NAME-ARCH",
            )
            seen[program] = image


def _image(name: str, node: Node, cflags: tuple[str, ...]) -> ImageSettings:
    fields = node.fields(
        *("tag", "repository", "dockerfile", "user", "entrypoint"),
        optional=(
            *("sources", "binary", "elf", "arches", "companions", "cflags", "libc", "labels", "verify"),
            *("arch-reference", "arch-repository", "moving", "annotations", "windows"),
        ),
    )
    node.require(bool(_NAME.fullmatch(name)), f"image name {name!r}", _NAME_EXPECTED)
    tag = fields["tag"]
    with tag.located():
        check_tag(tag.string())
    return ImageSettings(
        name=name,
        tag=tag.string(),
        repository=repository(fields["repository"]),
        arch_reference=arch_reference(fields),
        moving=moving(fields),
        annotations=own_annotations(fields),
        dockerfile=fields["dockerfile"].string(),
        sources=sources(node, fields),
        binary=template(fields),
        elf=elf(fields),
        windows=windows(fields),
        arches=fields["arches"].strings() if "arches" in fields else (),
        companions={
            each: _companion(name, each, sources)
            for each, sources in (fields["companions"].items() if "companions" in fields else ())
        },
        cflags=fields["cflags"].strings() if "cflags" in fields else cflags,
        user=fields["user"].string(
            r"[0-9]+(:[0-9]+)?", "a numeric UID or UID:GID, because the image has no /etc/passwd"
        ),
        entrypoint=fields["entrypoint"].strings(),
        labels=dict(_label(key, value) for key, value in fields["labels"].items()) if "labels" in fields else {},
        libc=links_libc(fields),
        verify=_expected(fields["verify"]) if "verify" in fields else None if "binary" in fields else Expected(),
    )


def _expected(node: Node) -> Expected | None:
    if node.kind == "str":
        node.string("none", "none, or a mapping with version and checks")
        return None
    fields, default = node.fields(optional=("version", "checks")), Expected()
    pattern, form = r"[^{}\n]*\{version\}[^{}\n]*|[^{}\n]+", 'one line, for example "sleep {version}"'
    names = f"a check: {', '.join(CHECKS)}"
    checks = fields["checks"].strings("|".join(CHECKS), names) if "checks" in fields else default.checks
    return Expected(
        version=fields["version"].string(pattern, form) if "version" in fields else default.version,
        checks=tuple(check for check in CHECKS if check in checks),
    )


def _label(key: str, node: Node) -> tuple[str, str]:
    # A key with = would change meaning in a LABEL instruction.
    node.require(bool(re.fullmatch(r"[\w./-]+", key)), f"label {key!r}", "letters, digits and . _ / -")
    return key, node.string()


def _companion(image: str, name: str, node: Node) -> tuple[str, ...]:
    node.require(bool(_NAME.fullmatch(name)), f"companion name {name!r}", _NAME_EXPECTED)
    node.require(
        name != image, f"the image's own name {name!r}", "another name, because each program is built as bin/NAME-ARCH"
    )
    return node.strings(r".+\.c", "a C file, relative to arches.yaml")


def _defaults(node: Node, arches: Mapping[str, Arch]) -> Defaults:
    fields = node.fields(
        *("release", "arch", "registry", "engine", "format", "cflags", "kube-cross-image", "kube-cross-version")
    )
    release = fields["release"].strings()
    for key, names in (("release", release), ("arch", (fields["arch"].string(),))):
        for name in names:
            fields[key].require(name in arches, repr(name), f"the name of an arch: {', '.join(arches)}")
    with fields["registry"].located():
        Repository.parse(fields["registry"].string() + "/name")
    return Defaults(
        release=release,
        arch=fields["arch"].string(),
        registry=fields["registry"].string(),
        engine=fields["engine"].one_of(*ENGINES),
        format=fields["format"].one_of(*FORMATS),
        cflags=fields["cflags"].strings(),
        kube_cross_image=fields["kube-cross-image"].string(),
        kube_cross_version=fields["kube-cross-version"].string(),
    )
