"""How a task's results reach the user: lines or one JSON document on stdout, and the files of a CI system."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from build.cli.options import Options
from build.cli.run import Interrupted
from build.errors import BuildError, UsageError
from build.report import Entry, one_line

if TYPE_CHECKING:
    from build.cli.ci import Job
    from build.release.rebuild.rebuild import Rebuilt
    from build.report import Result
    from build.verify.verdicts import Verdict

# Of the document; see docs/output.schema.json.
VERSION = 1


def failure(error: BaseException) -> tuple[int, str]:
    """The exit status and the message of a task that `error` has ended."""
    if isinstance(error, UnicodeEncodeError):
        lacking = f"{error.object[error.start : error.end]!a} does not exist in {error.encoding}"
        return 1, f"{lacking}, the encoding of file names here\n  set LC_ALL=C.UTF-8"
    if isinstance(error, OSError):
        return 1, f"{error.filename or 'system'}: {error.strerror or error}"
    if isinstance(error, Interrupted):
        return error.status, str(error)
    return 2 if isinstance(error, UsageError) else 1, str(error)


def document(task: str, dry: bool, results: Iterable[Entry], status: int = 0, message: str = "") -> str:
    """The document of --json: all results or, of a task that failed with `message`, those of what was finished."""
    return json.dumps(
        {
            "version": VERSION,
            "task": task,
            "dry": dry,
            "ok": not status,
            "error": {"message": message, "exit_status": status} if status else None,
            "results": [each.fields() for each in results],
        },
        indent=2,
    )


def show(_name: str, results: Sequence[Entry], options: Options) -> None:
    """Write the results to stdout. Like all the others here, write nothing there if the document is to follow."""
    texts = []
    for each in results:
        change, why = getattr(each, "change", ""), "; ".join(getattr(each, "why", ()))
        texts.append(f"{change:7} {each}{why and f'  ({why})'}" if options.dry and change else str(each))
    if texts:
        _write_text("\n".join(one_line(line) for text in texts for line in text.split("\n")), options)


def show_plan(name: str, results: Sequence[Result], options: Options) -> None:
    """Write the steps to stdout. Raises PublishError if one of them would be refused."""
    from build.engines.moves import refuse_plan

    show(name, results, options)
    refuse_plan(results)


def show_rebuilt(name: str, results: Sequence[Rebuilt], options: Options) -> None:
    """Write the comparison to stdout. Raises ImageError unless all digests are the same."""
    from build.release.rebuild.rebuild import refuse

    show(name, results, options)
    refuse(results)


def show_matrix(_name: str, jobs: Sequence[Job], options: Options) -> None:
    """Write one document for the CI system to stdout, and the same to GITHUB_OUTPUT if that is set."""
    from build.cli.ci import matrix, write_matrix

    _write_text(matrix(jobs, options.flags["for_"]), options)
    output = options.environment.get("GITHUB_OUTPUT")
    if output and not options.dry:
        write_matrix(jobs, output)


def show_verdicts(_name: str, verdicts: Sequence[Verdict], options: Options) -> None:
    """Write the table to stdout. Raises VerifyError unless every arch has passed."""
    from build.verify.verdicts import refuse, shown

    if verdicts:
        _write_text(shown(verdicts, bool(sys.stdout and sys.stdout.isatty())), options)
    if not options.dry:
        refuse(verdicts, bool(options.flags.get("allow_not_run")))


def show_published(name: str, results: Sequence[Entry], options: Options) -> None:
    """Write the results to stdout, and to the files GITHUB_OUTPUT and GITHUB_STEP_SUMMARY if these are set."""
    show(name, results, options)
    output, summary = (options.environment.get(each, "") for each in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"))
    if output or summary:
        from build.cli.ci import write_published

        write_published(name, results, output, summary, options.dry)


def _write_text(text: str, options: Options) -> None:
    if not options.flags.get("json"):  # no flags at all for the default task
        write(text)


def write(text: str) -> None:
    """Write to stdout, where only results are ever written. Raises BuildError if that fails."""
    from build.cli.progress import say

    try:
        say(text, sys.stdout)
    except OSError as error:
        raise BuildError(f"stdout: can't be written: {error.strerror}\n  the work itself is done") from None
