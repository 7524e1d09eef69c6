"""The keys of a prebuilt program, and the spellings of its arches."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from build.config.parse import read_settings
from build.errors import UsageError
from build.oci.platform import Platform
from tests.support.checkout import SETTINGS, SOURCE

SOURCES = "    sources: [pause.c]\n"
COMPANIONS = "    companions:\n      orphan: [orphan.c]\n"
BINARY = "    binary: out/app-{arch}\n"
# A prebuilt program has none for Windows, either.
WINDOWS = "      sources: [windows/pause.c]\n"


def read(folder: Path, keys: str) -> None:
    """Read the table with other keys than `sources` and `companions` in the row of pause."""
    (folder / "arches.yaml").write_text(table(keys))
    read_settings(folder / "arches.yaml")


def table(keys: str) -> str:
    text = (SOURCE / "arches.yaml").read_text()
    assert text.count(SOURCES + COMPANIONS) == 1
    return (text.replace(WINDOWS, "") if "binary:" in keys else text).replace(SOURCES + COMPANIONS, keys)


def test_what_is_prebuilt_is_not_verified_unless_its_row_says_so(tmp_path: Path) -> None:
    text = table(f"{BINARY}    elf: none\n    arches: [s390x, arm]\n")
    (tmp_path / "arches.yaml").write_text(text)
    image = read_settings(tmp_path / "arches.yaml").image("pause")
    assert (image.binary, image.elf, image.verify, image.sources) == ("out/app-{arch}", False, None, ())
    assert image.arches == ("s390x", "arm")
    (tmp_path / "arches.yaml").write_text(text.replace("elf: none", "verify: {checks: [cpu]}"))
    image = read_settings(tmp_path / "arches.yaml").image("pause")
    assert (image.elf, image.verify and image.verify.checks) == (True, ("cpu",))


def test_the_example_in_the_docs(tmp_path: Path) -> None:
    row = re.search(r"```yaml\n(  app:\n.*?)```", (SOURCE / "docs/prebuilt.md").read_text(), re.DOTALL)
    assert row
    (tmp_path / "arches.yaml").write_text(table(SOURCES).replace("\ndefaults:", f"{row[1]}\ndefaults:"))
    settings = read_settings(tmp_path / "arches.yaml")
    image = settings.image("app")
    paths = [image.binary.format_map(settings.arch(name).spellings) for name in image.arches]
    assert paths == ["out/app-linux-amd64", "out/app-linux-arm64"]


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ("", "images.pause: found no key 'sources'\n  expected C sources, or binary: the path"),
        (SOURCES + BINARY, "images.pause.sources: found 'sources' beside 'binary'"),
        (f"{BINARY}    cflags: [-O1]\n", "images.pause.cflags: found 'cflags' beside 'binary'"),
        (f"{BINARY}    libc: true\n", "images.pause.libc: found 'libc' beside 'binary'"),
        (BINARY + COMPANIONS, "images.pause.companions: found 'companions' beside 'binary'"),
        (f"{SOURCES}    elf: none\n", "images.pause.elf: found 'elf' without 'binary'"),
        (f"{BINARY}    elf: script\n", "images.pause.elf: found the string 'script'\n  expected none, for a script"),
        (
            '    binary: "out/{arhc}"\n',
            "found unknown placeholder {arhc}\n  expected a placeholder: did you mean 'arch'?",
        ),
        ('    binary: "out/{}"\n', "found unknown placeholder {}"),
        ('    binary: "out/{arch}}"\n', "found 'out/{arch}}'\n  expected a path with placeholders in braces"),
        ('    binary: "out/\\0"\n', "images.pause.binary: found the string 'out/\\x00'"),
        ('    sources: ["pause\\0.c"]\n', "images.pause.sources[0]: found the string 'pause\\x00.c'"),
        ("    binary: ./bin//pause-{arch}\n", "found bin/pause-amd64\n  expected another path, because build writes"),
        ("    binary: bin/pause-arm.tar\n", "images.pause.binary: found bin/pause-arm.tar"),
        (f"{SOURCES}    arches: [amd64, arm46]\n", "found 'arm46'\n  expected the name of an arch: did you mean"),
        (f"{SOURCES}    arches: []\n", "images.pause.arches: found an empty list"),
    ],
)
def test_keys_that_make_no_sense_are_refused(tmp_path: Path, keys: str, complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(tmp_path, keys)
    assert str(raised.value).startswith("arches.yaml:")
    assert complaint in str(raised.value)


def test_a_path_may_be_that_of_any_other_file(tmp_path: Path) -> None:
    read(tmp_path, "    binary: bin/pause\n")


# GOOS, GOARCH and the variable of the variant, as `go help environment` has them; the last is GoReleaser's target.
@pytest.mark.parametrize(
    ("platform", "target"),
    [
        ("linux/amd64", "linux_amd64_v1"),
        ("linux/amd64/v3", "linux_amd64_v3"),
        ("linux/arm", "linux_arm_7"),
        ("linux/arm/v6", "linux_arm_6"),
        ("linux/arm/v8", "linux_arm_7"),
        ("linux/arm64", "linux_arm64_v8.0"),
        ("linux/arm64/v8", "linux_arm64_v8.0"),
        ("linux/arm64/v9.1", "linux_arm64_v9.1"),
        ("linux/386", "linux_386_sse2"),
        ("linux/mipsle/softfloat", "linux_mipsle_softfloat"),
        ("linux/mips/mips32r2", "linux_mips_hardfloat"),
        ("linux/ppc64le/power9", "linux_ppc64le_power9"),
        ("linux/riscv64/rva22u64", "linux_riscv64_rva22u64"),
        ("linux/s390x", "linux_s390x"),
        ("linux/loong64", "linux_loong64"),
    ],
)
def test_gos_names(platform: str, target: str) -> None:
    assert "_".join(Platform(*platform.split("/")).go.values()) == target


def test_the_spellings_of_an_arch() -> None:
    template = "{arch} {triple} {platform} {os}-{architecture}{variant} {goos}-{goarch}{goarm} {gotarget}"
    shown = {name: template.format_map(arch.spellings) for name, arch in SETTINGS.arches.items()}
    assert shown["arm"] == "arm arm-linux-gnueabihf linux/arm/v7 linux-armv7 linux-arm7 linux_arm_7"
    assert shown["s390x"] == "s390x s390x-linux-gnu linux/s390x linux-s390x linux-s390x linux_s390x"
