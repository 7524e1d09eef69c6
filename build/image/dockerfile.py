"""Parses a rendered Dockerfile, and makes the image config from it.

Only a subset that needs no daemon is supported: FROM scratch, COPY and ADD of files, and instructions that set members
of the config. Instructions follow Docker's Dockerfile reference, config members image-spec config.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

from build.config.arches import nearest
from build.errors import ImageError
from build.oci.platform import Platform

_USE_DOCKER = "build it with --engine docker"
_COPY = ("COPY", "ADD")
# What Docker knows and the embedded engine does not.
_DOCKERS = ["ARG", "FROM", "HEALTHCHECK", "MAINTAINER", "ONBUILD", "RUN", "SHELL", "VOLUME", "WORKDIR"]
# One instruction as the parser returns it: instruction, value, startline and endline, counted from 0.
_Step = Mapping[str, Any]


@dataclass(frozen=True)
class Copy:
    """A file that COPY or ADD takes from `source` in the checkout to `target`, an absolute path in the image.

    `line` is that of the instruction, counted from 1.
    """

    source: str
    target: str
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Dockerfile:
    """A parsed Dockerfile: its files, the members of `config` that it sets, and its instructions after FROM."""

    base: str
    copies: tuple[Copy, ...]
    config: Mapping[str, Any]
    instructions: tuple[str, ...]


def parse(text: str, name: str, arch: str = "", line_of: Callable[[int], int] = lambda line: line) -> Dockerfile:
    """Parse a rendered Dockerfile; `name` and `arch` are for error messages.

    `line_of` gives the line of its template for a line of `text`, both counted from 1.

    Raises ImageError with line and instruction for what is not supported.
    """
    from dockerfile_parse import DockerfileParser

    suffix = f" ({arch})" if arch else ""

    def location(line: int) -> str:
        return f"{name}:{line_of(line + 1)}{suffix}: "

    parser = DockerfileParser(fileobj=BytesIO(text.encode()), env_replace=False)
    steps = [step for step in parser.structure if step["instruction"] != "COMMENT"]
    _check_from(steps, location)
    copies: list[Copy] = []
    config: dict[str, Any] = {}
    for step in steps[1:]:
        instruction, value = step["instruction"], step["value"]
        where = location(step["startline"]) + instruction
        _check_no_variables(value, where)
        if instruction in _COPY:
            copies += _copies(value, where, step["startline"] + 1)
        elif instruction in _CONFIG:
            _CONFIG[instruction](config, value, where)
        elif instruction not in _DOCKERS:
            hint = nearest(instruction, sorted({*_COPY, *_CONFIG, *_DOCKERS}))
            raise ImageError(f"{location(step['startline'])}unknown instruction {instruction!r}{hint}")
        else:
            raise ImageError(f"{where} is not supported by the embedded engine\n  {_USE_DOCKER}, or remove it")
    _check_complete(parser.structure, text, location)
    if not copies:
        raise ImageError(f"{name}{suffix}: no COPY, so the image would be empty")
    return Dockerfile(
        steps[0]["value"], tuple(copies), config, tuple(f"{step['instruction']} {step['value']}" for step in steps[1:])
    )


def image_config(dockerfile: Dockerfile, platform: Platform, created: str) -> dict[str, Any]:
    """The image config without `rootfs`. `created` is an RFC 3339 time.

    All files are in one layer, so the history has one entry for every COPY and ADD together, and one with `empty_layer`
    for each other instruction.
    """
    copying = [each for each in dockerfile.instructions if each.startswith(_COPY)]
    others = [each for each in dockerfile.instructions if each not in copying]
    history: list[dict[str, Any]] = [{"created": created, "created_by": "; ".join(copying)}]
    history += [{"created": created, "created_by": each, "empty_layer": True} for each in others]
    return {**platform.fields(), "created": created, "config": dict(dockerfile.config), "history": history}


def _check_complete(steps: Sequence[_Step], text: str, location: Callable[[int], str]) -> None:
    # The parser ignores an instruction without a value, and a last line that ends with a continuation.
    parsed = {number for step in steps for number in range(step["startline"], step["endline"] + 1)}
    for number, line in enumerate(text.split("\n")):
        if line.strip() and number not in parsed:
            raise ImageError(f"{location(number)}{line.strip()}: expected an instruction and its value")


def _check_from(steps: Sequence[_Step], location: Callable[[int], str]) -> None:
    found = [step for step in steps if step["instruction"] == "FROM"]
    if not found or steps[0]["instruction"] != "FROM":
        first = f"{steps[0]['instruction']} {steps[0]['value']}" if steps else "nothing"
        raise ImageError(
            f"{location(0)}found {first}\n  expected FROM scratch first; use template variables instead of ARG"
        )
    for step in found:
        if step is not found[0] or len(step["value"].split()) != 1:
            raise ImageError(
                f"{location(step['startline'])}FROM {step['value']}: only a single FROM IMAGE is supported"
                f"\n  {_USE_DOCKER} for several stages"
            )


def _check_no_variables(value: str, where: str) -> None:
    # Builders differ in how they expand and unescape these.
    if "$" in value or "\\" in value:
        raise ImageError(f"{where} {value}: found $ or \\\n  expected plain text; use template variables instead")


def _copies(value: str, where: str, line: int) -> Iterable[Copy]:
    words = _exec_form(value, where) if value.startswith("[") else tuple(value.split())
    if any(word.startswith(("--", "<<")) for word in words):
        raise ImageError(
            f"{where} {value}: flags and here-documents are not supported by the embedded engine\n  {_USE_DOCKER}"
        )
    if len(words) < 2:
        raise ImageError(f"{where} {value}: expected a source and a target")
    *sources, target = words
    for source in sources:
        path = PurePosixPath(source)
        if re.search(r"[*?\[\]]|^\w+://|\.(tar|tgz|gz|bz2|xz|zst)\b", source):
            raise ImageError(
                f"{where} {source}: patterns, URLs and archives are not supported by the embedded engine"
                f"\n  {_USE_DOCKER}"
            )
        if path.is_absolute() or ".." in path.parts:
            raise ImageError(f"{where} {source}: expected a file inside the checkout")
        if len(sources) > 1 and not target.endswith("/"):
            raise ImageError(f"{where} {value}: the target of several sources must end with /")
        yield Copy(str(path), str(PurePosixPath("/", target, path.name if target.endswith("/") else "")), line)


def _exec_form(value: str, where: str) -> tuple[str, ...]:
    try:
        words = json.loads(value)
    except ValueError:
        words = None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ImageError(f'{where} {value}: expected the exec form, for example ["/pause"]: the image has no shell')
    return tuple(words)


@cache
def _extract_key_values(value: str) -> tuple[tuple[str, str], ...]:
    # Cached because all arches usually have the same labels, and each call leaves 13 KB of cyclic garbage.
    from dockerfile_parse.util import extract_key_values

    return tuple(extract_key_values(env_replace=False, args={}, envs={}, instruction_value=value))


def _key_values(value: str, where: str) -> dict[str, str]:
    try:
        pairs = dict(_extract_key_values(value))
    except (ValueError, IndexError) as error:
        raise ImageError(f"{where} {value}: {error}") from None
    is_closed = re.fullmatch(r"""([^"']|"[^"]*"|'[^']*')*""", value)
    if not is_closed or "" in pairs or not re.search(r"[=\s]", value):
        raise ImageError(f"{where} {value}: expected NAME=VALUE, with every quote closed")
    return pairs


def _entrypoint(config: dict[str, Any], value: str, where: str) -> None:
    config["Entrypoint"] = list(_exec_form(value, where))


def _cmd(config: dict[str, Any], value: str, where: str) -> None:
    config["Cmd"] = list(_exec_form(value, where))


def _user(config: dict[str, Any], value: str, where: str) -> None:
    if not re.fullmatch(r"[0-9]+(:[0-9]+)?", value):
        raise ImageError(f"{where} {value}: expected a numeric UID or UID:GID, because the image has no /etc/passwd")
    config["User"] = value


def _env(config: dict[str, Any], value: str, where: str) -> None:
    before = dict(pair.split("=", 1) for pair in config.get("Env", ()))
    config["Env"] = [f"{name}={each}" for name, each in (before | _key_values(value, where)).items()]


def _label(config: dict[str, Any], value: str, where: str) -> None:
    config.setdefault("Labels", {}).update(_key_values(value, where))


def _expose(config: dict[str, Any], value: str, where: str) -> None:
    for port in value.split():
        if not re.fullmatch(r"[0-9]+(/(tcp|udp|sctp))?", port):
            raise ImageError(f"{where} {port}: expected PORT, PORT/tcp, PORT/udp or PORT/sctp")
        config.setdefault("ExposedPorts", {})[port if "/" in port else f"{port}/tcp"] = {}


def _stopsignal(config: dict[str, Any], value: str, where: str) -> None:
    if not re.fullmatch(r"SIG[A-Z0-9+-]+|[0-9]+", value):
        raise ImageError(f"{where} {value}: expected a signal's name or number, for example SIGTERM")
    config["StopSignal"] = value


_CONFIG: Mapping[str, Callable[[dict[str, Any], str, str], None]] = {
    "ENTRYPOINT": _entrypoint,
    "CMD": _cmd,
    "USER": _user,
    "ENV": _env,
    "LABEL": _label,
    "EXPOSE": _expose,
    "STOPSIGNAL": _stopsignal,
}
