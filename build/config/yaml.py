"""Reads YAML strictly: every error names file, line and key, what was found and what was expected.

PyYAML's constructors keep the last of two equal keys, read the tag 3.10 as the number 3.1, and drop line numbers. So
this reads PyYAML's nodes, which still have each value's tag, text and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from build.config.arches import nearest
from build.errors import UsageError

Scalar = TypeVar("Scalar", int, str)

# PyYAML composes nodes recursively, so deep nesting would exhaust the stack.
_MAX_DEPTH = 100
_PREFIX = "tag:yaml.org,2002:"
_KINDS = {
    "str": "the string",
    "int": "the number",
    "float": "the number",
    "bool": "the boolean",
    "null": "null",
    "timestamp": "the date",
    "merge": "the merge key",
    "map": "a mapping",
    "seq": "a list",
}
_COLLECTIONS = {"map": "mapping", "seq": "sequence"}


@dataclass(frozen=True)
class Node:
    """A node of a YAML file, with the dotted key that leads to it."""

    file: str
    key: str
    yaml: Any  # a yaml.Node; its type stub lacks `id`

    @property
    def line(self) -> int:
        """The line that the node starts in, counted from 1."""
        return int(self.yaml.start_mark.line) + 1

    def error(self, found: str, expected: str) -> UsageError:
        """An error about this node, for the caller to raise."""
        return UsageError(f"{self.file}:{self.line}: {self.key or 'top level'}: found {found}\n  expected {expected}")

    def require(self, condition: bool, found: str, expected: str) -> None:
        """Raise UsageError unless `condition` is true."""
        if not condition:
            raise self.error(found, expected)

    @contextmanager
    def located(self) -> Iterator[None]:
        """Prefix a UsageError raised inside the context with file, line and key, unless it has them."""
        try:
            yield
        except UsageError as error:
            if str(error).startswith(self.file):
                raise
            raise UsageError(f"{self.file}:{self.line}: {self.key}: {error}") from None

    @property
    def kind(self) -> str:
        """The node's kind, a key of _KINDS; empty for other tags and for a tag that contradicts the node's form."""
        kind = self.yaml.tag.removeprefix(_PREFIX)
        return kind if kind in _KINDS and self.yaml.id == _COLLECTIONS.get(kind, "scalar") else ""

    def describe(self) -> str:
        """What this node is, for an error message."""
        kind = _KINDS.get(self.kind) or f"a {self.yaml.id} tagged {self.yaml.tag}"
        return f"{kind} {self.yaml.value!r}" if self.yaml.id == "scalar" and self.yaml.value else kind

    def items(self) -> Iterator[tuple[str, Node]]:
        """Keys and values of a mapping, in file order; raise UsageError for another node or a duplicate key."""
        self.require(self.kind == "map", self.describe(), "a mapping")
        lines: dict[str, int] = {}
        for key_node, value in self.yaml.value:
            key = Node(self.file, self.key, key_node)
            key.require(key.kind == "str", key.describe(), "a string as the key; put it in quotes")
            name = key_node.value
            if name in lines:
                raise key.error(f"duplicate key {name!r}", f"each key once; the first is in line {lines[name]}")
            lines[name] = key.line
            yield name, Node(self.file, f"{self.key}.{name}".lstrip("."), value)

    def fields(self, *required: str, optional: tuple[str, ...] = ()) -> dict[str, Node]:
        """The values of a mapping with fixed keys; raise UsageError for a missing or an unknown key."""
        known = (*required, *optional)
        fields = {}
        for name, value in self.items():
            if name not in known:
                close, _, names = nearest(name, known).partition("\n  known: ")
                raise value.error(f"unknown key {name!r}{close}", f"one of {names}")
            fields[name] = value
        for name in required:
            self.require(name in fields, f"no key {name!r}", f"a value for {f'{self.key}.{name}'.lstrip('.')}")
        return fields

    def string(self, pattern: str = r"(?s).+", expected: str = "a string") -> str:
        """A non-empty string without null bytes that matches `pattern` completely; raise UsageError for another one."""
        if self.kind != "str" or "\0" in self.yaml.value or not re.fullmatch(pattern, self.yaml.value):
            unquoted = self.kind in ("int", "float", "bool", "timestamp")
            raise self.error(self.describe(), expected + (f', in quotes: "{self.yaml.value}"' if unquoted else ""))
        return str(self.yaml.value)

    def strings(self, pattern: str = r"(?s).+", expected: str = "a string") -> tuple[str, ...]:
        """A non-empty list of distinct strings as `string` accepts them; raise UsageError for anything else."""
        self.require(self.kind == "seq", self.describe(), f"a list, each entry {expected}")
        self.require(bool(self.yaml.value), "an empty list", f"at least one entry: {expected}")
        strings: list[str] = []
        for index, entry in enumerate(self.yaml.value):
            node = Node(self.file, f"{self.key}[{index}]", entry)
            string = node.string(pattern, expected)
            node.require(string not in strings, f"duplicate {string!r}", "each entry once")
            strings.append(string)
        return tuple(strings)

    def boolean(self) -> bool:
        """`true` or `false`; raise UsageError for anything else, YAML 1.1's `yes` and `on` included."""
        if self.kind != "bool" or self.yaml.value not in ("true", "false"):
            raise self.error(self.describe(), "true or false")
        return bool(self.yaml.value == "true")

    def one_of(self, *values: Scalar) -> Scalar:
        """One of `values`, which are all strings or all integers; raise UsageError for anything else."""
        by_text = {str(value): value for value in values}
        is_typed = self.kind == ("int" if isinstance(values[0], int) else "str")
        if not is_typed or self.yaml.value not in by_text:
            raise self.error(self.describe(), " or ".join(by_text))
        return by_text[self.yaml.value]


def load(path: Path) -> Node:
    """The top node of a YAML file; raise UsageError if it can't be read, is not YAML or is empty."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        top = _compose(text)
    except OSError as error:
        raise UsageError(
            f"{path}: can't be read: {error.strerror}\n  restore it with `git checkout {path.name}`"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path.name}:{line}: byte {error.start} is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = min(error.problem_mark.line, text.count("\n")) + 1 if error.problem_mark else 1
        raise UsageError(f"{path.name}:{line}: not YAML: {error.problem or error}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UsageError(f"{path.name}:{line}: not YAML: {error.reason}") from None
    if top is None:
        raise UsageError(f"{path.name}:1: found an empty file\n  expected the keys arches, images and defaults")
    return Node(path.name, "", top)


def _compose(text: str) -> Any:
    """The top node of the only document in `text`, or None if there is none; raise YAMLError."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:  # reading on would take time quadratic in the depth
                mark: Any = event.start_mark
                raise yaml.MarkedYAMLError(problem=f"nested more than {_MAX_DEPTH} levels deep", problem_mark=mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return yaml.compose(text, Loader=loader)
