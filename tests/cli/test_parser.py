"""What stands on the command line: what is unknown, missing or given twice is named, with status 2."""

from __future__ import annotations

import pytest

from tests.support.checkout import Checkout, Run, document

Released = tuple[Checkout, Run]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("nosuch", ["invoke: unknown task 'nosuch'", "known: all-container", "invoke --list"]),
        ("bild", ["unknown task 'bild': did you mean 'build'?"]),
        ("build extra", ["build: found 'extra', expected a flag or a task\n  see invoke --help build"]),
        ("build arm64", ["build: found 'arm64', expected a flag or a task: did you mean --arch arm64?"]),
        ("build --arch arm arm64", ["did you mean --arch arm64?"]),
        ("build jsn", ["did you mean --json?"]),
        ("build dry", ["did you mean --dry?"]),
        ("build al-push", ["did you mean all-push?"]),
        ("build --json=1", ["build: --json=1: --json takes no value", "invoke --help build"]),
        ("check --json=true", ["check: --json=true: --json takes no value"]),
        (
            "build --arch amd64,arm",
            ["unknown arch 'amd64,arm'", "repeat the flag; in a variable", "blanks: amd64 arm"],
        ),
        ("build --tag 3.1,latest", ["'3.1,latest' is not a tag", "for several, run it once for each"]),
        ("push --registry a.example,b.example", ["not a registry's host", "--registry A --registry B"]),
        ("--help nosuch", ["invoke: unknown task 'nosuch'", "invoke --list"]),
        ("build --list-depth x", ["build: --list-depth: found 'x', expected a whole number"]),
        ("build --aarch arm", ["build: unknown flag '--aarch': did you mean '--arch'?", "invoke --help build"]),
        ("build --timeout 5", ["build: unknown flag '--timeout'"]),
        ("--drry build", ["unknown flag '--drry': did you mean '--dry'?"]),
        ("build --arch", ["build: --arch: found nothing after it"]),
        ("build --rev", ["build: --rev: found nothing after it"]),
        ("verify --with", ["verify: --with: found nothing after it"]),
        ("build --rev a --rev b", ["build: --rev is given twice"]),
        ("copy", ["copy: SRC is missing"]),
        ("copy oci:dist", ["copy: DST is missing"]),
        ("copy oci:dist --jsn", ["copy: unknown flag '--jsn': did you mean '--json'?"]),
    ],
)
def test_wrong_usage(released: Released, words: str, expected: list[str]) -> None:
    checkout, _ = released
    before = checkout.snapshot()
    run = checkout.ends(*words.split())
    assert (run.code, run.stdout) == (2, "")
    for word in expected:
        assert word in run.stderr
    assert "Traceback" not in run.stderr
    assert checkout.snapshot() == before


@pytest.mark.parametrize("words", ["build --aarch arm --json", "build --json --arch", "copy oci:dist --json"])
def test_wrong_usage_in_the_document(released: Released, words: str) -> None:
    checkout, _ = released
    run = checkout.ends(*words.split())
    found = document(run)
    assert (run.code, found["task"], found["results"]) == (2, words.split(maxsplit=1)[0], [])


@pytest.mark.parametrize(
    "words", ["check --help", "copy --help", "copy oci:dist --help", "build --help", "--help check"]
)
def test_help_is_asked_for_anywhere(released: Released, words: str) -> None:
    checkout, _ = released
    assert checkout(*words.split()).stdout.startswith("Usage: ")


def test_core_flags_may_come_late(released: Released) -> None:
    checkout, run = released
    names = [name.removeprefix("oci:dist/") for name in run.digests]
    assert [line.split()[0] for line in checkout("all-push", "--dry").stdout.splitlines()] == ["kept"] * len(names)
    assert checkout("copy", "--dry", "oci:dist", "oci:other").stdout.startswith("pushed ")
    assert not (checkout.root / "other").exists()


def test_check_may_be_called_with_a_word_and_without(released: Released) -> None:
    checkout, run = released
    assert list(checkout("check").digests) == list(run.digests)
    assert len(checkout("check", "oci:dist/pause-arm:3.1").digests) == 1
