"""Imports run downwards only, and what is heavy is loaded by those runs alone that need it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the top down. A module may import those in lower rows, and none beside it.
ROWS = (
    {"tasks"},
    {"build.workshop", "build.results"},
    {"build.progress"},
    {"build.pipeline", "build.remote", "build.check", "build.usage", "build.picking", "build.bake", "build.ci"},
    {"build.verify", "build.drivers.choosing", "build.publishing", "build.live"},
    {"build.daemon_images", "build.copying", "build.proof", "build.drivers.docker"},
    {
        *("build.everywhere", "build.making", "build.published", "build.cleaning"),
        *("build.drivers.namespaces", "build.drivers.podman"),
    },
    {"build.drivers.emulators", "build.trials", "build.verdicts"},
    {
        *("build.images", "build.release", "build.layout", "build.registry", "build.docker_engine"),
        "build.archive_source",
        *("build.compilers.zig", "build.compilers.kube_cross", "build.compilers.host"),
    },
    {"build.binaries", "build.compilers.children"},
    {"build.drivers", "build.ingredients", "build.login"},
    {
        "build.publish",
        "build.compilers",
        "build.elf",
        "build.archive",
        "build.revision",
        "build.options",
        "build.command_line",
        "build.completion",
        "build.rootfs",
    },
    {"build.arches", "build.layer", "build.dockerfile", "build.cache", "build.transport", "build.claims", "build.tape"},
    {"build.connections", "build.senders"},
    {"build.http1"},
    {"build.faults", "build.daemon", "build.sinks", "build.validate"},
    {
        *("build.oci", "build.reference", "build.strict_yaml", "build.includes", "build.deflate"),
        *("build.auth", "build.crew", "build.files", "build.installed", "build.trust"),
        *("build.wire", "build.proc"),
    },
    {"build.errors", "build.events", "build.outcomes", "build.trace", "build"},
)
RANK = {module: -row for row, modules in enumerate(ROWS) for module in modules}

# Half of a short run's time each, or near it.
HEAVY = {
    "docker",
    "dockerfile_parse",
    "elftools",
    "filelock",
    "h11",
    "jinja2",
    "requests",
    "rich",
    "tarfile",
    "urllib3",
    "yaml",
}
# Modules whose whole purpose is such a library; they are loaded by a function themselves.
ALLOWED = {
    ("build.transport", "h11"),
    ("build.http1", "h11"),
    ("build.archive_source", "tarfile"),
    ("build.live", "rich"),
    ("build.compilers.kube_cross", "tarfile"),
    ("build.drivers.docker", "tarfile"),
}


# What every run loads.
LISTED = {f"build.{name}" for name in ("command_line", "errors", "events", "options", "remote", "results", "workshop")}


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
    """The modules that an import statement names; `from build import elf` names a module, not a value."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, "a relative import: say the whole name"
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


def test_every_module_has_its_row_and_every_row_its_modules() -> None:
    assert set(RANK) == set(PATHS)
    assert sum(map(len, ROWS)) == len(RANK)


@pytest.mark.parametrize("importer", PATHS)
def test_no_import_runs_up_or_sideways(importer: str) -> None:
    ours = [each.imported for each in EVERY if each.importer == importer and each.imported in PATHS]
    assert [name for name in ours if RANK[name] >= RANK[importer]] == []


def test_the_reader_of_imports_sees_them() -> None:
    assert Import("tasks", "build.options", at_top=True) in EVERY
    assert Import("tasks", "build.pipeline", at_top=False) in EVERY
    assert Import("tasks", "build.release", at_top=False) in EVERY  # for type checkers
    assert Import("build.making", "build.elf", at_top=True) in EVERY  # from build import …
    assert Import("build.elf", "elftools.elf.elffile", at_top=False) in EVERY


def test_the_sinks_do_not_know_each_other() -> None:
    sinks = {"build.layout", "build.registry"}
    assert [each for each in EVERY if each.importer in sinks and each.imported in sinks] == []


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    at_top = {(each.importer, each.imported.split(".", 1)[0]) for each in EVERY if each.at_top}
    assert {each for each in at_top if each[1] in HEAVY} <= ALLOWED


def test_so_are_the_modules_that_import_one() -> None:
    modules = {importer for importer, _ in ALLOWED} | {"build.registry", "build.login", "build.connections"}
    others = [each for each in EVERY if each.at_top and each.importer not in modules]
    assert [each for each in others if each.imported in modules] == []


def test_listing_the_tasks_loads_none_of_them() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "invoke", "--list"]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "all-push" in run.stdout
    loaded = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines() if line.startswith("import time:")}
    assert "build.options" in loaded
    ours = HEAVY - {"yaml"}  # Invoke reads its own configuration with it
    assert {name.split(".", 1)[0] for name in loaded} & ours == set()
    assert {name for name in loaded if name.startswith("build.")} == LISTED
