"""The documentation agrees with the program, and leads nowhere that does not exist."""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.checkout import Checkout

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKEFILE = ("REGISTRY", "TAG", "REV", "ARCH", "ALL_ARCH", "CFLAGS", "KUBE_CROSS_IMAGE", "KUBE_CROSS_VERSION")


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", prose(page), re.MULTILINE)
    return {"".join(filter(_stays, heading.lower())).replace(" ", "-") for heading in headings}


def _stays(character: str) -> bool:
    return character in " -_" or unicodedata.category(character)[0] in "LN"


def links(page: Path) -> list[tuple[str, str]]:
    """The links to files, each as path and anchor."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [(path, anchor) for path, _, anchor in (each.partition("#") for each in found) if "://" not in path]


def table(heading: str) -> list[list[str]]:
    """The cells of the table below a heading of the README, without its title row."""
    _, found, text = README.read_text().partition(f"\n## {heading}\n")
    assert found, heading
    rows = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]]


@cache
def invoke(*words: str) -> str:
    command = [sys.executable, "-m", "invoke", *words]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_the_readme_is_read_at_one_go() -> None:
    assert len(README.read_text().splitlines()) <= 160


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {path}"
        assert target.is_relative_to(ROOT)
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {path}#{anchor}"


def test_the_readme_leads_to_every_page() -> None:
    linked = {(ROOT / path).resolve() for path, _ in links(README)}
    assert linked >= set(PAGES) - {README}


def test_the_table_of_tasks_is_that_of_invoke() -> None:
    listed = re.findall(r"^  ([a-z][a-z-]*) ", invoke("--list"), re.MULTILINE)
    documented = [re.findall(r"`([a-z-]+)", task)[0] for task, _ in table("Tasks")]
    assert sorted(documented) == sorted(listed)


def test_every_flag_and_variable_in_the_table_is_in_the_help() -> None:
    """What a flag's help has in brackets is a variable: [TAG]."""
    helped = invoke("--help", "all-push") + invoke("--help", "check")
    bracketed = " ".join(re.findall(r"\[([A-Z][\w\s;:]+)\]", helped))
    stands_for = set(re.findall(r"\b[A-Z_]{2,}\b", bracketed))
    rows = table("Variables")
    documented = {name for variable, *_ in rows for name in re.findall(r"`([A-Z_]+)`", variable)}
    assert stands_for
    assert stands_for <= documented
    assert documented >= set(MAKEFILE)
    for _, flags, *_ in rows:
        for flag in re.findall(r"--[a-z-]+", flags):
            assert re.search(rf"{flag}\b", helped), flag


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_tasks_and_flags_that_exist(page: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    tasks = set(re.findall(r"^  ([a-z][a-z-]*) ", invoke("--list"), re.MULTILINE))
    for line in "".join(blocks).splitlines():
        for words in re.findall(r"(?:^|\s|/)invoke ((?:[^#|&])+)", line):
            (task, *_) = [word for word in words.split() if word in tasks]
            helped = invoke("--help", task)
            for flag in re.findall(r"--[a-z-]+", words):
                assert re.search(rf"{flag}\b", helped), f"{page.name}: {line}"


def test_the_digest_of_the_readme_is_what_its_command_gives(checkout: Checkout) -> None:
    found = re.search(r"^(REV=.*) (invoke .*) \| head -1\n# (\S+)$", README.read_text(), re.MULTILINE)
    assert found
    variables = dict(each.split("=") for each in found[1].split())
    run = checkout(*found[2].split()[1:], **variables)
    assert run.stdout.splitlines()[0] == found[3]


def test_the_pictures_load_nothing() -> None:
    for picture in (*(ROOT / "docs").glob("*.svg"), ROOT / "bench" / "results" / "figures.svg"):
        tree = ElementTree.parse(picture)
        assert not re.search(r"url\(|@import|href|<script", picture.read_text())
        assert tree.getroot().tag == "{http://www.w3.org/2000/svg}svg"
