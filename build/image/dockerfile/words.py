"""Words and variables, as Dockerfiles have them (Dockerfile reference, "Environment replacement")."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from build.errors import ImageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A word with its quotes and escapes.
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""", re.DOTALL)
_SPACE = re.compile(r"\s+|$")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`text` without its quotes and escapes, and with the values of variables.

    Raises ImageError for a quote that is not closed, for a variable that is not set, where Docker takes it for empty,
    and for replacements that Docker doesn't know.
    """
    return _Expansion(text, variables).until("")


class _Expansion:
    """One pass over a text."""

    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._text, self._at, self._variables = text, 0, variables

    def until(self, end: str) -> str:
        """What is in front of the character `end`, which is passed; of the whole text, if it is empty."""
        parts: list[str] = []
        while self._at < len(self._text):
            character = self._next()
            if character == end:
                return "".join(parts)
            if character == "'":
                parts.append(self._quoted("'"))
            elif character == '"':
                parts.append(self._quoted('"'))
            elif character == "$":
                parts.append(self._variable())
            elif character == "\\":
                parts.append(self._next())
            else:
                parts.append(character)
        if end:
            raise ImageError(f"found ${{ without {end}")
        return "".join(parts)

    def _next(self) -> str:
        self._at += 1
        return self._text[self._at - 1 : self._at]

    def _quoted(self, quote: str) -> str:
        parts: list[str] = []
        while (character := self._next()) != quote:
            if not character:
                raise ImageError("expected every quote closed")
            if quote == '"' and character == "$":
                character = self._variable()
            elif quote == '"' and character == "\\":
                escaped = self._next()
                character = escaped if escaped in ('"', "$", "\\") else f"\\{escaped}"
            parts.append(character)
        return "".join(parts)

    def _variable(self) -> str:
        braced = self._text[self._at : self._at + 1] == "{"
        self._at += braced
        found = _NAME.match(self._text, self._at)
        if not found:
            if braced:
                raise ImageError("found ${ without a name")
            return "$"
        self._at = found.end()
        value = self._variables.get(found[0])
        if not braced:
            return _set(found[0], value)
        return self._replaced(found[0], value)

    def _replaced(self, name: str, value: str | None) -> str:
        """The rest of ${NAME}, ${NAME:-word}, ${NAME:+word}, ${NAME:?word}, or the same without the colon."""
        operator = self._next()
        if operator == "}":
            return _set(name, value)
        counts = value is not None
        if operator == ":":
            operator, counts = self._next(), bool(value)
        if operator not in ("-", "+", "?"):
            raise ImageError(
                f"found ${{{name}{operator}…, expected ${{{name}}}, ${{{name}:-word}} or ${{{name}:+word}}"
            )
        word = self.until("}")
        if operator == "+":
            return word if counts else ""
        if operator == "?" and not counts:
            raise ImageError(f"${name}: {word or 'not set'}")
        return value or "" if counts else word


def _set(name: str, value: str | None) -> str:
    if value is None:
        raise ImageError(f"${name} is not set\n  set it with ARG {name}=VALUE or ENV, or write ${{{name}:-}}")
    return value


def words(text: str) -> Iterator[str]:
    """The words of a text, with their quotes and escapes; raise ImageError for a quote that is not closed."""
    at = len(text) - len(text.lstrip())
    while at < len(text):
        word = _WORD.match(text, at)
        after = _SPACE.match(text, word.end()) if word else None
        if not word or not after:
            raise ImageError(f"{text}: expected every quote closed")
        yield word[0]
        at = after.end()


def pairs(text: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The pairs of `NAME=VALUE …`, or of the old form `NAME VALUE`, expanded; raise ImageError for anything else."""
    found = list(words(text))
    if found and "=" not in found[0]:
        value = text.strip()[len(found[0]) :].strip()
        if not value:
            raise ImageError(f"{text}: expected NAME=VALUE")
        return {expand(found[0], variables): expand(value, variables)}
    expanded = {}
    for word in found:
        name, equals, value = word.partition("=")
        if not equals or not expand(name, variables):
            raise ImageError(f"{text}: expected NAME=VALUE, found {word}")
        expanded[expand(name, variables)] = expand(value, variables)
    return expanded


def exec_form(text: str) -> tuple[str, ...] | None:
    """The words of a JSON array of strings; None if `text` is anything else, which Docker takes for the shell form."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        return None
    return tuple(found)
