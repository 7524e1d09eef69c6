"""arches.yaml is read strictly: each error is one message with file, line, key, what was found, what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest
from elftools.elf.enums import ENUM_E_MACHINE

from build.config.arches import CHECKS, HEADERS, Expected, Settings
from build.config.parse import read_settings
from build.errors import UsageError
from build.oci.platform import Platform
from build.verify import trials

SHIPPED = Path(__file__).parent.parent.parent / "arches.yaml"
ROWS = "amd64, arm, arm64, ppc64le, s390x, riscv64, loong64, 386, windows-1809, windows-ltsc2022, windows-ltsc2025"


def read(folder: Path, text: str) -> Settings:
    path = folder / "arches.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    return read_settings(path)


def test_the_shipped_file() -> None:
    settings = read_settings(SHIPPED)
    assert settings.defaults.release == ("amd64", "arm", "arm64", "ppc64le", "s390x")
    platforms = {name: str(row.platform) for name, row in settings.arches.items()}
    assert platforms["arm"] == "linux/arm/v7"
    assert {name: each for name, each in platforms.items() if name != "arm"} == {
        name: "windows/amd64" if name.startswith("windows-") else f"linux/{name}" for name in platforms if name != "arm"
    }
    assert [row.header.order for row in settings.select(["s390x", "ppc64le"])] == ["big", "little"]
    assert [row.header.bits for row in settings.select(["arm", "arm64"])] == [32, 64]
    pause = settings.image("pause")
    assert (pause.tag, pause.sources, pause.companions) == ("3.1", ("pause.c",), {"orphan": ("orphan.c",)})
    assert settings.arch("arm").platform == Platform("linux", "arm", "v7")


def test_the_optional_keys(tmp_path: Path) -> None:
    text = SHIPPED.read_text()
    row, image = "    qemu: s390x\n", "    sources: [pause.c]\n"
    plain = read(tmp_path, text)
    assert (plain.arch("s390x").cpu, plain.arch("s390x").runtime, plain.image("pause").libc) == ("", "s390x", False)
    assert plain.image("pause").verify == Expected("pause.c {version}", CHECKS)
    more = read(
        tmp_path,
        text.replace(row, f"{row}    cpu: z13\n    libc: true\n").replace(
            image, f'{image}    libc: true\n    verify: {{version: "a {{version}}", checks: [SIGTERM, cpu]}}\n'
        ),
    )
    assert (more.arch("s390x").cpu, more.arch("s390x").runtime, more.image("pause").libc) == ("z13", None, True)
    assert more.image("pause").verify == Expected("a {version}", ("cpu", "SIGTERM"))
    assert read(tmp_path, text.replace(image, f"{image}    verify: none\n")).image("pause").verify is None


def test_the_checks_are_those_of_verify() -> None:
    assert tuple(trials.CHECKS) == CHECKS


def test_every_machine_is_in_the_elf_specification() -> None:
    assert {header.machine for header in HEADERS.values()} <= set(ENUM_E_MACHINE)


# Each edit replaces text that occurs once in the shipped file; § marks the position that the message must give.
ERRORS = [
    pytest.param("images:\n", "§x: 1\nimages:\n", "x: found unknown key 'x'", "one of arches,", id="top"),
    pytest.param(
        "    qemu: arm\n",
        "    §qmeu: arm\n",
        "arches.arm.qmeu: found unknown key 'qmeu': did you mean 'qemu'?",
        "qemu",
        id="row",
    ),
    pytest.param("EM_ARM,", "EM_ARM, §bits: 1,", "elf.bits: found unknown key", "one of machine,", id="elf"),
    pytest.param('    user: "', '    §usr: "', "pause.usr: found unknown key", "user", id="image"),
    pytest.param("  format:", "  §fromat:", "defaults.fromat: found unknown key", "format", id="default"),
    pytest.param("    qemu: arm\n", "", "arches.arm: found no key 'qemu'", "a value for arches.arm.qemu", id="no qemu"),
    pytest.param(" class: 64, order: big", " class: 64", "s390x.elf: found no key 'order'", "order", id="no order"),
    pytest.param("    dockerfile: Dockerfile.j2\n", "", "found no key 'dockerfile'", "dockerfile", id="no dockerfile"),
    pytest.param("  engine: embedded\n", "", "defaults: found no key 'engine'", "defaults.engine", id="no engine"),
    pytest.param("  arm64:\n", "  §arm:\n", "arches: found duplicate key 'arm'", "in line 17", id="row twice"),
    pytest.param("    qemu: arm\n", "    qemu: arm\n    §qemu: arm\n", "duplicate key 'qemu'", "once", id="key twice"),
    pytest.param('tag: "3.1"', "tag: §3.1", "pause.tag: found the number '3.1'", 'in quotes: "3.1"', id="tag number"),
    pytest.param(
        "image.title: pause", "title=x: §a", "found label 'org.opencontainers.title=x'", "letters", id="label"
    ),
    pytest.param("      orphan: [", "      pause: §[", "the image's own name 'pause'", "another", id="companion"),
    pytest.param('tag: "3.1"', "tag: §3", "found the number '3'", 'in quotes: "3"', id="tag whole number"),
    pytest.param('tag: "3.1"', "tag: §", "pause.tag: found null", "a string", id="tag null"),
    pytest.param('tag: "3.1"', "tag: §yes", "found the boolean 'yes'", 'in quotes: "yes"', id="tag bool"),
    pytest.param('tag: "3.1"', "tag: §2018-01-01", "found the date", 'in quotes: "2018-01-01"', id="tag date"),
    pytest.param('tag: "3.1"', "tag: §[a]", "found a list", "a string", id="tag list"),
    pytest.param('tag: "3.1"', "tag: §{a: b}", "found a mapping", "a string", id="tag mapping"),
    pytest.param('tag: "3.1"', 'tag: §""', "found the string", "a string", id="tag empty"),
    pytest.param('tag: "3.1"', 'tag: §"-3.1"', "pause.tag: '-3.1' is not a tag", "not . or - first", id="tag -"),
    pytest.param('tag: "3.1"', 'tag: §"3 1"', "pause.tag: '3 1' is not a tag", "letters, digits", id="tag space"),
    pytest.param('tag: "3.1"', f"tag: §{'a' * 129}", "is not a tag", "at most 128 characters", id="tag long"),
    pytest.param('  "386":', "  §386:", "arches: found the number '386'", "put it in quotes", id="row number"),
    pytest.param("  arm64:\n", "  Arm64:\n", "found arch name 'Arm64'", "lower-case letters", id="row upper case"),
    pytest.param(
        "linux/ppc64le\n    elf: {machine: EM_PPC64,",
        "§linux/arm64\n    elf: {machine: EM_AARCH64,",
        "found platform linux/arm64, which row 'arm64'",
        "row",
        id="twin",
    ),
    pytest.param("linux/arm/v7", "§linux", "arm.platform: found the string 'linux'", "os/architecture", id="no cpu"),
    pytest.param("linux/arm/v7", "§linux/arm/v7/x", "arm.platform: found", "linux/arm/v7", id="platform of four"),
    pytest.param("linux/arm/v7", "§linux/ARM", "arm.platform: found", "linux/arm/v7", id="platform upper case"),
    pytest.param("s390x-linux-gnu", "§s390x", "s390x.triple: found the string 's390x'", "GNU triple", id="triple"),
    pytest.param("s390x-linux-gnu", "§-Os", "s390x.triple: found", "aarch64-linux-gnu", id="triple a flag"),
    pytest.param("EM_S390, class: 64", "EM_S390, class: §65", "elf.class: found the number '65'", "32 or 64", id="65"),
    pytest.param("EM_S390, class: 64", 'EM_S390, class: §"64"', "found the string '64'", "32 or 64", id="class string"),
    pytest.param("order: big", "order: §middle", "elf.order: found the string", "little or big", id="order"),
    pytest.param("EM_S390", "§EM_S39O", "elf.machine: found 'EM_S39O'", "specification: did you mean", id="no machine"),
    pytest.param(
        "EM_S390", "§EM_ARM", "s390x.elf.machine: found EM_ARM", "EM_S390, because the plat", id="other machine"
    ),
    pytest.param(
        "EM_S390, class: 64", "EM_S390, class: §32", "s390x.elf.class: found 32", "64, because", id="other class"
    ),
    pytest.param("order: big", "order: §little", "s390x.elf.order: found little", "big, because", id="other order"),
    pytest.param(
        "linux/s390x\n    elf: {machine: EM_S390",
        "linux/vax\n    elf: {machine: §EM_VAXX",
        "'EM_VAXX'",
        "'EM_VAX'?",
        id="vax",
    ),
    pytest.param(
        "qemu: s390x\n", "qemu: s390x\n    cpu: §-z13\n", "s390x.cpu: found the string", "as gcc calls it", id="cpu"
    ),
    pytest.param(
        "qemu: s390x\n",
        "qemu: s390x\n    libc: §yes\n",
        "s390x.libc: found the boolean 'yes'",
        "true or false",
        id="libc",
    ),
    pytest.param(
        '    user: "', '    libc: §"true"\n    user: "', "pause.libc: found the string", "true or false", id="libc 2"
    ),
    pytest.param(
        '    user: "', '    verify: §no\n    user: "', "pause.verify: found the boolean", "a mapping", id="verify no"
    ),
    pytest.param(
        '    user: "',
        '    verify: §nothing\n    user: "',
        "verify: found the string 'nothing'",
        "none, or",
        id="verify",
    ),
    pytest.param(
        '    user: "',
        '    verify: {§check: []}\n    user: "',
        "verify.check: found unknown key",
        "version, checks",
        id="v key",
    ),
    pytest.param(
        '    user: "',
        '    verify: {checks: [§zombies]}\n    user: "',
        "checks[0]: found",
        "a check: cpu,",
        id="v check",
    ),
    pytest.param(
        '    user: "',
        '    verify: {version: §"x {arch}"}\n    user: "',
        "verify.version: found",
        "one line",
        id="v version",
    ),
    pytest.param("EM_S390", "§S390", "elf.machine: found the string 'S390'", "EM_AARCH64", id="machine"),
    pytest.param("{machine: EM_S390, class: 64, order: big}", "§[]", "s390x.elf: found a list", "a map", id="elf list"),
    pytest.param("qemu: s390x", "qemu: §../s390x", "s390x.qemu: found", "qemu-NAME-static", id="qemu"),
    pytest.param("runtime: s390x", "runtime: §../s390x", "runtime: found", "build/runtime/NAME.c", id="runtime"),
    pytest.param("runtime: s390x", "runtime: §", "s390x.runtime: found null", "build/runtime", id="runtime null"),
    pytest.param('"{registry}/pause"', '§"{registry}/pau{se}"', "repository: found", "{registry}", id="unknown field"),
    pytest.param('"{registry}/pause"', '§"{registry}/{registry[a]}"', "found", "{registry}", id="indexed field"),
    pytest.param('"{registry}/pause"', '§"{registry}/p{registry:>9}"', "found", "{registry}", id="format of a field"),
    pytest.param('"{registry}/pause"', '§"{registry}/pause{"', "'pause{' is not a repo", "lower-case", id="open brace"),
    pytest.param('"{registry}/pause"', "§pause", "repository: found 'pause'", '"{registry}/name"', id="no registry"),
    pytest.param('"{registry}/pause"', '§"x/{registry}/pause"', "found 'x/", '"{registry}/name"', id="registry later"),
    pytest.param('"{registry}/pause"', '§"{registry}/Pause"', "'Pause' is not a repository", "lower-case", id="upper"),
    pytest.param("pause-{arch}:", "pause:", "arch-reference: found '{registry}/pause:", "and {arch}", id="no arch"),
    pytest.param('-{arch}:{tag}"', '-{arch}"', "found '{registry}/pause-{arch}'", "a tag with {tag}", id="no tag"),
    pytest.param('-{arch}:{tag}"', '-{tag}:{arch}"', "found '{registry}/pause-{tag}", "with {tag}", id="tag in name"),
    pytest.param('-{arch}:{tag}"', '-{tag}:{tag}-{arch}"', "pause.arch-reference: found", "nowhere else", id="2 tags"),
    pytest.param('-{arch}:{tag}"', ':{tag}-{arch}+"', "'1-amd64+' is not a tag", "letters, digits", id="no valid tag"),
    pytest.param(
        'arch-reference: "{registry}/pause-{arch}:{tag}"',
        '§arch-repository: "{registry}/pause-{arch}"',
        "found the key arch-repository",
        'arch-reference: "{registry}/pause-{arch}:{tag}" instead',
        id="the old key",
    ),
    pytest.param('    tag: "3.1"', '    tag: "3.1"\n    moving: [§a b]', "'a b' is not a tag", "letters", id="moving"),
    pytest.param('    tag: "3.1"', '    tag: "3.1"\n    annotations: {§a+b: c}', "'a+b'", "letters", id="annotation"),
    pytest.param("  pause:\n", "  ../pause:\n", "found image name '../pause'", "a file's name", id="image"),
    pytest.param("      orphan:", "      a/b: §", "found companion name 'a/b'", "a file's name", id="companion"),
    pytest.param("sources: [pause.c]", "sources: §[]", "sources: found an empty list", "at least one", id="no sources"),
    pytest.param("sources: [pause.c]", "sources: §pause.c", "found the string 'pause.c'", "a list", id="bare source"),
    pytest.param(
        "[pause.c]", "[pause.c, §pause.c]", "sources[1]: found duplicate 'pause.c'", "each entry once", id="2"
    ),
    pytest.param("[pause.c]", "[§pause.s]", "sources[0]: found the string", "a C file", id="source not C"),
    pytest.param('"65535:65535"', "§nobody", "pause.user: found the string 'nobody'", "UID or UID:GID", id="user"),
    pytest.param("[/pause]", "[/pause, §1]", "entrypoint[1]: found the number '1'", 'in quotes: "1"', id="entrypoint"),
    pytest.param("image.title: pause", "image.title: §1.0", "found the number '1.0'", 'in quotes: "1.0"', id="label"),
    pytest.param("  release: [amd64,", "  release: §[amr64,", "defaults.release: found 'amr64'", ROWS, id="release"),
    pytest.param("  release: [amd64,", "  release: [arm, §amd64,", "found duplicate 'arm'", "once", id="arch twice"),
    pytest.param("  arch: amd64", "  arch: §amr64", "defaults.arch: found 'amr64'", ROWS, id="default arch"),
    pytest.param("registry: oci:dist", "registry: §Pause", "'Pause' is not a registry's host", "HOST", id="registry"),
    pytest.param("engine: embedded", "engine: §podman", "defaults.engine: found", "embedded or docker", id="engine"),
    pytest.param("format: oci", "format: §both", "defaults.format: found", "oci or docker", id="format"),
    pytest.param("[-Os, -Wall, -Werror, -static]", "§-Os -Wall", "cflags: found the string", "a list", id="cflags"),
]


@pytest.mark.parametrize(("old", "new", "found", "expected"), ERRORS)
def test_an_error_is_located(tmp_path: Path, old: str, new: str, found: str, expected: str) -> None:
    shipped = SHIPPED.read_text()
    assert shipped.count(old) == 1
    marked = shipped.replace(old, new)
    with pytest.raises(UsageError) as raised:
        read(tmp_path, marked.replace("§", ""))
    first, rest = str(raised.value).split("\n", 1)
    assert found in first
    assert rest.strip().startswith("expected ")
    assert expected in rest
    place, _, _ = first.partition(": ")
    if "§" in marked:
        line = marked[: marked.index("§")].count("\n") + 1
        assert place == f"arches.yaml:{line}"
    assert first.startswith("arches.yaml:")


@pytest.mark.parametrize("asked", [["amr64"], ["amd64", "amr64"]])
def test_an_unknown_arch_is_answered_with_the_nearest_name_and_all_names(asked: list[str]) -> None:
    with pytest.raises(UsageError) as raised:
        read_settings(SHIPPED).select(asked)
    assert str(raised.value) == f"unknown arch 'amr64': did you mean 'arm64'?\n  known: {ROWS}"


def test_selected_arches_keep_their_order_without_repetition() -> None:
    rows = read_settings(SHIPPED).select(["s390x", "386", "s390x"])
    assert [row.name for row in rows] == ["s390x", "386"]


def test_a_name_unlike_all_others_gets_no_suggestion() -> None:
    with pytest.raises(UsageError, match=r"^unknown image 'zzz'\n  known: pause$"):
        read_settings(SHIPPED).image("zzz")
