"""Does a binary keep its row's promise? Read with pyelftools from the bytes themselves, never from their name.

Follows the System V gABI, chapters 4 and 5, and its Linux additions (PT_GNU_STACK).
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from build.arches import Promise
from build.errors import ElfError


def check(binary: bytes, promise: Promise, name: str) -> None:
    """Raise ElfError unless `binary` is a static executable of the promised machine, class and byte order.

    It must need nothing at run time (interpreter, dynamic section, undefined symbol) and have no segment that is both
    writable and executable, the stack included. `name` is what messages call the binary.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(BytesIO(binary))
        _check_header(elf, promise, name)
        _check_segments(elf, name)
        _check_symbols(elf, name)
    except (ELFError, UnicodeDecodeError, KeyError, ValueError, AttributeError, OverflowError) as error:
        raise ElfError(f"{name}: not a whole ELF file: {error or type(error).__name__}") from None


def _expect(name: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ElfError(f"{name}: ELF {what}: found {found}, expected {expected}")


def _check_header(elf: Any, promise: Promise, name: str) -> None:
    _expect(name, "machine", elf["e_machine"], promise.machine)
    _expect(name, "class", elf.elfclass, promise.bits)
    _expect(name, "byte order", "little" if elf.little_endian else "big", promise.order)
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
