"""What --verbose shows: every command that is started, and every exchange over HTTP.

No secret is in it: URLs are shown without user, query and fragment, headers and bodies not at all.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

# Whoever logs for other reasons has no use for these lines.
LOG = logging.getLogger("pause")
LOG.propagate = False


def command(words: Sequence[str]) -> None:
    """Trace a command that is about to be started, as a shell takes it. It runs in the checkout, or anywhere."""
    if LOG.isEnabledFor(logging.DEBUG):
        LOG.debug("$ %s", shlex.join(words))


def exchange(what: str, status: int, sent: int | None, got: int | None, seconds: float) -> None:
    """Trace an answer to `what`, a method and a URL that shows no secret; `sent` and `got` are the bodies' bytes."""
    if LOG.isEnabledFor(logging.DEBUG):
        counted = [f"{size} bytes {word}" for size, word in ((sent, "sent"), (got, "received")) if size is not None]
        LOG.debug("%s: %s", what, ", ".join([str(status), *counted, f"{seconds * 1000:.0f} ms"]))


def failed(error: Exception, seconds: float) -> None:
    """Trace an exchange that came to nothing: `error` says which, and why."""
    LOG.debug("%s: no answer, %.0f ms", error, seconds * 1000)


def again(error: Exception, wait: float) -> None:
    """Trace that something is tried again after `wait` seconds, and why."""
    LOG.debug("%s: again in %.1f s", error, wait)


@contextmanager
def shown(line: Callable[[str], None]) -> Iterator[None]:
    """Have everything traced, a line each."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            line("".join(map(_plain, record.getMessage())))

    handler, level = Lines(), LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)


def _plain(character: str) -> str:
    # What a terminal would obey, and what would be a line more.
    return character if character.isprintable() else character.encode("unicode_escape").decode()
