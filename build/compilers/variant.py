"""Proves that the code of a binary runs on every CPU that its platform promises, from what compilers record in ELF.

ARM: "Addenda to the Arm ABI", build attributes. MIPS: e_flags and .MIPS.abiflags, as binutils documents them. RISC-V:
psABI, attributes, and the profiles RVA20 to RVA23. x86: psABI, "Program Property".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from typing import Any

from build.errors import ElfError
from build.oci.platform import Platform

# The variants that are all that a platform without one promises; for arm, as in containerd's platforms.Normalize.
_LEAST = {"amd64": "v1", "arm": "v7", "arm64": "v8", "riscv64": "rva20u64"}
# Those that every CPU of the architecture has.
_EVERY = {"amd64": "v1", "arm64": "v8"}
# Tag_CPU_arch of a CPU for applications, by version of the architecture; all others are microcontrollers.
_ARM = {0: 3, 1: 4, 2: 4, **dict.fromkeys((3, 4, 5), 5), **dict.fromkeys((6, 7, 8, 9), 6), 10: 7}
_ARM |= {**dict.fromkeys((14, 18, 19, 20), 8), 22: 9}
_X86 = ("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4")
_X86_RECORDS = ("GNU_PROPERTY_X86_ISA_1_NEEDED", "GNU_PROPERTY_X86_ISA_1_USED")
# EF_MIPS_ARCH, the four highest bits of e_flags.
_MIPS = (
    "mips1",
    "mips2",
    "mips3",
    "mips4",
    "mips5",
    "mips32",
    "mips64",
    "mips32r2",
    "mips64r2",
    "mips32r6",
    "mips64r6",
)
_MIPS_RUNS: Mapping[str, tuple[str, ...]] = {
    "mips32": ("mips1", "mips2"),
    "mips32r2": ("mips1", "mips2", "mips32"),
    "mips64": ("mips1", "mips2", "mips3", "mips4", "mips5", "mips32"),
    "mips64r2": ("mips1", "mips2", "mips3", "mips4", "mips5", "mips32", "mips32r2", "mips64"),
    "mips64r6": ("mips32r6",),
}
# Val_GNU_MIPS_ABI_FP_ANY and …_SOFT, and where .MIPS.abiflags has the floating-point ABI.
_SOFT_FLOAT, _FP_ABI = (0, 3), 7
# Extensions that each profile adds, with those that are part of others.
_RVA20 = "i m a f d c zicsr zifencei zicntr ziccif ziccrse ziccamoa za128rs zicclsm zmmul zaamo zalrsc zca zcd"
_RVA22 = f"{_RVA20} b zba zbb zbs zic64b zicbom zicbop zicboz zihintpause zihpm zfhmin zkt za64rs"
_RVA23 = f"{_RVA22} v zvfhmin zvbb zvkb zvkt zihintntl zicond zimop zcmop zcb zfa zawrs supm"
_RVA23 += " zve32x zve32f zve64x zve64f zve64d zvl32b zvl64b zvl128b"
_RISCV = {"rva20u64": _RVA20, "rva22u64": _RVA22, "rva23u64": _RVA23}


def check(binary: bytes, platform: Platform, name: str) -> str:
    """Raise ElfError if the code of `binary`, an ELF file, needs a CPU that `platform` does not promise.

    Returns why that can't be proved, or an empty string: it is proved, or nothing is promised. `name` is what messages
    call the binary.
    """
    architecture = platform.architecture
    variant = platform.variant or (_LEAST["arm"] if architecture == "arm" else "")
    if not variant:
        return ""
    needs, promises = _NEEDS.get(architecture, (None, None))
    needed = _needed(binary, needs) if needs else frozenset()
    promised = promises(variant) if promises else frozenset()
    if promised is None:
        return f"no such variant of {architecture} is known here"
    if more := sorted(needed - promised):
        raise ElfError(f"{name}: compiled for {', '.join(more)}, expected code that every {platform} runs")
    return "" if needed else "no record of the CPU can be read in it"


def is_plain(platform: Platform) -> bool:
    """Whether a platform promises no more than its architecture does."""
    return platform.variant in ("", _EVERY.get(platform.architecture))


def with_variant(platform: Platform) -> Platform:
    """The platform with the variant that its architecture begins with, if it has none."""
    return replace(platform, variant=platform.variant or _LEAST.get(platform.architecture, ""))


def is_recorded(platform: Platform) -> bool:
    """Whether programs for `platform` may have a record of the CPU, so that `check` has to see all of their bytes."""
    return platform.architecture in _NEEDS and (bool(platform.variant) or platform.architecture == "arm")


def _needed(binary: bytes, needs: Callable[[Any], Iterator[str]]) -> frozenset[str]:
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        return frozenset(needs(ELFFile(BytesIO(binary))))
    except (ELFError, UnicodeDecodeError, LookupError, ValueError, TypeError, AttributeError, OverflowError):
        return frozenset()  # what is not a whole ELF file is told elsewhere


def _attributes(elf: Any, kind: str) -> Iterator[Any]:
    for section in elf.iter_sections():
        if section["sh_type"] == kind:
            for vendor in section.iter_subsections():
                for part in vendor.iter_subsubsections():
                    yield from part.iter_attributes()


def _arm(elf: Any) -> Iterator[str]:
    for each in _attributes(elf, "SHT_ARM_ATTRIBUTES"):
        if each.tag == "TAG_CPU_ARCH":
            yield f"ARMv{_ARM[each.value]}" if each.value in _ARM else f"an ARM microcontroller ({each.value})"


def _promised_arm(variant: str) -> frozenset[str] | None:
    version = re.fullmatch(r"v([5-9])", variant)
    return frozenset(f"ARMv{number}" for number in range(3, int(version[1]) + 1)) if version else None


def _riscv(elf: Any) -> Iterator[str]:
    for each in _attributes(elf, "SHT_RISCV_ATTRIBUTES"):
        if each.tag == "TAG_ARCH":
            for extension in re.sub(r"^rv(32|64)", "", each.value).split("_"):
                yield re.sub(r"\d+p\d+$", "", extension)


def _promised_riscv(variant: str) -> frozenset[str] | None:
    return frozenset(_RISCV[variant].split()) if variant in _RISCV else None


def _x86(elf: Any) -> Iterator[str]:
    for section in elf.iter_sections():
        for note in section.iter_notes() if section["sh_type"] == "SHT_NOTE" else ():
            for each in note["n_desc"] if note["n_type"] == "NT_GNU_PROPERTY_TYPE_0" else ():
                if each["pr_type"] in _X86_RECORDS:
                    yield from (name for bit, name in enumerate(_X86) if (each["pr_data"] | 1) >> bit & 1)


def _promised_x86(variant: str) -> frozenset[str] | None:
    level = re.fullmatch(r"v([1-4])", variant)
    return frozenset(_X86[: int(level[1])]) if level else None


def _mips(elf: Any) -> Iterator[str]:
    kind = elf["e_flags"] >> 28
    yield _MIPS[kind] if kind < len(_MIPS) else f"MIPS {kind}"
    section = elf.get_section_by_name(".MIPS.abiflags")
    if section and section.data()[_FP_ABI] not in _SOFT_FLOAT:
        yield "hard float"


def _promised_mips(variant: str) -> frozenset[str] | None:
    if variant == "softfloat":
        return frozenset(_MIPS)
    return frozenset((variant, *_MIPS_RUNS.get(variant, ()), "hard float")) if variant in _MIPS else None


_NEEDS: Mapping[str, tuple[Callable[[Any], Iterator[str]], Callable[[str], frozenset[str] | None]]] = {
    "amd64": (_x86, _promised_x86),
    "arm": (_arm, _promised_arm),
    "riscv64": (_riscv, _promised_riscv),
    **dict.fromkeys(("mips", "mipsle", "mips64", "mips64le"), (_mips, _promised_mips)),
}
