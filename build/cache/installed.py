"""Versions of installed libraries, read off the names of their folders.

importlib.metadata would say the same, but parses each library's whole description for it: 3 ms each, in every run.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from build.errors import BuildError


@cache
def folder(package: str) -> Path:
    """Where a package is, without importing it; raise BuildError if it is not installed."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise BuildError(f"{package} is not installed\n  pip install --require-hashes -r requirements.txt")
    return Path(spec.origin).parent


@cache
def version(package: str, distribution: str = "") -> str:
    """The version of `package`, which a `distribution` of another name may bring; BuildError if it can't be told."""
    beside = os.listdir(folder(package).parent)
    parts = [name.removesuffix(".dist-info").split("-") for name in beside if name.endswith(".dist-info")]
    found = [part[1] for part in parts if part[0].lower() == (distribution or package)]
    if len(found) != 1:
        raise BuildError(
            f"{package}: expected one version installed, found {', '.join(found) or 'none'}"
            "\n  make a new virtual environment"
        )
    return found[0]
