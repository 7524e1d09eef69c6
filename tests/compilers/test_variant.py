"""The code of a binary runs on every CPU that its platform promises, as the compiler's own record of it says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from build.cache.installed import folder
from build.compilers import variant
from build.errors import ElfError, ImageError
from build.oci.platform import Platform
from tests.support.checkout import Checkout
from tests.support.components import need
from tests.support.reading import says
from tests.support.strangers import Shelf, elf, proved, tape

ARM6 = """
  arm6:
    triple: arm-linux-gnueabihf
    platform: linux/arm/v6
    elf: {machine: EM_ARM, class: 32, order: little}
    qemu: arm
    runtime: arm
"""
CPU = "    cpu: arm1176jzf-s\n"
BUILD = ("build", "--arch", "arm6")


@pytest.fixture
def arm6(checkout: Checkout) -> Checkout:
    """A checkout with a row for ARMv6, which names no CPU."""
    checkout.edit("arches.yaml", "\nimages:\n", f"{ARM6}\nimages:\n")
    return checkout


def test_code_for_a_newer_cpu_is_refused_before_anything_is_published(arm6: Checkout) -> None:
    arm6("build", "--arch", "arm")  # the same code is right for linux/arm/v7, and in the cache from now on
    for task in ("build", "all-push"):
        message = arm6.refuses(1, task, "--arch", "arm6")
        assert "bin/pause-arm6: compiled for ARMv7, expected code that every linux/arm/v6 runs\n" in message
        assert "name the least of these CPUs in arches.yaml: arches.arm6.cpu" in message
    assert not (arm6.root / "dist").exists()
    assert not (arm6.root / "bin/pause-arm6").exists()


def test_a_row_with_a_cpu_gets_code_for_it(arm6: Checkout, tmp_path: Path) -> None:
    need("qemu-arm-static", "qemu-user-static")
    arm6.edit("arches.yaml", ARM6, ARM6 + CPU)
    run = arm6("all-push", "--arch", "arm6")
    assert "not proved" not in run.stderr
    binary = (arm6.root / "bin/pause-arm6").read_bytes()
    assert says(binary, "arm", tmp_path).startswith("pause.c v3.1-")
    # The program is linked without the record, and `check` says so.
    checked = arm6("check", "--arch", "arm6")
    assert "program '/pause': variant of linux/arm/v6 not proved: no record of the CPU" in checked.stderr
    before = binary
    arm6.edit("arches.yaml", CPU, "    cpu: cortex-a7\n")
    assert "compiled for ARMv7, expected" in arm6.refuses(1, *BUILD)
    assert (arm6.root / "bin/pause-arm6").read_bytes() == before


def test_an_unknown_cpu_is_the_compilers_error(arm6: Checkout) -> None:
    arm6.edit("arches.yaml", ARM6, f"{ARM6}    cpu: arm1177\n")
    assert "unknown CPU: 'arm1177'" in arm6.refuses(1, *BUILD)


def test_a_cpu_without_a_variant_promises_the_least(checkout: Checkout) -> None:
    checkout.edit("arches.yaml", "    qemu: riscv64\n", "    qemu: riscv64\n    cpu: sifive-x280\n")
    message = checkout.refuses(1, "build", "--arch", "riscv64")
    assert "bin/pause-riscv64: compiled for " in message
    assert "expected code that every linux/riscv64/rva20u64 runs" in message
    checkout.edit("arches.yaml", "    cpu: sifive-x280\n", "    cpu: sifive-u74\n")
    assert "not proved" not in checkout("build", "--arch", "riscv64").stderr


def test_gcc_gets_the_cpu_and_records_what_it_used(checkout: Checkout) -> None:
    need("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu")
    checkout.edit("arches.yaml", "platform: linux/amd64\n", "platform: linux/amd64/v2\n    cpu: x86-64-v3\n")
    # What only CPUs of level 3 have.
    checkout.edit("pause.c", "int main(", "double a, b, c;\n\nint main(")
    checkout.edit("pause.c", "    return wait_for_", "    c = __builtin_fma(a, b, c);\n    return wait_for_")
    host = ("build", "--compiler", "host", "--arch", "amd64")
    message = checkout.refuses(1, *host)
    assert "bin/pause-amd64: compiled for x86-64-v3, expected code that every linux/amd64/v2 runs" in message
    checkout.edit("arches.yaml", "cpu: x86-64-v3", "cpu: x86-64-v2")
    checkout.edit("pause.c", "__builtin_fma(a, b, c)", "a * b")
    assert "not proved" not in checkout(*host).stderr
    # zig leaves no record for x86.
    told = checkout("build", "--arch", "amd64").stderr
    assert "amd64: pause: variant of linux/amd64/v2 not proved: no record of the CPU" in told


# --- the records ---


def compiled(tmp_path: Path, target: str, cpu: str) -> bytes:
    source = tmp_path / "source.c"
    source.write_text("int main(void) { return 0; }\n")
    command: list[str | Path] = [
        folder("ziglang") / "zig",
        "cc",
        "-target",
        target,
        f"-mcpu={cpu}",
        "-c",
        source,
        "-o",
        tmp_path / "x.o",
    ]
    environment = {f"ZIG_{each}_CACHE_DIR": str(tmp_path) for each in ("GLOBAL", "LOCAL")}
    subprocess.run(command, check=True, env=environment)
    return (tmp_path / "x.o").read_bytes()


CASES = [
    ("arm-linux-gnueabi", "arm926ej_s", "arm", "v5", "v4"),
    ("arm-linux-gnueabihf", "arm1176jzf_s", "arm", "v6", "v5"),
    ("arm-linux-gnueabihf", "cortex_a7", "arm", "v7", "v6"),
    ("arm-linux-gnueabihf", "cortex_a53", "arm", "v8", ""),
    ("riscv64-linux-gnu", "baseline_rv64", "riscv64", "rva20u64", None),
    ("riscv64-linux-gnu", "baseline_rv64+zba+zbb", "riscv64", "rva22u64", "rva20u64"),
    ("riscv64-linux-gnu", "baseline_rv64+v", "riscv64", "rva23u64", "rva22u64"),
    ("mips-linux-gnueabi", "mips32", "mips", "mips32r2", None),
    ("mips-linux-gnueabi", "mips32r2", "mips", "mips32r2", "mips32"),
    ("mips-linux-gnueabi", "mips32r2", "mips", "softfloat", None),
    ("mips-linux-gnueabihf", "mips32r2", "mips", "mips32r2", "softfloat"),
    ("mips-linux-gnueabi", "mips32r6", "mips", "mips32r6", "mips32r2"),
    ("mips64el-linux-gnuabi64", "mips64r2", "mips64le", "mips64r2", "mips64"),
]


@pytest.mark.parametrize(("target", "cpu", "architecture", "runs", "lacks"), CASES)
def test_a_record_is_compared_with_the_variant(
    tmp_path: Path, target: str, cpu: str, architecture: str, runs: str, lacks: str | None
) -> None:
    binary = compiled(tmp_path, target, cpu)
    assert variant.check(binary, Platform("linux", architecture, runs), "it") == ""
    if lacks == "v4":
        assert "no such variant" in variant.check(binary, Platform("linux", architecture, lacks), "it")
    elif lacks is not None:
        with pytest.raises(ElfError, match=r"^it: compiled for .*, expected code that every linux/"):
            variant.check(binary, Platform("linux", architecture, lacks), "it")


def test_what_has_no_record_is_not_proved(tmp_path: Path) -> None:
    arm64 = compiled(tmp_path, "aarch64-linux-gnu", "baseline")
    for architecture, name, binary in (
        ("arm64", "v8", arm64),
        ("arm64", "v9", arm64),
        ("ppc64le", "power10", arm64),
        ("riscv64", "rva22u64", arm64),
        ("arm", "v6", b"\x7fELF"),
        ("amd64", "v3", b""),
    ):
        assert "no record" in variant.check(binary, Platform("linux", architecture, name), "it")
    assert variant.check(arm64, Platform("linux", "arm64"), "it") == ""
    assert variant.is_plain(Platform("linux", "arm64", "v8"))
    assert not variant.is_plain(Platform("linux", "arm", "v7"))


# --- programs that are not compiled here ---


def linked(tmp_path: Path, cpu: str) -> bytes:
    """A program for ARM that still has the record."""
    source = tmp_path / "start.c"
    source.write_text("void _start(void) { for (;;) {} }\n")
    flags = ["-target", "arm-linux-gnueabihf", f"-mcpu={cpu}", "-nostdlib", "-static", "-s"]
    environment = {f"ZIG_{each}_CACHE_DIR": str(tmp_path) for each in ("GLOBAL", "LOCAL")}
    command: list[str | Path] = [folder("ziglang") / "zig", "cc", *flags, source, "-o", tmp_path / "start"]
    subprocess.run(command, check=True, env=environment)
    return (tmp_path / "start").read_bytes()


def test_check_proves_what_others_have_published(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf")
    app = [tape({"app": linked(tmp_path, "arm1176jzf_s")})]
    for platform in ("linux/arm/v6", "linux/arm/v7", "linux/arm"):
        assert proved(shelf.tag("1", shelf.image(platform, app))) == ([platform], [])
    app = [tape({"app": linked(tmp_path, "cortex_a7")})]
    with pytest.raises(ImageError, match="program '/app': compiled for ARMv7, expected code that every linux/arm/v6 r"):
        proved(shelf.tag("1", shelf.image("linux/arm/v6", app)))
    [platform], [note] = proved(shelf.tag("1", shelf.image("linux/arm/v6", [tape({"app": elf("arm")})])))
    assert note.endswith("program '/app': variant of linux/arm/v6 not proved: no record of the CPU can be read in it")


def test_a_copied_program_runs_on_the_cpus_of_its_row(arm6: Checkout, tmp_path: Path) -> None:
    arm6.edit("arches.yaml", ARM6, ARM6 + CPU)
    arm6.edit("Dockerfile.j2", "LABEL", "COPY tool /tool\nLABEL")
    arm6.edit(".dockerignore", "!pause.c", "!pause.c\n!tool")
    (arm6.root / "tool").write_bytes(linked(tmp_path, "cortex_a7"))
    message = arm6.refuses(1, "all-push", "--arch", "arm6")
    assert "tool (arm6): compiled for ARMv7, expected code that every linux/arm/v6 runs" in message
    assert not (arm6.root / "dist").exists()
    (arm6.root / "tool").write_bytes(linked(tmp_path, "arm1176jzf_s"))
    arm6("all-push", "--arch", "arm6")
