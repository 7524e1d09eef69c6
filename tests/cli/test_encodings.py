"""Output and names that are not UTF-8: characters that are lacking are escaped, bytes are kept, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import TIMEOUT, Checkout

BYTE = os.fsdecode(b"\xff")
# What a C locale is without the coercion of PEP 538 and PEP 540.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_reason_that_stdout_cannot_show(checkout: Checkout) -> None:
    checkout("build")
    run = checkout("--dry", "build", "--tag", "3.2", PYTHONIOENCODING="ascii")
    assert r"(TAG 3.1 \u2192 3.2)" in run.stdout
    assert r"(TAG 3.1 → 3.2)" in checkout("--dry", "build", "--tag", "3.2").stdout


def test_what_stdout_can_show_stays(checkout: Checkout) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "invoke", "push", "--verbose"],
        cwd=checkout.root,
        env=checkout.environment(REGISTRY="oci:é→", PYTHONIOENCODING="latin-1"),
        capture_output=True,
        check=True,
        timeout=TIMEOUT,
    )
    assert run.stdout.startswith(b"oci:\xe9\\u2192/pause-amd64:3.1@sha256:")
    assert b"oci:\xe9\\u2192/pause-amd64:3.1: pushed" in run.stderr
    assert (checkout.root / "é→" / "pause-amd64" / "index.json").is_file()


@pytest.mark.parametrize("words", [["--json"], ["--verbose"], ["--quiet"], []])
def test_all_of_a_run_where_only_ascii_is_shown(checkout: Checkout, words: list[str]) -> None:
    checkout("build", CFLAGS="-Os")
    run = checkout("--dry", "all-push", *words, REGISTRY="oci:é→", CFLAGS="-Os -DNAÏVE=→", PYTHONIOENCODING="ascii")
    assert r"\u2192" in run.stdout
    assert run.stdout.isascii()
    assert run.stderr.isascii()


def test_a_header_of_any_name(checkout: Checkout) -> None:
    (checkout.root / f"{BYTE}.h").write_text('#define BYTE "first"\n')
    source = checkout.root / "pause.c"
    source.write_bytes(b'#include "\xff.h"\n' + source.read_bytes())
    assert "pause compiled" in checkout("build", REV="r").stderr
    assert "pause unchanged" in checkout("build", REV="r").stderr
    (checkout.root / f"{BYTE}.h").write_text('#define BYTE "second"\n')
    assert r"(\udcff.h changed)" in checkout("--dry", "build", "--cflags", "-O1", REV="r").stdout.replace("; ", ")(")


def test_flags_of_any_bytes(checkout: Checkout) -> None:
    (checkout.root / BYTE).mkdir()
    run = checkout("build", "--verbose", CFLAGS=f"-Os -I{BYTE} -DHERE='\"{BYTE}\"'")
    assert r"-I\udcff" in run.stderr


def test_a_pattern_of_any_bytes(checkout: Checkout) -> None:
    (checkout.root / ".dockerignore").write_bytes(b"\xff\n")
    checkout("bake", "--registry", "localhost:5000")
    (checkout.root / ".dockerignore").write_bytes(b"\xff\npause.c\n")
    assert "pause.c: .dockerignore excludes it" in checkout.refuses(2, "bake", "--registry", "localhost:5000")


def test_a_checkout_of_any_name(source: Checkout, tmp_path: Path) -> None:
    checkout = Checkout.clone(source.root, tmp_path / f"{BYTE}checkout")
    (checkout.root / BYTE).touch()
    checkout.git("add", BYTE)
    run = checkout("all-push", GITHUB_OUTPUT=str(tmp_path / BYTE))
    assert run.stderr.startswith(r"\udcff: uncommitted changes: ")
    assert "digests=" in (tmp_path / BYTE).read_text()
    checkout("check")
    checkout("clean")


@pytest.mark.parametrize("flag", ["tag", "arch", "rev", "registry", "timeout", "insecure-registry"])
def test_an_argument_of_any_bytes_is_refused_in_words(checkout: Checkout, flag: str) -> None:
    assert r"\udcff" in checkout.refuses(2, "push", f"--{flag}={BYTE}")


def test_a_folder_has_to_be_utf_8(checkout: Checkout) -> None:
    assert "expected oci:FOLDER, with FOLDER in UTF-8" in checkout.refuses(2, "push", REGISTRY=f"oci:{BYTE}")
    assert "expected oci-archive:FILE, with FILE in UTF-8" in checkout.refuses(
        2, "copy", "oci:dist", f"oci-archive:{BYTE}"
    )


def test_a_name_that_the_locale_lacks(checkout: Checkout) -> None:
    checkout.edit("arches.yaml", "sources: [pause.c]", "sources: [naïve.c]")
    (checkout.root / "pause.c").rename(checkout.root / "naïve.c")
    checkout("build")
    message = checkout.refuses(1, "build", "--tag", "3.2", **ASCII)
    assert message == (r"'\xef' does not exist in ascii, the encoding of file names here" + "\n  set LC_ALL=C.UTF-8\n")
