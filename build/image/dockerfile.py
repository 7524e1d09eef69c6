"""Dockerfile.j2 and an arch become the rendered Dockerfile, and that becomes an image config and a list of files.

Only what needs no daemon is understood: an empty base, files, and settings of the config. The rest is refused by name.
Config members follow image-spec config.md; instructions follow Docker's Dockerfile reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import PurePosixPath
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

from build.errors import ImageError
from build.oci.platform import Platform

if TYPE_CHECKING:
    from jinja2 import Template

DAEMON = "build it with --engine docker"


@dataclass(frozen=True)
class Copy:
    """One file of the checkout, and where it goes in the image."""

    source: str
    target: str


@dataclass(frozen=True)
class Recipe:
    """What a rendered Dockerfile asks for: files, the members of `config`, and a line of history an instruction."""

    copies: tuple[Copy, ...]
    config: Mapping[str, Any]
    steps: tuple[str, ...]


def render(template: str, name: str, variables: Mapping[str, Any]) -> str:
    """Render the Jinja template `name`; raise ImageError with its line for an undefined name or a syntax error."""
    import jinja2

    try:
        return _template(template).render(variables)
    except jinja2.TemplateSyntaxError as error:
        raise ImageError(f"{name}:{error.lineno}: {error.message}") from None
    except jinja2.UndefinedError as error:
        known = f"known names: {', '.join(sorted(variables))}"
        raise ImageError(f"{name}:{_line(error)}: {error.message}\n  {known}") from None
    except (
        jinja2.TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as e:
        raise ImageError(f"{name}:{_line(e)}: {e}") from None


def _line(error: Exception) -> int:
    """The line of the template that was being rendered when `error` rose."""
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == "<template>"]
    return (lines and lines[-1]) or 1


@cache
def _template(text: str) -> Template:
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)  # noqa: S701
    environment.filters["quoted"] = quoted
    return environment.from_string(text)


def quoted(text: str) -> str:
    """A Dockerfile word in double quotes; raise ImageError for text that builders read in different ways."""
    if re.search(r'["\\$\x00-\x1f]', text):
        raise ImageError(f"Dockerfile: {text!r} can't be quoted: builders differ on \", \\, $ and control characters")
    return f'"{text}"'


def read(text: str, name: str) -> Recipe:
    """Read the rendered Dockerfile; raise ImageError with file, line and instruction for what this engine can't do."""
    from dockerfile_parse import DockerfileParser

    parser = DockerfileParser(fileobj=BytesIO(text.encode()), env_replace=False)
    steps = [step for step in parser.structure if step["instruction"] != "COMMENT"]
    _starts_from_scratch(steps, name)
    copies: list[Copy] = []
    config: dict[str, Any] = {}
    for step in steps[1:]:
        place = f"{name}:{step['startline'] + 1}: {step['instruction']}"
        _same_for_every_builder(step["value"], place)
        if step["instruction"] in ("COPY", "ADD"):
            copies += _copies(step["value"], place)
        elif step["instruction"] in _SETTINGS:
            _SETTINGS[step["instruction"]](config, step["value"], place)
        else:
            raise ImageError(f"{place} is not for the embedded engine\n  {DAEMON}, or leave it out")
    _nothing_left_out(parser.structure, text, name)
    if not copies:
        raise ImageError(f"{name}: no COPY, so the image would be empty")
    return Recipe(tuple(copies), config, tuple(f"{step['instruction']} {step['value']}" for step in steps[1:]))


def config(recipe: Recipe, platform: Platform, created: str) -> dict[str, Any]:
    """The image config but for `rootfs`: one entry of history an instruction, and one layer for all the files.

    `created` is an RFC 3339 time.
    """
    adding = [step for step in recipe.steps if step.startswith(("COPY", "ADD"))]
    settings = [step for step in recipe.steps if step not in adding]
    history: list[dict[str, Any]] = [{"created": created, "created_by": "; ".join(adding)}]
    history += [{"created": created, "created_by": step, "empty_layer": True} for step in settings]
    return {**platform.fields(), "created": created, "config": dict(recipe.config), "history": history}


def _nothing_left_out(steps: Sequence[Mapping[str, Any]], text: str, name: str) -> None:
    # The parser passes over an instruction without a value, and over a last line that is to be continued.
    seen = {number for step in steps for number in range(step["startline"], step["endline"] + 1)}
    for number, line in enumerate(text.split("\n")):
        if line.strip() and number not in seen:
            raise ImageError(f"{name}:{number + 1}: {line.strip()}: expected an instruction and its value")


