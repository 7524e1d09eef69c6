"""Each driver by itself: how programs run in it, and that nothing is left of a run that is cancelled."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from build.daemon.client import Daemon, connect
from build.errors import BuildError, UsageError
from build.report import tracing
from build.verify.docker import Docker as DockerDriver
from build.verify.driver import Driver, Method, NotRunError, Subject
from build.verify.drivers import choose
from build.verify.emulators import method_in_container, method_on_host
from build.verify.namespaces import Namespaces
from build.verify.podman import Podman as PodmanDriver
from build.verify.processes import until
from build.verify.trials import CHECKS
from build.verify.verdicts import Verdict
from build.verify.verify import check_arch
from tests.support.checkout import SETTINGS, SOURCE
from tests.support.components import lack
from tests.support.daemons import Docker
from tests.support.pidns import until as wait_until
from tests.support.podman import Podman, own_podman
from tests.support.programs import Programs, processes_of

NAMES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}
NATIVE = SETTINGS.arches[NAMES[os.uname().machine]]
FOREIGN = SETTINGS.arches["s390x" if os.uname().machine != "s390x" else "arm64"]
DEAF = [("    sigaddset(signals, SIGTERM);\n", ""), ("    sigaddset(signals, SIGINT);\n", "")]
REAPER = ("    signal(SIGCHLD, SIG_IGN);\n", "")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return Programs(tmp_path_factory.mktemp("programs"))


async def cancelled(subject: Subject, driver: Driver, step: int, is_time: Callable[[], bool] | None = None) -> None:
    """Run the checks, and cancel them when the driver takes this step (a command, or a request to the daemon).

    That is at once, halfway through the step, or as soon as `is_time` after it.
    """
    loop, steps = asyncio.get_running_loop(), list[str]()

    def trace(line: str) -> None:
        steps.append(line)
        if len(steps) == step and is_time is None:
            loop.call_soon_threadsafe(task.cancel)

    with tracing(trace):
        task = asyncio.create_task(check_arch(subject, driver, patience=120))
        if is_time is not None:
            assert await until(lambda: task.done() or (len(steps) >= step and is_time()), 60)
            assert not task.done()
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def figures(verdict: Verdict) -> dict[str, str]:
    assert verdict.failures == []
    return {each.check: each.figure for each in verdict.findings}


def test_no_emulator_and_no_binfmt(tmp_path: Path) -> None:
    with pytest.raises(NotRunError, match="apt-get install qemu-user-static"):
        method_on_host(FOREIGN, path="", binfmt=tmp_path)
    with pytest.raises(NotRunError, match="apt-get install qemu-user-static binfmt-support"):
        method_in_container("docker", FOREIGN, tmp_path)
    handler = tmp_path / f"qemu-{FOREIGN.qemu}"
    handler.write_text("enabled\ninterpreter /usr/bin/x\nflags: POC\n")
    assert method_on_host(FOREIGN, path="", binfmt=tmp_path) == Method("binfmt")
    with pytest.raises(NotRunError, match="has no flag F"):
        method_in_container("docker", FOREIGN, tmp_path)
    handler.write_text("enabled\ninterpreter /usr/bin/x\nflags: F\n")
    assert method_in_container("docker", FOREIGN, tmp_path) == Method("docker, binfmt")
    (tmp_path / "status").write_text("disabled\n")
    with pytest.raises(NotRunError):
        method_in_container("docker", FOREIGN, tmp_path)
    (tmp_path / "status").unlink()
    handler.write_text("disabled\nflags: F\n")
    with pytest.raises(NotRunError):
        method_on_host(FOREIGN, path="", binfmt=tmp_path)


def test_this_machines_own_programs_need_nothing(tmp_path: Path) -> None:
    assert method_on_host(NATIVE, path="", binfmt=tmp_path) == Method("native", native=True)
    assert method_in_container("podman", NATIVE, tmp_path) == Method("podman, native", native=True)


def test_drivers_are_chosen_by_name(tmp_path: Path) -> None:
    async def refuse() -> Daemon:
        raise BuildError("no Docker daemon answers")

    drivers = [choose(name, refuse, tmp_path)() for name in ("namespaces", "docker", "podman")]
    assert [driver.name for driver in drivers] == ["namespaces", "docker", "podman"]
    assert [driver.direct for driver in drivers] == [True, False, False]
    with pytest.raises(BuildError, match=r"^no Docker daemon answers$"):
        asyncio.run(drivers[1].prepare())
    with pytest.raises(UsageError) as refusal:
        choose("dokcer", refuse, tmp_path)
    expected = "unknown driver 'dokcer': did you mean 'docker'?\n  known: namespaces, docker, podman"
    assert str(refusal.value) == expected


# --- Namespaces ---


@pytest.fixture
def namespaces(tmp_path: Path) -> Namespaces:
    driver = Namespaces(tmp_path / "scratch")
    try:
        asyncio.run(driver.prepare())
    except BuildError as error:
        lack(str(error))
    return driver


def left_of(driver: Namespaces | PodmanDriver) -> list[object]:
    """What is left at once of a run; it must be nothing."""
    return [*processes_of(driver.base), *(driver.base.iterdir() if driver.base.exists() else ())]


@pytest.mark.parametrize("step", [1, 2, 3, 4])
@pytest.mark.parametrize("runs", [False, True], ids=["starting", "running"])
def test_cancelled_namespaces_leave_nothing(programs: Programs, namespaces: Namespaces, step: int, runs: bool) -> None:
    """In the first step the program prints its version; in the fourth it ignores a signal that should end it."""
    is_time = (lambda: bool(processes_of(namespaces.base))) if runs else None
    asyncio.run(cancelled(programs.subject(NATIVE, *DEAF), namespaces, step, is_time))
    assert left_of(namespaces) == []


def test_programs_end_with_a_run_that_is_killed(programs: Programs, namespaces: Namespaces) -> None:
    """What SIGKILL leaves behind is its scratch folder, which the next run removes."""
    subject, base = programs.subject(NATIVE), namespaces.base
    files = {name: base.parent / name for name in ("pause", "orphan")}
    files["pause"].write_bytes(subject.program)
    files["orphan"].write_bytes(subject.orphan)
    script = f"""
