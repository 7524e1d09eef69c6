"""`verify` of Windows programs: under wine, with a mutant for each check, and `not run` where there is none."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from build.compilers.compiler import Program
from build.compilers.zig import Zig
from build.verify.driver import NotRunError, Subject
from build.verify.emulators import method_in_container
from build.verify.namespaces import Namespaces
from build.verify.verdicts import Verdict
from build.verify.verify import check_arch
from build.verify.wine import prefix
from tests.support.checkout import SETTINGS, SOURCE, Checkout
from tests.support.compiling import compiled
from tests.support.components import lack
from tests.support.windows import with_bases

ROW = SETTINGS.arches["windows-ltsc2022"]
WINE = next((found for name in prefix._PATHS if (found := shutil.which(name))), None)


@pytest.fixture
def wine() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("wine64 runs programs for this machine's CPU only")
    if WINE is None:
        lack("wine64: not found; install it: apt-get install wine64")


def verdict(folder: Path, *edits: tuple[str, str]) -> Verdict:
    """What the checks find of windows/pause.c with these texts replaced."""
    text = (SOURCE / "windows/pause.c").read_text()
    for old, new in edits:
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "pause.c").write_text(text)
    pause = Program("pause", (), SETTINGS.defaults.cflags, "v1", windows=("pause.c",))

    async def archive(file: Path) -> None:
        raise AssertionError(file)

    subject = Subject(ROW, compiled(Zig(), folder, pause, ROW), "pause.c v1", b"", archive)
    return asyncio.run(check_arch(subject, Namespaces(folder / "scratch")))


@pytest.mark.usefixtures("wine")
def test_a_correct_program_passes(tmp_path: Path) -> None:
    found = verdict(tmp_path)
    assert found.failures == [], found
    assert [each.check for each in found.findings] == ["cpu", "version", "silent", "SIGINT"]
    assert found.way == "wine"
    assert not (tmp_path / "scratch").exists(), "the prefix is gone"


@pytest.mark.usefixtures("wine")
@pytest.mark.parametrize(
    ("old", "new", "fails"),
    [
        ("!SetConsoleCtrlHandler(end, TRUE)", "0", ["SIGINT"]),
        ("    ExitProcess(0);\n}", "    ExitProcess(3);\n}", ["SIGINT"]),
        ("    Sleep(INFINITE);", '    PRINT(STD_OUTPUT_HANDLE, "ready\\n"); Sleep(INFINITE);', ["silent", "SIGINT"]),
        ("second == 'v' || second == 'V'", "second == 'x'", ["version"]),
    ],
    ids=["no handler", "another status", "noise", "no version"],
)
def test_each_fault_fails_its_check(tmp_path: Path, old: str, new: str, fails: list[str]) -> None:
    unused = ("static BOOL WINAPI end(", "__attribute__((unused)) static BOOL WINAPI end(")
    assert [each.check for each in verdict(tmp_path, (old, new), unused).failures] == fails


@pytest.mark.usefixtures("wine")
def test_the_task(checkout: Checkout) -> None:
    with_bases(checkout)
    run = checkout("verify", "--arch", "windows-ltsc2022")
    head, row = run.stdout.splitlines()
    assert head.split() == ["arch", "run", "cpu", "version", "silent", "SIGINT"]
    assert row.split()[:3] == ["windows-ltsc2022", "wine", "IMAGE_FILE_MACHINE_AMD64"]


def test_without_wine_it_is_not_run(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix, "_PATHS", ("no-such-wine",))
    with pytest.raises(NotRunError, match=r"windows-ltsc2022: wine64 is not installed\n .*apt-get install wine64"):
        Namespaces(Path()).method(ROW)
    with pytest.raises(NotRunError, match="containers on Linux run no programs for Windows"):
        method_in_container("docker", ROW)
    with_bases(checkout)
    words = ("verify", "--arch", "windows-1809", "--with", "podman", "--allow-not-run")
    assert checkout(*words).stdout.splitlines()[1].split() == ["windows-1809", "not", "run"]
    assert "windows-1809: not run: containers on Linux" in checkout.ends(*words[:-1]).stderr
