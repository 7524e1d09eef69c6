"""`verify`: a sound pause passes each check, and each check fails a pause with the fault it is for."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from build.compilers.compiler import RUNTIME, Program
from build.compilers.zig import Zig
from build.errors import BuildError
from build.verify.driver import NotRunError, Subject
from build.verify.emulators import by_any_means, in_a_container
from build.verify.namespaces import Namespaces
from build.verify.processes import Watch
from build.verify.trials import CHECKS
from build.verify.verdicts import Finding, Verdict, rich
from build.verify.verify import try_one
from tests.support.checkout import RELEASE, SETTINGS, SOURCE, Checkout, results
from tests.support.components import lack, need
from tests.support.pidns import until

VERSION = "v3.1-test"
CFLAGS = ("-Os", "-Wall", "-static")
AMD64, ARM64 = SETTINGS.arches["amd64"], SETTINGS.arches["arm64"]
SLEEP = "    if (sigwait(endings, &ending) != 0)\n"


class Programs:
    """pause and orphan for amd64, and pauses with a fault: each edit replaces a text that occurs exactly once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.zig = Zig(folder / "zig")
        self.orphan = self.zig(SOURCE, Program("orphan", ("orphan.c",), CFLAGS, VERSION), AMD64)
        self.pause = self.zig(SOURCE, Program("pause", ("pause.c",), CFLAGS, VERSION), AMD64)

    def subject(self, *edits: tuple[str, str]) -> Subject:
        return Subject(AMD64, self.faulty(*edits), VERSION, self.orphan, lambda: b"")

    def faulty(self, *edits: tuple[str, str]) -> bytes:
        root = self.folder / f"pause-{len(list(self.folder.iterdir()))}"
        shutil.copytree(SOURCE / RUNTIME, root / RUNTIME)
        text = (SOURCE / "pause.c").read_text()
        for old, new in edits:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (root / "pause.c").write_text(text)
        return self.zig(root, Program("pause", ("pause.c",), CFLAGS, VERSION), AMD64)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    if os.uname().machine != "x86_64":
        pytest.skip("faults are tried on x86-64, and sound programs on every CPU")
    lacking_namespaces()
    return Programs(tmp_path_factory.mktemp("programs"))


def lacking_namespaces() -> None:
    need("unshare", "util-linux")
    try:
        Namespaces().prepare()
    except BuildError as error:
        lack(str(error))


def failing(subject: Subject) -> set[str]:
    """The checks that fail; each waits no longer than a sound program could need on a busy machine."""
    return {each.check for each in try_one(subject, Namespaces(), Watch(), patience=4).failures}


def test_a_sound_pause_passes(programs: Programs) -> None:
    assert failing(programs.subject()) == set()


@pytest.mark.parametrize(
    ("edits", "checks"),
    [
        pytest.param([("    signal(SIGCHLD, SIG_IGN);\n", "")], {"orphans"}, id="no reaper"),
        pytest.param([("    sigaddset(endings, SIGTERM);\n", "")], {"SIGTERM", "other signals"}, id="ignores SIGTERM"),
        pytest.param([("    sigaddset(endings, SIGINT);\n", "")], {"SIGINT"}, id="ignores SIGINT"),
        pytest.param(
            [("    return await_ending(&endings);", "    return await_ending(&endings) + 1;")],
            {"SIGINT", "SIGTERM", "other signals"},
            id="exits non-zero",
        ),
        pytest.param([("got signal: Interrupt", "got signal: Hangup")], {"SIGINT"}, id="another message"),
        pytest.param([('"pause.c " VERSION', '"pause.c x" VERSION')], {"version"}, id="wrong version"),
        pytest.param(
            [("sigaddset(endings, SIGTERM);", "sigaddset(endings, SIGTERM); sigaddset(endings, SIGHUP);")],
            {"other signals"},
            id="ends on SIGHUP",
        ),
        pytest.param([("getpid() != 1", "getpid() != 0")], {"silent"}, id="talks as PID 1"),
        pytest.param([("getpid() != 1", "getpid() < 0")], {"warns"}, id="silent elsewhere"),
    ],
)
def test_a_fault_fails_the_check_that_is_for_it(
    programs: Programs, edits: list[tuple[str, str]], checks: set[str]
) -> None:
    assert failing(programs.subject(*edits)) == checks


