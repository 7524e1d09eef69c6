"""YAML read strictly: every complaint names file, line, key, what was found and what is expected.

A plain `yaml.load` keeps the last of two equal keys, turns the tag 3.10 into the number 3.1, and forgets where each
value stood. PyYAML's nodes still know, but come to kilobytes a row. So this reads the parser's events, and keeps a
value's tag, text and line.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from build.errors import UsageError

Scalar = TypeVar("Scalar", int, str)
T = TypeVar("T")

_CORE = "tag:yaml.org,2002:"
_KINDS = {
    "str": "the string",
    "int": "the number",
    "float": "the number",
    "bool": "the truth value",
    "null": "nothing",
    "timestamp": "the date",
    "merge": "the merge key",
    "map": "a mapping",
    "seq": "a list",
}
# By a value's shape and tag: `!!str [a]` is of no kind.
_KIND_OF = {({"map": "mapping", "seq": "sequence"}.get(kind, "scalar"), _CORE + kind): kind for kind in _KINDS}


@dataclass(slots=True)
class _Value:
    """A value as it stands in the file: a scalar's text, a sequence's values, a mapping's keys and values in turn.

    `made` is what was made of it early, or the complaint about it.
    """

    shape: str
    tag: str
    line: int
    text: str
    items: Sequence[_Value]
    made: Any = None

    @property
    def kind(self) -> str:
        """One of YAML's own kinds, or nothing."""
        return _KIND_OF.get((self.shape, self.tag), "")


@dataclass(frozen=True, slots=True)
class Node:
    """A value in the file, and the dotted key that leads to it."""

    file: str
    key: str
    yaml: _Value

    def fail(self, found: str, expected: str) -> UsageError:
        """The complaint, to be raised."""
        place = f"{self.file}:{self.yaml.line}: {self.key or 'top level'}"
        return UsageError(f"{place}: found {found}\n  expected {expected}")

    def check(self, holds: bool, found: str, expected: str) -> None:
        """Raise the complaint unless `holds`."""
        if not holds:
            raise self.fail(found, expected)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Give a UsageError from elsewhere the place of this value, if it names none."""
        try:
            yield
        except UsageError as error:
            place = f"{self.file}:{self.yaml.line}: "
            raise error if str(error).startswith(self.file) else UsageError(f"{place}{self.key}: {error}") from None

    def is_a(self, *kinds: str) -> bool:
        """Whether this is a value of one of YAML's kinds, by its tag and by its shape: `!!str [a]` is neither."""
        return self.yaml.kind in kinds

    def described(self) -> str:
        """What this value is, for a complaint about it."""
        kind = _KINDS.get(self.yaml.kind) or f"a {self.yaml.shape} tagged {self.yaml.tag}"
        return f"{kind} {self.yaml.text!r}" if self.yaml.text else kind

    def entries(self) -> Iterator[tuple[str, Node]]:
        """The keys and values of a mapping whose keys are free, in their order; no key twice."""
        if not self.is_a("map"):
            raise self.fail(self.described(), "a mapping")
        lines: dict[str, int] = {}
        items = iter(self.yaml.items)
        for key, value in zip(items, items, strict=True):
            at_key = Node(self.file, self.key, key)
            if not at_key.is_a("str"):
                raise at_key.fail(at_key.described(), "a key that is a string: put it in quotes")
            name = key.text
            if name in lines:
                raise at_key.fail(f"the key {name!r} a second time", f"it once: it is in line {lines[name]} already")
            lines[name] = key.line
            yield name, Node(self.file, f"{self.key}.{name}".lstrip("."), value)

    def made(self, make: Callable[[str, Node], T]) -> dict[str, T]:
        """What `make` makes of each key and value of a mapping; `load` may have done that already."""
        found = {}
        for name, value in self.entries():
            made = value.yaml.made
            if isinstance(made, UsageError):
                raise made
            found[name] = make(name, value) if made is None else made
        return found

    def record(self, *required: str, optional: tuple[str, ...] = ()) -> dict[str, Node]:
        """The values of a mapping whose keys are fixed: all of `required`, none beyond `optional`."""
        known = (*required, *optional)
        fields = {}
        for name, value in self.entries():
            if name not in known:
                raise value.fail(f"the unknown key {name!r}", f"one of {', '.join(known)}")
            fields[name] = value
        for name in required:
            if name not in fields:
                raise self.fail(f"no key {name!r}", f"it: a value for {self.key or 'the file'}.{name}")
        return fields

    def text(self, pattern: str = r"(?s).+", meaning: str = "a string") -> str:
        """A non-empty string that matches `pattern` as a whole."""
        if not self.is_a("str") or not re.fullmatch(pattern, self.yaml.text):
            quoted = self.is_a("int", "float", "bool", "timestamp")
            raise self.fail(self.described(), meaning + (f', in quotes: "{self.yaml.text}"' if quoted else ""))
        return self.yaml.text

    def texts(self, pattern: str = r"(?s).+", meaning: str = "a string") -> tuple[str, ...]:
        """A non-empty list of such strings, none twice."""
        if not self.is_a("seq"):
            raise self.fail(self.described(), f"a list, each entry {meaning}")
        self.check(bool(self.yaml.items), "an empty list", f"at least one entry: {meaning}")
        entries = [Node(self.file, f"{self.key}[{at}]", each) for at, each in enumerate(self.yaml.items)]
        texts = tuple(entry.text(pattern, meaning) for entry in entries)
        seen = set[str]()
        for entry, text in zip(entries, texts, strict=True):
            entry.check(text not in seen, f"{text!r} a second time", "each entry once")
            seen.add(text)
        return texts

    def choice(self, *values: Scalar) -> Scalar:
        """One of `values`, which are all strings or all whole numbers."""
        typed = self.is_a("int" if isinstance(values[0], int) else "str")
        named = {str(value): value for value in values}
        if not typed or self.yaml.text not in named:
            raise self.fail(self.described(), " or ".join(named))
        return named[self.yaml.text]


