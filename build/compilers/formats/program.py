"""Checks that a program is what its row requires: an ELF file, or a PE file where the row is for Windows."""

from __future__ import annotations

from build.compilers import elf
from build.compilers.formats import pe
from build.config.arches import Header

# Bytes at the beginning of a program that `check_start` needs at most, but for a PE file with an uncommon stub.
START = 4096


def check(binary: bytes, expected: Header, name: str) -> None:
    """Raise ElfError unless `binary` was compiled as its row requires, and needs nothing at run time.

    `name` is what messages call the binary.
    """
    (pe.check if expected.is_pe else elf.check)(binary, expected, name)


def check_program(data: bytes, expected: Header, name: str) -> None:
    """Raise ElfError unless `data` is a whole program for the expected CPU, whoever built it."""
    (pe.check_program if expected.is_pe else elf.check_program)(data, expected, name)


def check_start(start: bytes, expected: Header, name: str) -> None:
    """Raise ElfError unless `start`, the first bytes of a file, begins a program for the expected CPU."""
    (pe.check_start if expected.is_pe else elf.check_start)(start, expected, name)


def is_program(data: bytes, expected: Header) -> bool:
    """Whether a file is a program or a library in the format of the row's programs, if possibly truncated."""
    return pe.is_program(data) if expected.is_pe else elf.is_program(data)
