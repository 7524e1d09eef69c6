"""How the words of a command line become tasks and flags: Invoke's own reader, with what users expect beside it.

A word after a task's name may be left out, a flag that is given twice or without its value is refused, whatever is
unknown is answered with the nearest name, and wrong usage ends with status 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from invoke.exceptions import Exit, ParseError
from invoke.parser import parser
from invoke.parser.context import ParserContext

# The positional arguments that may be left out, by their task.
_OPTIONAL: dict[str, str] = {}


def allow(task: str, word: str) -> None:
    """Let `word`, a positional argument of `task`, be left out; it is empty then."""
    _OPTIONAL[task] = word


class _WrongUsageError(ParseError, Exit):
    """For completion, a command line that is not at its end; for whoever runs it, the end with status 2."""

    message = None  # Invoke tells ParseErrors by their own words
    code = 2

    def __init__(self, words: str, context: ParserContext | None) -> None:
        Exception.__init__(self, words)
        self.context = context


class _Machine(parser.ParseMachine):
    def handle(self, token: str) -> None:
        known = self.initial.flags if self.initial else {}
        ours = self.context.flags if self.context else {}
        if token.startswith("-") and not self.waiting_for_flag_value and token not in {**known, **ours}:
            self._refuse(f"unknown flag {token!r}", token, ours)
        if token in known and self.context and self.context.missing_positional_args:
            self._core_flag(token)  # Invoke would take it for the word that is missing
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
                self._refuse(f"{str(argument.name).upper()} is missing")
            # Invoke asks when it meets a word, and again when the task's words end.
            argument.set_value("", cast=False)
        super().complete_context()

    def switch_to_flag(self, flag: str, inverse: bool = False) -> None:
        super().switch_to_flag(flag, inverse)
        if self.flag and self.flag.takes_value and self.flag.kind is not list and self.flag.raw_value is not None:
            self._refuse(f"{flag} is given twice, expected once")

    def complete_flag(self) -> None:
        if self.flag and self.waiting_for_flag_value:
            self._refuse(f"--{self.flag.name.rstrip('_').replace('_', '-')}: found nothing after it, expected a value")
        super().complete_flag()

    def error(self, msg: str) -> NoReturn:
        if msg.startswith("No idea"):
            word = msg.split("'", 1)[1].rpartition("'")[0]
            self._refuse(f"unknown task {word!r}", word, self.contexts)
        self._refuse(msg)

    def _refuse(self, message: str, word: str = "", known: Iterable[str] = ()) -> NoReturn:
        from build.config.arches import nearest

        task = self.context.name if self.context else None
        close = nearest(word, sorted(name for name in known if name)) if known else ""
        more = f"\n  invoke --help {task} tells them all" if task else "\n  invoke --list tells them all"
        raise _WrongUsageError(f"{task or 'invoke'}: {message}{close}{more}", self.context)


# Invoke's state machines keep these by class.
_Machine._class_states = parser.ParseMachine._class_states
_Machine._class_transitions = parser.ParseMachine._class_transitions
parser.ParseMachine = _Machine  # type: ignore[misc]
