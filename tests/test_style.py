"""The tree is clean for the linters, and its documents agree with what runs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "command", ["ruff check --no-cache", "ruff format --check --no-cache", "mypy --no-incremental"]
)
def test_linters_have_nothing_to_say(command: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if not line.startswith(("#", "set "))]
    (command,) = commands
    assert command in (ROOT / "README.md").read_text().splitlines()


def test_locked_versions_are_the_declared_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    test_extra = project["optional-dependencies"]["test"]
    for file, wanted in (
        ("requirements.txt", project["dependencies"]),
        ("requirements-test.txt", project["dependencies"] + test_extra),
    ):
        text = (ROOT / file).read_text()
        locked = dict(re.findall(r"^([a-z0-9_.-]+)==(\S+)", text, re.MULTILINE))
        assert {name: locked.get(name) for name in _versions(wanted)} == _versions(wanted)
        assert text.count("--hash=sha256:") >= len(locked)


def _versions(requirements: list[str]) -> dict[str, str]:
    return dict(re.sub(r"\[.*?\]|;.*", "", requirement).split("==") for requirement in requirements)


def test_no_module_grows_beyond_one_idea() -> None:
    long = {
        str(path): lines
        for path in (ROOT / "build").rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 260
    }
    assert not long
