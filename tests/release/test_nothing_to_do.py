"""The same inputs give the same digests, and only what has changed is rebuilt."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.checkout import RELEASE, Checkout, Run
from tests.support.reading import inspect, says

Released = tuple[Checkout, Run]
FIXED = {"REV": "fixed", "SOURCE_DATE_EPOCH": "1000000000"}


def compiled(run: Run) -> set[str]:
    """The arches whose program was compiled; all others must say that theirs is unchanged."""
    said = dict(line.split(": pause ") for line in run.stderr.splitlines() if ": pause " in line)
    assert set(said) == set(RELEASE)
    assert all(what.startswith(("compiled,", "unchanged,")) for what in said.values())
    return {arch for arch, what in said.items() if what.startswith("compiled,")}


def test_the_digests_do_not_depend_on_the_machine(source: Checkout, tmp_path: Path) -> None:
    (tmp_path / "A Folder, of Ümlauts").mkdir()
    places = [
        Checkout.clone(source.root, tmp_path / "here"),
        Checkout.clone(f"file://{source.root}", tmp_path / "A Folder, of Ümlauts" / "b", "--depth=1"),
    ]
    places = [replace(place, umask=umask) for place, umask in zip(places, (0o002, 0o077), strict=True)]
    for path in (places[1].root / "build").rglob("*"):
        os.utime(path, (1, 1))
    runs = [
        places[0]("all-push", TZ="Pacific/Kiritimati", LC_ALL="C", PYTHONHASHSEED="1"),
        places[1]("all-push", TZ="UTC+11", LC_ALL="C.UTF-8", PYTHONHASHSEED="2", USER="b", COLUMNS="20"),
    ]
    assert runs[0].stdout == runs[1].stdout
    made = [{path.name: path.read_bytes() for path in (place.root / "bin").iterdir()} for place in places]
    assert made[0] == made[1]
    assert {f"pause-{arch}{end}" for arch in RELEASE for end in ("", ".tar")} == set(made[0])
    for place in places:
        assert (place.root / "bin/pause-arm").stat().st_mode & 0o777 == 0o777 & ~place.umask
        assert (place.root / "bin/pause-arm.tar").stat().st_mode & 0o777 == 0o666 & ~place.umask


def test_compiler_environment_variables_have_no_effect(released: Released, checkout: Checkout) -> None:
    _, run = released
    strange = {"CPATH": "/nowhere", "CC": "false", "LD_LIBRARY_PATH": "/nowhere", "ZIG_LIB_DIR": "/nowhere"}
    assert checkout("all-push", **strange).stdout == run.stdout


def test_a_touched_file_changes_nothing(checkout: Checkout) -> None:
    checkout("build", "--arch", "all")
    for path in (checkout.root / "pause.c", *(checkout.root / "build/runtime").rglob("*")):
        os.utime(path)
    assert compiled(checkout("build", "--arch", "all")) == set()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("pause.c", {*RELEASE}),
        ("build/runtime/include/signal.h", {*RELEASE}),
        ("build/runtime/link.ld", {*RELEASE}),
        ("build/runtime/arm.c", {"arm"}),
        ("orphan.c", set()),
        ("README.txt", set()),
    ],
)
def test_a_changed_file_recompiles_what_includes_it(checkout: Checkout, path: str, expected: set[str]) -> None:
    checkout("build", "--arch", "all", **FIXED)
    with (checkout.root / path).open("a") as file:
        file.write("\n/* changed */\n")
    assert compiled(checkout("build", "--arch", "all", **FIXED)) == expected


@pytest.mark.parametrize("change", [{"TAG": "3.2"}, {"REV": "another"}, {"CFLAGS": "-O0 -static"}])
def test_a_changed_variable_recompiles(checkout: Checkout, change: dict[str, str]) -> None:
    old = checkout("build", "--arch", "all", **FIXED)
    new = checkout("build", "--arch", "all", **{**FIXED, **change})
    assert compiled(new) == {*RELEASE}
    assert not set(old.digests.values()) & set(new.digests.values())
    assert compiled(checkout("build", "--arch", "all", **FIXED)) == set()


def test_a_changed_time_compiles_nothing(checkout: Checkout) -> None:
    old = checkout("all-push", **FIXED)
    new = checkout("all-push", REV="fixed", SOURCE_DATE_EPOCH="1000000001")
    assert compiled(new) == set()
    assert not set(old.digests.values()) & set(new.digests.values())


def test_a_damaged_cache_is_never_published(released: Released, checkout: Checkout) -> None:
    _, run = released
    checkout("all-push")
    entries = [path for path in (checkout.root / ".cache/pause").glob("??/*") if path.is_file()]
    for path in entries:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    again = checkout("all-push")
    assert compiled(again) == {*RELEASE}
    assert again.stdout == run.stdout
    # Whole entries under each other's names.
    for one, other in zip(entries, [*entries[1:], entries[0]], strict=True):
        one.write_bytes(other.read_bytes())
    again = checkout("all-push")
    assert compiled(again) == {*RELEASE}
    assert again.stdout == run.stdout
    for path in entries:
        path.write_bytes(b"")
    assert checkout("all-push").stdout == run.stdout


def test_a_binary_of_another_cpu_in_bin_is_never_published(released: Released, checkout: Checkout) -> None:
    reference, run = released
    checkout("build", "--arch", "all")
    folder = checkout.root / "bin"
    (folder / "pause-arm64").write_bytes((folder / "pause-amd64").read_bytes())
    assert checkout("all-push").stdout == run.stdout
    assert (folder / "pause-arm64").read_bytes() == (reference.root / "bin/pause-arm64").read_bytes()


def test_a_row_that_compiles_for_another_cpu_is_refused(checkout: Checkout) -> None:
    checkout.edit("arches.yaml", "aarch64-linux-gnu", "x86_64-linux-gnu")
    checkout.edit("arches.yaml", "runtime: aarch64", "runtime: x86_64")
    for _ in ("compiled", "in the cache"):
        message = checkout.refuses(1, "all-push")
        for word in ("bin/pause-arm64", "found EM_X86_64", "expected EM_AARCH64"):
            assert word in message
        assert not (checkout.root / "dist").exists()
        assert not (checkout.root / "bin/pause-arm64").exists()


@pytest.mark.parametrize("tagged", [True, False])
def test_the_revision_is_that_of_git(checkout: Checkout, tmp_path: Path, tagged: bool) -> None:
    if tagged:
        checkout.git("tag", "v3.1-rc.1")
    revision = "v3.1-rc.1" if tagged else checkout.revision

    def version() -> str:
        checkout("build", "--arch", "amd64")
        return says((checkout.root / "bin/pause-amd64").read_bytes(), "x86_64", tmp_path)

    assert version() == f"pause.c v3.1-{revision}\n"
    (checkout.root / "new").write_text("not git's")
    assert version() == f"pause.c v3.1-{revision}\n"
    (checkout.root / "orphan.c").write_text("changed")
    assert version() == f"pause.c v3.1-{revision}-dirty\n"
    checkout("push")
    _, config = inspect("oci:dist/pause-amd64:3.1", "--config", cwd=checkout.root)
    assert config["config"]["Labels"]["org.opencontainers.image.revision"] == f"{revision}-dirty"
