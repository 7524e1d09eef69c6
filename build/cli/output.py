"""How a task's results reach the user: lines or one JSON document on stdout, and the files of a CI system."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from build.cli.options import Options
from build.errors import BuildError
from build.report import one_line

if TYPE_CHECKING:
    from build.cli.ci import Job
    from build.cli.nodes import Setting
    from build.release.clean import Removed
    from build.report import Result
    from build.verify.verdicts import Verdict

    Results = Sequence[Result | Removed | Setting | Verdict | Job]


def show(name: str, results: Results, options: Options) -> None:
    """Write the results of the task `name` to stdout. Nothing else is ever written there."""
    if options.flags.get("json"):  # no flags at all for the default task
        document = {"task": name, "dry": options.dry, "results": [asdict(each) for each in results]}
        _write(json.dumps(document, indent=2))
        return
    texts = []
    for each in results:
        change, why = getattr(each, "change", ""), "; ".join(getattr(each, "why", ()))
        texts.append(f"{change:7} {each}{why and f'  ({why})'}" if options.dry and change else str(each))
    if texts:
        _write("\n".join(one_line(line) for text in texts for line in text.split("\n")))


def show_plan(name: str, results: Sequence[Result], options: Options) -> None:
    """Write the steps to stdout. Raises PublishError if one of them would be refused."""
    from build.engines.moves import refuse_plan

    show(name, results, replace(options, dry=True))
    refuse_plan(results)


def show_matrix(name: str, jobs: Sequence[Job], options: Options) -> None:
    """Write one document for the CI system to stdout, and the same to GITHUB_OUTPUT if that is set."""
    from build.cli.ci import matrix, write_matrix

    document, output = matrix(jobs, options.flags["for_"]), options.environment.get("GITHUB_OUTPUT")
    if options.flags["json"]:
        show(name, jobs, options)
    else:
        _write(document)
    if output and not options.dry:
        write_matrix(jobs, output)


def show_verdicts(name: str, verdicts: Sequence[Verdict], options: Options) -> None:
    """Write the table to stdout. Raises VerifyError unless every arch has passed."""
    from build.verify.verdicts import refuse, shown

    if options.flags.get("json"):
        show(name, verdicts, options)
    elif verdicts:
        _write(shown(verdicts, bool(sys.stdout and sys.stdout.isatty())))
    if not options.dry:
        refuse(verdicts, bool(options.flags.get("allow_not_run")))


def show_published(name: str, results: Sequence[Result], options: Options) -> None:
    """Write the results to stdout, and to the files GITHUB_OUTPUT and GITHUB_STEP_SUMMARY if these are set."""
    show(name, results, options)
    output, summary = (options.environment.get(each, "") for each in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"))
    if output or summary:
        from build.cli.ci import write_published

        write_published(name, results, output, summary, options.dry)


def _write(text: str) -> None:
    from build.cli.progress import say

    try:
        say(text, sys.stdout)
    except OSError as error:
        raise BuildError(f"stdout: can't be written: {error.strerror}\n  the work itself is done") from None