import asyncio
from pathlib import Path
from build.verify.driver import Subject
from build.verify.namespaces import Namespaces
from tests.support.checkout import SETTINGS

async def main():
    pause, orphan = (Path(path).read_bytes() for path in {[str(path) for path in files.values()]})
    subject = Subject(SETTINGS.arches[{NATIVE.name!r}], pause, "", orphan, None)
    async with Namespaces(Path({str(base)!r})).site(subject) as site, site.start(), site.start(first=False):
        await asyncio.Event().wait()

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=SOURCE) as run:
        try:
            wait_until("both programs run", lambda: run.poll() is not None or len(processes_of(base)) == 3)
            assert run.poll() is None
        finally:
            run.kill()
    wait_until("no process is left", lambda: not processes_of(base))
    assert len(list(base.iterdir())) == 1
    asyncio.run(cancelled(subject, namespaces, 1))
    assert left_of(namespaces) == []


# --- Podman ---


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Podman]:
    with own_podman() as own:
        for name, value in own.environment.items():
            monkeypatch.setenv(name, value)
        yield own


@pytest.mark.xdist_group("podman")
def test_podman_runs_an_image(programs: Programs, engine: Podman, tmp_path: Path) -> None:
    driver = PodmanDriver(tmp_path)
    asyncio.run(driver.prepare())
    verdict = asyncio.run(check_arch(programs.subject(NATIVE), driver))
    assert verdict.way == "podman, native"
    assert list(figures(verdict)) == list(CHECKS)
    assert figures(verdict)["orphans"] == "1001"
    faulty = asyncio.run(check_arch(programs.subject(NATIVE, REAPER), driver))
    assert [each.check for each in faulty.failures] == ["orphans"]
    assert (engine.containers(), engine.images(), left_of(driver)) == ([], [], [])


