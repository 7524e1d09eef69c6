"""YAML read strictly: every complaint names file, line, key, what was found and what is expected.

A plain `yaml.load` keeps the last of two equal keys, turns the tag 3.10 into the number 3.1, and forgets where each
value stood. So this reads PyYAML's nodes, which still know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from build.errors import UsageError

Scalar = TypeVar("Scalar", int, str)

KINDS = {
    "tag:yaml.org,2002:str": "the string",
    "tag:yaml.org,2002:int": "the number",
    "tag:yaml.org,2002:float": "the number",
    "tag:yaml.org,2002:bool": "the truth value",
    "tag:yaml.org,2002:null": "nothing",
    "tag:yaml.org,2002:timestamp": "the date",
    "tag:yaml.org,2002:merge": "the merge key",
    "tag:yaml.org,2002:map": "a mapping",
    "tag:yaml.org,2002:seq": "a list",
}


_SCALARS = ("str", "int", "float", "bool", "null", "timestamp", "merge")


@dataclass(frozen=True)
class Node:
    """A value in the file, and the dotted key that leads to it."""

    file: str
    key: str
    yaml: Any

    def fail(self, found: str, expected: str) -> UsageError:
        """The complaint, to be raised."""
        line = self.yaml.start_mark.line + 1
        return UsageError(f"{self.file}:{line}: {self.key or 'top level'}: found {found}\n  expected {expected}")

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
            line = self.yaml.start_mark.line + 1
            place = f"{self.file}:{line}: "
            raise error if str(error).startswith(self.file) else UsageError(f"{place}{self.key}: {error}") from None

    def is_a(self, *kinds: str) -> bool:
        """Whether this is a value of one of YAML's kinds, by its tag and by its shape: `!!str [a]` is neither."""
        shape = {"mapping": ("map",), "sequence": ("seq",)}.get(self.yaml.id, _SCALARS)
        return any(self.yaml.tag == f"tag:yaml.org,2002:{kind}" and kind in shape for kind in kinds)

    def described(self) -> str:
        """What this value is, for a complaint about it."""
        known = self.is_a(*_SCALARS, "map", "seq")
        kind = KINDS[self.yaml.tag] if known else f"a {self.yaml.id} tagged {self.yaml.tag}"
        return f"{kind} {self.yaml.value!r}" if isinstance(self.yaml.value, str) and self.yaml.value else kind

    def entries(self) -> Iterator[tuple[str, Node]]:
        """The keys and values of a mapping whose keys are free, in their order; no key twice."""
        self.check(self.is_a("map"), self.described(), "a mapping")
        lines: dict[str, int] = {}
        for key, value in self.yaml.value:
            at_key = Node(self.file, self.key, key)
            at_key.check(at_key.is_a("str"), at_key.described(), "a key that is a string: put it in quotes")
            first = f"it once: it is in line {lines.get(key.value)} already"
            at_key.check(key.value not in lines, f"the key {key.value!r} a second time", first)
            lines[key.value] = key.start_mark.line + 1
            yield key.value, Node(self.file, f"{self.key}.{key.value}".lstrip("."), value)

    def record(self, *required: str, optional: tuple[str, ...] = ()) -> dict[str, Node]:
        """The values of a mapping whose keys are fixed: all of `required`, none beyond `optional`."""
        known = (*required, *optional)
        fields = {}
        for name, value in self.entries():
            value.check(name in known, f"the unknown key {name!r}", f"one of {', '.join(known)}")
            fields[name] = value
        for name in required:
            self.check(name in fields, f"no key {name!r}", f"it: a value for {self.key or 'the file'}.{name}")
        return fields

    def text(self, pattern: str = r"(?s).+", meaning: str = "a string") -> str:
        """A non-empty string that matches `pattern` as a whole."""
        quoted = self.is_a("int", "float", "bool", "timestamp")
        hint = f', in quotes: "{self.yaml.value}"' if quoted else ""
        fits = self.is_a("str") and re.fullmatch(pattern, self.yaml.value)
        self.check(bool(fits), self.described(), meaning + hint)
        return str(self.yaml.value)

    def texts(self, pattern: str = r"(?s).+", meaning: str = "a string") -> tuple[str, ...]:
        """A non-empty list of such strings, none twice."""
        self.check(self.is_a("seq"), self.described(), f"a list, each entry {meaning}")
        self.check(bool(self.yaml.value), "an empty list", f"at least one entry: {meaning}")
        entries = [Node(self.file, f"{self.key}[{at}]", each) for at, each in enumerate(self.yaml.value)]
        texts = tuple(entry.text(pattern, meaning) for entry in entries)
        for at, entry in enumerate(entries):
            entry.check(texts[at] not in texts[:at], f"{texts[at]!r} a second time", "each entry once")
        return texts

    def choice(self, *values: Scalar) -> Scalar:
        """One of `values`, which are all strings or all whole numbers."""
        number = isinstance(values[0], int)
        typed = self.is_a("int" if number else "str")
        named = {str(value): value for value in values}
        self.check(typed and self.yaml.value in named, self.described(), " or ".join(named))
        return named[self.yaml.value]


def load(path: Path) -> Node:
    """The top value of a YAML file; raise UsageError if it can't be read or is not YAML."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        top = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
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
