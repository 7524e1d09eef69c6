"""Rows for Windows, and what `--arch linux` and `--arch windows` stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from build.config.arches import Header, Windows
from build.config.parse import read_settings
from build.errors import UsageError
from tests.support.checkout import SETTINGS, SOURCE

ROWS = ("windows-1809", "windows-ltsc2022", "windows-ltsc2025")
TABLE = (SOURCE / "arches.yaml").read_text()


def test_the_rows() -> None:
    for row in SETTINGS.select(ROWS):
        assert (str(row.platform), row.triple, row.runtime, row.qemu) == (
            "windows/amd64",
            "x86_64-w64-mingw32",
            None,
            "",
        )
        assert row.header == Header("IMAGE_FILE_MACHINE_AMD64", 64, "little")
        assert row.header.is_pe
    assert len({row.base for row in SETTINGS.select(ROWS)}) == len(ROWS)
    assert not set(ROWS) & set(SETTINGS.defaults.release)


def test_an_image_is_another_one_on_windows() -> None:
    image, [row, linux] = SETTINGS.images["pause"], SETTINGS.select(["windows-1809", "amd64"])
    own = image.on(row.platform)
    assert (own.dockerfile, own.sources, own.entrypoint, own.user) == (
        "Dockerfile.windows.j2",
        ("windows/pause.c",),
        ("/pause.exe",),
        "",
    )
    plain = image.on(linux.platform)
    assert (plain.dockerfile, plain.sources, plain.user) == (image.dockerfile, image.sources, image.user)
    assert image.windows == Windows(own.dockerfile, own.sources, own.entrypoint)


def test_groups() -> None:
    release = SETTINGS.defaults.release
    assert SETTINGS.expand(["linux"], release) == [*release]
    assert SETTINGS.expand(["windows"], release) == [*ROWS]
    assert SETTINGS.expand(["linux", "windows", "riscv64"], release) == [*release, *ROWS, "riscv64"]
    assert SETTINGS.expand(["windows"], ("amd64", ROWS[1])) == [ROWS[1]], "of a release that has some, only those"
    assert SETTINGS.expand(["all", "nothing"], release) == [*release, "nothing"]


PE = "pe: {machine: IMAGE_FILE_MACHINE_AMD64, format: PE32+}"


@pytest.mark.parametrize(
    ("old", "new", "found", "expected"),
    [
        ("nanoserver:1809", "nanoserver:ltsc2022", "windows-ltsc2022.base: found base", "a different base in each row"),
        ("nanoserver:1809", "nano server", "windows-1809.base: 'mcr", "lower-case letters"),
        (PE, PE.replace("AMD64", "I386"), "pe.machine: found IMAGE_FILE_MACHINE_I386", "IMAGE_FILE_MACHINE_AMD64"),
        (PE, PE.replace("PE32+", "PE32"), "pe.format: found PE32", "PE32+, because"),
        (PE, PE.replace("PE32+", "PE33"), "pe.format: found the string 'PE33'", "PE32 or PE32+"),
        (PE, PE.replace("IMAGE_FILE_MACHINE_", "EM_"), "pe.machine: found the string 'EM_AMD64'", "a machine such as"),
        (PE, f"{PE}\n    qemu: x86_64", "qemu: found unknown key 'qemu'", "triple, platform, pe, base"),
        (PE, "elf: {machine: EM_X86_64, class: 64, order: little}", "found unknown key 'elf'", "pe"),
        ("platform: windows/amd64", "platform: windows/s390x", "a program for windows/s390x", "386, amd64, arm, arm64"),
        ("platform: windows/amd64", "platform: windows(10.0)/amd64", "windows-1809.platform: found", "os/architecture"),
        ("  windows-1809:", "  windows:", "arch name 'windows'", "--arch windows selects several rows"),
        ("  windows-1809:", "  linux:", "arch name 'linux'", "--arch linux selects several rows"),
        ("  windows-1809:", "  all:", "arch name 'all'", "--arch all selects several rows"),
        ("  windows-1809:", "  windows--1809:", "arch name 'windows--1809'", "joined by -"),
        (
            "      sources: [windows/pause.c]",
            "      source: [x.c]",
            "windows.source: found unknown key",
            "did you mean",
        ),
        ("      entrypoint: [/pause.exe]\n", "", "images.pause.windows: found no key 'entrypoint'", "a value for"),
    ],
)
def test_what_is_refused(tmp_path: Path, old: str, new: str, found: str, expected: str) -> None:
    file = tmp_path / "arches.yaml"
    assert old in TABLE
    file.write_text(TABLE.replace(old, new, 1))
    with pytest.raises(UsageError) as refusal:
        read_settings(file)
    line = next(number for number, text in enumerate(TABLE.splitlines(), 1) if old.splitlines()[0] in text)
    assert str(refusal.value).startswith("arches.yaml:"), refusal.value
    assert abs(int(str(refusal.value).split(":")[1]) - line) <= 8, refusal.value
    assert found in str(refusal.value)
    assert expected in str(refusal.value)


def test_sources_for_windows_beside_a_prebuilt_program(tmp_path: Path) -> None:
    text = TABLE.replace(
        "    sources: [pause.c]\n    companions:\n      orphan: [orphan.c]\n", '    binary: "out/{arch}"\n'
    )
    file = tmp_path / "arches.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"images\.pause\.windows\.sources: found unknown key 'sources'"):
        read_settings(file)
    file.write_text(text.replace("      sources: [windows/pause.c]\n", ""))
    windows = read_settings(file).images["pause"].windows
    assert windows
    assert windows.sources == ()
