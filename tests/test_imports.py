"""Imports run downwards between folders, never in a circle, and what is heavy is loaded only by runs that need it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the top down. What stands directly in build/ may be imported by all.
FOLDERS = (
    *("cli", "release", "attest", "engines", "verify", "compilers"),
    *("image", "daemon", "stores", "config", "cache", "oci"),
)
RANK = {folder: -row for row, folder in enumerate(FOLDERS)}
MOST_MODULES, MOST_ENTRIES = 10, 17

# Each takes a noticeable part of a short run to load.
HEAVY = {
    "cryptography",
    "docker",
    "dockerfile_parse",
    "elftools",
    "filelock",
    "httpx2",
    "jinja2",
    "pefile",
    "license_expression",
    "nacl",
    "requests",
    "rich",
    "securesystemslib",
    "spdx_tools",
    "tarfile",
    "truststore",
    "urllib3",
    "yaml",
}
# Modules whose whole purpose is such a library; functions import them in turn.
ALLOWED = {
    ("build.attest.sbom.sbom", "license_expression"),
    ("build.attest.sbom.sbom", "spdx_tools"),
    ("build.compilers.sources", "tarfile"),
    ("build.oci.untar", "tarfile"),
    ("build.stores.archive.members", "tarfile"),
    ("build.verify.docker", "tarfile"),
}
# What `invoke --list` loads.
LISTED = {
    *("build.cli", "build.cli.options", "build.cli.output", "build.cli.parser", "build.cli.progress"),
    *("build.cli.run", "build.errors", "build.report"),
}


@dataclass(frozen=True)
class Import:
    importer: str
    imported: str
    at_top: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in [ROOT / "tasks.py", *(ROOT / "build").rglob("*.py")]}


def names(node: ast.stmt) -> Iterator[str]:
    """The modules that an import statement names; `from build.compilers import elf` names a module, not a value."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, "a relative import: write the whole name"
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            yield whole if whole in PATHS else str(node.module)


def imports(importer: str) -> Iterator[Import]:
    tree = ast.parse(PATHS[importer].read_text())
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (Import(importer, imported, id(node) in top) for imported in names(node))


EVERY = [each for importer in PATHS for each in imports(importer)]
OURS = [each for each in EVERY if each.imported in PATHS]


def rank(module: str) -> int:
    """Higher is nearer to the user; modules that all may use are below every folder."""
    if module == "tasks":
        return 1
    folder = module.split(".")[1] if module.count(".") else ""
    return RANK.get(folder, -len(FOLDERS))


def test_every_folder_has_its_place() -> None:
    folders = {path.parent.name for path in (ROOT / "build").glob("*/__init__.py")}
    assert folders <= set(FOLDERS)


@pytest.mark.parametrize("importer", PATHS)
def test_no_import_runs_up(importer: str) -> None:
    up = [each.imported for each in OURS if each.importer == importer and rank(each.imported) > rank(importer)]
    assert up == []


def test_no_circle_of_modules() -> None:
    graph: dict[str, set[str]] = {}
    for each in OURS:
        graph.setdefault(each.importer, set()).add(each.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_folders_stay_small() -> None:
    tracked = subprocess.run(["git", "ls-files", "build"], cwd=ROOT, check=True, capture_output=True, text=True)
    files = [Path(name) for name in tracked.stdout.split() if (ROOT / name).exists()]
    assert len({path.parts[1] for path in files}) <= MOST_ENTRIES
    for folder in {path.parent for path in files if path.suffix == ".py"} - {Path("build")}:
        modules = [path for path in files if path.parent == folder and path.suffix == ".py"]
        assert len(modules) - 1 <= MOST_MODULES, folder


def test_every_folder_says_what_it_is_for() -> None:
    for path in (ROOT / "build").rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_the_reader_of_imports_sees_them() -> None:
    assert Import("tasks", "build.cli.options", at_top=True) in EVERY
    assert Import("tasks", "build.cli.commands.building", at_top=False) in EVERY


def test_stores_do_not_know_each_other() -> None:
    stores = ("build.stores.layout", "build.stores.registry", "build.stores.archive")
    for each in OURS:
        own = next((store for store in stores if each.importer.startswith(store)), None)
        others = [store for store in stores if store != own and each.imported.startswith(store)]
        assert own is None or others == [], each


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    at_top = {(each.importer, each.imported.split(".", 1)[0]) for each in EVERY if each.at_top}
    assert {each for each in at_top if each[1] in HEAVY} <= ALLOWED


def test_listing_the_tasks_loads_none_of_them() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "invoke", "--list"]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "all-push" in run.stdout
    loaded = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines() if line.startswith("import time:")}
    assert "build.cli.options" in loaded
    ours = HEAVY - {"yaml"}  # Invoke reads its own configuration with it
    assert {name.split(".", 1)[0] for name in loaded} & ours == set()
    assert {name for name in loaded if name.startswith("build.")} == LISTED
