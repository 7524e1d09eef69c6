"""How does a release grow? Time, requests and bytes, by arches, images, and distance to the registry."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import grown
from bench.figures import slope, table, yes
from bench.latency import far_away
from bench.registry import counting_registry
from bench.running import ROOT, Checkout, FailedError
from build.config.parse import read_settings

# How much more the last rows may cost than the first where growth is linear, because times vary; and how many more
# round trips the most rows may take than the fewest where it is flat.
_LINEAR, _FLAT = 1.25, 1.0

_COLUMNS = ("seconds", "requests", "sent")
Sizes = dict[int, dict[str, float]]


@dataclass(frozen=True)
class Cost:
    """The cost of a run: seconds, requests, bytes sent; and the number of its results."""

    seconds: float
    requests: int
    sent: int
    results: int


def measure(rounds: int, rows: Sequence[int], images: Sequence[int], latencies: Sequence[int]) -> dict[str, Any]:
    """All that the report says."""
    release = read_settings(ROOT / "arches.yaml").defaults.release
    cold: dict[str, Sizes] = {"cold": {}, "nothing": {}}
    trips: dict[int, dict[str, dict[int, float]]] = {}
    sent: dict[str, Sizes] = {"publish": {}, "nothing": {}}
    with TemporaryDirectory(prefix="bench") as folder:
        scratch = Path(folder)
        for count in rows:
            checkout = grown.arches(scratch, count, release)
            _run(checkout, "oci:dist")  # bytecode
            for name, found in _at(checkout, 0, rounds, forget=True).items():
                cold["cold" if name == "first" else name][count] = _medians(found)
            trips[count] = {"publish": {}, "nothing": {}}
            for latency in latencies:
                for name, found in _at(checkout, latency, rounds, forget=False).items():
                    kind = "publish" if name == "first" else name
                    # Of several the quickest: whatever else the machine does only ever adds to it.
                    trips[count][kind][latency] = round(min(each.seconds for each in found), 3)
                    if latency == latencies[0]:
                        sent[kind][count] = _medians(found)
            print(f"{count} arches", file=sys.stderr)
        by_images, left_out = _images(scratch, images, len(release))
    report = {
        "rounds": rounds,
        "arches": cold | {"publish": sent["publish"]},
        "images": by_images,
        "distances": trips,
        "round trips": {
            count: {kind: round(_trips(found), 1) for kind, found in kinds.items() if len(found) > 1}
            for count, kinds in trips.items()
        },
        "absent": left_out,
    }
    report["claims"] = _claims(report)
    plain: dict[str, Any] = json.loads(json.dumps(report))  # as it is read back: keys are text
    return plain


def shown(report: Mapping[str, Any]) -> str:
    """Tables for people, and each claim with yes or no."""
    made = [["", "seconds", "requests", "bytes sent"]]
    for kind, what in (("cold", "arches"), ("nothing", "arches"), ("cold", "images"), ("nothing", "images")):
        for count, found in report[what].get(kind, {}).items():
            cells = [f"{found['seconds']:.2f}", *(f"{found[each]:.0f}" for each in _COLUMNS[1:])]
            made.append([f"{kind}, {count} {what}", *cells])
    far = [["round trips in a row", "publish", "nothing"]]
    for count, found in report["round trips"].items():
        far.append(
            [f"{count} arches", *(f"{found[kind]:.1f}" if kind in found else "-" for kind in ("publish", "nothing"))]
        )
    claims = [f"{yes(claim['holds'])}: {claim['says']}: {claim['figures']}" for claim in report["claims"]]
    left_out = [f"{name}: left out: {reason}" for name, reason in report["absent"].items()]
    return "\n".join([table(made), "", table(far), "", *claims, *left_out])


def _at(checkout: Checkout, milliseconds: int, rounds: int, forget: bool) -> dict[str, list[Cost]]:
    """Costs of a first publication to an empty registry, compiled anew if all is to be forgotten, and of a second."""
    found: dict[str, list[Cost]] = {"first": [], "nothing": []}
    for _ in range(rounds):
        if forget:
            checkout.forget()
        with _counting(checkout, milliseconds / 1000) as publish:
            for each in found.values():
                each.append(publish())
    return found


@contextmanager
def _counting(checkout: Checkout, seconds: float) -> Iterator[Callable[[], Cost]]:
    with counting_registry() as registry, far_away(registry.host, seconds) as way:

        def publish() -> Cost:
            before, sent = registry.requests(), way.sent
            took, results = _run(checkout, way.host)
            now = registry.requests() - before
            return Cost(took, now, way.sent - sent, results)

        yield publish


def _run(checkout: Checkout, registry: str) -> tuple[float, int]:
    """Seconds and number of results of `all-push`."""
    ran = checkout.invoke("all-push", REGISTRY=registry)
    return ran.seconds, len(ran.stdout.splitlines())


def _images(scratch: Path, counts: Sequence[int], arches: int) -> tuple[dict[str, Sizes], dict[str, str]]:
    """Costs by the number of images, as far as one run makes them all."""
    sizes: dict[str, Sizes] = {"cold": {}, "nothing": {}}
    for count in counts:
        checkout = grown.images(scratch, count)
        try:
            found = _at(checkout, 0, 1, forget=True)
        except FailedError as error:
            return sizes, {f"{count} images": str(error)}
        published = found["first"][0].results // (arches + 1)
        if published != count:
            return sizes, {f"{count} images": f"all-push publishes {published} of them"}
        for kind, costs in zip(sizes, found.values(), strict=True):
            sizes[kind][count] = _medians(costs)
        print(f"{count} images", file=sys.stderr)
    return sizes, {}


def _medians(costs: Sequence[Cost]) -> dict[str, float]:
    return {name: round(statistics.median(getattr(each, name) for each in costs), 3) for name in _COLUMNS}


def _trips(seconds: Mapping[int, float]) -> float:
    return slope({latency / 1000: taken for latency, taken in seconds.items()})


def _claims(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    arches, trips = report["arches"], report["round trips"]
    claims = []
    for kind, what, unit in (
        *(("publish", "sent", "bytes"), ("nothing", "sent", "bytes"), ("publish", "requests", "requests")),
        ("cold", "seconds", "s"),
    ):
        first, last = _marginal(arches[kind], what)
        says = f"{what} of {kind} are linear in arches at worst"
        figures = f"{first:.3g} {unit} each for the first further arches, {last:.3g} for the last"
        claims.append({"says": says, "holds": last <= first * _LINEAR, "figures": figures})
    for kind in ("publish", "nothing"):
        taken = {count: found[kind] for count, found in trips.items() if kind in found}
        if len(taken) > 1:
            figures = ", ".join(f"{each} for {count}" for count, each in taken.items())
            flat = taken[max(taken)] - taken[min(taken)] <= _FLAT
            claims.append({"says": f"round trips of {kind} do not grow with arches", "holds": flat, "figures": figures})
    return claims


def _marginal(sizes: Sizes, what: str) -> tuple[float, float]:
    """What one more costs, between the first two sizes and between the last two."""
    counts = sorted(sizes)
    steps = [(sizes[more][what] - sizes[few][what]) / (more - few) for few, more in pairwise(counts)]
    return (steps[0], steps[-1]) if steps else (0.0, 0.0)
