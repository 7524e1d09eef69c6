"""`python -m bench` says what it can measure; `python -m bench all` measures everything."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench import builds, growth, machine, node, picture, release
from bench.running import ROOT, FailedError

RESULTS = ROOT / "bench" / "results"
QUESTIONS = {
    "release": "How fast is a release? Beside the Makefile, skopeo and buildah",
    "growth": "How does it grow? With arches, images and distance",
    "node": "What does pause cost a node? Beside other ways to build it",
}


def main() -> int:
    """Answer what is asked: print tables, and write the figures as JSON. The exit status is 1 if a question failed."""
    parser = _parser()
    asked = parser.parse_args()
    if unknown := set(asked.only) - {*release.NAMES, *builds.NAMES}:
        parser.error(f"--only {unknown.pop()}: known: {', '.join((*release.NAMES, *builds.NAMES))}")
    if asked.question is None:
        parser.print_help()
        return 0
    if asked.question == "picture":
        asked.results.joinpath("figures.svg").write_text(picture.draw(read(asked.results)))
        return 0
    return max([_answer(question, asked) for question in (QUESTIONS if asked.question == "all" else [asked.question])])


def _answer(question: str, asked: argparse.Namespace) -> int:
    described = machine.description()
    try:
        if question == "release":
            found = release.measure(asked.rounds or 5, asked.only)
            text = release.shown(found)
        elif question == "growth":
            found = growth.measure(asked.rounds or 3, asked.rows, asked.images, asked.latencies)
            text = growth.shown(found)
        else:
            found = node.measure(asked.rounds or 20, asked.orphans, asked.starts, asked.only)
            text = node.shown(found)
    except FailedError as error:
        print(f"{question}: {error}", file=sys.stderr)
        return 1
    asked.results.mkdir(parents=True, exist_ok=True)
    report = {"question": question, "machine": described, **found}
    (asked.results / f"{question}.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"{QUESTIONS[question]}\n{machine.line(described)}\n\n{text}\n", flush=True)
    return 0


def read(results: Path) -> dict[str, Any]:
    """The reports in a folder, by question; those that are not there are left out."""
    paths = {question: results / f"{question}.json" for question in QUESTIONS}
    return {question: json.loads(path.read_text()) for question, path in paths.items() if path.exists()}


def _parser() -> argparse.ArgumentParser:
    words = {**QUESTIONS, "all": "All three", "picture": "Draw figures.svg from the figures beside it"}
    listed = "\n".join(f"  python -m bench {word:8} {what}" for word, what in words.items())
    parser = argparse.ArgumentParser(
        "python -m bench", description=listed, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("question", choices=words, nargs="?", help="see above")
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help="of each measurement")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="where figures go")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a tool, or a build of pause")
    parser.add_argument("--rows", type=_numbers, default=(5, 20, 50, 200), metavar="N,N", help="of the arch table")
    parser.add_argument("--images", type=_numbers, default=(1, 10, 50), metavar="N,N", help="of the image table")
    parser.add_argument("--latencies", type=_numbers, default=(0, 20, 100), metavar="MS,MS", help="to the registry")
    parser.add_argument("--orphans", type=int, default=10_000, metavar="N", help="that pause adopts")
    parser.add_argument("--starts", type=int, default=200, metavar="N", help="of pause at a time")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


if __name__ == "__main__":
    sys.exit(main())
