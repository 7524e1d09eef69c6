"""A word after a task's name that may be left out: Invoke knows only words that must be there.

Invoke asks whether one is missing when it meets a word, and again when the task's words end. At the second time a word
that may be left out gets an empty value here.
"""

from __future__ import annotations

from invoke.parser import parser

_complete = parser.ParseMachine.complete_context


def allow(task: str, word: str) -> None:
    """Let `word`, a positional argument of `task`, be left out."""

    def complete(self: parser.ParseMachine) -> None:
        if self.context and self.context.name == task:
            for argument in self.context.missing_positional_args:
                if argument.name == word:
                    argument.set_value("", cast=False)
        _complete(self)

    parser.ParseMachine.complete_context = complete  # type: ignore[method-assign]