def _starts_from_scratch(steps: Sequence[Mapping[str, Any]], name: str) -> None:
    found = [step for step in steps if step["instruction"] == "FROM"]
    if not found or steps[0]["instruction"] != "FROM":
        first = f"{steps[0]['instruction']} {steps[0]['value']}" if steps else "nothing"
        raise ImageError(f"{name}:1: found {first}\n  expected FROM scratch first; variables are the template's affair")
    for step in found:
        if step["value"] != "scratch" or step is not found[0]:
            raise ImageError(
                f"{name}:{step['startline'] + 1}: FROM {step['value']}: the embedded engine starts from scratch, once"
                f"\n  {DAEMON} for another base or several stages"
            )


def _same_for_every_builder(value: str, place: str) -> None:
    if "$" in value or "\\" in value:
        raise ImageError(f"{place} {value}: found $ or \\\n  expected plain text: variables are for the template")


def _copies(value: str, place: str) -> Iterable[Copy]:
    words = _array(value, place) if value.startswith("[") else tuple(value.split())
    if any(word.startswith(("--", "<<")) for word in words):
        raise ImageError(f"{place} {value}: flags and here-documents are not for the embedded engine\n  {DAEMON}")
    if len(words) < 2:
        raise ImageError(f"{place} {value}: expected a source and a target")
    *sources, target = words
    for source in sources:
        path = PurePosixPath(source)
        if re.search(r"[*?\[\]]|^\w+://|\.(tar|tgz|gz|bz2|xz|zst)\b", source):
            raise ImageError(
                f"{place} {source}: patterns, URLs and archives are not for the embedded engine\n  {DAEMON}"
            )
        if path.is_absolute() or ".." in path.parts:
            raise ImageError(f"{place} {source}: expected a file within the checkout")
        if len(sources) > 1 and not target.endswith("/"):
            raise ImageError(f"{place} {value}: several sources need a target that ends with /")
        yield Copy(str(path), str(PurePosixPath("/", target, path.name if target.endswith("/") else "")))


def _array(value: str, place: str) -> tuple[str, ...]:
    try:
        words = json.loads(value)
    except ValueError:
        words = None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ImageError(f'{place} {value}: expected the exec form, as ["/pause"]: the image has no shell')
    return tuple(words)


@cache
def _key_values(value: str) -> tuple[tuple[str, str], ...]:
    # All arches have the same labels as a rule; the parser leaves 13 KB of classes each time that refer to themselves.
    from dockerfile_parse.util import extract_key_values

    return tuple(extract_key_values(env_replace=False, args={}, envs={}, instruction_value=value))


def _pairs(value: str, place: str) -> dict[str, str]:
    try:
        pairs = dict(_key_values(value))
    except (ValueError, IndexError) as error:
        raise ImageError(f"{place} {value}: {error}") from None
    closed = re.fullmatch(r"""([^"']|"[^"]*"|'[^']*')*""", value)
    if not closed or "" in pairs or not re.search(r"[=\s]", value):
        raise ImageError(f"{place} {value}: expected NAME=VALUE, with every quote closed")
    return pairs


def _entrypoint(config: dict[str, Any], value: str, place: str) -> None:
    config["Entrypoint"] = list(_array(value, place))


def _cmd(config: dict[str, Any], value: str, place: str) -> None:
    config["Cmd"] = list(_array(value, place))


def _user(config: dict[str, Any], value: str, place: str) -> None:
    if not re.fullmatch(r"[0-9]+(:[0-9]+)?", value):
        raise ImageError(f"{place} {value}: expected UID or UID:GID in numbers: the image has no /etc/passwd")
    config["User"] = value


def _env(config: dict[str, Any], value: str, place: str) -> None:
    before = dict(pair.split("=", 1) for pair in config.get("Env", ()))
    config["Env"] = [f"{key}={each}" for key, each in (before | _pairs(value, place)).items()]


def _label(config: dict[str, Any], value: str, place: str) -> None:
    config.setdefault("Labels", {}).update(_pairs(value, place))


def _expose(config: dict[str, Any], value: str, place: str) -> None:
    for port in value.split():
        if not re.fullmatch(r"[0-9]+(/(tcp|udp|sctp))?", port):
            raise ImageError(f"{place} {port}: expected PORT or PORT/tcp, PORT/udp, PORT/sctp")
        config.setdefault("ExposedPorts", {})[port if "/" in port else f"{port}/tcp"] = {}


def _stopsignal(config: dict[str, Any], value: str, place: str) -> None:
    if not re.fullmatch(r"SIG[A-Z0-9+-]+|[0-9]+", value):
        raise ImageError(f"{place} {value}: expected a signal's name or number, as SIGTERM")
    config["StopSignal"] = value


_SETTINGS: Mapping[str, Callable[[dict[str, Any], str, str], None]] = {
    "ENTRYPOINT": _entrypoint,
    "CMD": _cmd,
    "USER": _user,
    "ENV": _env,
    "LABEL": _label,
    "EXPOSE": _expose,
    "STOPSIGNAL": _stopsignal,
}
