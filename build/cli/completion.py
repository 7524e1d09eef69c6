"""What a shell offers after a flag that takes one of a few words: Invoke's own completion offers tasks and flags."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from invoke import program
from invoke.completion.complete import complete as invokes
from invoke.exceptions import Exit
from invoke.parser import ParseResult


def offer_values(arches_yaml: Path) -> None:
    """Have completion offer the names in the tables, and those that are built in."""

    def complete(names: list[str], core: ParseResult, **others: Any) -> Exit:
        words = re.sub(rf"^({'|'.join(map(re.escape, names))}) ", "", core.remainder).split()
        # The last word is the flag, or the beginning of its value: a shell does not tell which.
        flag = next((word for word in reversed(words[-2:]) if word.startswith("--")), "")
        known = _known(arches_yaml)
        if flag in known:
            print("\n".join(known[flag]()))
            raise Exit
        return invokes(names, core, **others)

    program.complete = complete  # type: ignore[attr-defined, assignment]


def _known(arches_yaml: Path) -> Mapping[str, Callable[[], Iterable[str]]]:
    from build.config.arches import ENGINES, read_settings
    from build.oci.oci import FORMATS

    return {
        "--arch": lambda: ["all", *read_settings(arches_yaml).arches],
        "--image": lambda: read_settings(arches_yaml).images,
        "--engine": lambda: ENGINES,
        "--compiler": lambda: ("zig", "kube-cross", "host"),
        "--format": lambda: FORMATS,
        "--with": lambda: ("namespaces", "docker", "podman"),
        "--for": lambda: ("github", "gitlab"),
    }
