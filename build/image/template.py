"""Renders Dockerfile.j2, a Jinja template, to a Dockerfile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

from build.errors import ImageError

if TYPE_CHECKING:
    from jinja2 import Template


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


def quoted(text: str) -> str:
    """The filter `quoted`: `text` as a Dockerfile word in double quotes.

    Raises ImageError for characters that builders interpret differently.
    """
    if re.search(r'["\\$\x00-\x1f]', text):
        raise ImageError(f"Dockerfile: {text!r} can't be quoted: builders differ on \", \\, $ and control characters")
    return f'"{text}"'


@cache
def _compile(text: str) -> Template:
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)  # noqa: S701
    environment.filters["quoted"] = quoted
    return environment.from_string(text)


def _line(error: Exception) -> int:
    """The line of the template that raised `error`."""
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == "<template>"]
    return (lines and lines[-1]) or 1
