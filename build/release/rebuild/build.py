"""Builds from a commit: in a checkout of its own, with its own code, and the compilers that are installed here."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from build.attest.provenance import Recipe
from build.config.revision import Revision
from build.errors import CompileError
from build.oci.media_types import OCI
from build.report import indented
from build.system import run

# Variables that would change what is built, or sign it.
_OURS = frozenset(
    (
        *("ARCH", "ALL_ARCH", "IMAGE", "REGISTRY", "TAG", "ALSO_TAG", "REV", "CFLAGS", "ENGINE", "COMPILER", "FORMAT"),
        *("PULL", "SOURCE_DATE_EPOCH", "SIGN_KEY", "SIGNATURE_FORMAT", "VERIFY_KEY", "COSIGN_PASSWORD"),
        *("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"),
    )
)


async def build(
    recipe: Recipe, checkout: Path, revision: Revision, environment: Mapping[str, str]
) -> Sequence[Mapping[str, Any]]:
    """The results of building `recipe` in the checkout of its commit, as in the document of --json.

    There is a manifest list among them if the format is OCI, as a layout has no other. Raises CompileError with the
    words of a build that fails.
    """
    kept = {name: value for name, value in environment.items() if name not in _OURS}
    named = {"REV": revision.name, "SOURCE_DATE_EPOCH": str(revision.time)}
    ended = await run([sys.executable, "-m", "invoke", *_words(recipe.parameters)], checkout, {**kept, **named})
    if ended.status:
        words = indented(ended.stderr.decode(errors="replace"))
        raise CompileError(f"commit {recipe.commit}: can't be built here:\n  {words}")
    results: Sequence[Mapping[str, Any]] = json.loads(ended.stdout)["results"]
    return results


def _words(parameters: Mapping[str, Any]) -> list[str]:
    """The task and its flags."""
    is_oci = parameters.get("format") == OCI.name
    words = ["all-push", "--registry", "oci:rebuilt"] if is_oci else ["all-container"]
    words += ["--json", "--image", str(parameters.get("image")), "--tag", str(parameters.get("tag"))]
    words += ["--engine", str(parameters.get("engine")), "--format", str(parameters.get("format"))]
    words += [word for arch in _strings(parameters, "arches") for word in ("--arch", arch)]
    if "compiler" in parameters:
        # As one word: flags begin with a dash, as those of a task do.
        words += ["--compiler", str(parameters["compiler"]), f"--cflags={shlex.join(_strings(parameters, 'cflags'))}"]
    return words + (["--libc"] if parameters.get("libc") else [])


def _strings(parameters: Mapping[str, Any], name: str) -> list[str]:
    found = parameters.get(name)
    return [str(each) for each in found] if isinstance(found, list) else []
