"""Checks that a binary is what its row requires, with pyelftools, from the bytes themselves.

Follows the System V gABI, chapters 4 and 5, and its Linux additions (PT_GNU_STACK).
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from build.config.arches import ElfHeader
from build.errors import ElfError

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
# Bytes: e_ident, and the start of the header that is the same in both classes and ends with e_machine.
_IDENT, START = 16, 20


def check_start(start: bytes, expected: ElfHeader, name: str) -> None:
    """Raise ElfError unless `start`, the first bytes of a file (at least START), begins a program for the expected CPU.

    The program may be linked dynamically, and to any address: this is for programs of others.
    """
    from elftools.elf.enums import ENUM_E_MACHINE

    if len(start) < START or not start.startswith(b"\x7fELF"):
        raise ElfError(f"{name}: not an ELF file: it begins with {start[:8]!r}")
    order = {1: "little", 2: "big"}.get(start[5])
    kind, code = (int.from_bytes(start[at : at + 2], "big" if order == "big" else "little") for at in (_IDENT, 18))
    machine = next((each for each, value in ENUM_E_MACHINE.items() if value == code), f"machine {code}")
    _expect(name, "machine", machine, expected.machine)
    _expect(name, "class", {1: 32, 2: 64}.get(start[4]), expected.bits)
    _expect(name, "byte order", order, expected.order)
    if kind not in (2, 3):
        raise ElfError(f"{name}: ELF type: found {kind}, expected 2 or 3, an executable")


def check(binary: bytes, expected: ElfHeader, name: str) -> None:
    """Raise ElfError unless `binary` is a static executable of the expected machine, class and byte order.

    It must need nothing at run time (interpreter, dynamic section, undefined symbol) and have no segment that is both
    writable and executable, the stack included. `name` is what messages call the binary.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(BytesIO(binary))
        _check_header(elf, expected, name)
        _check_segments(elf, name)
        _check_symbols(elf, name)
    except (ELFError, UnicodeDecodeError, KeyError, ValueError, AttributeError, OverflowError) as error:
        raise ElfError(f"{name}: not a whole ELF file: {error or type(error).__name__}") from None


def _expect(name: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ElfError(f"{name}: ELF {what}: found {found}, expected {expected}")


def _check_header(elf: Any, expected: ElfHeader, name: str) -> None:
    _expect(name, "machine", elf["e_machine"], expected.machine)
    _expect(name, "class", elf.elfclass, expected.bits)
    _expect(name, "byte order", "little" if elf.little_endian else "big", expected.order)
    _expect(name, "type", elf["e_type"], "ET_EXEC")


def _check_segments(elf: Any, name: str) -> None:
    writable, executable = 2, 1
    kinds = set()
    for segment in elf.iter_segments():
        kinds.add(segment["p_type"])
        both = segment["p_flags"] & writable and segment["p_flags"] & executable
        if segment["p_type"] in ("PT_LOAD", "PT_GNU_STACK") and both:
            raise ElfError(f"{name}: ELF segment {segment['p_type']}: found writable and executable, expected not both")
        if segment["p_type"] == "PT_LOAD" and segment["p_offset"] + segment["p_filesz"] > elf.stream_len:
            raise ElfError(f"{name}: ELF segment PT_LOAD: it ends after the file does")
    for kind in ("PT_INTERP", "PT_DYNAMIC"):
        if kind in kinds:
            raise ElfError(f"{name}: found {kind}, expected a static executable: compile with -static")
    for kind in ("PT_LOAD", "PT_GNU_STACK"):
        if kind not in kinds:
            raise ElfError(f"{name}: found no {kind}, expected one")


def _check_symbols(elf: Any, name: str) -> None:
    for section in elf.iter_sections():
        if section["sh_type"] == "SHT_DYNSYM":
            raise ElfError(f"{name}: found dynamic symbols, expected a static executable")
        if section["sh_type"] == "SHT_SYMTAB":
            for symbol in section.iter_symbols():
                undefined = symbol["st_shndx"] == "SHN_UNDEF" and symbol["st_info"]["bind"] == "STB_GLOBAL"
                if undefined and symbol.name:
                    raise ElfError(f"{name}: undefined symbol {symbol.name}")