@pytest.mark.parametrize("awake", ["getpid();", "sched_yield();"], ids=["spins", "yields"])
def test_a_pause_that_never_sleeps_is_found(programs: Programs, awake: str) -> None:
    edits = [
        ("#include <string.h>", "#include <sched.h>\n#include <string.h>"),
        (SLEEP, f"    for (;;) {awake}\n{SLEEP}"),
    ]
    verdict = try_one(programs.subject(*edits), Namespaces(), Watch(), patience=0.5)
    [rests] = [each for each in verdict.failures if each.check == "rests"]
    assert rests.figure.startswith("it does not come to rest")


def test_another_cpus_program_under_the_right_name_is_found(programs: Programs) -> None:
    stranger = programs.zig(SOURCE, Program("pause", ("pause.c",), CFLAGS, VERSION), ARM64)
    verdict = try_one(replace(programs.subject(), program=stranger), Namespaces(), Watch())
    [cpu] = verdict.findings
    assert (cpu.check, cpu.passed) == ("cpu", False)
    assert "found EM_AARCH64, expected EM_X86_64" in cpu.figure


def test_every_arch_of_the_release_passes(checkout: Checkout) -> None:
    lacking_namespaces()
    for arch in RELEASE:
        need(f"qemu-{SETTINGS.arches[arch].qemu}-static", "qemu-user-static")
    verdicts = results(checkout("verify", "--json"))
    assert [each["arch"] for each in verdicts] == list(RELEASE)
    for each in verdicts:
        figures = {one["check"]: one["figure"] for one in each["findings"] if one["passed"]}
        assert list(figures) == list(CHECKS)
        assert figures["version"] == checkout.version
        assert figures["orphans"] == "1001"
        native = each["way"] == "native"
        assert native or each["way"] == f"qemu-{SETTINGS.arches[each['arch']].qemu}-static"
        assert figures["memory"].endswith("kB" if native else "kB with emulator")
    assert {path.name for path in (checkout.root / "bin").iterdir()} == {f"pause-{arch}" for arch in RELEASE}
    assert list((checkout.side / "tmp").iterdir()) == []


@pytest.fixture
def native() -> str:
    """The arch that runs here with no emulator."""
    lacking_namespaces()
    return {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}[os.uname().machine]


def test_a_table_that_people_can_read(checkout: Checkout, native: str) -> None:
    arch = native
    head, row = checkout("verify", "--arch", arch).stdout.splitlines()
    assert head.split("  ")[0].strip() == "arch"
    assert row.split()[:2] == [arch, "native"]
    assert row.index("native") == head.index("run")
    checkout.edit("pause.c", "    signal(SIGCHLD, SIG_IGN);\n", "")
    run = checkout.ends("verify", "--arch", arch)
    assert run.code == 1
    assert run.stderr.count("pause.c: changed and not committed") == 1
    head, row = run.stdout.splitlines()
    assert row.index("FAILED") == head.index("orphans")
    assert f"\nverify: 1 of 1 arches have not passed\n{arch}: orphans: " in run.stderr
    assert "orphans are zombies" in run.stderr
    run = checkout.ends("verify", "--arch", arch, "--json")
    assert run.code == 1
    assert [one["check"] for one in json.loads(run.stdout)["results"][0]["findings"] if not one["passed"]] == [
        "orphans"
    ]


def test_a_terminal_gets_what_was_found_too() -> None:
    found = (Finding("cpu", True, "EM_ARM"), Finding("orphans", False, "9 of 9 orphans are zombies"))
    verdicts = [Verdict("arm", "binfmt", found), Verdict("arm64", None, hint="arm64: no")]
    text = rich(verdicts, width=100)
    assert "\x1b[" in text
    for words in ("arch", "orphans", "arm64", "binfmt", "EM_ARM", "FAILED", "not run"):
        assert words in text


