"""`invoke plan`: every step of a release with digest and reason, without any effect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.checkout import RELEASE, Checkout, Run, results
from tests.support.registries import Recorder

BINARY, ARCHIVE = "bin/pause-amd64", "bin/pause-amd64.tar"


def reasons(run: Run) -> dict[str, str]:
    """What each step that is not `kept` is done for."""
    return {name(each): "; ".join(each["reasons"]) for each in results(run) if each["change"] != "kept"}


def name(result: dict[str, Any]) -> str:
    """The path or the reference."""
    found: str = result["path"] if result["kind"] == "file" else result["reference"]
    return found


def changes(run: Run) -> list[str]:
    return [each["change"] for each in results(run)]


def test_it_shows_every_step_and_does_none(checkout: Checkout, recorder: Recorder) -> None:
    before = checkout.snapshot()
    plan = checkout("plan", "--json", REGISTRY=recorder.host)
    assert checkout.snapshot() == before
    assert list((checkout.side / "tmp").iterdir()) == []
    assert {each.method for each in recorder.exchanges} == {"HEAD", "GET"}
    steps = results(plan)
    assert json.loads(plan.stdout)["dry"] is True
    of_an_arch = [("made", "not built here before")] * 2 + [("pushed", "not in the registry")]
    assert [(each["change"], *each["reasons"]) for each in steps] == of_an_arch * len(RELEASE) + of_an_arch[-1:]
    assert [name(each) for each in steps[:3]] == [BINARY, ARCHIVE, f"{recorder.host}/pause-amd64:3.1"]

    planned = {name(each): each["digest"] for each in steps}
    done = checkout("all-push", REGISTRY=recorder.host).digests
    for task in ("build", "container"):
        done |= checkout(task, "--arch", "all", REGISTRY=recorder.host).digests
    assert planned == done
    recorder.forget()
    assert changes(checkout("plan", "--json", REGISTRY=recorder.host)) == ["kept"] * len(steps)
    assert {each.method for each in recorder.exchanges} == {"HEAD"}


def test_the_lines_that_it_prints(checkout: Checkout) -> None:
    checkout("all-push")
    words = ("plan", "--tag", "3.2", "--arch", "arm")
    run = checkout(*words)
    digests = checkout("all-push", *words[1:]).digests
    assert run.stdout.startswith("made    bin/pause-arm@sha256:")
    assert run.stdout.splitlines()[0].endswith("  (TAG 3.1 → 3.2)")
    name = "oci:dist/pause:3.2"
    assert run.stdout.endswith(f"\npushed  {name}@{digests[name]}  (not in the layout)\n")
    assert checkout(*words).stdout.endswith(f"\nkept    {name}@{digests[name]}\n")


@pytest.mark.parametrize(
    ("edit", "words", "binary", "archive"),
    [
        (("pause.c", "int main(", "// more\nint main("), (), "", ""),
        (("pause.c", "pause.c ", "pause: "), (), "pause.c changed", "bin/pause-amd64 changed"),
        (("build/runtime/x86_64.c", '"syscall"', '"nop; syscall"'), (), "build/runtime/x86_64.c changed", "*"),
        (("Dockerfile.j2", "USER ", "STOPSIGNAL SIGINT\nUSER "), (), "", "Dockerfile.j2 changed"),
        (("arches.yaml", "title: pause", "title: paws"), (), "", "labels changed"),
        (("arches.yaml", "65535:65535", "1:1"), (), "", "user 65535:65535 → 1:1"),
        (("arches.yaml", 'tag: "3.1"', 'tag: "3.2"'), (), "TAG 3.1 → 3.2", "TAG 3.1 → 3.2; bin/pause-amd64 changed"),
        ((), ("--tag", "3.2"), "TAG 3.1 → 3.2", "TAG 3.1 → 3.2; bin/pause-amd64 changed"),
        ((), ("--cflags", "-O1 -static"), "CFLAGS -Os -Wall -Werror -static → -O1 -static", "bin/pause-amd64 changed"),
        ((), ("--compiler", "host"), "compiler zig ", "bin/pause-amd64 changed"),
        ((), ("--format", "docker"), "", "FORMAT oci → docker"),
    ],
)
def test_it_shows_what_changed(
    checkout: Checkout, recorder: Recorder, edit: Sequence[str], words: Sequence[str], binary: str, archive: str
) -> None:
    environment = {"REGISTRY": recorder.host, "SOURCE_DATE_EPOCH": "0"}
    checkout("all-push", "--arch", "amd64", "--rev", "old", **environment)
    if edit:
        checkout.edit(*edit)
    given = ("--arch", "amd64", "--rev", "old", "--overwrite", *words)
    plan = checkout("plan", *given, "--json", **environment)
    found = reasons(plan)
    for path, expected in ((BINARY, binary), (ARCHIVE, archive)):
        if expected == "*":
            assert path in found
        elif expected:
            assert set(expected.split("; ")) <= set(found[path].split("; ")) or found[path].startswith(expected)
        else:
            assert path not in found
    real = checkout("all-push", *given, **environment)
    assert real.digests.items() <= {name(each): each["digest"] for each in results(plan)}.items()
    assert set(changes(checkout("plan", *given, "--json", **environment))) == {"kept"}
    assert reasons(checkout("plan", *given, "--json", **environment)) == {}


def test_files_in_the_image_are_inputs(checkout: Checkout) -> None:
    checkout.edit("Dockerfile.j2", "USER ", "COPY NOTICE /NOTICE\nUSER ")
    checkout.edit(".dockerignore", "!pause.c", "!pause.c\n!NOTICE")
    checkout.edit(".dockerignore", "!pause.c\n", "!pause.c\n!NOTICE\n")
    (checkout.root / "NOTICE").write_text("one\n")
    words = ("plan", "--arch", "amd64", "--rev", "old", "--json")
    checkout("all-push", *words[1:-1])
    assert reasons(checkout(*words)) == {}
    (checkout.root / "NOTICE").write_text("two\n")
    assert reasons(checkout(*words))[ARCHIVE] == "NOTICE changed"


def test_the_code_is_an_input(checkout: Checkout) -> None:
    checkout("build", "--rev", "old")
    with (checkout.root / "build/compilers/elf.py").open("a") as file:
        file.write("# more\n")
    checkout.edit("pause.c", "pause.c ", "pause: ")
    words = ("plan", "--arch", "amd64", "--rev", "old", "--json")
    assert reasons(checkout(*words))[BINARY] == "pause.c changed; the code in build changed"


def test_missing_and_different_files(checkout: Checkout) -> None:
    checkout("all-push", "--arch", "amd64")
    (checkout.root / BINARY).unlink()
    (checkout.root / ARCHIVE).write_text("mine")
    run = checkout("plan", "--arch", "amd64", "--json")
    assert reasons(run) == {BINARY: f"{BINARY} is missing", ARCHIVE: f"{ARCHIVE} differs"}
    assert (checkout.root / ARCHIVE).read_text() == "mine"


def test_a_tag_that_may_not_move_is_refused(checkout: Checkout, recorder: Recorder) -> None:
    old = checkout("push", "--rev", "old", REGISTRY=recorder.host).digests[f"{recorder.host}/pause-amd64:3.1"]
    run = checkout.ends("plan", "--rev", "new", "--json", REGISTRY=recorder.host)
    assert run.code == 1
    assert "--overwrite" in run.stderr
    assert f"{recorder.host}/pause-amd64:3.1: the registry has another digest: {old}" in run.stderr
    refused = [name(each) for each in results(run) if each["change"] == "refused"]
    assert refused == [f"{recorder.host}/pause-amd64:3.1"]
    run = checkout("plan", "--rev", "new", "--overwrite", "--json", REGISTRY=recorder.host)
    assert changes(run).count("moved") == 1
    assert "refused" not in changes(run)


def test_dry_tasks_show_reasons(checkout: Checkout) -> None:
    checkout("container", "--rev", "old")
    [line] = checkout("--dry", "container", "--rev", "new").stdout.splitlines()
    assert line.endswith("  (REV old → new; bin/pause-amd64 changed)") or "REV old → new" in line
    assert checkout("--dry", "container", "--rev", "old").stdout.startswith(f"kept    {ARCHIVE}@")


@pytest.mark.xdist_group("docker")
def test_the_docker_engine_plans(checkout: Checkout, recorder: Recorder, toolchain: dict[str, str]) -> None:
    environment = {**toolchain, "REGISTRY": f"{recorder.host}/planned", "ENGINE": "docker"}
    words = ("--arch", "amd64", "--rev", "old")
    plan = checkout("plan", *words, "--json", **environment)
    assert [each["change"] for each in results(plan)] == ["made", "made", "pushed", "pushed"]
    checkout("all-push", *words, **environment)
    assert set(changes(checkout("plan", *words, "--json", **environment))) == {"kept"}
    checkout.edit("pause.c", "pause.c ", "pause: ")
    binary, image, tag, listed = results(checkout("plan", *words, "--overwrite", "--json", **environment))
    assert (binary["change"], binary["reasons"]) == ("made", ["pause.c changed"])
    assert image["change"] == "made"
    assert "bin/pause-amd64 changed" in image["reasons"]
    for each in (tag, listed):
        assert each["change"] == "moved"
        assert each["reasons"][0].startswith("the registry has another digest: sha256:")
    assert "refused" in checkout.ends("plan", *words, **environment).stdout
