"""How fast is a release? Our engines, the Makefile, and the tools that others would take, in turn, round by round."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.figures import spread, table
from bench.judge import Verdict, judge
from bench.registry import empty_registry
from bench.running import Checkout, FailedError, absent, run
from bench.tools import (
    LEFT_OUT,
    OTHER_TAG,
    SCENARIOS,
    TOOLCHAIN,
    Job,
    Tool,
    bake,
    buildah,
    by_docker,
    crane,
    embedded,
    makefile,
    skopeo,
)
from build.config.parse import read_settings

NAMES = ("embedded", "docker", "make -j5", "make", "skopeo copy", "buildah", "docker buildx bake", "crane push", "ko")
_BY_DOCKER = ("docker", "make", "make -j5", "docker buildx bake")
# Docker's settings of whoever measures; the plugins are all that is taken from there.
_SETTINGS = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker").absolute()
_EMPTY = "from invoke import task\n\n@task\ndef empty(c):\n    'Do nothing.'\n"

Seconds = dict[str, list[float]]


def measure(rounds: int, only: Collection[str]) -> dict[str, Any]:
    """All that the report says; without words in `only` of all tools."""
    names = [name for name in NAMES if not only or name in only]
    with TemporaryDirectory(prefix="bench") as folder, _daemon(names) as (daemon, missing):
        scratch = Path(folder)
        left_out = {**missing, **absent(_commands(names)), **LEFT_OUT}
        tools = _tools([name for name in names if name not in left_out], scratch, daemon)
        judged = _judged(tools, scratch, left_out)
        tools = {name: tool for name, tool in tools.items() if name in judged}
        idle, taken = _rounds(tools, rounds, _empty_task(scratch))
    return {
        "rounds": rounds,
        "scenarios": list(SCENARIOS),
        "empty task": spread([each for found in idle.values() for each in found]) if idle else None,
        "times the empty task": {
            scenario: spread([run / empty for run, empty in zip(taken["embedded"][scenario], found, strict=True)], 2)
            for scenario, found in idle.items()
        },
        "tools": {
            name: {
                "does": tool.does,
                "seconds": {scenario: spread(found) for scenario, found in taken[name].items()},
                "times embedded": _ratios(taken[name], taken.get("embedded", {})),
                "judged": judged[name].fields(),
            }
            for name, tool in tools.items()
        },
        "absent": {name: left_out[name] for name in names if name in left_out},
    }


def shown(report: Mapping[str, Any]) -> str:
    """Tables for people: seconds, times our embedded engine, and what the tools made."""
    scenarios, tools = report["scenarios"], report["tools"]
    rows = [["", "", *scenarios]]
    for name, tool in tools.items():
        rows.append([name, tool["does"], *(_cell(tool["seconds"].get(each), " s") for each in scenarios)])
    for name, tool in tools.items():
        if name != "embedded" and tool["times embedded"]:
            rows.append([name, "times embedded", *(_cell(tool["times embedded"].get(each), "") for each in scenarios)])
    if report["times the empty task"]:
        times = [_cell(report["times the empty task"].get(each), "") for each in scenarios]
        rows.append(["embedded", "times the empty task", *times])
    made = [["", "platforms in list", "in configs", "same digest twice", "invoke check"]]
    for name, tool in tools.items():
        found = tool["judged"]
        same = "yes" if found["same_twice"] else "no"
        made.append([name, f"{found['in_list']} of 5", f"{found['in_configs']} of 5", same, found["check"][:60]])
    left_out = [f"{name}: left out: {reason}" for name, reason in report["absent"].items()]
    return "\n".join([table(rows), "", table(made), *left_out])


def _cell(found: Mapping[str, float] | None, unit: str) -> str:
    return f"{found['median']:.2f}{unit} ({found['least']:.2f} to {found['most']:.2f})" if found else "-"


def _commands(names: Collection[str]) -> dict[str, str]:
    wanted = {"make": "make", "make -j5": "make", "skopeo copy": "skopeo", "buildah": "buildah", "crane push": "crane"}
    return {name: command for name, command in wanted.items() if name in names}


def _tools(names: Collection[str], scratch: Path, daemon: Mapping[str, str]) -> dict[str, Tool]:
    arches = read_settings(Checkout.clone(scratch, "table").root / "arches.yaml")
    release = arches.select(arches.defaults.release)
    make: dict[str, Callable[[Checkout], Tool]] = {
        "embedded": embedded,
        "docker": lambda checkout: by_docker(checkout, daemon),
        "make -j5": lambda checkout: makefile(checkout, scratch / "parallel", daemon, "-j5"),
        "make": lambda checkout: makefile(checkout, scratch / "serial", daemon),
        "docker buildx bake": lambda checkout: bake(checkout, release, daemon),
        "skopeo copy": lambda checkout: skopeo(checkout, release),
        "crane push": lambda checkout: crane(checkout, release),
        "buildah": lambda checkout: buildah(checkout, release, scratch / "buildah"),
    }
    return {name: make[name](Checkout.clone(scratch, f"for-{name.replace(' ', '-')}")) for name in names}


def _judged(tools: Mapping[str, Tool], scratch: Path, left_out: dict[str, str]) -> dict[str, Verdict]:
    """A tool that does not do its work here is left out, with its own words."""
    checkout = Checkout.clone(scratch, "judge")
    settings = read_settings(checkout.root / "arches.yaml")
    platforms = [arch.platform for arch in settings.select(settings.defaults.release)]
    judged = {}
    for name, tool in tools.items():
        try:
            judged[name] = judge(tool, platforms, checkout)
        except FailedError as error:
            left_out[name] = str(error)
        print(f"{name}: {judged.get(name) or left_out[name]}", file=sys.stderr)
    return judged


def _rounds(tools: Mapping[str, Tool], rounds: int, empty: Checkout) -> tuple[Seconds, dict[str, Seconds]]:
    """Seconds of the empty task before each run of the embedded engine, and of each tool, by scenario."""
    idle: Seconds = {}
    taken: dict[str, Seconds] = {name: {} for name in tools}
    for number in range(rounds):
        for name, tool in tools.items():
            with empty_registry() as host:
                tool.forget()
                tool.edit(False)
                for scenario in tool.scenarios:
                    if name == "embedded":
                        idle.setdefault(scenario, []).append(empty.invoke("empty").seconds)
                    taken[name].setdefault(scenario, []).append(_timed(tool, scenario, host))
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return idle, taken


def _timed(tool: Tool, scenario: str, host: str) -> float:
    changed = scenario == "source"
    if changed:
        tool.edit(True)
    job = Job(host, OTHER_TAG, changed=False) if scenario == "tag" else Job(host, changed=changed)
    start = time.perf_counter()
    tool.publish(job)
    return time.perf_counter() - start


def _ratios(taken: Seconds, ours: Seconds) -> dict[str, dict[str, float]]:
    """Round by round, so that a machine whose speed varies varies for both."""
    return {
        scenario: spread([theirs / mine for theirs, mine in zip(found, ours[scenario], strict=True)], 2)
        for scenario, found in taken.items()
        if scenario in ours
    }


def _empty_task(scratch: Path) -> Checkout:
    empty = Checkout(scratch / "empty", scratch / "home")
    empty.root.mkdir()
    (empty.root / "tasks.py").write_text(_EMPTY)
    empty.invoke("empty")
    return empty


@contextmanager
def _daemon(names: Collection[str]) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """The variables that name a daemon of our own, or why those tools that want one are left out."""
    wanted = [name for name in _BY_DOCKER if name in names]
    missing: dict[str, str] = {}
    for command in ("unshare", "dockerd", "docker"):
        missing |= absent(dict.fromkeys(wanted, command))
    if os.geteuid() != 0:
        missing |= dict.fromkeys(wanted, "dockerd: needs root")
    if "docker buildx bake" in wanted and not missing and not _buildx():
        missing["docker buildx bake"] = "docker buildx: not found"
    if set(wanted) <= set(missing):
        yield {}, missing
        return
    from tests.support.daemons import private, toolchain_root

    root = toolchain_root()
    with private() as docker, TemporaryDirectory() as config:
        docker("import", str(root), TOOLCHAIN)
        Path(config, "cli-plugins").symlink_to(_SETTINGS / "cli-plugins")
        given = {"DOCKER_HOST": docker.host, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": config}
        yield {**given, "DOCKER_CLI_EXPERIMENTAL": "enabled"}, missing


def _buildx() -> bool:
    with TemporaryDirectory() as home:
        try:
            run(["docker", "buildx", "version"], Path(home), Path(home), DOCKER_CONFIG=str(_SETTINGS))
        except FailedError:
            return False
    return True
