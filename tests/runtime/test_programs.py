"""The behaviour of pause and orphan: each check passes on both builds, and fails on a mutant made for it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from signal import Signals

import pytest
from elftools.elf.elffile import ELFFile

from build.cache.cache import Cache
from build.cache.installed import folder, version
from build.compilers import elf
from build.compilers.compiler import RUNTIME, Program
from build.compilers.zig import Zig
from build.config.arches import Arch
from build.config.parse import read_settings
from build.errors import BuildError, CompileError
from tests.support.compiling import compiled, key
from tests.support.components import need
from tests.support.pidns import Pod, Process, pod, until

ROOT = Path(__file__).parent.parent.parent
SETTINGS = read_settings(ROOT / "arches.yaml")
ARCHES = SETTINGS.arches
VERSION = "v3.1-test"
CFLAGS = ("-Os", "-Wall", "-Werror", "-static")
# How long a check waits for what a mutant never does.
SHORT = 0.3

Edit = tuple[str, str]


@dataclass(frozen=True)
class Mutant:
    """A program with a fault: each edit replaces text that occurs exactly once."""

    edits: tuple[Edit, ...]
    source: str = "pause.c"
    program: str = "pause"


def mutant(*edits: Edit) -> Mutant:
    return Mutant(edits)


def mutate(folder: Path, change: Mutant) -> None:
    path = folder / change.source
    text = path.read_text()
    for old, new in change.edits:
        assert text.count(old) == 1, f"{change.source}: found {text.count(old)} times, expected once: {old}"
        text = text.replace(old, new)
    path.write_text(text)


class Builds:
    """pause and orphan from one compiler, and mutants of them."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self._made: dict[tuple[str, Mutant | None], Path] = {}

    def __call__(self, program: str, change: Mutant | None = None) -> Path:
        if (program, change) not in self._made:
            root = self._folder / f"{program}-{len(self._made)}"
            root.mkdir()
            for source in ("pause.c", "orphan.c"):
                shutil.copy(ROOT / source, root)
            shutil.copytree(ROOT / RUNTIME, root / RUNTIME)
            if change:
                mutate(root, change)
            self._made[program, change] = self._compile(root, program)
        return self._made[program, change]

    def _compile(self, root: Path, name: str) -> Path:
        output = root / name
        program = Program(name, (f"{name}.c",), CFLAGS, VERSION)
        if self.name == "runtime":
            output.write_bytes(compiled(zig(self._folder), root, program, ARCHES["amd64"]))
            output.chmod(0o755)
        else:
            compiler = need("gcc", "gcc libc6-dev")
            command = [compiler, *CFLAGS, f'-DVERSION="{VERSION}"', *program.sources, "-o", str(output)]
            subprocess.run(command, cwd=root, check=True)
        return output


@cache
def zig(folder: Path) -> Zig:
    return Zig(Cache(folder / "zig"))


@pytest.fixture(scope="module", params=["runtime", "libc"])
def builds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Builds:
    name: str = request.param
    if name == "runtime" and os.uname().machine != "x86_64":
        pytest.skip("the runtime's behaviour is tested on x86-64, and under qemu on all CPUs")
    return Builds(name, tmp_path_factory.mktemp(name))


# --- signals, as PID 1 ---


def check_ends(program: Path, number: Signals, name: str, patience: float = 10) -> None:
    with pod(str(program), program=program) as running:
        running.kill(number)
        assert running.outcome(patience) == (0, "", f"Shutting down, got signal: {name}\n")


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Interrupt"), (signal.SIGTERM, "Terminated")])
def test_sigint_and_sigterm_end_it(builds: Builds, number: Signals, name: str) -> None:
    check_ends(builds("pause"), number, name)
    deaf = mutant((f"    sigaddset(signals, {number.name});\n", ""))
    wrong_name = mutant((f"got signal: {name}", "got signal: Hangup"))
    wrong_status = mutant(
        ("    return wait_for_termination(&signals);", "    return wait_for_termination(&signals) + 1;")
    )
    for faulty in deaf, wrong_name, wrong_status:
        with pytest.raises(AssertionError):
            check_ends(builds("pause", faulty), number, name, SHORT)


def check_survives(program: Path, number: Signals) -> None:
    with pod(str(program), program=program) as running:
        running.kill(number)
        until(f"{number.name} is dealt with", lambda: not running.init.signals("ShdPnd"))
        running.kill(signal.SIGINT)
        assert running.outcome() == (0, "", "Shutting down, got signal: Interrupt\n")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGCONT])
