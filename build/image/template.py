"""Renders Dockerfile.j2, a Jinja template, to a Dockerfile."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

from build.errors import ImageError

if TYPE_CHECKING:
    from jinja2 import Template


# In front of a line that is rendered again: the line of the template.
_NUMBER = re.compile(r"\0(\d+)\0")


def render(template: str, name: str, variables: Mapping[str, Any]) -> str:
    """Render the text of the template `name`.

    Raises ImageError, with the line in the template, for a syntax error, an undefined variable, or an expression that
    fails.
    """
    import jinja2

    try:
        return _compile(template).render(variables)
    except jinja2.TemplateSyntaxError as error:
        raise ImageError(f"{name}:{error.lineno}: {error.message}") from None
    except jinja2.UndefinedError as error:
        known = f"known variables: {', '.join(sorted(variables))}"
        raise ImageError(f"{name}:{_line(error)}: {error.message}\n  {known}") from None
    except (
        jinja2.TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise ImageError(f"{name}:{_line(error)}: {error}") from None


def template_line(template: str, variables: Mapping[str, Any], line: int) -> int:
    """The line of `template` that a line of the rendered text is from, both counted from 1.

    Loops and values of several lines move lines, so the template is rendered again with a number in front of each.
    """
    lines = _compile(template, numbered=True).render(variables).split("\n")
    numbers = [_NUMBER.match(text) for text in lines[:line]]
    return next((int(found[1]) for found in reversed(numbers) if found), line)


def quoted(text: str) -> str:
    """The filter `quoted`: `text` as a Dockerfile word in double quotes.

    Raises ImageError for characters that builders interpret differently.
    """
    if re.search(r'["\\$\x00-\x1f]', text):
        raise ImageError(f"Dockerfile: {text!r} can't be quoted: builders differ on \", \\, $ and control characters")
    return f'"{text}"'


@cache
def _compile(text: str, *, numbered: bool = False) -> Template:
    import jinja2
    from jinja2.ext import Extension
    from jinja2.lexer import Token, TokenStream

    class Numbered(Extension):
        def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
            for token in stream:
                if token.type == "data":
                    first, *rest = token.value.split("\n")
                    lines = [first, *(f"\0{token.lineno + n}\0{each}" for n, each in enumerate(rest, 1))]
                    yield token._replace(value="\n".join(lines))
                else:
                    yield token

    extensions = [Numbered] if numbered else []
    environment = jinja2.Environment(  # noqa: S701
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, extensions=extensions
    )
    environment.filters["quoted"] = quoted
    return environment.from_string(text)


def _line(error: Exception) -> int:
    """The line of the template that raised `error`."""
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == "<template>"]
    return (lines and lines[-1]) or 1
