"""The figures as one picture: an SVG that is the same bytes whenever it is drawn from the same figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from bench import machine

_WIDTH, _MARGIN, _LABELS, _BAR = 860, 20, 210, 16
_COLOURS = {"cold": "#1f6f8b", "nothing": "#d98e04", "ours": "#1f6f8b", "theirs": "#9aa5ab"}
_STYLE = (
    "text{font:13px sans-serif;fill:#222}.h{font-weight:bold;font-size:15px}.s{font-size:11px;fill:#555}"
    ".b{fill:#fff}line{stroke:#bbb}polyline{fill:none;stroke-width:2}"
)


def draw(reports: Mapping[str, Any]) -> str:
    """The SVG of the reports that there are, by question."""
    lines: list[str] = []
    top = _MARGIN
    for question, panel in (("release", _release), ("growth", _growth), ("node", _node)):
        if question in reports:
            top = panel(reports[question], top + 10, lines) + 10
    taken = list({machine.line(each["machine"]).partition(", load")[0]: None for each in reports.values()})
    for line in taken:
        lines.append(_text(_MARGIN, top + 8, line, "s"))
        top += 16
    size = f'width="{_WIDTH}" height="{top + 10}" viewBox="0 0 {_WIDTH} {top + 10}"'
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<style>{_STYLE}</style>"]
    ground = f'<rect class="b" width="{_WIDTH}" height="{top + 10}"/>'
    return "\n".join([*head, ground, *lines, "</svg>", ""])


def _release(report: Mapping[str, Any], top: int, lines: list[str]) -> int:
    """A bar for a cold run, and one for a run with nothing to do; how much each varied is a line."""
    tools = report["tools"]
    lines.append(_text(_MARGIN, top + 10, "A release of five arches: seconds", "h"))
    lines += _legend(top + 10, {"from nothing": _COLOURS["cold"], "nothing to do": _COLOURS["nothing"]})
    most = max(found["most"] for tool in tools.values() for found in tool["seconds"].values())
    top += 26
    for name, tool in tools.items():
        lines.append(_text(_MARGIN, top + _BAR + 2, name))
        lines.append(_text(_MARGIN + 105, top + _BAR + 2, _short(tool["does"]), "s"))
        for scenario in ("cold", "nothing"):
            lines += _bar(top, tool["seconds"][scenario], most, _COLOURS[scenario])
            top += _BAR
        top += 6
    return top


def _growth(report: Mapping[str, Any], top: int, lines: list[str]) -> int:
    """Two charts by the number of arches: time, and round trips in a row."""
    arches, trips = report["arches"], report["round trips"]
    half = (_WIDTH - 3 * _MARGIN) // 2
    for left, title, kinds in (
        (
            _MARGIN,
            "Seconds, by arches",
            {kind: [(float(n), each["seconds"]) for n, each in arches[kind].items()] for kind in ("cold", "nothing")},
        ),
        (
            2 * _MARGIN + half,
            "Round trips in a row, by arches",
            {
                colour: [(float(n), each[kind]) for n, each in trips.items()]
                for colour, kind in (("cold", "publish"), ("nothing", "nothing"))
            },
        ),
    ):
        lines.append(_text(left, top + 10, title, "h"))
        lines += _chart(left, top + 24, half, 130, kinds)
    return top + 24 + 130 + 26


def _node(report: Mapping[str, Any], top: int, lines: list[str]) -> int:
    """Bars of memory and of wake-ups, side by side."""
    builds = report["builds"]
    for at, (title, key) in enumerate(
        (("Private memory, kB", "Private"), (f"Wake-ups by {report['orphans']} orphans", "wake-ups"))
    ):
        left = _MARGIN + at * (_WIDTH // 2)
        lines.append(_text(left, top + 10, title, "h"))
        most = max(each[key] for each in builds.values()) or 1
        for row, (name, each) in enumerate(builds.items()):
            y = top + 24 + row * (_BAR + 6)
            width = round((_WIDTH // 2 - 190) * each[key] / most, 1)
            lines.append(_text(left, y + 12, name))
            colour = _COLOURS["ours" if name == "pause" else "theirs"]
            lines.append(f'<rect x="{left + 80}" y="{y}" width="{max(width, 1)}" height="{_BAR}" fill="{colour}"/>')
            lines.append(_text(left + 86 + width, y + 12, f"{each[key]:g}", "s"))
    return top + 24 + len(builds) * (_BAR + 6)


def _bar(top: int, found: Mapping[str, float], most: float, colour: str) -> Iterator[str]:
    left = _MARGIN + _LABELS
    wide = _WIDTH - left - 90

    def at(seconds: float) -> float:
        return round(wide * seconds / most, 1)

    middle = top + _BAR / 2
    yield f'<rect x="{left}" y="{top + 1}" width="{at(found["median"])}" height="{_BAR - 2}" fill="{colour}"/>'
    yield (
        f'<line x1="{left + at(found["least"])}" x2="{left + at(found["most"])}" y1="{middle}" y2="{middle}"'
        ' style="stroke:#222"/>'
    )
    yield _text(left + at(found["most"]) + 6, top + 12, f"{found['median']:.2f}", "s")


def _chart(
    left: int, top: int, width: int, height: int, kinds: Mapping[str, Sequence[tuple[float, float]]]
) -> Iterator[str]:
    start = left + 36
    most_x = max(x for points in kinds.values() for x, _ in points)
    most_y = max(y for points in kinds.values() for _, y in points)
    yield f'<line x1="{start}" x2="{left + width}" y1="{top + height}" y2="{top + height}"/>'
    yield f'<line x1="{start}" x2="{start}" y1="{top}" y2="{top + height}"/>'
    yield _text(left, top + 10, f"{most_y:.3g}", "s")
    yield _text(left, top + height, "0", "s")
    for x, _ in next(iter(kinds.values())):
        yield _text(start + (width - 50) * x / most_x - 4, top + height + 14, f"{x:g}", "s")
    for kind, points in kinds.items():
        places = [(start + (width - 50) * x / most_x, top + height - height * y / most_y) for x, y in points]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline points="{joined}" style="stroke:{_COLOURS[kind]}"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_COLOURS[kind]}"/>' for x, y in places)


def _legend(y: int, colours: Mapping[str, str]) -> Iterator[str]:
    for at, (name, colour) in enumerate(colours.items()):
        x = 420 + at * 130
        yield f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}"/>'
        yield _text(x + 18, y, name)


def _short(does: str) -> str:
    return "" if does.startswith("compile") else f"{does} only"


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{named}>{escape(words)}</text>'
