"""What a CI system takes from a run: jobs to fan out to, outputs for later jobs, and a summary for people.

GitHub Actions, "Workflow commands" (environment files) and `strategy.matrix`; GitLab CI/CD, `parallel:matrix`.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from build.config.arches import nearest
from build.errors import BuildError, UsageError
from build.release.release import Made, Release


@dataclass(frozen=True)
class Job:
    """A job of the fan-out, and what its image is for."""

    arch: str
    platform: str


def fan_out(release: Release) -> list[Job]:
    """A job for every arch of the release, in its order."""
    return [Job(arch.name, str(arch.platform)) for arch in release.arches]


def matrix(jobs: Sequence[Job], system: str) -> str:
    """The jobs as JSON in the form that `system` takes: "github" or "gitlab"; raise UsageError for any other."""
    known = {"github": _github, "gitlab": _gitlab}
    if system not in known:
        raise UsageError(f"unknown --for {system!r}{nearest(system, known)}")
    return known[system](jobs)


def _github(jobs: Sequence[Job]) -> str:
    """One line, for `matrix: ${{ fromJSON(…) }}`."""
    return json.dumps({"include": [asdict(job) for job in jobs]}, separators=(",", ":"))


def _gitlab(jobs: Sequence[Job]) -> str:
    """A child pipeline's job `push`, but for its script: GitLab takes no matrix from a job, but whole pipelines."""
    return json.dumps({"push": {"parallel": {"matrix": [{"ARCH": [job.arch for job in jobs]}]}}}, indent=2)


def tell_matrix(jobs: Sequence[Job], output: str) -> None:
    """Append `matrix` to the file `output` (GITHUB_OUTPUT); raise BuildError if that can't be written."""
    _append("GITHUB_OUTPUT", output, _outputs({"matrix": _github(jobs)}))


def tell(task: str, made: Sequence[Made], output: str, summary: str, dry: bool) -> None:
    """Append what is published to the files `output` (GITHUB_OUTPUT) and `summary` (GITHUB_STEP_SUMMARY), if named.

    Of a dry run only the summary tells. Raises BuildError for a file that can't be written.
    """
    if output and not dry:
        _append("GITHUB_OUTPUT", output, _outputs(_published(made)))
    if summary:
        _append("GITHUB_STEP_SUMMARY", summary, _table(task, made, dry))


def _published(made: Sequence[Made]) -> Mapping[str, str]:
    """`digests` of all; of the manifest lists, or else of a single image, `digest` and `reference`, a line for each."""
    outputs = {"digests": json.dumps({each.name: each.digest for each in made}, separators=(",", ":"))}
    chosen = [each for each in made if each.platform is None] or (made if len(made) == 1 else [])
    if chosen:
        outputs["digest"] = "\n".join(str(each.digest) for each in chosen)
        # Without the tag: not all that pull images take a tag and a digest.
        outputs["reference"] = "\n".join(f"{_untagged(each.name)}@{each.digest}" for each in chosen)
    return outputs


def _untagged(name: str) -> str:
    return name.partition("@")[0].rpartition(":")[0]


def _outputs(values: Mapping[str, str]) -> str:
    lines = []
    for name, value in values.items():
        # Random, so that no value can end itself and go on as another output.
        end = f"end-{secrets.token_hex(16)}"
        lines += [f"{name}<<{end}", value, end] if "\n" in value else [f"{name}={value}"]
    return "".join(f"{line}\n" for line in lines)


def _table(task: str, made: Sequence[Made], dry: bool) -> str:
    heading = f"`{task}`, a plan: nothing is changed" if dry else f"`{task}`"
    rows = [
        f"| `{each.name}` | {each.platform or 'manifest list'} | {_code(each.digest)} | {each.change or 'proved'} |"
        for each in made
    ]
    return "\n".join(
        [f"### {heading}", "", "| reference | platform | digest | change |", "|---|---|---|---|", *rows, "\n"]
    )


def _code(digest: str | None) -> str:
    return f"`{digest}`" if digest else "the daemon's choice"


def _append(variable: str, path: str, text: str) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, text.encode())  # at once: another step's lines are not to come between
        finally:
            os.close(handle)
    except OSError as error:
        raise BuildError(
            f"{variable} {path}: can't be written: {error.strerror}"
            "\n  the work itself is done; run it again with the variable unset, or with a file that can be written"
        ) from None