def test_no_other_signal_ends_it(builds: Builds, number: Signals) -> None:
    check_survives(builds("pause"), number)
    faulty = mutant(
        ("sigaddset(signals, SIGTERM);", f"sigaddset(signals, SIGTERM); sigaddset(signals, {number.name});")
    )
    with pytest.raises(AssertionError):
        check_survives(builds("pause", faulty), number)


def check_stop_and_continue(program: Path) -> None:
    with pod(str(program), program=program) as running:
        for _ in range(3):
            running.kill(signal.SIGSTOP)
            until("it is stopped", lambda: running.init.state() == "T")
            running.kill(signal.SIGCONT)
            until("it goes on", lambda: running.init.state() != "T")
        until("it sleeps or has ended", lambda: running.init.state() in ("S", "Z", ""))
        running.kill(signal.SIGTERM)
        assert running.outcome() == (0, "", "Shutting down, got signal: Terminated\n")


def test_stop_and_continue_have_no_effect(builds: Builds) -> None:
    check_stop_and_continue(builds("pause"))
    faults = [mutant(("number == SIGINT", "number == SIGTERM"))]
    if builds.name == "runtime":
        faults.append(Mutant((("while (result == -EINTR);", "while (0);"),), source=f"{RUNTIME}/libc.c"))
    for faulty in faults:
        with pytest.raises(AssertionError):
            check_stop_and_continue(builds("pause", faulty))


# --- -v ---


def check_version(program: Path, arguments: tuple[str, ...], patience: float = 10) -> None:
    try:
        run = subprocess.run([program, *arguments], check=False, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{arguments}: it waits") from None
    assert (run.returncode, run.stdout, run.stderr) == (0, f"pause.c {VERSION}\n", "")


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("-v",), ("return !print(STDOUT_FILENO, ", "return print(STDOUT_FILENO, ")),
        (("-V",), ('strcasecmp(argv[i], "-v") == 0', "argv[i][1] == 'v'")),
        (("-v", "x"), ("i < argc; i++", "i == argc - 1; i++")),
        (("x", "y", "-V"), ("i < argc; i++", "i < 2; i++")),
    ],
)
def test_v_prints_the_version(builds: Builds, arguments: tuple[str, ...], fault: Edit) -> None:
    check_version(builds("pause"), arguments)
    with pytest.raises(AssertionError):
        check_version(builds("pause", mutant(fault)), arguments, SHORT)


def check_other_arguments(program: Path) -> None:
    with pod(str(program), "-vx", "--v", "v", "", program=program) as running:
        running.kill(signal.SIGTERM)
        assert running.outcome() == (0, "", "Shutting down, got signal: Terminated\n")


def test_other_arguments_do_not_print_the_version(builds: Builds) -> None:
    check_other_arguments(builds("pause"))
    with pytest.raises(AssertionError):
        check_other_arguments(builds("pause", mutant(('strcasecmp(argv[i], "-v") == 0', "argv[i][1] == 'v'"))))


# --- not PID 1 ---