@pytest.mark.xdist_group("podman")
@pytest.mark.usefixtures("emulators")
def test_podman_runs_another_cpus_image(programs: Programs, engine: Podman, tmp_path: Path) -> None:
    verdict = asyncio.run(check_arch(programs.subject(FOREIGN), PodmanDriver(tmp_path)))
    assert verdict.way == "podman, binfmt"
    assert figures(verdict)["memory"].endswith("kB with emulator")
    assert (engine.containers(), engine.images()) == ([], [])


@pytest.mark.xdist_group("podman")
@pytest.mark.parametrize("step", range(1, 13))
def test_a_cancelled_podman_leaves_nothing(programs: Programs, engine: Podman, tmp_path: Path, step: int) -> None:
    driver = PodmanDriver(tmp_path)
    asyncio.run(cancelled(programs.subject(NATIVE, *DEAF), driver, step))
    assert (engine.containers(), engine.images(), left_of(driver)) == ([], [], [])


@pytest.mark.xdist_group("podman")
def test_a_podman_that_runs_containers_leaves_nothing(programs: Programs, engine: Podman, tmp_path: Path) -> None:
    driver = PodmanDriver(tmp_path)
    for step in (4, 20):
        asyncio.run(cancelled(programs.subject(NATIVE, *DEAF), driver, step, lambda: bool(engine.containers())))
        assert (engine.containers(), engine.images(), left_of(driver)) == ([], [], [])


# --- Docker ---


def driver_of(daemon: Docker, base: Path) -> DockerDriver:
    return DockerDriver(lambda: connect({"DOCKER_HOST": daemon.host}), base / "scratch")


def containers(daemon: Docker) -> set[object]:
    """The ids of its containers that run programs for these checks, or have run them."""
    return set(daemon("ps", "--all", "--quiet", "--filter=label=io.k8s.pause.verify").split())


def images_of(daemon: Docker) -> set[object]:
    """The ids of its images."""
    return set(daemon("images", "--quiet", "--no-trunc").split())


@pytest.mark.xdist_group("docker")
def test_docker_runs_an_image(programs: Programs, docker: Docker, tmp_path: Path) -> None:
    images, driver = images_of(docker), driver_of(docker, tmp_path)
    asyncio.run(driver.prepare())
    verdict = asyncio.run(check_arch(programs.subject(NATIVE), driver))
    assert verdict.way == "docker, native"
    assert list(figures(verdict)) == list(CHECKS)
    assert figures(verdict)["orphans"] == "1001"
    faulty = asyncio.run(check_arch(programs.subject(NATIVE, REAPER), driver_of(docker, tmp_path)))
    assert [each.check for each in faulty.failures] == ["orphans"]
    assert (containers(docker), images_of(docker)) == (set(), images)


@pytest.mark.xdist_group("docker")
@pytest.mark.parametrize("step", range(1, 17))
def test_a_cancelled_docker_leaves_nothing(programs: Programs, docker: Docker, tmp_path: Path, step: int) -> None:
    images, subject = images_of(docker), programs.subject(NATIVE, *DEAF)
    asyncio.run(cancelled(subject, driver_of(docker, tmp_path), step))
    assert (containers(docker), images_of(docker)) == (set(), images)
    assert not (tmp_path / "scratch").exists()


@pytest.mark.xdist_group("docker")
def test_a_docker_that_runs_containers_leaves_nothing(programs: Programs, docker: Docker, tmp_path: Path) -> None:
    images, subject = images_of(docker), programs.subject(NATIVE, *DEAF)
    for step in (4, 20):
        asyncio.run(cancelled(subject, driver_of(docker, tmp_path), step, lambda: bool(containers(docker))))
        assert (containers(docker), images_of(docker)) == (set(), images)
        assert not (tmp_path / "scratch").exists()
