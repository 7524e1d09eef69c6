"""COPY and ADD: what they copy, where to, and with which mode and owner (Dockerfile reference, "COPY", "ADD")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from build.errors import ImageError
from build.image.dockerfile.syntax import USE_DOCKER, Step
from build.image.dockerfile.words import exec_form, expand
from build.oci.tar import LARGEST_ID

_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?(?:\s+|$)")
_MODE = re.compile(r"[0-7]{3,4}")
_OWNER = re.compile(r"([0-9]{1,10})(?::([0-9]{1,10}))?")
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|git@")


@dataclass(frozen=True)
class Copy:
    """Sources in the build context, with `*`, `?` and `[…]` as in Go's path.Match, and a target in the image.

    `mode` is that of all files and folders, or None for those that the context has; `owner` is UID and GID.
    """

    sources: tuple[str, ...]
    target: str
    mode: int | None = None
    owner: tuple[int, int] = (0, 0)


def parse_copy(step: Step, variables: Mapping[str, str]) -> Copy:
    """Parse the value of COPY or ADD; raise ImageError for what needs a daemon, and for what is malformed."""
    flags, rest = _flags(step, variables)
    listed = exec_form(rest) if rest.startswith("[") else None
    paths = [expand(each, variables) for each in (listed or rest.split())]
    if len(paths) < 2:
        raise ImageError(f"{step.value}: expected a source and a target")
    *sources, target = paths
    for source in sources:
        if step.instruction == "ADD" and _REMOTE.match(source):
            raise ImageError(f"{source}: URLs are not supported by the embedded engine\n  {USE_DOCKER}")
        if ".." in source.split("/"):
            raise ImageError(f"{source}: expected a path inside the checkout")
    if len(sources) > 1 and not target.endswith("/"):
        raise ImageError(f"{step.value}: the target of several sources must end with /")
    if not target or "\0" in "".join(paths):
        raise ImageError(f"{step.value}: expected a target")
    return Copy(tuple(sources), target, _mode(flags.get("chmod")), _owner(flags.get("chown")))


def _flags(step: Step, variables: Mapping[str, str]) -> tuple[Mapping[str, str], str]:
    flags, rest = {}, step.value
    while found := _FLAG.match(rest):
        name, value = found[1], expand(found[2] or "", variables)
        if name == "from":
            raise ImageError(f"{step.value}: --from (multi-stage) is not supported\n  {USE_DOCKER}")
        if name not in ("chmod", "chown"):
            raise ImageError(
                f"{step.value}: --{name} is not supported by the embedded engine, only --chmod and --chown"
                f"\n  {USE_DOCKER}, or remove it"
            )
        flags[name] = value
        rest = rest[found.end() :]
    return flags, rest


def _mode(given: str | None) -> int | None:
    if given is None:
        return None
    if not _MODE.fullmatch(given):
        raise ImageError(f"--chmod={given}: expected an octal mode, for example --chmod=0644")
    return int(given, 8)


def _owner(given: str | None) -> tuple[int, int]:
    """UID and GID; a UID alone is the GID, too."""
    if given is None:
        return 0, 0
    found = _OWNER.fullmatch(given)
    owner = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not found or max(owner) > LARGEST_ID:
        raise ImageError(f"--chown={given}: expected UID or UID:GID as numbers up to {LARGEST_ID}")
    return owner