def check_warns(program: Path) -> None:
    running = subprocess.Popen([program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        Process(running.pid).await_ready(program)
        running.terminate()
        stdout, stderr = running.communicate(timeout=10)
    finally:
        running.kill()
        running.communicate()
    warning = "Warning: pause should be the first process\n"
    assert (running.returncode, stdout, stderr) == (0, "", f"{warning}Shutting down, got signal: Terminated\n")


def test_it_warns_if_it_is_not_pid_1(builds: Builds) -> None:
    check_warns(builds("pause"))
    for old, new in [
        ("getpid() != 1", "getpid() == 1"),
        ('process\\n");', 'process\\n"), _exit(1);'),
    ]:
        with pytest.raises(AssertionError):
            check_warns(builds("pause", mutant((old, new))))


def check_warns_after_blocking(program: Path) -> None:
    """A full pipe blocks pause while it writes the warning, between its first steps."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, b"." * 4096)
    running = subprocess.Popen([program], stdout=subprocess.DEVNULL, stderr=writer)
    os.close(writer)
    process = Process(running.pid)
    try:
        until("it writes", lambda: signal.SIGCHLD in process.signals("SigIgn") and process.state() == "S")
        assert process.signals("SigBlk") == {signal.SIGINT, signal.SIGTERM}
    finally:
        os.close(reader)
        running.kill()
        running.wait()


def test_no_signal_is_lost_before_the_warning(builds: Builds) -> None:
    check_warns_after_blocking(builds("pause"))
    late = mutant(
        ("    block_termination(&signals);\n    reap", "    reap"),
        ("    return wait_for_termination(", "    block_termination(&signals);\n    return wait_for_termination("),
    )
    with pytest.raises(AssertionError):
        check_warns_after_blocking(builds("pause", late))


# --- children ---

ORPHANS = 1000
WAIT_AND_REAP = """
    do {
        while (waitpid(-1, NULL, WNOHANG) > 0)
            continue;
        if (sigwait(signals, &number) != 0)
            return 1;
    } while (number == SIGCHLD);
"""
WAKES_TO_REAP = mutant(
    ("    signal(SIGCHLD, SIG_IGN);\n", ""),
    ("sigaddset(signals, SIGTERM);", "sigaddset(signals, SIGTERM); sigaddset(signals, SIGCHLD);"),
    ("    if (sigwait(signals, &number) != 0)\n        return 1;\n", WAIT_AND_REAP),
)


def leave_orphans(running: Pod, orphan: Path, count: int) -> None:
    loop = 'i=0; while [ $i -lt $2 ]; do "$1"; i=$((i + 1)); done'
    lines = running.run("sh", "-c", loop, "sh", str(orphan), str(count)).splitlines()
    assert sum(line.startswith("Parent exiting: ") for line in lines) == count
    assert sum(line.startswith("Child exiting: ") and line.endswith(" ppid=1") for line in lines) == count


def check_reaps(program: Path, orphan: Path, count: int = ORPHANS) -> None:
    with pod(str(program), program=program) as running:
        leave_orphans(running, orphan, 1)  # by then its first nap, which is no wake-up, has been counted
        naps = running.init.naps()
        leave_orphans(running, orphan, count)
        until("the orphans have ended", lambda: set(running.init.children().values()) <= {"Z"})
        assert running.init.children() == {}
        assert running.init.naps() == naps
        running.kill(signal.SIGTERM)
        assert running.outcome() == (0, "", "Shutting down, got signal: Terminated\n")


def test_a_thousand_orphans_leave_no_zombie_and_do_not_wake_it(builds: Builds) -> None:
    check_reaps(builds("pause"), builds("orphan"))
    leaves_zombies = mutant(("    signal(SIGCHLD, SIG_IGN);\n", ""))
    with pytest.raises(AssertionError, match="'Z'"):
        check_reaps(builds("pause", leaves_zombies), builds("orphan"), 10)
    with pytest.raises(AssertionError):
        check_reaps(builds("pause", WAKES_TO_REAP), builds("orphan"), 10)


INHERIT = """
import os, sys
for _ in range(5):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
os.execv(sys.argv[1], sys.argv[1:])
"""


def check_reaps_inherited(program: Path) -> None:
    with pod(sys.executable, "-ISc", INHERIT, str(program), program=program) as running:
        assert running.init.children() == {}


def test_zombies_from_before_exec_are_reaped(builds: Builds) -> None:
    check_reaps_inherited(builds("pause"))
    faulty = mutant(("    while (waitpid(-1, NULL, WNOHANG) > 0)\n        continue;\n", ""))
    with pytest.raises(AssertionError, match="'Z'"):
        check_reaps_inherited(builds("pause", faulty))


# --- orphan ---

SUBREAPER = """
import ctypes, os, subprocess, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
status = subprocess.call(sys.argv[1:])
try:
    while True:
        os.wait()
except ChildProcessError:
    sys.exit(status)
"""
LINE = re.compile(r"(Parent|Child) exiting: pid=(\d+) ppid=(\d+)")


def check_orphan(orphan: Path, patience: float = 10) -> None:
    """Run orphan under a subreaper, which adopts its child: orphan must not wait for PID 1."""
    running = subprocess.Popen(
        [sys.executable, "-ISc", SUBREAPER, orphan], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        stdout, _ = running.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        raise AssertionError("orphan does not end") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
    assert running.returncode == 0
    lines = [LINE.fullmatch(line) for line in stdout.splitlines()]
    (who, parent, reaper), (who_then, child, adopter) = [line.groups() for line in lines if line]
    assert (who, who_then) == ("Parent", "Child")
    assert reaper == adopter == str(running.pid)
    assert len({parent, child, reaper}) == 3


def test_orphan_prints_which_process_exits(builds: Builds) -> None:
    check_orphan(builds("orphan"))
    for fault in [
        ("while (getppid() == parent)", "while (getppid() > 1)"),
        ("child > 0 ? run_parent() : run_child(parent)", "child > 0 ? run_child(parent) : run_parent()"),
    ]:
        faulty = Mutant((fault,), source="orphan.c")
        with pytest.raises((AssertionError, ValueError)):
            check_orphan(builds("orphan", faulty), 1)


def check_orphan_without_processes(orphan: Path) -> None:
    def forbid() -> None:
        if os.geteuid() == 0:
            os.setuid(65534)  # root may always fork
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))

    # From its folder: another user need not be able to walk there.
    run = subprocess.run(
        ["./orphan"], cwd=orphan.parent, preexec_fn=forbid, check=False, capture_output=True, text=True, timeout=10
    )
    assert (run.returncode, run.stdout, run.stderr) == (1, "", "orphan: cannot fork\n")


def test_orphan_reports_a_failed_fork(builds: Builds) -> None:
    check_orphan_without_processes(builds("orphan"))
    faulty = Mutant((("child < 0", "child < -999"),), source="orphan.c")
    with pytest.raises(AssertionError):
        check_orphan_without_processes(builds("orphan", faulty))


# --- every CPU ---


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Zig:
    return Zig(Cache(tmp_path_factory.mktemp("zig")))


@pytest.fixture(scope="module", params=[name for name, arch in ARCHES.items() if arch.runtime])
def arch(request: pytest.FixtureRequest) -> Arch:
    name: str = request.param
    return ARCHES[name]


@pytest.fixture(scope="module")
def programs(arch: Arch, compiler: Zig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp(arch.name)
    paths = {name: folder / name for name in ("pause", "orphan")}
    for name, path in paths.items():
        path.write_bytes(compiled(compiler, ROOT, Program(name, (f"{name}.c",), CFLAGS, VERSION), arch))
        path.chmod(0o755)
    return paths


def test_every_runtime_has_a_row() -> None:
    runtimes = {path.stem for path in (ROOT / RUNTIME).glob("*.c")} - {"libc"}
    assert runtimes == {arch.runtime for arch in ARCHES.values() if arch.runtime}


def test_every_cpu_prints_the_version(arch: Arch, programs: dict[str, Path]) -> None:
    qemu = need(f"qemu-{arch.qemu}-static", "qemu-user-static")
    run = subprocess.run([qemu, programs["pause"], "-V"], check=False, capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stdout, run.stderr) == (0, f"pause.c {VERSION}\n", "")


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Interrupt"), (signal.SIGTERM, "Terminated")])
def test_every_cpu_exits_on_a_signal(arch: Arch, programs: dict[str, Path], number: Signals, name: str) -> None:
    qemu = need(f"qemu-{arch.qemu}-static", "qemu-user-static")
    with subprocess.Popen([qemu, programs["pause"]], stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr
            assert running.stderr.readline() == "Warning: pause should be the first process\n"
            running.send_signal(number)
            _, stderr = running.communicate(timeout=30)
            assert (running.returncode, stderr) == (0, f"Shutting down, got signal: {name}\n")
        finally:
            running.kill()


def test_every_cpu_creates_an_orphan(arch: Arch, programs: dict[str, Path]) -> None:
    qemu = need(f"qemu-{arch.qemu}-static", "qemu-user-static")
    run = subprocess.run([qemu, programs["orphan"]], check=False, capture_output=True, text=True, timeout=30)
    assert run.returncode == 0
    assert [line and line[1] for line in map(LINE.fullmatch, run.stdout.splitlines())] == ["Parent", "Child"]


def test_every_binary_is_minimal(arch: Arch, programs: dict[str, Path]) -> None:
    for name, path in programs.items():
        elf.check(path.read_bytes(), arch.header, name)
        with path.open("rb") as file:
            segments = list(ELFFile(file).iter_segments())
            assert {segment["p_type"] for segment in segments} == {"PT_LOAD", "PT_GNU_STACK"}
            for segment in segments:
                writable = bool(segment["p_flags"] & 2)
                assert writable is (segment["p_type"] == "PT_GNU_STACK")
            [stack] = [segment for segment in segments if segment["p_type"] == "PT_GNU_STACK"]
            assert not stack["p_flags"] & 1
        if arch.name in SETTINGS.defaults.release:
            assert path.stat().st_size <= 2048


def test_the_runtime_has_every_header_that_the_programs_include() -> None:
    for source in ("pause.c", "orphan.c"):
        for header in re.findall(r"#include <(.+)>", (ROOT / source).read_text()):
            assert (ROOT / RUNTIME / "include" / header).is_file()


# --- the compiler ---


def test_the_bytes_do_not_depend_on_the_folder(compiler: Zig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "a földer" / "of another name"
    shutil.copytree(ROOT / RUNTIME, elsewhere / RUNTIME)
    shutil.copy(ROOT / "pause.c", elsewhere)
    program = Program("pause", ("pause.c",), CFLAGS, VERSION)
    here = compiled(compiler, ROOT, program, ARCHES["ppc64le"])
    (tmp_path / "tmp").mkdir()
    for name, value in {
        "TMPDIR": str(tmp_path / "tmp"),
        "HOME": "/nowhere",
        "CPATH": "/nowhere",
        "TZ": "UTC+7",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")
    assert compiled(Zig(Cache(tmp_path / "zig")), elsewhere, program, ARCHES["ppc64le"]) == here
    assert list((tmp_path / "tmp").iterdir()) == []


def test_several_sources_share_one_runtime(compiler: Zig, tmp_path: Path) -> None:
    shutil.copytree(ROOT / RUNTIME, tmp_path / RUNTIME)
    (tmp_path / "a.c").write_text("int answer(void);\nint main(void) { return answer(); }\n")
    (tmp_path / "b.c").write_text("int answer(void);\nint answer(void) { return 42; }\n")
    binary = compiled(compiler, tmp_path, Program("two", ("a.c", "b.c"), CFLAGS, VERSION), ARCHES["amd64"])
    (tmp_path / "two").write_bytes(binary)
    (tmp_path / "two").chmod(0o755)
    assert (
        subprocess.run([need("qemu-x86_64-static", "qemu-user-static"), tmp_path / "two"], check=False).returncode == 42
    )


def test_any_version_string_reaches_the_program(compiler: Zig, tmp_path: Path) -> None:
    version = 'v3.1 "é" \\n %d $HOME \'7'
    binary = compiled(compiler, ROOT, Program("pause", ("pause.c",), CFLAGS, version), ARCHES["amd64"])
    (tmp_path / "pause").write_bytes(binary)
    (tmp_path / "pause").chmod(0o755)
    qemu = need("qemu-x86_64-static", "qemu-user-static")
    assert (
        subprocess.run([qemu, tmp_path / "pause", "-v"], stdout=subprocess.PIPE, check=False).stdout
        == f"pause.c {version}\n".encode()
    )


def test_a_compiler_error_has_the_output_and_the_arch(compiler: Zig, tmp_path: Path) -> None:
    shutil.copytree(ROOT / RUNTIME, tmp_path / RUNTIME)
    (tmp_path / "pause.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(CompileError, match=r"(?s)pause for s390x: zig 0\.\S+ failed.*pause\.c:1:25.*'nothing'"):
        compiled(compiler, tmp_path, Program("pause", ("pause.c",), CFLAGS, VERSION), ARCHES["s390x"])


def test_a_missing_source_or_runtime_is_named(compiler: Zig) -> None:
    def looked_up(source: str, arch: Arch) -> None:
        key(compiler, ROOT, Program("pause", (source,), CFLAGS, VERSION), arch)

    with pytest.raises(CompileError, match=r"^pawse\.c: no such file\n  it is named in arches\.yaml"):
        looked_up("pawse.c", ARCHES["arm"])
    with pytest.raises(CompileError, match=r"^build/runtime/vax\.c: no such file\n  it is named in arches\.yaml"):
        looked_up("pause.c", replace(ARCHES["arm"], runtime="vax"))


def test_without_the_wheel_the_message_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    folder.cache_clear()
    version.cache_clear()
    with pytest.raises(BuildError, match=r"^ziglang is not installed\n.*pip install"):
        asyncio.run(Zig(Cache(tmp_path)).identity(ARCHES["arm"]))
