"""Versions of installed libraries, taken from the names of their .dist-info folders.

importlib.metadata would parse each library's whole METADATA file, which costs 3 ms per library in every run.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from build.errors import BuildError


@cache
def folder(package: str) -> Path:
    """The folder of a package, found without importing it; raise BuildError if it is not installed."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise BuildError(f"{package} is not installed\n  pip install --require-hashes -r requirements.txt")
    return Path(spec.origin).parent


@cache
def version(package: str, distribution: str = "") -> str:
    """The version of `package`. `distribution` is its name on PyPI, if that differs.

    Raises BuildError if the package is not installed, or several versions of it are.
    """
    siblings = os.listdir(folder(package).parent)
    names = [name.removesuffix(".dist-info").split("-") for name in siblings if name.endswith(".dist-info")]
    versions = [name[1] for name in names if name[0].lower() == (distribution or package)]
    if len(versions) != 1:
        raise BuildError(
            f"{package}: expected one installed version, found {', '.join(versions) or 'none'}"
            "\n  recreate the virtual environment"
        )
    return versions[0]