# By the key of a mapping at the top, what makes a value of a key and a value in it.
Rows = Mapping[str, Callable[[str, Node], object]]


def load(path: Path, rows: Rows | None = None) -> Node:
    """The top value of a YAML file; raise UsageError if it can't be read or is not YAML.

    What `made` will make of `rows` is made of each as soon as it is read, and its nodes are forgotten: a long table
    takes little more memory than what is made of it.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        top = _composed(getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text), path.name, rows or {})
    except OSError as error:
        raise UsageError(
            f"{path}: can't be read: {error.strerror}\n  git checkout {path.name} brings it back"
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


def _composed(loader: Any, file: str, rows: Rows) -> _Value | None:
    """The value of the one document that `loader` parses, or None if there is none; raise YAMLError."""
    from yaml.composer import ComposerError
    from yaml.events import (
        AliasEvent,
        CollectionEndEvent,
        DocumentStartEvent,
        MappingStartEvent,
        ScalarEvent,
        SequenceStartEvent,
    )
    from yaml.nodes import MappingNode, ScalarNode, SequenceNode

    shapes = {
        ScalarEvent: ("scalar", ScalarNode),
        SequenceStartEvent: ("sequence", SequenceNode),
        MappingStartEvent: ("mapping", MappingNode),
    }
    top: list[_Value] = []
    around = [top]  # the items of what is open, the innermost last
    anchors: dict[str, _Value] = {}
    while loader.check_event():
        event = loader.get_event()
        kind, mark = type(event), event.start_mark
        if kind in shapes:
            if event.anchor in anchors:
                raise ComposerError(None, None, "second occurrence", mark)
            shape, node = shapes[kind]
            text = event.value if kind is ScalarEvent else ""
            tag = event.tag if event.tag not in (None, "!") else loader.resolve(node, text, event.implicit)
            items: list[_Value] = []
            value = _Value(shape, tag, mark.line + 1, sys.intern(text), () if kind is ScalarEvent else items)
            around[-1].append(value)
            if event.anchor is not None:
                anchors[event.anchor] = value
            if kind is not ScalarEvent:
                around.append(items)
        elif kind is AliasEvent:
            if event.anchor not in anchors:
                raise ComposerError(None, None, "found undefined alias", mark)
            around[-1].append(anchors[event.anchor])
        elif issubclass(kind, CollectionEndEvent):
            around.pop()
            if len(around) == 3 and not anchors:  # the end of a row, which nothing refers to
                _make(file, rows, *around[1:])
        elif kind is DocumentStartEvent and top:
            raise ComposerError(None, None, "but found another document", mark)
    return top[0] if top else None


def _make(file: str, rows: Rows, top: Sequence[_Value], table: Sequence[_Value]) -> None:
    """Make of the last value in the last table at the top what is to be made of it, and forget the rest."""
    make = rows.get(top[-2].text) if len(top) % 2 == 0 and top[-1].shape == "mapping" else None
    if make is None or len(table) % 2:
        return
    name, row = table[-2].text, table[-1]
    try:
        row.made = make(name, Node(file, f"{top[-2].text}.{name}", row))
    except UsageError as error:
        row.made = error  # for its turn: what is wrong above it comes first, and what is no YAML before all else
    row.items = ()
