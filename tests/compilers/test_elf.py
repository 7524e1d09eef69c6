"""Binaries that are what their row requires pass; any other, in whatever way it is wrong, is an ElfError."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from build.cache.cache import Cache
from build.compilers import elf
from build.compilers.compiler import Program
from build.compilers.zig import Zig
from build.config.arches import Header
from build.config.parse import read_settings
from build.errors import ElfError
from tests.support.compiling import compiled
from tests.support.components import need
from tests.support.properties import examples

ROOT = Path(__file__).parent.parent.parent
ROWS = read_settings(ROOT / "arches.yaml").arches
AMD64 = ROWS["amd64"].header

# System V gABI, chapters 4 and 5: offsets in the header of a 64-bit file, and in an entry of its program header table.
CLASS, ORDER, TYPE, MACHINE, PHOFF, PHENTSIZE, PHNUM = 4, 5, 16, 18, 32, 54, 56
P_TYPE, P_FLAGS, P_OFFSET, P_FILESZ = 0, 4, 8, 32
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_GNU_STACK = 1, 2, 3, 0x6474E551


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """pause for a little-endian, a big-endian and a 32-bit CPU."""
    zig = Zig(Cache(tmp_path_factory.mktemp("zig")))
    program = Program("pause", ("pause.c",), ("-Os", "-static"), "v3.1")
    return {name: compiled(zig, ROOT, program, ROWS[name]) for name in ("amd64", "s390x", "arm")}


@pytest.fixture(scope="module")
def pause(binaries: dict[str, bytes]) -> bytes:
    return binaries["amd64"]


def patched(binary: bytes, at: int, kind: str, value: int) -> bytes:
    return binary[:at] + struct.pack(kind, value) + binary[at + struct.calcsize(kind) :]


def program_headers(binary: bytes) -> list[int]:
    """Where in a little-endian 64-bit file each entry of the table stands."""
    (table,) = struct.unpack_from("<Q", binary, PHOFF)
    size, count = struct.unpack_from("<HH", binary, PHENTSIZE)
    return [table + at * size for at in range(count)]


def header_of(binary: bytes, kind: int) -> int:
    return next(at for at in program_headers(binary) if struct.unpack_from("<I", binary, at)[0] == kind)


def end_of_segments(binary: bytes) -> int:
    loaded = [at for at in program_headers(binary) if struct.unpack_from("<I", binary, at)[0] == PT_LOAD]
    return max(
        sum(int(struct.unpack_from("<Q", binary, at + field)[0]) for field in (P_OFFSET, P_FILESZ)) for at in loaded
    )


def refusal(binary: bytes, expected: Header = AMD64) -> str:
    with pytest.raises(ElfError, match=r"^bin/pause: ") as raised:
        elf.check(binary, expected, "bin/pause")
    return str(raised.value)


# --- headers ---


def test_a_binary_of_its_row_passes_and_of_another_does_not(binaries: dict[str, bytes]) -> None:
    for name, binary in binaries.items():
        elf.check(binary, ROWS[name].header, name)
        for other in ROWS:
            if other != name:
                assert "machine: found" in refusal(binary, ROWS[other].header)


@pytest.mark.parametrize(
    ("expected", "complaint"),
    [
        pytest.param(replace(AMD64, machine="EM_386"), "machine: found EM_X86_64, expected EM_386", id="machine"),
        pytest.param(replace(AMD64, bits=32), "class: found 64, expected 32", id="class"),
        pytest.param(replace(AMD64, order="big"), "byte order: found little, expected big", id="byte order"),
    ],
)
def test_another_header_is_named(pause: bytes, expected: Header, complaint: str) -> None:
    assert complaint in refusal(pause, expected)


@pytest.mark.parametrize(
    ("patch", "complaint"),
    [
        pytest.param(lambda b: patched(b, MACHINE, "<H", 40), "machine: found EM_ARM", id="machine"),
        pytest.param(lambda b: patched(b, MACHINE, "<H", 0xBEEF), "machine: found 48879", id="unknown machine"),
        pytest.param(
            lambda b: patched(b, TYPE, "<H", 3), "found a shared library (ET_DYN), expected an exec", id="ET_DYN"
        ),
        pytest.param(
            lambda b: patched(b, TYPE, "<H", 1), "found an object file (ET_REL), expected an executable", id="ET_REL"
        ),
        pytest.param(lambda b: patched(b, CLASS, "B", 1), "", id="class"),
        pytest.param(lambda b: patched(b, CLASS, "B", 9), "not a whole ELF file", id="unknown class"),
        pytest.param(lambda b: patched(b, ORDER, "B", 2), "", id="byte order"),
        pytest.param(lambda b: patched(b, PHNUM, "<H", 0), "found no PT_LOAD", id="no segments"),
        pytest.param(
            lambda b: patched(b, header_of(b, PT_GNU_STACK), "<I", PT_INTERP),
            "found PT_INTERP, expected a static executable",
            id="PT_INTERP",
        ),
        pytest.param(
            lambda b: patched(b, header_of(b, PT_GNU_STACK), "<I", PT_DYNAMIC),
            "found PT_DYNAMIC, expected a static executable",
            id="PT_DYNAMIC",
        ),
        pytest.param(
            lambda b: patched(b, header_of(b, PT_GNU_STACK), "<I", 0), "found no PT_GNU_STACK", id="no PT_GNU_STACK"
        ),
        pytest.param(
            lambda b: patched(b, header_of(b, PT_GNU_STACK) + P_FLAGS, "<I", 7),
            "PT_GNU_STACK: found writable and executable",
            id="executable stack",
        ),
        pytest.param(
            lambda b: patched(b, header_of(b, PT_LOAD) + P_FLAGS, "<I", 7),
            "PT_LOAD: found writable and executable",
            id="writable code",
        ),
        pytest.param(
            lambda b: patched(b, header_of(b, PT_LOAD) + P_FILESZ, "<Q", len(b) + 1),
            "PT_LOAD: it ends after the file does",
            id="segment beyond the end",
        ),
    ],
)
def test_a_patched_header_is_refused(pause: bytes, patch: Callable[[bytes], bytes], complaint: str) -> None:
    assert complaint in refusal(patch(pause))


# --- what other compilers make ---


def host_made(folder: Path, *flags: str) -> bytes:
    source = "int main(void) { return 0; }\n"
    command = [need("gcc", "gcc libc6-dev"), "-x", "c", *flags, "-", "-o", str(folder / "program")]
    subprocess.run(command, input=source, text=True, check=True, stderr=subprocess.DEVNULL)
    return (folder / "program").read_bytes()


def own_row(binary: bytes) -> Header:
    """The row of the machine that the tests run on."""
    machine = struct.unpack_from("<H" if binary[ORDER] == 1 else ">H", binary, MACHINE)[0]
    names = {62: "amd64", 183: "arm64", 22: "s390x", 40: "arm", 21: "ppc64le", 243: "riscv64", 3: "386", 258: "loong64"}
    return ROWS[names[machine]].header


def test_a_static_libc_program_passes(tmp_path: Path) -> None:
    for flags in (("-static", "-no-pie"), ("-static", "-no-pie", "-s")):
        binary = host_made(tmp_path, *flags)
        elf.check(binary, own_row(binary), "static")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        pytest.param(["-no-pie"], "found PT_INTERP, expected a static executable: compile with -static", id="dynamic"),
        pytest.param(["-pie", "-fPIE"], "found a position-independent executable (ET_DYN)", id="position-independent"),
        pytest.param(["-static-pie", "-fPIE"], "expected ET_EXEC: compile with -no-pie", id="static-pie"),
        pytest.param(["-shared", "-fPIC"], "found a shared library (ET_DYN), expected an exec", id="shared library"),
        pytest.param(["-S"], "not an ELF file: it begins with", id="assembly"),
        pytest.param(["-static", "-no-pie", "-z", "execstack"], "PT_GNU_STACK: found writable and", id="execstack"),
        pytest.param(["-c"], "found an object file (ET_REL), expected an executable", id="object file"),
    ],
)
def test_other_programs_of_the_host_do_not(tmp_path: Path, flags: list[str], complaint: str) -> None:
    binary = host_made(tmp_path, *flags)
    assert complaint in refusal(binary, own_row(binary) if binary.startswith(b"\x7fELF") else AMD64)


def test_an_archive_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.o").write_bytes(host_made(tmp_path, "-c"))
    subprocess.run([need("ar", "binutils"), "rc", tmp_path / "a.a", tmp_path / "a.o"], check=True)
    assert "found a static library, expected an executable" in refusal((tmp_path / "a.a").read_bytes())


@pytest.mark.parametrize("data", [b"", b"\x7f", b"\x7fELF", b"#!/bin/sh\n" * 50, bytes(4096)])
def test_what_is_no_elf_file_at_all(data: bytes) -> None:
    refused = refusal(data)
    assert "not a whole ELF file" in refused or f"not an ELF file: it begins with {data[:16]!r}" in refused


# --- files of others ---


def test_a_copied_program_is_for_its_row_or_no_program(binaries: dict[str, bytes]) -> None:
    for data in (*binaries.values(), binaries["amd64"][:19]):
        for name, row in ROWS.items():
            assert elf.is_program(data)
            if data == binaries.get(name):
                elf.check_start(data, row.header, "tool")
            else:
                with pytest.raises(ElfError, match=r"^tool: "):
                    elf.check_start(data, row.header, "tool")
    object_of_bpf = patched(patched(binaries["arm"], TYPE, "<H", 1), MACHINE, "<H", 247)
    for data in (b"", b"\x7fEL", b"#!/bin/sh\n", object_of_bpf):
        assert not elf.is_program(data)


# --- damage ---


def test_truncated_anywhere_is_an_error(binaries: dict[str, bytes]) -> None:
    for length in range(end_of_segments(binaries["amd64"])):
        refusal(binaries["amd64"][:length])
    for name in ("arm", "s390x"):
        for length in range(0, len(binaries[name]) // 2, 7):
            refusal(binaries[name][:length], ROWS[name].header)


places = st.integers(0, 400) | st.integers(-400, -1) | st.integers(0, 1200)


@examples(300)
@given(
    st.sampled_from(["amd64", "s390x", "arm"]),
    st.lists(
        st.tuples(places, st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)), min_size=1, max_size=6
    ),
)
@example("amd64", [(at, 0xFF) for at in range(PHOFF, PHOFF + 8)])
@example("amd64", [(at, 0xFF) for at in range(40, 48)])
@example("amd64", [(PHENTSIZE, 0), (PHNUM, 0xFF), (PHNUM + 1, 0xFF)])
@example("amd64", [(58, 0), (60, 0xFF), (61, 0xFF)])
def test_other_bytes_anywhere_raise_nothing_but_elf_errors(
    binaries: dict[str, bytes], name: str, flips: list[tuple[int, int]]
) -> None:
    damaged = bytearray(binaries[name])
    for at, value in flips:
        damaged[at % len(damaged)] = value
    for check in (elf.check, elf.check_program):
        with suppress(ElfError):
            check(bytes(damaged), ROWS[name].header, name)


@examples(100)
@given(st.binary(max_size=200))
def test_any_bytes_after_the_magic_are_an_error(data: bytes) -> None:
    refusal(b"\x7fELF" + data)


def test_what_was_built_elsewhere_may_be_dynamic_but_must_be_a_whole_program(
    binaries: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "app.c").write_text("int main(void) { return 0; }\n")
    made = {}
    for kind in ("-no-pie", "-pie", "-static-pie", "-shared", "-c"):
        command = [need("gcc", "gcc"), kind, "-fPIC", "-g", "-o", tmp_path / "app", tmp_path / "app.c"]
        subprocess.run(command, check=True)
        made[kind] = (tmp_path / "app").read_bytes()
    host = elf.interpreter(made["-pie"])
    assert Path(host).exists()
    expected = ROWS["amd64"].header if "x86-64" in host else ROWS["arm64"].header
    for kind, interpreter in (("-no-pie", host), ("-pie", host), ("-static-pie", "")):
        elf.check_program(made[kind], expected, "app")
        assert elf.interpreter(made[kind]) == interpreter
    for name, binary in binaries.items():
        elf.check_program(binary, ROWS[name].header, name)
    with pytest.raises(ElfError, match="found a shared library"):
        elf.check_program(made["-shared"], expected, "app")
    with pytest.raises(ElfError, match="ELF type: found 1, expected 2 or 3"):
        elf.check_program(made["-c"], expected, "app")
    with pytest.raises(ElfError, match="ELF machine: found"):
        elf.check_program(made["-pie"], ROWS["s390x"].header, "app")
    for end in (1, 100, len(made["-pie"]) // 2, len(made["-pie"]) - 64):
        with pytest.raises(ElfError, match="not a whole ELF file"):
            elf.check_program(made["-pie"][:-end], expected, "app")
