"""What a run reports: progress events, results, and the trace of commands and HTTP requests that --verbose shows.

The trace contains no secret: user names and query strings are stripped from URLs; headers and bodies are never logged.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Protocol

# The stages of an arch. After DONE another stage may follow, after FAILED none.
WAIT, COMPILE, IMAGE, VERIFY, PUSH, DONE, FAILED = "wait", "compile", "image", "verify", "push", "done", "failed"

# What CI systems take for commands: `::` at the start of a line (GitHub), `##[` and `##vso[` anywhere (GitHub, Azure).
_COMMAND = re.compile(r"^\s*::|##(?=\w*\[)")

LOG = logging.getLogger("pause")
LOG.propagate = False


class Entry(Protocol):
    """A result of a task."""

    def fields(self) -> Mapping[str, object]:
        """The result in the document of --json, as in docs/output.schema.json."""


@dataclass(frozen=True)
class Event:
    """A line of progress (`text`), or the stage that an arch of an image has reached, with or without a line.

    `size` is the number of bytes that a store has received since the last event. A `note` is shown even with --quiet.
    `result` is what is finished, whatever becomes of the rest.
    """

    text: str = ""
    image: str = ""
    arch: str = ""
    stage: str = ""
    size: int = 0
    note: bool = False
    result: Entry | None = None

    def __str__(self) -> str:
        return self.text


def shown(text: str) -> str:
    """A message as it is written: nothing in it moves a cursor, or is a command to a CI system.

    A line ends only where two spaces follow, as in our own texts (see `indented`): any other end is what others wrote,
    and is escaped like everything that is not printable.
    """
    return "\n".join(map(one_line, re.split(r"\n(?=  )", text)))


def one_line(text: str) -> str:
    """One line as it is written; see `shown`."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)
    return _COMMAND.sub(lambda found: f"{found[0][:-2]}\\x{ord(found[0][-1]):02x}{found[0][-1]}", text)


def indented(text: str) -> str:
    """What others wrote in several lines, so that `shown` keeps them."""
    return "\n  ".join(text.strip().splitlines())


# Called from the event loop; a plain line may be a string.
Report = Callable[[str | Event], None]


def silent(_: str | Event) -> None:
    """A Report that discards everything."""


def collecting(report: Report, results: list[Entry]) -> Report:
    """`report`, which also appends the results of the events to `results`."""

    def collect(event: str | Event) -> None:
        if isinstance(event, Event) and event.result:
            results.append(event.result)
        report(event)

    return collect


@dataclass(frozen=True)
class Place:
    """Where an image is stored: HOST[:PORT] (empty for a layout), the repository, and the tag, which may be empty."""

    registry: str
    repository: str
    tag: str

    def fields(self) -> Mapping[str, str | None]:
        """The members of a result in the document of --json."""
        return {name: value or None for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Result:
    """One result of a task: its name (a path or a reference), digest and platform (None for a manifest list).

    The digest is None only where the Docker daemon has yet to choose it. `change` is what was done, or would be done by
    a dry run: "made", "pushed", "moved", "kept", "refused" or "verified"; `why` gives the reasons. Images in a store
    have a `place`, files a `size` in bytes; what has neither is an image in the daemon, and the digest is its ID.
    `base` has the members `reference` and `digest`, if there is a base that was resolved here.
    """

    name: str
    digest: str | None
    platform: str | None
    change: str
    why: tuple[str, ...] = ()
    arch: str | None = None
    place: Place | None = None
    size: int | None = None
    base: Mapping[str, str] | None = None

    def fields(self) -> Mapping[str, object]:
        """The result in the document of --json."""
        named: dict[str, object] = {"kind": "daemon-image", "reference": self.name}
        if self.place:
            named |= {"kind": "image" if self.platform else "list", **self.place.fields()}
        elif self.size is not None:
            named = {"kind": "file", "path": self.name, "size_bytes": self.size}
        about = {"arch": self.arch, "platform": self.platform, "digest": self.digest}
        base = {"base": self.base} if self.base else {}
        return {**named, **about, **base, "change": self.change, "reasons": self.why}

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else self.name


def without_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """The same environment without what signs, keys and their passwords: no command that is started needs them."""
    return {
        name: value
        for name, value in environment.items()
        if name not in {"COSIGN_PASSWORD", "COSIGN_PKCS11_PIN"} and "PRIVATE KEY-----" not in value
    }


def trace_command(words: Sequence[str]) -> None:
    """Trace a command that is about to start, quoted for a shell."""
    if LOG.isEnabledFor(logging.DEBUG):
        LOG.debug("$ %s", shlex.join(words))


def trace_request(what: str, status: int, sent: int | None, received: int | None, seconds: float) -> None:
    """Trace a response: `what` is the method and the redacted URL; `sent` and `received` are body sizes in bytes."""
    if LOG.isEnabledFor(logging.DEBUG):
        sizes = [f"{size} bytes {word}" for size, word in ((sent, "sent"), (received, "received")) if size is not None]
        LOG.debug("%s: %s", what, ", ".join([str(status), *sizes, f"{seconds * 1000:.0f} ms"]))


def trace_failure(error: Exception, seconds: float) -> None:
    """Trace a request that failed without a response."""
    LOG.debug("%s: no answer, %.0f ms", error, seconds * 1000)


def trace_retry(error: Exception, wait: float) -> None:
    """Trace that a request is retried after `wait` seconds, and why."""
    LOG.debug("%s: retrying in %.1f s", error, wait)


@contextmanager
def tracing(line: Callable[[str], None]) -> Iterator[None]:
    """Pass each line of the trace to `line` until the context ends."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            line(one_line(record.getMessage()))

    handler, level = Lines(), LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
