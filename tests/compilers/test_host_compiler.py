"""`--compiler host`: the machine's own cross compilers."""

from __future__ import annotations

from pathlib import Path

import pytest

from build.compilers import elf
from tests.support.checkout import SETTINGS, Checkout
from tests.support.components import need
from tests.support.reading import says

BUILD = ("build", "--compiler", "host", "--arch", "arm64")
ARM64 = SETTINGS.arches["arm64"]
GCC = "aarch64-linux-gnu-gcc"


@pytest.fixture(scope="module")
def gcc() -> str:
    return need(GCC, "gcc-aarch64-linux-gnu")


@pytest.mark.parametrize("libc", [False, True], ids=["runtime", "libc"])
def test_it_compiles(checkout: Checkout, tmp_path: Path, gcc: str, libc: bool) -> None:
    assert gcc
    run = checkout(*BUILD, *(["--libc"] if libc else []))
    assert list(run.digests) == ["bin/pause-arm64"]
    binary = (checkout.root / "bin/pause-arm64").read_bytes()
    elf.check(binary, ARM64.header, "pause-arm64")
    assert (b"glibc" in binary, len(binary) < 4096) == (libc, not libc)
    assert says(binary, ARM64.qemu, tmp_path) == f"pause.c {checkout.version}\n"
    assert list((checkout.side / "tmp").iterdir()) == []


def test_a_missing_one_names_its_package(checkout: Checkout) -> None:
    found = checkout.side / "path"
    found.mkdir()
    (found / "git").symlink_to(need("git", "git"))
    message = checkout.refuses(1, *BUILD, "--arch", "amd64", PATH=str(found))
    assert message.startswith(f"arm64: {GCC}: not found on PATH\n")
    assert "apt-get install gcc-aarch64-linux-gnu;" in message
    message = checkout.refuses(1, "build", "--compiler", "host", PATH=str(found))
    assert "apt-get install gcc-x86-64-linux-gnu;" in message
    assert not (checkout.root / "bin").exists()


def test_its_words_and_the_arch(checkout: Checkout, gcc: str) -> None:
    assert gcc
    (checkout.root / "pause.c").write_text("int main(void) { return nothing; }\n")
    message = checkout.refuses(1, *BUILD, LC_ALL="C")
    assert message.startswith(f"pause for arm64: {GCC} failed with exit status 1:\n")
    assert "pause.c:1:25: error: 'nothing' undeclared" in message
    assert list((checkout.side / "tmp").iterdir()) == []


def test_flags_that_prevent_a_binary(checkout: Checkout, gcc: str) -> None:
    assert gcc
    message = checkout.refuses(1, *BUILD, CFLAGS="-fsyntax-only")
    complaint = f"pause for arm64: {GCC} succeeded, but left no binary: No such file or directory\n  remove flags "
    assert message.startswith(complaint)


def test_another_version_compiles_anew(checkout: Checkout, gcc: str) -> None:
    assert "pause compiled, " in checkout(*BUILD).stderr
    assert "pause unchanged, " in checkout(*BUILD).stderr
    newer = checkout.side / GCC
    newer.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{GCC} 99" || exec {gcc} "$@"\n')
    newer.chmod(0o755)
    path = f"{checkout.side}:{checkout.environment()['PATH']}"
    assert "pause compiled, " in checkout(*BUILD, PATH=path).stderr


def test_an_unknown_compiler(checkout: Checkout) -> None:
    assert checkout.refuses(2, "build", "--compiler", "hots").startswith("unknown compiler 'hots'")
