"""The contents of arches.yaml: the arch table, the image table and the defaults."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from build.errors import UsageError
from build.oci.platform import Platform

# Each engine, with its default compiler.
ENGINES = {"embedded": "zig", "docker": "kube-cross"}


@dataclass(frozen=True, slots=True)
class Header:
    """The expected header of an arch's binaries: machine, class (32 or 64 bits), byte order.

    The machine is `EM_…` of an ELF file, and `IMAGE_FILE_MACHINE_…` of a PE file, which Windows runs.
    """

    machine: str
    bits: int
    order: str

    @property
    def is_pe(self) -> bool:
        """Whether it is that of a PE file."""
        return self.machine.startswith("IMAGE_FILE_MACHINE_")


# The ELF header of a program for each architecture that Go, and so OCI, has a name for (config.md, "architecture").
HEADERS = {
    "386": Header("EM_386", 32, "little"),
    "amd64": Header("EM_X86_64", 64, "little"),
    "arm": Header("EM_ARM", 32, "little"),
    "armbe": Header("EM_ARM", 32, "big"),
    "arm64": Header("EM_AARCH64", 64, "little"),
    "arm64be": Header("EM_AARCH64", 64, "big"),
    "loong64": Header("EM_LOONGARCH", 64, "little"),
    "mips": Header("EM_MIPS", 32, "big"),
    "mipsle": Header("EM_MIPS", 32, "little"),
    "mips64": Header("EM_MIPS", 64, "big"),
    "mips64le": Header("EM_MIPS", 64, "little"),
    "ppc": Header("EM_PPC", 32, "big"),
    "ppc64": Header("EM_PPC64", 64, "big"),
    "ppc64le": Header("EM_PPC64", 64, "little"),
    "riscv": Header("EM_RISCV", 32, "little"),
    "riscv64": Header("EM_RISCV", 64, "little"),
    "s390": Header("EM_S390", 32, "big"),
    "s390x": Header("EM_S390", 64, "big"),
}
# And the PE header ("PE Format", Machine Types).
PE_HEADERS = {
    "386": Header("IMAGE_FILE_MACHINE_I386", 32, "little"),
    "amd64": Header("IMAGE_FILE_MACHINE_AMD64", 64, "little"),
    "arm": Header("IMAGE_FILE_MACHINE_ARMNT", 32, "little"),
    "arm64": Header("IMAGE_FILE_MACHINE_ARM64", 64, "little"),
}


def header_of(platform: Platform) -> Header | None:
    """The header of a program for `platform`, if it is known here."""
    known = {"linux": HEADERS, "windows": PE_HEADERS}.get(platform.os, {})
    return known.get(platform.architecture)


# What `verify` can check, in the order of its table; build/verify/trials.py has the checks themselves.
CHECKS = (
    *("cpu", "version", "silent", "warns", "SIGINT", "SIGTERM"),
    *("other signals", "orphans", "rests", "memory"),
)


@dataclass(frozen=True, slots=True)
class Arch:
    """One row of the arch table, with every spelling of the CPU's name.

    `qemu` is NAME in qemu-NAME-static; `runtime` is NAME in build/runtime/NAME.c, or None to link a libc. `cpu` is the
    least CPU that programs run on, as gcc calls it; if it is empty, the compiler chooses. A row for Windows has neither
    of the first two, but `base`, the image that says which Windows it is.
    """

    name: str
    triple: str
    platform: Platform
    header: Header
    qemu: str
    runtime: str | None
    cpu: str = ""
    base: str = ""

    def is_for(self, platform: Platform) -> bool:
        """Whether an image for `platform` may be this arch's: the version of Windows is that of the base."""
        return platform.unversioned == self.platform and self.platform.is_windows == bool(platform.os_version)

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
class Windows:
    """What an image is made from for Windows; `sources` are empty if its program was built elsewhere."""

    dockerfile: str
    sources: tuple[str, ...]
    entrypoint: tuple[str, ...]


@dataclass(frozen=True)
class ImageSettings:
    """One row of the image table: sources and flags, where the image is published, and its config.

    `repository` is a template with {registry}, `arch_reference` one with {registry}, {arch} and {tag}. Tags in `moving`
    are meant to move from release to release. `annotations` is None if there are none, not even those that follow from
    labels. `companions` maps the names of helper programs, which are not in the image, to their sources. With `libc`,
    all of these link a libc on every arch. `verify` is None if the image is not to be run.

    An image with `binary`, a path with the placeholders of `Arch.spellings`, has a program that was built elsewhere,
    and no sources; it is a script if `elf` is false. `arches` are the names of the arches that the image is built for;
    if it is empty, none is excluded. `windows` is None if there is no image for Windows.
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
    windows: Windows | None = None

    def is_built_for(self, arch: Arch) -> bool:
        """Whether the image may be built for `arch`."""
        has_sources = not arch.platform.is_windows or self.windows is not None
        return has_sources and (not self.arches or arch.name in self.arches)

    def on(self, platform: Platform) -> ImageSettings:
        """The same row as it is for `platform`. Numeric users mean nothing to Windows."""
        if not (platform.is_windows and self.windows):
            return replace(self, windows=None)
        own = self.windows
        return replace(
            self, dockerfile=own.dockerfile, sources=own.sources, entrypoint=own.entrypoint, user="", windows=None
        )


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

    @property
    def systems(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the rows for each operating system."""
        names: dict[str, tuple[str, ...]] = {}
        for arch in self.arches.values():
            names[arch.platform.os] = (*names.get(arch.platform.os, ()), arch.name)
        return names

    def expand(self, names: Iterable[str], release: Iterable[str]) -> list[str]:
        """The names of arches that `names` stand for; unknown names stay as they are.

        `all` is `release`. An operating system is what `release` has for it or, if that is nothing, all its rows.
        """
        found: list[str] = []
        for name in names:
            rows = self.systems.get(name, ())
            found += release if name == "all" else [row for row in release if row in rows] or rows or [name]
        return found

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
