"""arches.yaml as values: the arch rows, the images and the defaults."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from build.config.yaml import Node, load
from build.errors import UsageError
from build.oci.media_types import FORMATS
from build.oci.platform import PLATFORM, Platform
from build.oci.reference import Repository, check_tag

# Each with the compiler that it takes unless told otherwise.
ENGINES = {"embedded": "zig", "docker": "kube-cross"}
# An image's and a companion's name is the beginning of a file's name in bin.
_FILE = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
_FILE_MEANING = "lower-case letters and digits, joined by . _ or -: it becomes part of a file's name"


@dataclass(frozen=True, slots=True)
class Promise:
    """What the ELF header of a row's binaries must say: machine (`EM_…`), class (32 or 64), byte order."""

    machine: str
    bits: int
    order: str


@dataclass(frozen=True, slots=True)
class Arch:
    """One row of the arch table, and so the one owner of every spelling of a CPU's name."""

    name: str
    triple: str
    platform: Platform
    elf: Promise
    qemu: str
    runtime: str | None


@dataclass(frozen=True)
class ImageSettings:
    """One image: the programs it is made of and how, where it is published, and what its config says."""

    name: str
    tag: str
    repository: str
    arch_repository: str
    dockerfile: str
    sources: tuple[str, ...]
    companions: Mapping[str, tuple[str, ...]]
    cflags: tuple[str, ...]
    user: str
    entrypoint: tuple[str, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Defaults:
    """What holds when neither a flag nor the environment says otherwise."""

    release: tuple[str, ...]
    arch: str
    registry: str
    engine: str
    format: str
    cflags: tuple[str, ...]
    kube_cross_image: str
    kube_cross_version: str


@dataclass(frozen=True)
class Settings:
    """The whole of arches.yaml."""

    arches: Mapping[str, Arch]
    images: Mapping[str, ImageSettings]
    defaults: Defaults

    def select(self, names: Iterable[str]) -> tuple[Arch, ...]:
        """The rows of these names, in the order given and each once; raise UsageError for a name that has no row."""
        return tuple(self.row(name) for name in dict.fromkeys(names))

    def row(self, name: str) -> Arch:
        """The row of this name; raise UsageError with the nearest name if there is none."""
        if name not in self.arches:
            raise UsageError(f"unknown arch {name!r}{nearest(name, self.arches)}")
        return self.arches[name]

    def image(self, name: str) -> ImageSettings:
        """The image of this name; raise UsageError with the nearest name if there is none."""
        if name not in self.images:
            raise UsageError(f"unknown image {name!r}{nearest(name, self.images)}")
        return self.images[name]


def nearest(name: str, known: Iterable[str]) -> str:
    """The tail of an "unknown …" message: the nearest known name, and all of them."""
    from difflib import get_close_matches

    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return (f": did you mean {close[0]!r}?" if close else "") + f"\n  known: {', '.join(names)}"


def read_settings(path: Path) -> Settings:
    """Read arches.yaml; raise UsageError with file, line, key, what was found and what is expected."""
    top = load(path, {"arches": _row}).record("arches", "images", "defaults")
    rows = top["arches"].made(_row)
    top["arches"].check(bool(rows), "no row", "at least one")
    _no_two_rows_alike(rows)
    arches = {name: arch for name, (arch, _) in rows.items()}
    defaults = _defaults(top["defaults"], arches)
    images = {name: _image(name, node, defaults.cflags) for name, node in top["images"].entries()}
    top["images"].check(bool(images), "no image", "at least one")
    _no_two_programs_alike(top["images"])
    _no_two_repositories_alike(top["images"], images, arches)
    return Settings(arches, images, defaults)


def _row(name: str, node: Node) -> tuple[Arch, Node]:
    """A row, and where its platform stands."""
    row = node.record("triple", "platform", "elf", "qemu", optional=("runtime",))
    elf = row["elf"].record("machine", "class", "order")
    node.check(
        name.isascii() and name.isalnum() and name == name.lower(),
        f"arch name {name!r}",
        "lower-case letters and digits, as they become part of a repository's name",
    )
    platform = row["platform"].text(PLATFORM, "os/architecture[/variant], as linux/arm/v7")
    arch = Arch(
        name=name,
        triple=row["triple"].text(r"[a-z0-9_]+(-[a-z0-9_]+)+", "a GNU triple, as aarch64-linux-gnu"),
        platform=Platform.parse(platform),
        elf=Promise(
            machine=elf["machine"].text(r"EM_[A-Z0-9_]+", "a machine's ELF name, as EM_AARCH64"),
            bits=elf["class"].choice(32, 64),
            order=elf["order"].choice("little", "big"),
        ),
        qemu=row["qemu"].text(r"[a-z0-9_]+", "the NAME of qemu-NAME-static"),
        runtime=row["runtime"].text(r"[a-z0-9_]+", "the NAME of build/runtime/NAME.c") if "runtime" in row else None,
    )
    return arch, row["platform"]


def _no_two_rows_alike(rows: Mapping[str, tuple[Arch, Node]]) -> None:
    seen: dict[Platform, str] = {}
    for name, (arch, place) in rows.items():
        place.check(
            arch.platform not in seen,
            f"platform {arch.platform}, which row {seen.get(arch.platform)!r} has too",
            "one row a platform: a manifest list could not tell them apart",
        )
        seen[arch.platform] = name


def _no_two_programs_alike(node: Node) -> None:
    seen: dict[str, str] = {}
    for image, fields in node.entries():
        companions = dict(fields.entries()).get("companions")
        for program, place in ((image, fields), *(companions.entries() if companions else ())):
            place.check(
                program not in seen,
                f"program {program!r}, which image {seen.get(program)!r} has too",
                "one program of a name: both would be bin/NAME-ARCH",
            )
            seen[program] = image


def _no_two_repositories_alike(node: Node, images: Mapping[str, ImageSettings], arches: Iterable[str]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for name, fields in node.entries():
        image, places = images[name], dict(fields.entries())
        of_arches = [image.arch_repository.replace("{arch}", arch) for arch in arches]
        for key, repositories in (("repository", [image.repository]), ("arch-repository", of_arches)):
            taken = next((each for each in repositories if (each, image.tag) in seen), None)
            places[key].check(
                taken is None,
                f"{taken}, where image {seen.get((taken or '', image.tag))!r} publishes tag {image.tag} too",
                "a repository of its own, or another tag",
            )
            seen |= dict.fromkeys(((each, image.tag) for each in repositories), name)


def _image(name: str, node: Node, cflags: tuple[str, ...]) -> ImageSettings:
    fields = node.record(
        *("tag", "repository", "arch-repository", "dockerfile", "sources", "user", "entrypoint"),
        optional=("companions", "cflags", "labels"),
    )
    node.check(bool(_FILE.fullmatch(name)), f"image name {name!r}", _FILE_MEANING)
    tag = fields["tag"]
    with tag.explained():
        check_tag(tag.text())
    return ImageSettings(
        name=name,
        tag=tag.text(),
        repository=_repository(fields["repository"], "registry"),
        arch_repository=_repository(fields["arch-repository"], "registry", "arch"),
        dockerfile=fields["dockerfile"].text(),
        sources=fields["sources"].texts(r".+\.c", "a C file, relative to arches.yaml"),
        companions={
            each: _companion(name, each, sources)
            for each, sources in (fields["companions"].entries() if "companions" in fields else ())
        },
        cflags=fields["cflags"].texts() if "cflags" in fields else cflags,
        user=fields["user"].text(r"[0-9]+(:[0-9]+)?", "UID or UID:GID in numbers: the image has no /etc/passwd"),
        entrypoint=fields["entrypoint"].texts(),
        labels=dict(_label(key, value) for key, value in fields["labels"].entries()) if "labels" in fields else {},
    )


def _label(key: str, node: Node) -> tuple[str, str]:
    # To a Dockerfile `a=b` would be the label a.
    node.check(bool(re.fullmatch(r"[\w./-]+", key)), f"label {key!r}", "letters, digits and . _ / -")
    return key, node.text()


def _companion(image: str, name: str, node: Node) -> tuple[str, ...]:
    node.check(bool(_FILE.fullmatch(name)), f"companion name {name!r}", _FILE_MEANING)
    node.check(name != image, f"the image's own name {name!r}", "another: both would be bin/NAME-ARCH")
    return node.texts(r".+\.c", "a C file, relative to arches.yaml")


def _repository(node: Node, *variables: str) -> str:
    template = node.text()
    named = {"{" + each + "}" for each in variables}
    names = " and ".join(sorted(named, reverse=True))
    with node.explained():
        rendered = template.replace("{registry}", "registry.example").replace("{arch}", "amd64")
        node.check(
            template.startswith("{registry}/") and set(re.findall(r"\{.*?\}", template)) == named,
            repr(template),
            f'a template with {names}, as "{{registry}}/name"',
        )
        Repository.parse(rendered)
    return template


def _defaults(node: Node, arches: Mapping[str, Arch]) -> Defaults:
    fields = node.record(
        *("release", "arch", "registry", "engine", "format", "cflags", "kube-cross-image", "kube-cross-version")
    )
    release = fields["release"].texts()
    for key, names in (("release", release), ("arch", (fields["arch"].text(),))):
        for name in names:
            fields[key].check(name in arches, repr(name), f"the name of a row: {', '.join(arches)}")
    with fields["registry"].explained():
        Repository.parse(fields["registry"].text() + "/name")
    return Defaults(
        release=release,
        arch=fields["arch"].text(),
        registry=fields["registry"].text(),
        engine=fields["engine"].choice(*ENGINES),
        format=fields["format"].choice(*FORMATS),
        cflags=fields["cflags"].texts(),
        kube_cross_image=fields["kube-cross-image"].text(),
        kube_cross_version=fields["kube-cross-version"].text(),
    )
