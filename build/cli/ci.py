"""What CI systems read: jobs to fan out to, outputs for later steps, and a summary for people.

GitHub Actions, "Workflow commands" (environment files) and `strategy.matrix`; GitLab CI/CD, `parallel:matrix`.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import FileIO
from typing import Any

from build.config.arches import Arch, nearest
from build.errors import BuildError, UsageError
from build.report import Entry, Result, one_line


@dataclass(frozen=True)
class Job:
    """A job of the fan-out, and the platform of its image."""

    arch: str
    platform: str

    def fields(self) -> Mapping[str, object]:
        """The result in the document of --json."""
        return {"kind": "job", "arch": self.arch, "platform": self.platform}


def fan_out(arches: Iterable[Arch]) -> list[Job]:
    """One job for each arch."""
    return [Job(arch.name, str(arch.platform)) for arch in arches]


def matrix(jobs: Sequence[Job], system: str) -> str:
    """The jobs as JSON for "github" or "gitlab". Raises UsageError for any other `system`."""
    known = {"github": _github, "gitlab": _gitlab}
    if system not in known:
        raise UsageError(f"unknown --for {system!r}{nearest(system, known)}")
    return known[system](jobs)


def _github(jobs: Sequence[Job]) -> str:
    """One line, for `matrix: ${{ fromJSON(…) }}`."""
    return json.dumps({"include": [asdict(job) for job in jobs]}, separators=(",", ":"))


def _gitlab(jobs: Sequence[Job]) -> str:
    """The job `push` of a child pipeline, without its script: GitLab takes whole pipelines from a job, not a matrix."""
    return json.dumps({"push": {"parallel": {"matrix": [{"ARCH": [job.arch for job in jobs]}]}}}, indent=2)


def write_matrix(jobs: Sequence[Job], output: str) -> None:
    """Append `matrix` to the file `output` (GITHUB_OUTPUT). Raises BuildError if it can't be written."""
    _append("GITHUB_OUTPUT", output, _outputs({"matrix": _github(jobs)}))


def write_published(task: str, results: Sequence[Entry], output: str, summary: str, dry: bool) -> None:
    """Append what is published to the files `output` (GITHUB_OUTPUT) and `summary` (GITHUB_STEP_SUMMARY), if named.

    The summary also has what is signed, and by which key. A dry run only writes the summary. Raises BuildError for a
    file that can't be written.
    """
    published = [each for each in results if isinstance(each, Result)]
    signed = [each.fields() for each in results if not isinstance(each, Result)]
    if output and not dry:
        _append("GITHUB_OUTPUT", output, _outputs(_published(published)))
    if summary:
        _append("GITHUB_STEP_SUMMARY", summary, _table(task, published, dry) + _signed(signed))


def _published(results: Sequence[Result]) -> Mapping[str, str]:
    """`digests` of all results; `digest` and `reference` of the manifest lists, or of a single image, one a line."""
    outputs = {"digests": json.dumps(_digests(results), separators=(",", ":"))}
    chosen = [each for each in results if each.platform is None] or (results if len(results) == 1 else [])
    if chosen:
        outputs["digest"] = "\n".join(str(each.digest) for each in chosen)
        outputs["reference"] = "\n".join(map(_by_digest, chosen))
    return outputs


def _digests(results: Sequence[Result]) -> Mapping[str, str | None]:
    """Digests by reference; images without a tag by reference and platform, or by their digest if that is ambiguous."""
    keys = [f"{each.name} {each.platform}" if each.platform and not _tag(each) else each.name for each in results]
    return {
        f"{each.name}@{each.digest}" if keys.count(key) > 1 else key: each.digest
        for key, each in zip(keys, results, strict=True)
    }


def _tag(result: Result) -> str:
    return result.place.tag if result.place else ""


def _by_digest(result: Result) -> str:
    """The reference without the tag: not every client takes a tag and a digest."""
    return f"{result.name.removesuffix(f':{_tag(result)}')}@{result.digest}"


def _outputs(values: Mapping[str, str]) -> str:
    lines = []
    for name, value in values.items():
        # Random, so that no value can end early and continue as another output.
        end = f"end-{secrets.token_hex(16)}"
        shown = [one_line(line) for line in value.split("\n")]
        lines += [f"{name}<<{end}", *shown, end] if shown[1:] else [f"{name}={shown[0]}"]
    return "".join(f"{line}\n" for line in lines)


def _table(task: str, results: Sequence[Result], dry: bool) -> str:
    heading = f"`{task}` (dry run): nothing is changed" if dry else f"`{task}`"
    rows = [
        f"| {_code(each.name)} | {each.platform or 'manifest list'} | {digest} | {each.change or 'verified'} |"
        for each in results
        for digest in [_code(each.digest) if each.digest else "chosen by the daemon"]
    ]
    return "\n".join(
        [f"### {heading}", "", "| reference | platform | digest | change |", "|---|---|---|---|", *rows, "\n"]
    )


def _signed(results: Iterable[Mapping[str, Any]]) -> str:
    """A table of what is signed, and the hints at the keys, as sigstore bundles have them; empty if nothing is."""
    rows = [
        f"| {_code(each['repository'] + '@' + each['digest'])} | {each['platform'] or 'manifest list'}"
        f" | {', '.join(each['attached'])} | {_code(each['key'])} | {each['change']} |"
        for each in results
    ]
    head = ["| signed | platform | attached | key (hint) | change |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows, "\n"]) if rows else ""


def _code(text: str) -> str:
    """Text in a cell of a table (GitHub Flavored Markdown, "Code spans", "Tables")."""
    before, after = ("`` ", " ``") if "`" in text else ("`", "`")
    return f"{before}{one_line(text)}{after}".replace("|", "\\|")


def _append(variable: str, path: str, text: str) -> None:
    try:
        # One write, so that the lines of other processes can't come between.
        with open(path, "ab", buffering=0) as file:
            _write_whole(file, text.encode())
    except OSError as error:
        raise BuildError(
            f"{variable} {path}: can't be written: {error.strerror}"
            "\n  the work itself is done; retry with the variable unset, or with a writable file"
        ) from None


def _write_whole(file: FileIO, data: bytes) -> None:
    """Append all of `data` or, where the disk is full, nothing of it: readers would take a part for a value."""
    before = os.fstat(file.fileno()).st_size
    try:
        # A disk that is nearly full takes a part, and refuses the rest.
        while data:
            data = data[file.write(data) :]
    except OSError:
        with suppress(OSError):  # a device or a pipe has no length
            file.truncate(before)
        raise
