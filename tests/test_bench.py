"""Each measurement in its smallest form says what its report promises, and the picture is the one of the figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.components import lack, need

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
MACHINE = {"cpu", "cores", "memory_mib", "kernel", "system", "python", "tools", "date", "commit", "load"}
SPREAD = {"median", "least", "most"}


def bench(results: Path, *words: str, path: str = os.environ["PATH"], patience: float = 120) -> str:
    """What `python -m bench WORDS` prints; it succeeds, within so many seconds."""
    command = [sys.executable, "-m", "bench", *words, "--results", str(results)]
    known = {**os.environ, "PATH": path}
    run = subprocess.run(command, cwd=ROOT, env=known, check=False, capture_output=True, text=True, timeout=patience)
    assert run.returncode == 0, run.stderr
    return run.stdout


def report(results: Path, question: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((results / f"{question}.json").read_text())
    assert found["question"] == question
    assert set(found["machine"]) == MACHINE
    return found


def test_a_release_is_timed_judged_and_told_beside_an_absent_tool(tmp_path: Path) -> None:
    need("docker-registry", "docker-registry")
    only = ["--only", "embedded", "--only", "crane push", "--only", "ko"]
    printed = bench(tmp_path, "release", "--rounds", "1", *only, path=_without(tmp_path / "path", "crane"))
    found = report(tmp_path, "release")
    assert set(found["tools"]) == {"embedded"}
    assert found["absent"]["crane push"] == "crane: not found"
    assert "crane push: left out: crane: not found" in printed
    assert "ko: left out: " in printed
    ours = found["tools"]["embedded"]
    assert set(ours["seconds"]) == set(found["scenarios"]) == {"cold", "nothing", "source", "tag"}
    assert all(set(each) == SPREAD for each in (*ours["seconds"].values(), *found["times the empty task"].values()))
    assert ours["judged"] == {"in_list": 5, "in_configs": 5, "check": "passes", "same_twice": True}


@pytest.mark.parametrize("command", ["docker", "dockerd"])
def test_without_docker_all_that_want_it_are_left_out_by_name(tmp_path: Path, command: str) -> None:
    need("unshare", "util-linux")
    if os.geteuid() != 0:
        lack("dockerd: needs root")
    names = ("docker", "make -j5", "make", "docker buildx bake")
    only = [f"--only={name}" for name in names]
    printed = bench(tmp_path, "release", "--rounds", "1", *only, path=_without(tmp_path / "path", command))
    assert report(tmp_path, "release")["tools"] == {}
    for name in names:
        assert f"{name}: left out: {command}: not found\n" in printed


@pytest.mark.xdist_group("docker")
def test_docker_buildx_bake_publishes_what_is_right_where_it_is_installed(tmp_path: Path) -> None:
    need("docker-registry", "docker-registry")
    for command in ("docker", "dockerd"):
        need(command, "docker.io")
    if os.geteuid() != 0:
        lack("dockerd: needs root")
    buildx = subprocess.run(["docker", "buildx", "version"], check=False, capture_output=True)
    printed = bench(tmp_path, "release", "--rounds", "1", "--only", "docker buildx bake", patience=600)
    found = report(tmp_path, "release")
    if buildx.returncode:
        assert "docker buildx bake: left out: docker buildx: not found\n" in printed
        return
    assert found["absent"] == {}
    tool = found["tools"]["docker buildx bake"]
    assert set(tool["seconds"]) == set(found["scenarios"])
    judged = tool["judged"]
    assert (judged["in_list"], judged["in_configs"], judged["check"]) == (5, 5, "passes")


def test_growth_counts_requests_and_bytes(tmp_path: Path) -> None:
    need("docker-registry", "docker-registry")
    sizes = ["--rows", "1,5", "--images", "1", "--latencies", "0,5", "--rounds", "1"]
    printed = bench(tmp_path, "growth", *sizes)
    found = report(tmp_path, "growth")
    for kind in ("cold", "nothing"):
        assert set(found["arches"][kind]) == {"1", "5"}
        assert set(found["arches"][kind]["5"]) == {"seconds", "requests", "sent"}
    assert found["arches"]["nothing"]["5"]["requests"] == 6  # a question for each tag
    assert found["arches"]["cold"]["5"]["sent"] > found["arches"]["cold"]["1"]["sent"] > 0
    assert set(found["images"]["cold"]) == {"1"}
    assert set(found["round trips"]["5"]) == {"publish", "nothing"}
    assert all(f": {claim['says']}: {claim['figures']}" in printed for claim in found["claims"])


def test_a_node_is_read_from_proc(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        lack("PID namespaces of other processes: need root")
    need("nsenter", "util-linux")
    words = ["--rounds", "1", "--orphans", "50", "--starts", "5", "--only", "pause", "--only", "handler"]
    bench(tmp_path, "node", *words)
    found = report(tmp_path, "node")
    need("x86_64-linux-gnu-gcc", "gcc")
    ours, theirs = found["builds"]["pause"], found["builds"]["handler"]
    assert len(ours["bytes"]) == len(ours["image bytes"]) == 5
    assert ours["wake-ups"] == 0 < theirs["wake-ups"]
    assert ours["Private"] < theirs["Private"]
    assert ours["ready per second"]["median"] > 0
    assert set(ours["ms from SIGTERM to exit"]) == SPREAD


def test_without_its_compiler_a_build_is_left_out_by_name(tmp_path: Path) -> None:
    path = _without(tmp_path / "path", "gcc")
    printed = bench(tmp_path, "node", "--only", "glibc", path=path)
    assert report(tmp_path, "node")["builds"] == {}
    assert "glibc: left out: " in printed


def test_the_picture_is_that_of_the_figures(tmp_path: Path) -> None:
    for question in ("release", "growth", "node"):
        found = report(RESULTS, question)
        (tmp_path / f"{question}.json").write_text(json.dumps(found))
    bench(tmp_path, "picture")
    assert (tmp_path / "figures.svg").read_bytes() == (RESULTS / "figures.svg").read_bytes()


def test_no_figure_tells_of_folders_of_the_machine() -> None:
    for file in RESULTS.iterdir():
        assert str(Path.home()) not in file.read_text()
        assert "/tmp/" not in file.read_text()


def test_an_unknown_tool_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"--only crone: known: embedded, docker, "):
        bench(tmp_path, "release", "--only", "crone")


def _without(folder: Path, *names: str) -> str:
    """A PATH that leads to all commands but those whose names end with one of `names`."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for file in Path(place).iterdir() if Path(place).is_dir() else ():
            link = folder / file.name
            if not file.name.endswith(names) and not link.is_symlink():
                link.symlink_to(file)
    return str(folder)
