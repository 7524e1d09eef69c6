"""The pipelines of the repository, run here: their own commands, read from their files, each job in a clone of its own.

What CI systems do around them is done as they document it: contexts and expressions of GitHub Actions, files for
outputs, a shell that ends with the first command that fails; variables and scripts of GitLab.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.checkout import SOURCE, TIMEOUT, Checkout

WORKFLOWS = SOURCE / ".github" / "workflows"
INSTALL = "python3 -m venv .venv && .venv/bin/pip install --quiet --require-hashes -r requirements.txt"

Contexts = Mapping[str, Any]


@dataclass
class Machine:
    """What a job has: a clone of the commit, with what INSTALL leaves there, and nothing of any other job."""

    checkout: Checkout
    said: str = ""
    outputs: dict[str, str] = field(default_factory=dict)

    @classmethod
    def new(cls, origin: Checkout, folder: Path) -> Machine:
        checkout = Checkout.clone(origin.root, folder)
        (checkout.root / ".venv").symlink_to(sys.prefix)
        return cls(checkout)

    def run(self, shell: tuple[str, ...], script: str, **environment: str) -> None:
        """A script, which must succeed, with HOME and TMPDIR to itself."""
        ran = subprocess.run(
            [*shell, "-c", script],
            cwd=self.checkout.root,
            env=self.checkout.environment(DOCKER_HOST=f"unix://{self.checkout.side}/none", **environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        self.said += ran.stdout + ran.stderr
        assert ran.returncode == 0, f"{script}\n{ran.stdout}{ran.stderr}"

    def file(self, name: str) -> Path:
        """A file that is there, and empty, before the step begins."""
        path = self.checkout.side / name
        path.touch()
        return path


def load(path: Path) -> dict[str, Any]:
    """A pipeline's file. What is `on` in it YAML 1.1 takes for true."""
    found = yaml.safe_load(path.read_text())
    return {"on" if key is True else key: value for key, value in found.items()}


def outputs(path: Path) -> dict[str, str]:
    """What GitHub Actions reads from the file of GITHUB_OUTPUT: NAME=VALUE, or NAME<<END, lines, and END."""
    found, lines = {}, iter(path.read_text().splitlines())
    for line in lines:
        name, heredoc, end = line.partition("<<")
        if heredoc and "=" not in name:
            value = []
            while (line := next(lines)) != end:
                value.append(line)
            found[name] = "\n".join(value)
        else:
            name, equals, found_value = line.partition("=")
            assert equals, line
            found[name] = found_value
    return found


def resolved(text: Any, contexts: Contexts) -> Any:
    """A value of a workflow, with its `${{ … }}` replaced: dotted names, and `fromJSON` of one."""
    if isinstance(text, dict):
        return {key: resolved(value, contexts) for key, value in text.items()}
    whole = re.fullmatch(r"\$\{\{ fromJSON\((.*)\) \}\}", str(text))
    if whole:
        return json.loads(_named(whole[1], contexts))
    return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: str(_named(found[1], contexts)), str(text))


def _named(name: str, contexts: Contexts) -> Any:
    found: Any = contexts
    first, *_ = parts = name.split(".")
    for part in parts:
        # A variable or a secret that is not set is empty.
        found = found.get(part, "") if first in ("vars", "secrets") else found[part]
    return found


def workflow(path: Path, origin: Checkout, folder: Path, contexts: Contexts) -> dict[str, list[Machine]]:
    """Run a workflow's jobs in the order of the file, those of a matrix at the same time; the machines of each job."""
    document, needs, machines = load(path), dict[str, Any](), dict[str, list[Machine]]()
    for name, job in document["jobs"].items():
        assert set(job.get("needs", "").split()) <= set(needs)
        known = {**contexts, "needs": needs}
        rows = resolved(job["strategy"]["matrix"], known)["include"] if "strategy" in job else [{}]
        there = [Machine.new(origin, folder / f"{name}-{number}") for number in range(len(rows))]
        with ThreadPoolExecutor(len(rows)) as pool:
            ran = [
                pool.submit(_job, machine, document, job, {**known, "matrix": row})
                for machine, row in zip(there, rows, strict=True)
            ]
        for machine, each in zip(there, ran, strict=True):
            machine.outputs = each.result()
        needs[name] = {"outputs": there[-1].outputs}
        machines[name] = there
    return machines


def _job(machine: Machine, document: dict[str, Any], job: dict[str, Any], contexts: Contexts) -> dict[str, str]:
    steps: dict[str, Any] = {}
    for number, step in enumerate(job["steps"]):
        if "uses" in step:
            assert step["uses"].startswith("actions/checkout@")
            continue
        if step["run"] == INSTALL:
            continue
        output = machine.file(f"output-{number}")
        environment = {
            **resolved({**document.get("env", {}), **step.get("env", {})}, contexts),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(machine.file("summary")),
        }
        assert "${{" not in step["run"], "an expression in a script is a hole for whoever names a branch"
        machine.run(("bash", "-e"), step["run"], **environment)
        steps[step.get("id", number)] = {"outputs": outputs(output)}
    told: dict[str, str] = resolved(job.get("outputs", {}), {**contexts, "steps": steps})
    return told


def script(document: Mapping[str, Any], job: str) -> str:
    """What a GitLab job runs, in one shell; all but INSTALL."""
    lines = [*document.get("default", {}).get("before_script", []), *document[job]["script"]]
    assert INSTALL in lines
    return "\n".join(line for line in lines if line != INSTALL)


def variables(document: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """The variables of a GitLab job: those of the file, where `$NAME` is one that is `given`."""
    own = {
        key: re.sub(r"\$(\w+)", lambda found: given[found[1]], value)
        for key, value in document.get("variables", {}).items()
    }
    return {**given, **own}
