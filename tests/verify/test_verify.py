"""`verify`: a correct pause passes every check, and each fault of a pause fails the check that is made for it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from build.config.arches import Arch
from build.errors import BuildError
from build.report import DONE, FAILED, VERIFY, Event
from build.verify.driver import Driver, Method, Site, Subject
from build.verify.namespaces import Namespaces
from build.verify.trials import CHECKS
from build.verify.verdicts import Finding, Verdict, VerifyError, plain, refuse, rich
from build.verify.verify import check_arch, methods, run_checks, unverified
from tests.support.checkout import RELEASE, SETTINGS, Checkout, results
from tests.support.components import lack, need
from tests.support.pidns import until
from tests.support.programs import Programs, processes_of
from tests.support.registries import Recorder

AMD64, ARM64 = SETTINGS.arches["amd64"], SETTINGS.arches["arm64"]
FOREIGN = SETTINGS.arches["s390x" if os.uname().machine != "s390x" else "arm64"]
REAPER = ("    signal(SIGCHLD, SIG_IGN);\n", "")
SLEEP = "    if (sigwait(signals, &number) != 0)\n"
DEAF = [("    sigaddset(signals, SIGTERM);\n", ""), ("    sigaddset(signals, SIGINT);\n", "")]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    if os.uname().machine != "x86_64":
        pytest.skip("faults are tested on x86-64 only, correct programs on every CPU")
    lacking_namespaces()
    return Programs(tmp_path_factory.mktemp("programs"))


class Counting:
    """A driver that counts what is asked of it, and fails for one arch while another one runs."""

    def __init__(self, driver: Driver, fails: str = "") -> None:
        self.driver, self.fails = driver, fails
        self.name, self.direct = driver.name, driver.direct
        self.prepared = self.now = self.most = 0

    async def prepare(self) -> None:
        self.prepared += 1
        await self.driver.prepare()

    def method(self, arch: Arch) -> Method:
        return self.driver.method(arch)

    @asynccontextmanager
    async def site(self, subject: Subject) -> AsyncIterator[Site]:
        async with self.driver.site(subject) as site:
            self.now += 1
            self.most = max(self.most, self.now)
            if subject.arch.name == self.fails:
                raise BuildError(f"{self.fails}: no engine")
            try:
                yield site
            finally:
                self.now -= 1


def lacking_namespaces() -> None:
    need("unshare", "util-linux")
    try:
        asyncio.run(Namespaces(Path()).prepare())
    except BuildError as error:
        lack(str(error))


def checked(subject: Subject, base: Path, patience: float = 10) -> Verdict:
    """The verdict in plain namespaces; no scratch folder is left."""
    verdict = asyncio.run(check_arch(subject, Namespaces(base), patience))
    assert not base.exists() or list(base.iterdir()) == []
    return verdict


def failing(subject: Subject, base: Path) -> set[str]:
    """The checks that fail; each waits no longer than a correct program could need on a busy machine."""
    return {each.check for each in checked(subject, base, patience=4).failures}


def test_a_correct_pause_passes(programs: Programs, tmp_path: Path) -> None:
    assert failing(programs.subject(AMD64), tmp_path) == set()


@pytest.mark.parametrize(
    ("edits", "checks"),
    [
        pytest.param([REAPER], {"orphans"}, id="no reaper"),
        pytest.param([("    sigaddset(signals, SIGTERM);\n", "")], {"SIGTERM", "other signals"}, id="ignores SIGTERM"),
        pytest.param([("    sigaddset(signals, SIGINT);\n", "")], {"SIGINT"}, id="ignores SIGINT"),
        pytest.param(
            [("    return wait_for_termination(&signals);", "    return wait_for_termination(&signals) + 1;")],
            {"SIGINT", "SIGTERM", "other signals"},
            id="exits non-zero",
        ),
        pytest.param([("got signal: Interrupt", "got signal: Hangup")], {"SIGINT"}, id="another message"),
        pytest.param([('"pause.c " VERSION', '"pause.c x" VERSION')], {"version"}, id="wrong version"),
        pytest.param(
            [("sigaddset(signals, SIGTERM);", "sigaddset(signals, SIGTERM); sigaddset(signals, SIGHUP);")],
            {"other signals"},
            id="ends on SIGHUP",
        ),
        pytest.param([("getpid() != 1", "getpid() != 0")], {"silent"}, id="talks as PID 1"),
        pytest.param([("getpid() != 1", "getpid() < 0")], {"warns"}, id="silent elsewhere"),
    ],
)
def test_a_fault_fails_its_check(
    programs: Programs, edits: list[tuple[str, str]], checks: set[str], tmp_path: Path
) -> None:
    assert failing(programs.subject(AMD64, *edits), tmp_path) == checks


@pytest.mark.parametrize("awake", ["getpid();", "sched_yield();"], ids=["spins", "yields"])
def test_a_pause_that_never_sleeps_is_found(programs: Programs, awake: str, tmp_path: Path) -> None:
    edits = [
        ("#include <string.h>", "#include <sched.h>\n#include <string.h>"),
        (SLEEP, f"    for (;;) {awake}\n{SLEEP}"),
    ]
    verdict = checked(programs.subject(AMD64, *edits), tmp_path, patience=0.5)
    [rests] = [each for each in verdict.failures if each.check == "rests"]
    assert rests.figure == "not idle after 0.5 s"


def test_another_cpus_program_under_the_right_name_is_found(programs: Programs, tmp_path: Path) -> None:
    verdict = checked(replace(programs.subject(AMD64), program=programs.pause(ARM64)), tmp_path)
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
        figures = {one["name"]: one["figure"] for one in each["checks"] if one["passed"]}
        assert list(figures) == list(CHECKS)
        assert figures["version"] == checkout.version
        assert figures["orphans"] == "1001"
        native = each["method"] == "native"
        assert native or each["method"] == f"qemu-{SETTINGS.arches[each['arch']].qemu}-static"
        assert figures["memory"].endswith("kB" if native else "kB with emulator")
    assert {path.name for path in (checkout.root / "bin").iterdir()} == {f"pause-{arch}" for arch in RELEASE}
    assert list((checkout.side / "tmp").iterdir()) == []


@pytest.fixture
def native() -> str:
    """The arch that runs here with no emulator."""
    lacking_namespaces()
    return {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}[os.uname().machine]


def test_a_table_for_people(checkout: Checkout, native: str) -> None:
    arch = native
    head, row = checkout("verify", "--arch", arch).stdout.splitlines()
    assert head.split("  ")[0].strip() == "arch"
    assert row.split()[:2] == [arch, "native"]
    assert row.index("native") == head.index("run")
    checkout.edit("pause.c", "    signal(SIGCHLD, SIG_IGN);\n", "")
    run = checkout.ends("verify", "--arch", arch)
    assert run.code == 1
    assert run.stderr.count("pause.c: uncommitted changes") == 1
    head, row = run.stdout.splitlines()
    assert row.index("FAILED") == head.index("orphans")
    assert f"\nverify: 1 of 1 arches did not pass\n  {arch}: orphans: " in run.stderr
    assert "orphans are zombies" in run.stderr
    run = checkout.ends("verify", "--arch", arch, "--json")
    assert run.code == 1
    assert [one["name"] for one in results(run)[0]["checks"] if not one["passed"]] == ["orphans"]


def test_images_run_side_by_side_and_in_order(programs: Programs, tmp_path: Path) -> None:
    need("qemu-aarch64-static", "qemu-user-static")
    driver, events = Counting(Namespaces(tmp_path)), list[str | Event]()
    arches = [replace(AMD64, name=f"amd64x{number}") for number in range(3)]
    found = {**methods(driver, [ARM64, replace(FOREIGN, qemu="nothing"), *arches])}
    subjects = {arch: replace(programs.subject(AMD64), arch=arch) for arch in arches}
    subjects[arches[1]] = replace(programs.subject(AMD64, REAPER), arch=arches[1])
    subjects[ARM64] = programs.subject(ARM64)
    verdicts = asyncio.run(run_checks("pause", driver, found, subjects, events.append))
    assert [each.arch for each in verdicts] == ["arm64", FOREIGN.name, "amd64x0", "amd64x1", "amd64x2"]
    assert {each.image for each in verdicts} == {"pause"}
    assert [each.way for each in verdicts] == ["qemu-aarch64-static", None, "native", "native", "native"]
    assert verdicts[1].hint.startswith(f"{FOREIGN.name}: qemu-nothing-static is not installed\n")
    assert [each.check for verdict in verdicts for each in verdict.failures] == ["orphans"]
    assert (driver.prepared, driver.most) == (1, min(4, os.cpu_count() or 1))
    ends = {(each.arch, each.stage, each.text) for each in events if isinstance(each, Event) and each.text}
    assert ends == {
        ("arm64", DONE, "arm64: passed (qemu-aarch64-static)"),
        ("amd64x0", DONE, "amd64x0: passed (native)"),
        ("amd64x1", FAILED, "amd64x1: failed: orphans (native)"),
        ("amd64x2", DONE, "amd64x2: passed (native)"),
    }
    for arch in (ARM64, *arches):
        stages = [each.stage for each in events if isinstance(each, Event) and each.arch == arch.name]
        assert stages[0] == VERIFY
        assert len(stages) == 2


def test_nothing_is_prepared_for_nothing(tmp_path: Path) -> None:
    driver = Counting(Namespaces(tmp_path))
    found = methods(driver, [replace(FOREIGN, qemu="nothing")])
    [verdict] = asyncio.run(run_checks("pause", driver, found, {}, lambda _: None))
    assert (verdict.way, verdict.findings, driver.prepared) == (None, (), 0)
    assert unverified("pause", found) == [verdict]


def test_a_driver_that_fails_ends_all(programs: Programs, tmp_path: Path) -> None:
    """The arch that still runs would wait for its deaf program for a minute."""
    arches = [AMD64, replace(AMD64, name="other")]
    driver = Counting(Namespaces(tmp_path), fails="other")
    subjects = {arch: replace(programs.subject(AMD64, *DEAF), arch=arch) for arch in arches}
    with pytest.raises(BuildError, match=r"^other: no engine$"):
        asyncio.run(run_checks("pause", driver, methods(driver, arches), subjects, lambda _: None))
    assert not tmp_path.exists() or list(tmp_path.iterdir()) == []


def test_a_refusal_names_each_arch_and_check() -> None:
    passed = Verdict("amd64", "native", (Finding("cpu", True, "EM_X86_64"),), image="pause")
    failed = Verdict("arm", "binfmt", (Finding("cpu", True, "EM_ARM"), Finding("rests", False, "no")), image="pause")
    not_run = Verdict("s390x", None, hint="s390x: no emulator\n  install one", image="pause")
    refuse([passed], allow_not_run=False)
    refuse([passed, not_run], allow_not_run=True)
    with pytest.raises(VerifyError) as refusal:
        refuse([passed, failed, not_run], allow_not_run=False)
    assert str(refusal.value) == (
        "2 of 3 arches did not pass\n  arm: rests: no\n  s390x: not run: no emulator\n  install one"
        "\n  or accept arches that can't be run here: --allow-not-run"
    )
    with pytest.raises(VerifyError, match=r"^1 of 3 arches did not pass\n  other: arm: rests: no$"):
        refuse([passed, replace(failed, image="other"), not_run], allow_not_run=True)


def test_a_table_in_plain_text() -> None:
    verdicts = [
        Verdict("arm", "binfmt", (Finding("cpu", True, "EM_ARM"), Finding("rests", False, "no"))),
        Verdict("s390x", None, hint="s390x: no"),
    ]
    assert plain(verdicts).splitlines() == [
        "arch   run      cpu     rests",
        "arm    binfmt   EM_ARM  FAILED",
        "s390x  not run",
    ]
    two = plain([replace(verdicts[0], image="pause"), replace(verdicts[0], image="debug")]).splitlines()
    assert [line.split()[0] for line in two] == ["image", "pause", "debug"]


def test_a_table_for_a_terminal() -> None:
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


def test_what_a_driver_lacks_is_reported(checkout: Checkout, native: str) -> None:
    arch = native
    assert "known: namespaces, docker, podman" in checkout.refuses(2, "verify", "--with", "dokcer")
    message = checkout.refuses(1, "verify", "--with=docker", "--arch", arch, DOCKER_HOST="unix:///nowhere")
    assert "no Docker daemon is running" in message
    (checkout.side / "path").mkdir()
    for tool in ("git", "env"):
        (checkout.side / "path" / tool).symlink_to(need(tool, tool))
    path = str(checkout.side / "path")
    assert "apt-get install podman" in checkout.refuses(1, "verify", "--with=podman", "--arch", arch, PATH=path)
    assert "unshare is not installed" in checkout.refuses(1, "verify", "--arch", arch, PATH=path)


def test_no_right_to_make_namespaces(checkout: Checkout, native: str) -> None:
    arch = native
    if os.geteuid() != 0:
        lack("only root can drop a capability")
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
    assert "can't create a PID namespace" in run.stderr
    assert "--with docker" in run.stderr


@pytest.mark.parametrize("words", [["verify"], ["all-push", "--verify"]], ids=" ".join)
def test_ctrl_c_leaves_nothing(checkout: Checkout, words: list[str]) -> None:
    lacking_namespaces()
    # Deaf, so that some program always waits for a signal that it ignores.
    for edit in DEAF:
        checkout.edit("pause.c", *edit)

    with checkout.start(*words) as run:
        try:
            until("programs run", lambda: run.poll() is not None or bool(processes_of(checkout.root)), patience=60)
            folders = set(processes_of(checkout.root).values())
            run.send_signal(signal.SIGINT)
            run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 130
    until("no process is left", lambda: not processes_of(checkout.root))
    assert [folder for folder in folders if folder.exists()] == []
    assert list((checkout.side / "tmp").iterdir()) == []


def test_a_dry_run_runs_nothing(checkout: Checkout, native: str) -> None:
    arch = native
    before = checkout.snapshot()
    head, row = checkout("--dry", "verify", "--arch", arch).stdout.splitlines()
    assert head.split() == ["arch", "run"]
    assert row.split() == [arch, "native"]
    assert checkout.snapshot() == before


# --- images that are not pause ---

SLEEP_ROW = """
  sleep:
    tag: "1.0"
    repository: "{registry}/sleep"
    arch-reference: "{registry}/sleep-{arch}:{tag}"
    dockerfile: Dockerfile.j2
    sources: [sleep.c]
    user: "1"
    entrypoint: [/sleep]
