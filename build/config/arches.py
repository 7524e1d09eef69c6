"""The contents of arches.yaml: the arch table, the image table and the defaults."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from build.errors import UsageError
from build.oci.platform import Platform

# Each engine, with its default compiler.
ENGINES = {"embedded": "zig", "docker": "kube-cross"}


@dataclass(frozen=True, slots=True)
class ElfHeader:
    """The expected ELF header of an arch's binaries: machine (`EM_…`), class (32 or 64 bits), byte order."""

    machine: str
    bits: int
    order: str


# The ELF header of a program for each architecture that Go, and so OCI, has a name for (config.md, "architecture").
HEADERS = {
    "386": ElfHeader("EM_386", 32, "little"),
    "amd64": ElfHeader("EM_X86_64", 64, "little"),
    "arm": ElfHeader("EM_ARM", 32, "little"),
    "armbe": ElfHeader("EM_ARM", 32, "big"),
    "arm64": ElfHeader("EM_AARCH64", 64, "little"),
    "arm64be": ElfHeader("EM_AARCH64", 64, "big"),
    "loong64": ElfHeader("EM_LOONGARCH", 64, "little"),
    "mips": ElfHeader("EM_MIPS", 32, "big"),
    "mipsle": ElfHeader("EM_MIPS", 32, "little"),
    "mips64": ElfHeader("EM_MIPS", 64, "big"),
    "mips64le": ElfHeader("EM_MIPS", 64, "little"),
    "ppc": ElfHeader("EM_PPC", 32, "big"),
    "ppc64": ElfHeader("EM_PPC64", 64, "big"),
    "ppc64le": ElfHeader("EM_PPC64", 64, "little"),
    "riscv": ElfHeader("EM_RISCV", 32, "little"),
    "riscv64": ElfHeader("EM_RISCV", 64, "little"),
    "s390": ElfHeader("EM_S390", 32, "big"),
    "s390x": ElfHeader("EM_S390", 64, "big"),
}
# What `verify` can check, in the order of its table; build/verify/trials.py has the checks themselves.
CHECKS = (
    *("cpu", "version", "silent", "warns", "SIGINT", "SIGTERM"),
    *("other signals", "orphans", "rests", "memory"),
)


@dataclass(frozen=True, slots=True)
class Arch:
    """One row of the arch table, with every spelling of the CPU's name.

    `qemu` is NAME in qemu-NAME-static; `runtime` is NAME in build/runtime/NAME.c, or None to link a libc. `cpu` is the
    least CPU that programs run on, as gcc calls it; if it is empty, the compiler chooses.
    """

    name: str
    triple: str
    platform: Platform
    elf: ElfHeader
    qemu: str
    runtime: str | None
    cpu: str = ""

    @property
    def spellings(self) -> Mapping[str, str]:
        """How others spell the CPU, by the placeholders of `binary`; empty where they have no word for it.

        `gotarget` is the end of a folder of GoReleaser's, such as linux_amd64_v1.
        """
        go, parts = self.platform.go, self.platform
        return {
            "arch": self.name,
            "triple": self.triple,
            "platform": str(parts),
            "os": parts.os,
            "architecture": parts.architecture,
            "variant": parts.variant,
            "goos": go["GOOS"],
            "goarch": go["GOARCH"],
            "goarm": go.get("GOARM", ""),
            "gotarget": "_".join(go.values()),
        }


@dataclass(frozen=True)
class Expected:
    """What `verify` expects of an image: the line that `-v` prints, a template with {version}; names in CHECKS."""

    version: str = "pause.c {version}"
    checks: tuple[str, ...] = CHECKS


@dataclass(frozen=True)
class ImageSettings:
    """One row of the image table: sources and flags, where the image is published, and its config.

    `repository` is a template with {registry}, `arch_reference` one with {registry}, {arch} and {tag}. Tags in `moving`
    are meant to move from release to release. `annotations` is None if there are none, not even those that follow from
    labels. `companions` maps the names of helper programs, which are not in the image, to their sources. With `libc`,
    all of these link a libc on every arch. `verify` is None if the image is not to be run.

    An image with `binary`, a path with the placeholders of `Arch.spellings`, has a program that was built elsewhere,
    and no sources; it is a script if `elf` is false. `arches` are the names of the arches that the image is built for;
    if it is empty, none is excluded.
    """

    name: str
    tag: str
    repository: str
    arch_reference: str
    dockerfile: str
    sources: tuple[str, ...]
    companions: Mapping[str, tuple[str, ...]]
    cflags: tuple[str, ...]
    user: str
    entrypoint: tuple[str, ...]
    labels: Mapping[str, str]
    libc: bool
    verify: Expected | None
    moving: tuple[str, ...] = ()
    annotations: Mapping[str, str] | None = None
    binary: str = ""
    elf: bool = True
    arches: tuple[str, ...] = ()

    def is_built_for(self, arch: Arch) -> bool:
        """Whether the image may be built for `arch`."""
        return not self.arches or arch.name in self.arches


@dataclass(frozen=True)
class Defaults:
    """Values for settings that neither a flag nor an environment variable gives."""

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
    """The contents of arches.yaml."""

    arches: Mapping[str, Arch]
    images: Mapping[str, ImageSettings]
    defaults: Defaults

    def select(self, names: Iterable[str]) -> tuple[Arch, ...]:
        """The arches with these names, in the given order without repetition; raise UsageError for an unknown name."""
        return tuple(self.arch(name) for name in dict.fromkeys(names))

    def arch(self, name: str) -> Arch:
        """The arch with this name; raise UsageError with the nearest name if there is none."""
        if name not in self.arches:
            raise UsageError(f"unknown arch {name!r}{nearest(name, self.arches)}")
        return self.arches[name]

    def image(self, name: str) -> ImageSettings:
        """The image with this name; raise UsageError with the nearest name if there is none."""
        if name not in self.images:
            raise UsageError(f"unknown image {name!r}{nearest(name, self.images)}")
        return self.images[name]


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an "unknown …" message: the nearest known name, if one is similar, and all known names."""
    from difflib import get_close_matches

    names = list(known)
    parts = [part for part in re.split(r"[\s,;]+", name) if part in names]
    if len(parts) > 1:
        return f"\n  for several, repeat the flag; in a variable, separate them by blanks: {' '.join(parts)}"
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return (f": did you mean {close[0]!r}?" if close else "") + f"\n  known: {', '.join(names)}"
