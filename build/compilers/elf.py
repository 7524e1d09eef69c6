"""Checks that a binary is what its row requires, with pyelftools, from the bytes themselves.

Follows the System V gABI, chapters 4 and 5, and its Linux additions (PT_GNU_STACK).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from struct import error as StructError  # noqa: N812
from struct import unpack_from
from typing import Any

from build.config.arches import Header
from build.errors import ElfError

# Bytes: e_ident, and the start of the header that is the same in both classes and ends with e_machine.
_IDENT, START = 16, 20
# ET_EXEC and ET_DYN
_EXECUTABLE = (2, 3)
_DF_1_PIE, _PT_INTERP = 0x08000000, 3
MAGIC = b"\x7fELF"
_ARCHIVE = b"!<arch>\n"


def check_start(start: bytes, expected: Header, name: str) -> None:
    """Raise ElfError unless `start`, the first bytes of a file (at least START), begins a program for the expected CPU.

    The program may be linked dynamically, and to any address: this is for programs of others.
    """
    from elftools.elf.enums import ENUM_E_MACHINE

    if len(start) < START or not start.startswith(MAGIC):
        raise ElfError(f"{name}: not an ELF file: it begins with {start[:8]!r}")
    order = {1: "little", 2: "big"}.get(start[5])
    code = int.from_bytes(start[18:START], "big" if order == "big" else "little")
    machine = next((each for each, value in ENUM_E_MACHINE.items() if value == code), f"machine {code}")
    _expect(name, "machine", machine, expected.machine)
    _expect(name, "class", {1: 32, 2: 64}.get(start[4]), expected.bits)
    _expect(name, "byte order", order, expected.order)
    if _kind(start) not in _EXECUTABLE:
        raise ElfError(f"{name}: ELF type: found {_kind(start)}, expected 2 or 3, an executable")


def is_program(data: bytes) -> bool:
    """Whether a file is an ELF executable or shared library, if possibly truncated.

    Object files are data: a program for BPF, for example, is one.
    """
    return data.startswith(MAGIC) and (len(data) < START or _kind(data) in _EXECUTABLE)


def interpreter(start: bytes) -> str:
    """The path of the interpreter that a program names, empty if it is static (gABI, chapter 5, "Program Interpreter").

    `start` is the first bytes of a program, at least its program headers.
    """
    if len(start) < START or not start.startswith(MAGIC):
        return ""
    order, wide = ">" if start[5] == 2 else "<", start[4] == 2
    address, at, sizes = ("Q", 32, 54) if wide else ("I", 28, 42)
    place, length = (8, 32) if wide else (4, 16)
    try:
        [first], [size, count] = unpack_from(order + address, start, at), unpack_from(f"{order}HH", start, sizes)
        for header in range(first, first + count * size, size or 1):
            if unpack_from(f"{order}I", start, header) == (_PT_INTERP,):
                [offset] = unpack_from(order + address, start, header + place)
                [bytes_] = unpack_from(order + address, start, header + length)
                return start[offset : offset + bytes_].rstrip(b"\0").decode("utf-8", "surrogateescape")
    except StructError:  # it ends before its headers do
        pass
    return ""


def _kind(start: bytes) -> int:
    """e_type"""
    return int.from_bytes(start[_IDENT : _IDENT + 2], "big" if start[5] == 2 else "little")


def check_program(data: bytes, expected: Header, name: str) -> None:
    """Raise ElfError unless `data` is a whole executable for the expected CPU, linked statically or dynamically."""
    from elftools.elf.elffile import ELFFile

    check_start(data, expected, name)
    with _malformed(name):
        elf = ELFFile(BytesIO(data))
        _check_end(elf, name)
        if elf["e_type"] == "ET_DYN" and not _is_program(elf):
            raise ElfError(f"{name}: found a shared library (ET_DYN), expected an executable")


@contextmanager
def _malformed(name: str) -> Iterator[None]:
    """Turn what pyelftools raises for a file that is damaged into ElfError."""
    from elftools.common.exceptions import ELFError

    try:
        yield
    except (ELFError, LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ElfError(f"{name}: not a whole ELF file: {error or type(error).__name__}") from None


def _check_end(elf: Any, name: str) -> None:
    """Raise ElfError for a file that ends before one of its segments or sections does, or before their tables do."""
    for first, count, size in (
        (elf["e_phoff"], elf.num_segments(), elf["e_phentsize"]),
        (elf["e_shoff"], elf.num_sections(), elf["e_shentsize"]),
    ):
        if count and (not size or first + count * size > elf.stream_len):
            raise ElfError(f"{name}: not a whole ELF file: it ends before its table of {count} headers does")
    parts = [(each["p_type"], each["p_offset"] + each["p_filesz"]) for each in elf.iter_segments("PT_LOAD")]
    parts += [
        (each.name, each["sh_offset"] + each["sh_size"])
        for each in elf.iter_sections()
        if each["sh_type"] not in ("SHT_NOBITS", "SHT_NULL")
    ]
    if not any(part == "PT_LOAD" for part, _ in parts):
        raise ElfError(f"{name}: found no PT_LOAD, expected one")
    for part, end in parts:
        if end > elf.stream_len:
            raise ElfError(f"{name}: not a whole ELF file: {elf.stream_len} bytes, and {part} ends at byte {end}")


def check(binary: bytes, expected: Header, name: str) -> None:
    """Raise ElfError unless `binary` is a static executable of the expected machine, class and byte order.

    It must need nothing at run time (interpreter, dynamic section, undefined symbol) and have no segment that is both
    writable and executable, the stack included. `name` is what messages call the binary.
    """
    from elftools.elf.elffile import ELFFile

    if binary.startswith(_ARCHIVE):
        raise ElfError(f"{name}: found a static library, expected an executable: compile without -shared")
    if binary and not binary.startswith(MAGIC):
        found = f"it begins with {binary[:16]!r}"
        raise ElfError(f"{name}: not an ELF file: {found}, expected an executable: compile without -S and -E")
    with _malformed(name):
        elf = ELFFile(BytesIO(binary))
        _check_header(elf, expected, name)
        _check_segments(elf, name)
        _check_symbols(elf, name)


def _expect(name: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ElfError(f"{name}: ELF {what}: found {found}, expected {expected}")


def _check_header(elf: Any, expected: Header, name: str) -> None:
    _expect(name, "machine", elf["e_machine"], expected.machine)
    _expect(name, "class", elf.elfclass, expected.bits)
    _expect(name, "byte order", "little" if elf.little_endian else "big", expected.order)
    kind = elf["e_type"]
    if kind == "ET_REL":
        raise ElfError(f"{name}: found an object file (ET_REL), expected an executable: compile without -c and -r")
    if kind == "ET_DYN" and _is_program(elf):
        raise ElfError(
            f"{name}: found a position-independent executable (ET_DYN), expected ET_EXEC: compile with -no-pie"
        )
    if kind == "ET_DYN":
        raise ElfError(f"{name}: found a shared library (ET_DYN), expected an executable: compile without -shared")
    _expect(name, "type", kind, "ET_EXEC")


def _is_program(elf: Any) -> bool:
    """Whether a file of type ET_DYN is a program: it names an interpreter, or has the flag DF_1_PIE."""
    tags = (tag for segment in elf.iter_segments("PT_DYNAMIC") for tag in segment.iter_tags("DT_FLAGS_1"))
    return any(elf.iter_segments("PT_INTERP")) or any(tag["d_val"] & _DF_1_PIE for tag in tags)


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
