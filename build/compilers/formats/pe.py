"""Checks that a Windows program is what its row requires, with pefile, from the bytes themselves.

Follows Microsoft's "PE Format".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from struct import error as StructError  # noqa: N812
from typing import Any

from build.config.arches import Header
from build.errors import ElfError

MAGIC = b"MZ"
# Where the DOS header says where the PE header is, and what that begins with.
_AT, _SIGNATURE = slice(0x3C, 0x40), b"PE\0\0"
# Magic number of the optional header, by class.
_BITS = {0x10B: 32, 0x20B: 64}
_EXECUTABLE_IMAGE, _DLL = 0x0002, 0x2000  # Characteristics
_CONSOLE = 3  # IMAGE_SUBSYSTEM_WINDOWS_CUI
_EXECUTE, _WRITE = 0x20000000, 0x80000000  # IMAGE_SCN_MEM_…
# IMAGE_DEBUG_TYPE_REPRO: what is in the place of the time stamp is a hash of the content.
_REPRODUCIBLE = 16
_IMPORTS = ("IMAGE_DIRECTORY_ENTRY_IMPORT", "IMAGE_DIRECTORY_ENTRY_DELAY_IMPORT", "IMAGE_DIRECTORY_ENTRY_DEBUG")
# The only library that a compiled program may need; it is in every process.
_LIBRARY = "kernel32.dll"


def is_program(data: bytes) -> bool:
    """Whether a file is a PE executable or library, if possibly truncated."""
    if not data.startswith(MAGIC) or len(data) < _AT.stop:
        return False
    at = int.from_bytes(data[_AT], "little")
    return data[at : at + len(_SIGNATURE)] == _SIGNATURE


def check_start(start: bytes, expected: Header, name: str) -> None:
    """Raise ElfError unless `start`, the first bytes of a file, begins a Windows program for the expected CPU."""
    with _parsed(start, name) as pe:
        _check_header(pe, expected, name)


def check_program(data: bytes, expected: Header, name: str) -> None:
    """Raise ElfError unless `data` is a whole Windows program for the expected CPU."""
    with _parsed(data, name) as pe:
        _check_header(pe, expected, name)
        count = pe.FILE_HEADER.NumberOfSections
        if not count or len(pe.sections) != count:
            raise ElfError(f"{name}: not a whole PE file: found {len(pe.sections)} sections, expected {count or 1}")
        for section in pe.sections:
            end = section.PointerToRawData + section.SizeOfRawData
            if end > len(data):
                part = section.Name.rstrip(b"\0").decode(errors="replace")
                raise ElfError(f"{name}: not a whole PE file: {len(data)} bytes, and {part} ends at byte {end}")


def check(binary: bytes, expected: Header, name: str) -> None:
    """Raise ElfError unless `binary` is a console program for the expected CPU that needs kernel32 alone.

    It must have no section that is both writable and executable, and no time stamp.
    """
    check_program(binary, expected, name)
    with _parsed(binary, name) as pe:
        if pe.OPTIONAL_HEADER.Subsystem != _CONSOLE:
            raise ElfError(
                f"{name}: PE subsystem: found {pe.OPTIONAL_HEADER.Subsystem}, expected {_CONSOLE}, a console"
            )
        for section in pe.sections:
            if section.Characteristics & _EXECUTE and section.Characteristics & _WRITE:
                part = section.Name.rstrip(b"\0").decode(errors="replace")
                raise ElfError(f"{name}: PE section {part}: found writable and executable, expected not both")
        directory = _directories()
        pe.parse_data_directories(directories=[directory[each] for each in _IMPORTS])
        imports = [*getattr(pe, "DIRECTORY_ENTRY_IMPORT", ()), *getattr(pe, "DIRECTORY_ENTRY_DELAY_IMPORT", ())]
        others = sorted(
            {each.dll.decode(errors="replace") for each in imports if each.dll.lower() != _LIBRARY.encode()}
        )
        if others:
            raise ElfError(f"{name}: found imports of {', '.join(others)}, expected {_LIBRARY} alone")
        kinds = {each.struct.Type for each in getattr(pe, "DIRECTORY_ENTRY_DEBUG", ())}
        if (stamp := pe.FILE_HEADER.TimeDateStamp) and _REPRODUCIBLE not in kinds:
            raise ElfError(f"{name}: PE time stamp: found {stamp}, expected none, or a hash in its place")


def _directories() -> dict[str, int]:
    """The numbers of the data directories by name."""
    from pefile import DIRECTORY_ENTRY

    return {name: number for name, number in DIRECTORY_ENTRY.items() if isinstance(name, str)}


@contextmanager
def _parsed(data: bytes, name: str) -> Iterator[Any]:
    """The headers of a PE file; what pefile raises for one that is damaged becomes ElfError."""
    from pefile import PE, PEFormatError

    if not is_program(data):
        raise ElfError(f"{name}: not a PE file: it begins with {data[:8]!r}")
    try:
        yield PE(data=data, fast_load=True)
    except (PEFormatError, StructError, LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ElfError(f"{name}: not a whole PE file: {error or type(error).__name__}") from None


def _check_header(pe: Any, expected: Header, name: str) -> None:
    from pefile import MACHINE_TYPE

    code, kind = pe.FILE_HEADER.Machine, pe.FILE_HEADER.Characteristics
    _expect(name, "machine", MACHINE_TYPE.get(code, f"machine {code:#x}"), expected.machine)
    _expect(name, "class", _BITS.get(pe.OPTIONAL_HEADER.Magic), expected.bits)
    if kind & _DLL or not kind & _EXECUTABLE_IMAGE:
        raise ElfError(f"{name}: found {'a library (DLL)' if kind & _DLL else 'no executable'}, expected an executable")


def _expect(name: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ElfError(f"{name}: PE {what}: found {found}, expected {expected}")
