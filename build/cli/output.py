"""How a task's result reaches the user: lines or one JSON document on stdout, and the files of a CI system."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from build.cli.options import Options
from build.errors import BuildError

if TYPE_CHECKING:
    from build.cli.ci import Job
    from build.release.clean import Removed
    from build.release.nodes import Setting
    from build.release.release import Made
    from build.verify.verdicts import Verdict

    Results = Sequence[Made | Removed | Setting] | Sequence[Verdict] | Sequence[Job]


def plainly(name: str, made: Results, options: Options) -> None:
    """The result: all that ever goes to stdout."""
    if options.flags.get("json"):  # invoke without a word gives no flags
        lines = [json.dumps({"task": name, "dry": options.dry, "results": [asdict(each) for each in made]}, indent=2)]
    else:
        lines = []
        for each in made:
            change, why = getattr(each, "change", ""), "; ".join(getattr(each, "why", ()))
            lines.append(f"{change:8}{each}{why and f'  ({why})'}" if options.dry and change else str(each))
    if lines:
        _say("\n".join(lines))


def show_plan(name: str, steps: Sequence[Made], options: Options) -> None:
    """The steps, then PublishError if one would be refused."""
    from build.release.release import refuse_plan

    plainly(name, steps, replace(options, dry=True))
    refuse_plan(steps)


def tell_ci(name: str, published: Any, options: Options) -> None:
    """The files that GitHub Actions names, if it does: outputs for later steps, and the page of the run."""
    output, summary = (options.environment.get(each, "") for each in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"))
    if output or summary:
        from build.cli.ci import tell

        tell(name, published, output, summary, options.dry)


def show_matrix(name: str, jobs: Sequence[Job], options: Options) -> None:
    """One document for the CI system, and the same as an output of the step."""
    from build.cli.ci import matrix, tell_matrix

    document, output = matrix(jobs, options.flags["for_"]), options.environment.get("GITHUB_OUTPUT")
    if options.flags["json"]:
        plainly(name, jobs, options)
    else:
        _say(document)
    if output and not options.dry:
        tell_matrix(jobs, output)


def show_verdicts(name: str, verdicts: Sequence[Verdict], options: Options) -> None:
    """The table, then VerifyError if it is not good enough."""
    from build.verify.verdicts import refuse, shown

    if options.flags.get("json"):
        plainly(name, verdicts, options)
    else:
        _say(shown(verdicts, bool(sys.stdout and sys.stdout.isatty())))
    if not options.dry:
        refuse(verdicts, bool(options.flags.get("allow_not_run")))


def _say(text: str) -> None:
    from build.cli.progress import say

    try:
        say(text, sys.stdout)
    except OSError as error:
        raise BuildError(f"stdout: can't be written: {error.strerror}\n  the work itself is done") from None
