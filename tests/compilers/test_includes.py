"""The files that a compilation reads: at least all that the compiler itself finds."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from build.compilers.compiler import LINKER_SCRIPT, RUNTIME, Program
from build.compilers.includes import inputs, named_by_flags, reader
from build.compilers.zig import Zig
from build.config.arches import Arch
from build.config.parse import read_settings
from build.errors import CompileError, UsageError
from tests.support import compiling

ROOT = Path(__file__).parent.parent.parent
ROWS = read_settings(ROOT / "arches.yaml").arches
LINUX = {name: row for name, row in ROWS.items() if row.platform.os == "linux"}


def tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def found(root: Path, *folders: str, source: str = "a.c") -> list[str]:
    return list(inputs(reader(root), [source], folders))


# --- directives ---


@pytest.mark.parametrize(
    "directive",
    [
        pytest.param('#include "b.h"', id="plain"),
        pytest.param('#include"b.h"', id="no space"),
        pytest.param(' \t# \tinclude \t"b.h" // why', id="spaced"),
        pytest.param('#if 0\n#include "b.h"\n#endif', id="#if 0"),
        pytest.param('#include_next "b.h"', id="include_next"),
        pytest.param('#import "b.h"', id="import"),
        pytest.param('#embed "b.h"', id="embed"),
        pytest.param('#include "./x/../b.h"', id="dots"),
        pytest.param('#inc\\\nlude \\\n "b.h"', id="continued"),
        pytest.param('/* so */ #include "b.h"', id="comment before"),
        pytest.param('/* and\n so */ #include "b.h"', id="end of a comment before"),
        pytest.param('# /* so */ include /* that */ "b.h"', id="comment within"),
        pytest.param('%:include "b.h"', id="digraph"),
        pytest.param('int x;\r\n#include "b.h"\r\nint y;', id="CRLF"),
        pytest.param('\n'.join(["// \N{LATIN SMALL LETTER E WITH ACUTE}", '#include "b.h"']), id="after non-ASCII"),
    ],
)  # fmt: skip
def test_a_directive_is_followed(tmp_path: Path, directive: str) -> None:
    tree(tmp_path, {"a.c": f"{directive}\n", "b.h": ""})
    assert found(tmp_path) == ["a.c", "b.h"]


@pytest.mark.parametrize(
    "text", ['char *x = "#include \\"b.h\\"";', '// #include "b.h"', '#includes "b.h"', '#define include "b.h"']
)
def test_text_that_is_not_a_directive_is_ignored(tmp_path: Path, text: str) -> None:
    tree(tmp_path, {"a.c": f"{text}\n", "b.h": ""})
    assert found(tmp_path) == ["a.c"]


@pytest.mark.parametrize("name", ["HEADER", "STRING(b.h)", "", "b.h"])
def test_a_file_name_from_a_macro_is_refused(tmp_path: Path, name: str) -> None:
    tree(tmp_path, {"x/a.c": f"#include {name}\n"})
    with pytest.raises(CompileError, match=rf"^x/a\.c: #include {re.escape(name)}: expected a file name"):
        found(tmp_path, source="x/a.c")


# --- include directories ---


def test_only_quotes_search_the_folder_of_the_file(tmp_path: Path) -> None:
    tree(tmp_path, {"x/a.c": '#include "b.h"\n#include <c.h>\n', "x/b.h": "", "x/c.h": "", "b.h": "", "c.h": ""})
    assert found(tmp_path, source="x/a.c") == ["x/a.c", "x/b.h"]


def test_both_forms_search_every_include_directory(tmp_path: Path) -> None:
    tree(tmp_path, {"a.c": '#include "b.h"\n#include <c.h>\n', "i/b.h": "", "i/c.h": "", "j/b.h": "", "j/c.h": ""})
    assert found(tmp_path, "i", "j") == ["a.c", "i/b.h", "i/c.h", "j/b.h", "j/c.h"]


def test_an_include_directory_may_be_absolute(tmp_path: Path) -> None:
    tree(tmp_path, {"x/a.c": "#include <b.h>\n", "i/b.h": ""})
    assert found(tmp_path / "x", str(tmp_path / "i")) == [str(tmp_path / "i/b.h"), "a.c"]


def test_nested_and_circular_includes_are_followed(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {"a.c": '#include "x/b.h"\n', "x/b.h": '#include "c.h"\n', "x/c.h": '#include "../a.c"\n#include "c.h"\n'},
    )
    assert found(tmp_path) == ["a.c", "x/b.h", "x/c.h"]


def test_headers_outside_the_checkout_are_ignored(tmp_path: Path) -> None:
    tree(tmp_path, {"a.c": "#include <stdio.h>\n", "i/sub/x": ""})
    assert found(tmp_path, "i", "nowhere", "a.c") == ["a.c"]


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"^b\.c: no such file"):
        found(tmp_path, source="b.c")


@pytest.mark.parametrize(
    ("flags", "files", "folders"),
    [
        pytest.param(["-Os", "-Wall", "-static"], [], [], id="none"),
        pytest.param(["-I", "a", "-Ib"], [], ["a", "b"], id="-I"),
        pytest.param(["-isystem", "a", "-isystemb"], [], ["a", "b"], id="-isystem"),
        pytest.param(["-iquote", "a", "-iquoteb"], [], ["a", "b"], id="-iquote"),
        pytest.param(["-idirafter", "a", "-idirafterb"], [], ["a", "b"], id="-idirafter"),
        pytest.param(["-include", "a.h", "-includeb.h"], ["a.h", "b.h"], [], id="-include"),
        pytest.param(["-imacros", "a.h", "-imacrosb.h"], ["a.h", "b.h"], [], id="-imacros"),
        pytest.param(["-I", "-include", "-include", "-I"], ["-I"], ["-include"], id="values like flags"),
        pytest.param(["-I"], [], [], id="value missing"),
    ],
)
def test_files_and_folders_that_flags_name(flags: list[str], files: list[str], folders: list[str]) -> None:
    assert named_by_flags(flags) == (tuple(files), tuple(folders))


# --- keys ---


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / RUNTIME, tmp_path / RUNTIME)
    for source in ("pause.c", "orphan.c"):
        shutil.copy(ROOT / source, tmp_path)
    return tmp_path


def key(root: Path, arch: Arch, name: str = "pause", flags: tuple[str, ...] = ("-Os",), version: str = "v1") -> str:
    return compiling.key(Zig(), root, Program(name, (f"{name}.c",), flags, version), arch)


def test_equal_checkouts_have_equal_keys(checkout: Path) -> None:
    for row in ROWS.values():
        assert key(checkout, row) == key(ROOT, row)


def test_every_input_of_a_binary_changes_its_key(checkout: Path) -> None:
    made = [
        *(key(checkout, row) for row in LINUX.values()),
        key(checkout, ROWS["arm"], "orphan"),
        key(checkout, ROWS["arm"], flags=("-O2",)),
        key(checkout, ROWS["arm"], flags=("-O2", "-g")),
        key(checkout, ROWS["arm"], flags=("-O2 -g",)),
        key(checkout, ROWS["arm"], version="v2"),
    ]
    assert len(set(made)) == len(made)


def test_a_new_file_in_an_earlier_folder_changes_the_key(checkout: Path) -> None:
    tree(checkout, {"pause.c": "#include <b.h>\n", "j/b.h": ""})
    flags = ("-Ii", "-Ij")
    before = key(checkout, ROWS["arm"], flags=flags)
    tree(checkout, {"i/b.h": ""})
    assert key(checkout, ROWS["arm"], flags=flags) != before


def test_a_header_that_the_flags_name_changes_the_key(checkout: Path) -> None:
    tree(checkout, {"config.h": "#define X 1\n"})
    before = key(checkout, ROWS["arm"], flags=("-include", "config.h"))
    tree(checkout, {"config.h": "#define X 2\n"})
    assert key(checkout, ROWS["arm"], flags=("-include", "config.h")) != before


def read_by_the_compiler(root: Path, name: str, arch: Arch, cache: Path) -> list[str]:
    """The files of the checkout that `zig cc -MD` lists."""

    class Reporting(Zig):
        def _flags(self, program: Program, arch: Arch) -> tuple[str, ...]:
            return (*super()._flags(program, arch), "-MD", "-MF", str(cache / "read.d"))

    compiling.compiled(Reporting(), root, Program(name, (f"{name}.c",), ("-Os",), "v1"), arch)
    rule = (cache / "read.d").read_text().replace("\\\n", " ").partition(": ")[2]
    paths = [Path(root, word).resolve() for word in rule.split()]
    return sorted({str(path.relative_to(root.resolve())) for path in paths if path.is_relative_to(root.resolve())})


@pytest.mark.parametrize("name", ["pause", "orphan"])
@pytest.mark.parametrize("arch", LINUX.values(), ids=LINUX)
def test_editing_a_file_that_the_compiler_reads_changes_the_key(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, arch: Arch, name: str
) -> None:
    read = read_by_the_compiler(checkout, name, arch, tmp_path_factory.mktemp("zig"))
    assert {f"{name}.c", f"{RUNTIME}/{arch.runtime}.c", f"{RUNTIME}/include/unistd.h"} <= set(read)
    before = key(checkout, arch, name)
    for path in [*read, LINKER_SCRIPT]:
        whole = (checkout / path).read_bytes()
        (checkout / path).write_bytes(whole + b"\n")
        assert key(checkout, arch, name) != before, path
        (checkout / path).write_bytes(whole)
    assert key(checkout, arch, name) == before


@pytest.mark.parametrize("flag", ["@flags", "-Wp,-include,x.h", "-Xclang", "--include=x.h", "--sysroot=/x"])
def test_a_flag_whose_files_can_not_be_tracked_is_refused(flag: str) -> None:
    with pytest.raises(UsageError, match="can't be tracked"):
        named_by_flags(("-Os", flag))
