"""The instructions of a Dockerfile, and which of them the embedded engine knows (Dockerfile reference)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO

from build.config.arches import nearest
from build.errors import ImageError
from build.image.dockerfile.words import expand, words

USE_DOCKER = "build it with --engine docker"
KNOWN = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "SHELL"),
    *("STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)
# What Docker knows and the embedded engine does not.
_DOCKERS = ("MAINTAINER", "ONBUILD", "RUN")
_HEREDOC = re.compile(r"(?:^|\s)<<-?[\"']?\w")


@dataclass(frozen=True)
class Step:
    """An instruction in upper case, its value, and its line, counted from 1."""

    instruction: str
    value: str
    line: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.instruction} {self.value}"


@dataclass(frozen=True)
class Location:
    """Where a Dockerfile is, for messages: its name, and the arch that it was rendered for.

    `line_of` gives the line in its template for a line of the rendered text, both counted from 1.
    """

    name: str
    arch: str = ""
    line_of: Callable[[int], int] = field(default=lambda line: line, compare=False)

    def __str__(self) -> str:
        return self.name + (f" ({self.arch})" if self.arch else "")

    def line(self, number: int) -> str:
        """A line of the Dockerfile."""
        return f"{self.name}:{self.line_of(number)}" + (f" ({self.arch})" if self.arch else "")

    @contextmanager
    def at(self, step: Step) -> Iterator[None]:
        """Put the place of a step in front of an ImageError."""
        try:
            yield
        except ImageError as error:
            raise ImageError(f"{self.line(step.line)}: {step.instruction} {error}") from None


@dataclass(frozen=True)
class Dockerfile:
    """A parsed Dockerfile: the `base` that FROM names, the ARGs before it by name, and the steps after it."""

    base: str
    args: Mapping[str, str]
    steps: tuple[Step, ...]
    location: Location


def parse(text: str, location: Location, platform_args: Mapping[str, str]) -> Dockerfile:
    """Parse a rendered Dockerfile of one stage. `platform_args` are those that BuildKit sets, such as TARGETARCH.

    Raises ImageError with line and instruction for what is not supported. Variables of the steps are not replaced yet.
    """
    steps = _steps(text, location)
    args: dict[str, str] = dict(platform_args)
    before = 0
    for step in steps:
        if step.instruction != "ARG":
            break
        with location.at(step):
            args |= {name: value for name, value in arguments(step.value, args).items() if value is not None}
        before += 1
    stage = steps[before:]
    if not stage or stage[0].instruction != "FROM":
        found = str(stage[0]) if stage else "nothing"
        line = location.line(stage[0].line if stage else 1)
        raise ImageError(
            f"{line}: found {found}\n  expected FROM first, for example FROM scratch; only ARG may precede"
        )
    for step in stage[1:]:
        if step.instruction == "FROM":
            with location.at(step):
                raise ImageError(f"{step.value}: several stages (multi-stage) are not supported\n  {USE_DOCKER}")
    with location.at(stage[0]):
        base = _base(stage[0].value, args)
    return Dockerfile(base, args, tuple(stage[1:]), location)


def arguments(value: str, known: Mapping[str, str]) -> dict[str, str | None]:
    """The names of an ARG, with their defaults; one without a default has the value in `known`, or None."""
    found: dict[str, str | None] = {}
    for word in words(value):
        name, has_default, default = word.partition("=")
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ImageError(f"{value}: expected NAME or NAME=DEFAULT, found {word}")
        before = {**known, **{each: text for each, text in found.items() if text is not None}}
        found[name] = expand(default, before) if has_default else known.get(name)
    return found


def _steps(text: str, location: Location) -> list[Step]:
    from dockerfile_parse import DockerfileParser

    structure = DockerfileParser(fileobj=BytesIO(text.encode()), env_replace=False).structure
    steps = []
    for each in structure:
        step = Step(each["instruction"], each["value"], each["startline"] + 1)
        if step.instruction == "COMMENT":
            continue
        with location.at(step):
            if step.instruction in ("ADD", "COPY", "RUN") and _HEREDOC.search(step.value):
                raise ImageError(
                    f"{step.value}: here-documents are not supported by the embedded engine\n  {USE_DOCKER}"
                )
            if step.instruction in _DOCKERS:
                raise ImageError(f"is not supported by the embedded engine\n  {USE_DOCKER}, or remove it")
        if step.instruction not in KNOWN:
            hint = nearest(step.instruction, sorted((*KNOWN, *_DOCKERS)))
            raise ImageError(f"{location.line(step.line)}: unknown instruction {step.instruction!r}{hint}")
        steps.append(step)
    # The parser ignores an instruction without a value, and a last line that ends with a continuation.
    parsed = {number for each in structure for number in range(each["startline"], each["endline"] + 1)}
    for number, line in enumerate(text.split("\n")):
        if line.strip() and number not in parsed:
            raise ImageError(f"{location.line(number + 1)}: {line.strip()}: expected an instruction and its value")
    return steps


def _base(value: str, args: Mapping[str, str]) -> str:
    """What FROM names: `[--platform=…] IMAGE [AS NAME]`. The platform is that of the arch."""
    parts = value.split()
    platform = args.get("TARGETPLATFORM", "")
    while parts and parts[0].startswith("--"):
        flag = parts.pop(0)
        if not flag.startswith("--platform=") or expand(flag.partition("=")[2], args) != platform:
            raise ImageError(
                f"{value}: found {flag}\n  expected no flag: the platform is the arch's, {platform or 'one'}"
            )
    if len(parts) == 3 and parts[1].lower() == "as":
        parts = parts[:1]
    base = expand(parts[0], args) if len(parts) == 1 else ""
    if not base:
        raise ImageError(f"{value}: expected an image, for example FROM scratch")
    return base