def test_an_arch_that_does_not_run_here(checkout: Checkout) -> None:
    lacking_namespaces()
    foreign = "s390x" if os.uname().machine != "s390x" else "arm64"
    checkout.edit("arches.yaml", f"    qemu: {SETTINGS.arches[foreign].qemu}\n", "    qemu: nothing\n")
    run = checkout.ends("verify", "--arch", foreign)
    assert run.code == 1
    assert run.stdout.splitlines()[1].split() == [foreign, "not", "run"]
    hint = f"{foreign}: not run: qemu-nothing-static is not installed\n  apt-get install qemu-user-static"
    assert hint in run.stderr
    assert "--allow-not-run" in run.stderr
    assert checkout("verify", "--arch", foreign, "--allow-not-run").stdout == run.stdout


def test_no_emulator_and_no_binfmt(tmp_path: Path) -> None:
    foreign = SETTINGS.arches["s390x" if os.uname().machine != "s390x" else "arm64"]
    with pytest.raises(NotRunError, match="apt-get install qemu-user-static"):
        by_any_means(foreign, path="", binfmt=tmp_path)
    with pytest.raises(NotRunError, match="apt-get install qemu-user-static binfmt-support"):
        in_a_container(foreign, tmp_path)
    handler = tmp_path / f"qemu-{foreign.qemu}"
    handler.write_text("enabled\ninterpreter /usr/bin/x\nflags: POC\n")
    assert by_any_means(foreign, path="", binfmt=tmp_path).name == "binfmt"
    with pytest.raises(NotRunError, match="has no flag F"):
        in_a_container(foreign, tmp_path)
    handler.write_text("disabled\nflags: F\n")
    with pytest.raises(NotRunError):
        by_any_means(foreign, path="", binfmt=tmp_path)


def test_what_a_driver_lacks_is_said(checkout: Checkout, native: str) -> None:
    arch = native
    assert "known: namespaces, docker, podman" in checkout.refuses(2, "verify", "--with", "dokcer")
    message = checkout.refuses(1, "verify", "--with=docker", "--arch", arch, DOCKER_HOST="unix:///nowhere")
    assert "no Docker daemon answers" in message
    (checkout.side / "path").mkdir()
    for tool in ("git", "env"):
        (checkout.side / "path" / tool).symlink_to(need(tool, tool))
    path = str(checkout.side / "path")
    assert "apt-get install podman" in checkout.refuses(1, "verify", "--with=podman", "--arch", arch, PATH=path)
    assert "unshare is not installed" in checkout.refuses(1, "verify", "--arch", arch, PATH=path)


def test_no_right_to_make_namespaces(checkout: Checkout, native: str) -> None:
    arch = native
    if os.geteuid() != 0:
        lack("a right can be taken away by root alone")
    command = [need("setpriv", "util-linux"), "--bounding-set=-sys_admin", sys.executable, "-m", "invoke", "verify"]
    run = subprocess.run(
        [*command, "--arch", arch],
        cwd=checkout.root,
        env=checkout.environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert "expected a PID namespace to be made" in run.stderr
    assert "--with docker" in run.stderr


@pytest.mark.parametrize("words", [["verify"], ["all-push", "--verify"]], ids=" ".join)
def test_ctrl_c_leaves_nothing(checkout: Checkout, words: list[str]) -> None:
    lacking_namespaces()
    # Deaf, so that there is always a program that waits to be told to end.
    checkout.edit("pause.c", "    sigaddset(endings, SIGTERM);\n", "")
    checkout.edit("pause.c", "    sigaddset(endings, SIGINT);\n", "")

    def ours() -> list[Path]:
        return [each for each in Path("/proc").iterdir() if each.name.isdigit() and mentions(each, checkout.side)]

    with checkout.start(*words) as run:
        try:
            until("programs run", lambda: run.poll() is not None or bool(ours()), patience=60)
            run.send_signal(signal.SIGINT)
            run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 130
    until("no process is left", lambda: not ours())
    assert list((checkout.side / "tmp").iterdir()) == []


def mentions(process: Path, folder: Path) -> bool:
    try:
        return f"{folder}/tmp/verify-".encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False


def test_a_dry_run_runs_nothing(checkout: Checkout, native: str) -> None:
    arch = native
    before = checkout.snapshot()
    head, row = checkout("--dry", "verify", "--arch", arch).stdout.splitlines()
    assert head.split() == ["arch", "run"]
    assert row.split() == [arch, "native"]
    assert checkout.snapshot() == before
