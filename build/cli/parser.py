"""The command line: Invoke's own parser, made to accept and refuse what users of other tools expect.

Some positional arguments are optional. A flag given twice or without its value is refused, unknown words are answered
with the nearest name, wrong usage ends with status 2, and completion offers values.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

from invoke import program
from invoke.completion import complete as completion
from invoke.exceptions import Exit, ParseError
from invoke.parser import ParseResult, parser
from invoke.parser.context import ParserContext

from build.errors import BuildError

_TABLE = Path(__file__).resolve().parents[2] / "arches.yaml"
# Positional arguments that may be omitted, by their task.
_OPTIONAL: dict[str, str] = {}


def make_optional(task: str, argument: str) -> None:
    """Let a positional argument of `task` be omitted; it is empty then."""
    _OPTIONAL[task] = argument


class _UsageError(ParseError, Exit):
    """Wrong usage, which ends with status 2. While completing, Invoke catches it: the line is not finished."""

    message = None  # Invoke prints a ParseError itself
    code = 2

    def __init__(self, text: str, context: ParserContext | None = None) -> None:
        if text.startswith("No idea what"):  # from `--help NAME`, after parsing
            text = f"invoke: unknown task {_quoted(text)!r}\n  see invoke --list"
        Exception.__init__(self, text)
        self.context = context


def _quoted(text: str) -> str:
    return text.split("'", 1)[1].rpartition("'")[0]


class _Machine(parser.ParseMachine):
    _before = ""

    def handle(self, token: str) -> None:
        # Invoke makes two words of FLAG=VALUE.
        if not self.waiting_for_flag_value and f"{self._before}={token}" in sys.argv:
            self._refuse(f"{self._before}={token}: {self._before} takes no value")
        self._before = token
        core = self.initial.flags if self.initial else {}
        ours = self.context.flags if self.context else {}
        if token.startswith("-") and not self.waiting_for_flag_value and token not in {**core, **ours}:
            self._refuse(f"unknown flag {token!r}", token, ours)
        if token in core and self.context and self.context.missing_positional_args:
            self._core_flag(token)  # Invoke would take it for the missing argument
        else:
            super().handle(token)

    def _core_flag(self, token: str) -> None:
        if self.initial.flags[token].name == "help":
            self.initial.flags[token].value = self.context.name
            for argument in self.context.missing_positional_args:
                argument.set_value("", cast=False)
        else:
            self.switch_to_flag(token)

    def complete_context(self) -> None:
        for argument in self.context.missing_positional_args if self.context else ():
            if argument.name != _OPTIONAL.get(str(self.context.name)):
                self._refuse(f"{str(argument.name).rstrip('_').upper()} is missing")
            # Invoke asks for each word, and again when the task's words end.
            argument.set_value("", cast=False)
        super().complete_context()

    def switch_to_flag(self, flag: str, inverse: bool = False) -> None:
        super().switch_to_flag(flag, inverse)
        if self.flag and self.flag.takes_value and self.flag.kind is not list and self.flag.raw_value is not None:
            self._refuse(f"{flag} is given twice, expected once")

    def see_value(self, value: Any) -> None:
        try:
            super().see_value(value)
        except ValueError:
            name = self.flag.name if self.flag else ""
            self._refuse(f"--{name}: found {value!r}, expected a whole number")

    def complete_flag(self) -> None:
        if self.flag and self.waiting_for_flag_value:
            self._refuse(f"--{self.flag.name.rstrip('_').replace('_', '-')}: found nothing after it, expected a value")
        super().complete_flag()

    def error(self, msg: str) -> NoReturn:
        if msg.startswith("No idea"):
            word = _quoted(msg)
            if self.context and self.context.name:
                self._refuse_extra(word)
            self._refuse(f"unknown task {word!r}", word, self.contexts)
        self._refuse(msg)

    def _refuse_extra(self, word: str) -> NoReturn:
        """Refuse a word after a task's own: it may be meant for a flag, as its value or as itself, or be a task."""
        from difflib import get_close_matches

        flags = [flag for flag in (*self.context.flags, *self.initial.flags) if flag.startswith("--")]
        with suppress(BuildError):  # the task reports what is wrong with the table
            for flag, values in _values().items():
                if flag in flags and word in values():
                    self._refuse(f"found {word!r}, expected a flag or a task: did you mean {flag} {word}?")
        close = get_close_matches(f"--{word}", flags, n=1, cutoff=0.7) or get_close_matches(word, self.contexts, n=1)
        self._refuse(f"found {word!r}, expected a flag or a task" + (f": did you mean {close[0]}?" if close else ""))

    def _refuse(self, message: str, word: str = "", known: Iterable[str] = ()) -> NoReturn:
        close = ""
        if known:
            from build.config.arches import nearest

            close = nearest(word, sorted(name for name in known if name))
        task = self.context.name if self.context else None
        message += close + (f"\n  see invoke --help {task}" if task else "\n  see invoke --list")
        if task and "--json" in sys.argv and "--json" in self.context.flags and "--complete" not in sys.argv:
            from build.cli.output import document

            _print(document(task, not {"plan", "--dry", "-R"}.isdisjoint(sys.argv), (), _UsageError.code, message))
        raise _UsageError(f"{task or 'invoke'}: {message}", self.context)


# Invoke's state machines keep these by class.
_Machine._class_states = parser.ParseMachine._class_states
_Machine._class_transitions = parser.ParseMachine._class_transitions
parser.ParseMachine = _Machine  # type: ignore[misc]
program.ParseError = _UsageError  # type: ignore[assignment, attr-defined]


def complete_values() -> None:
    """Have completion offer the names in the tables, and built-in ones, after a flag that takes one of them."""

    def complete(names: list[str], core: ParseResult, **others: Any) -> Exit:
        words = re.sub(rf"^({'|'.join(map(re.escape, names))}) ", "", core.remainder).split()
        # The last word is the flag, or the beginning of its value: the shell does not say which.
        flag = next((word for word in reversed(words[-2:]) if word.startswith("--")), "")
        known = _values()
        if flag in known:
            _print("\n".join(known[flag]()))
            raise Exit
        return completion.complete(names, core, **others)

    program.complete = complete  # type: ignore[attr-defined, assignment]


def _values() -> Mapping[str, Callable[[], Iterable[str]]]:
    from build.config.arches import ENGINES
    from build.config.parse import read_settings
    from build.oci.media_types import FORMATS

    return {
        "--arch": lambda: ["all", *(table := read_settings(_TABLE)).systems, *table.arches],
        "--image": lambda: read_settings(_TABLE).images,
        "--engine": lambda: ENGINES,
        "--compiler": lambda: ("zig", "kube-cross", "host"),
        "--format": lambda: FORMATS,
        "--with": lambda: ("namespaces", "docker", "podman"),
        "--for": lambda: ("github", "gitlab"),
        "--platform": lambda: dict.fromkeys(str(arch.platform) for arch in read_settings(_TABLE).arches.values()),
    }


def _print(*words: object, file: TextIO | None = sys.stdout, **_: Any) -> None:
    """Write what Invoke prints. If the reader has exited, the exit status is unchanged; a full disk ends with 1."""
    from build.cli.progress import say, to

    text = " ".join(map(str, words))
    if file is not sys.stdout:
        to(file)(text)
        return
    try:
        say(text, file)
    except OSError as error:
        raise Exit(f"invoke: stdout: can't be written: {error.strerror}", code=1) from None


program.print = completion.print = _print  # type: ignore[attr-defined]
