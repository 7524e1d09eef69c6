"""windows/pause.c as zig compiles it: small, the same in any folder, and proved; and PE files that are refused."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pefile
import pytest

from build.compilers.binary import check_prebuilt
from build.compilers.compiler import Program
from build.compilers.formats import pe, program
from build.compilers.zig import Zig
from build.config.arches import PE_HEADERS
from build.errors import CompileError, ElfError
from tests.support.checkout import SETTINGS, SOURCE
from tests.support.components import need

ROW = SETTINGS.arches["windows-ltsc2022"]
HEADER = ROW.header
Edit = Callable[[pefile.PE], object]


def compiled(root: Path, scratch: Path, *flags: str, row: str = "windows-ltsc2022") -> bytes:
    """The program of a checkout, as the task `build` has zig compile it."""
    pause = Program("pause", ("pause.c",), (*SETTINGS.defaults.cflags, *flags), "v1-test", windows=("windows/pause.c",))
    arch = SETTINGS.arches[row]

    async def compiling() -> bytes:
        async with Zig().session(root, [(pause, arch)], scratch) as compile_:
            return await compile_(pause, arch)

    scratch.mkdir(parents=True, exist_ok=True)
    return asyncio.run(compiling())


@pytest.fixture(scope="module")
def pause(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compiled(SOURCE, tmp_path_factory.mktemp("scratch"))


def edited(binary: bytes, edit: Edit) -> bytes:
    """The program with other headers."""
    parsed = pefile.PE(data=binary)
    edit(parsed)
    return bytes(parsed.write())


def test_it_is_small_and_needs_kernel32_alone(pause: bytes) -> None:
    program.check(pause, HEADER, "pause")
    parsed = pefile.PE(data=pause)
    assert [each.dll.lower() for each in parsed.DIRECTORY_ENTRY_IMPORT] == [b"kernel32.dll"]
    assert len(pause) <= 4096
    assert b"pause.c v1-test\n" in pause


def test_the_same_source_gives_the_same_bytes(pause: bytes, tmp_path: Path) -> None:
    copy = tmp_path / "a folder of another name"
    for name in ("windows/pause.c", "pause.c"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE / name, copy / name)
    assert compiled(copy, tmp_path / "elsewhere", row="windows-1809") == pause


def test_there_is_no_time_stamp(pause: bytes) -> None:
    parsed = pefile.PE(data=pause)
    kinds = [each.struct.Type for each in parsed.DIRECTORY_ENTRY_DEBUG]
    assert kinds == [pefile.DEBUG_TYPE["IMAGE_DEBUG_TYPE_REPRO"]]

    def stamped(parsed: pefile.PE) -> None:
        parsed.DIRECTORY_ENTRY_DEBUG[0].struct.Type = pefile.DEBUG_TYPE["IMAGE_DEBUG_TYPE_CODEVIEW"]

    with pytest.raises(ElfError, match=r"pause: PE time stamp: found [0-9]+, expected none"):
        program.check(edited(pause, stamped), HEADER, "pause")


def test_mingw_gcc_makes_such_a_program_too(tmp_path: Path) -> None:
    gcc = need("x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64-win32")
    from build.compilers.compiler import gcc_flags

    pause = Program("pause", (), SETTINGS.defaults.cflags, "v1-test", windows=("windows/pause.c",))
    made = []
    for name in ("one", "two"):
        output = tmp_path / name / "pause.exe"
        output.parent.mkdir()
        subprocess.run([gcc, *gcc_flags(pause, ROW), "-o", output], cwd=SOURCE, check=True)
        made.append(output.read_bytes())
    assert made[0] == made[1]
    program.check(made[0], HEADER, "pause")


def test_what_fails_to_compile_is_told(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"pause for windows-ltsc2022: zig .* failed"):
        compiled(SOURCE, tmp_path, "-DVERSION_=", "-Dmain=", "-DWINAPI=nonsense")


def test_another_header_is_named(pause: bytes) -> None:
    for architecture, header in PE_HEADERS.items():
        if architecture != "amd64":
            with pytest.raises(ElfError, match="pause: PE machine: found IMAGE_FILE_MACHINE_AMD64, expected"):
                program.check_start(pause[: program.START], header, "pause")
    with pytest.raises(ElfError, match="not a PE file"):
        program.check_start(b"\x7fELF" + bytes(100), HEADER, "pause")
    with pytest.raises(ElfError, match="not an ELF file"):
        program.check_start(pause, SETTINGS.arches["amd64"].header, "pause")


def library(parsed: pefile.PE) -> None:
    parsed.FILE_HEADER.Characteristics |= 0x2000


def no_executable(parsed: pefile.PE) -> None:
    parsed.FILE_HEADER.Characteristics &= ~2


def window(parsed: pefile.PE) -> None:
    parsed.OPTIONAL_HEADER.Subsystem = 2


def writable_code(parsed: pefile.PE) -> None:
    parsed.sections[0].Characteristics |= 0x80000000


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (library, r"found a library \(DLL\), expected an executable"),
        (no_executable, "found no executable"),
        (window, "PE subsystem: found 2, expected 3"),
        (writable_code, r"PE section \.text: found writable and executable"),
    ],
)
def test_other_kinds_of_programs(pause: bytes, edit: Edit, complaint: str) -> None:
    with pytest.raises(ElfError, match=complaint):
        program.check(edited(pause, edit), HEADER, "pause")


def test_another_library_is_named(pause: bytes) -> None:
    other = pause.replace(b"KERNEL32.dll", b"WININET7.dll")
    with pytest.raises(ElfError, match=r"found imports of WININET7\.dll, expected kernel32\.dll alone"):
        program.check(other, HEADER, "pause")
    program.check_program(other, HEADER, "pause")  # those of others may


def test_a_part_of_a_program_is_refused(pause: bytes) -> None:
    for length in (0, 1, 2, 63, 64, 100, 200, 300, 500, 1023, 1500, len(pause) - 1):
        with pytest.raises(ElfError, match=r"not a (whole )?PE file"):
            program.check_program(pause[:length], HEADER, "pause")


def test_damage_is_told(pause: bytes) -> None:
    """Each byte of the headers, changed: proved or refused, and never anything else."""
    for at in range(0, 0x200, 3):
        damaged = bytearray(pause)
        damaged[at] ^= 0xFF
        try:
            program.check(bytes(damaged), HEADER, "pause")
        except ElfError as error:
            assert str(error).startswith("pause: ")  # noqa: PT017


def test_what_is_a_program(pause: bytes) -> None:
    assert pe.is_program(pause)
    assert not pe.is_program(b"MZ")
    assert not pe.is_program(b"MZ" + bytes(100))
    assert program.is_program(pause, HEADER)
    assert not program.is_program(pause, SETTINGS.arches["amd64"].header)


def test_prebuilt_programs_and_scripts(pause: bytes) -> None:
    check_prebuilt(pause, ROW, "app.exe", is_elf=True)
    check_prebuilt(b"@echo off\r\n", ROW, "app.cmd", is_elf=False)
    with pytest.raises(ElfError, match="found a PE file, expected a script"):
        check_prebuilt(pause, ROW, "app.exe", is_elf=False)
    with pytest.raises(ElfError, match="not a PE file"):
        check_prebuilt(b"@echo off\r\n", ROW, "app.cmd", is_elf=True)


def test_the_windows_source_is_an_input_and_the_linux_one_is_not() -> None:
    from build.compilers.compiler import files
    from build.compilers.includes import reader

    pause = Program("pause", ("pause.c",), SETTINGS.defaults.cflags, "v1", windows=("windows/pause.c",))
    assert files(reader(SOURCE), pause, ROW).keys() == {"windows/pause.c"}
    assert "windows/pause.c" not in files(reader(SOURCE), pause, SETTINGS.arches["amd64"])