"""
SLEEP_PROGRAM = """#include <string.h>
#include <unistd.h>

int main(void)
{
    const char *text = "sleep " VERSION "\\n";
    return write(STDOUT_FILENO, text, strlen(text)) < 0;
}
"""


@pytest.fixture
def two(checkout: Checkout) -> Checkout:
    """A checkout with an image of a program that only prints its version."""
    checkout.edit("arches.yaml", "\ndefaults:\n", f"{SLEEP_ROW}\ndefaults:\n")
    (checkout.root / "sleep.c").write_text(SLEEP_PROGRAM)
    return checkout


def asked(checkout: Checkout, key: str) -> None:
    """Add a key to the row of `sleep`."""
    checkout.edit("arches.yaml", "    entrypoint: [/sleep]\n", f"    entrypoint: [/sleep]\n    {key}\n")


def test_an_image_is_held_to_what_its_row_asks_for(two: Checkout, native: str) -> None:
    asked(two, 'verify: {version: "sleep {version}", checks: [version, cpu]}')
    two.commit("a second image")
    pause, sleep = results(two("verify", "--arch", native, "--json"))
    assert [one["name"] for one in pause["checks"]] == list(CHECKS)
    assert [(one["name"], one["passed"]) for one in sleep["checks"]] == [("cpu", True), ("version", True)]
    assert sleep["checks"][1]["figure"] == f"v1.0-{two.revision}"
    assert "orphan compiled" not in two("verify", "--arch", native, "--image", "sleep", "--rev", "new").stderr


def test_an_image_that_is_not_to_be_run(two: Checkout, native: str, recorder: Recorder) -> None:
    asked(two, "verify: none")
    [pause] = results(two("verify", "--arch", native, "--json"))
    assert pause["image"] == "pause"
    run = two("verify", "--arch", native, "--image", "sleep")
    assert run.stdout == ""
    assert "sleep: not run, because its row in arches.yaml asks for no checks (key verify)" in run.stderr
    words = ("all-push", "--verify", "--arch", native, "--image", "sleep")
    assert len(two(*words, REGISTRY=recorder.host).digests) == 2


def test_a_failed_check_is_one_line(two: Checkout, native: str) -> None:
    (two.root / "sleep.c").write_text(SLEEP_PROGRAM.replace("sleep ", "\\n".join(["much"] * 300)))
    run = two.ends("verify", "--arch", native, "--image", "sleep")
    assert run.code == 1
    heading, *failures = run.stderr.partition("verify: 1 of 1 arches did not pass\n")[2].splitlines()
    assert all(line.startswith(f"  {native}: ") for line in (heading, *failures)), run.stderr
    assert len(failures) + 1 == run.stdout.count("FAILED")
    assert max(map(len, failures)) < 400
