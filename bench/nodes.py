"""Table: what a node costs to build, and to capture, in chains and ladders of growing length.

A chain adds one again and again, or calls a function of one argument; a ladder calls a function
with the last node twice, so that the number of paths doubles with each rung. Variables have values
(each step is previewed) or none. The operations themselves do nothing to speak of.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from . import report

NAME = "nodes"
TITLE = "Microseconds for a node: building, and capturing"
SHAPES = ("chain of additions", "chain of calls", "ladder of calls")
# skrub walks the graph again at each step: a long chain would take hours.
LENGTHS = {"skrub": (10, 30, 100), "stratum": (10, 100, 1_000, 10_000)}
QUICK_LENGTHS = {"skrub": (10, 30), "stratum": (10, 100)}


# -- In the measured process --------------------------------------------------------------------


def first(a: Any, b: Any = None) -> Any:
    """Returns its first argument."""
    return a


def build(library: Any, shape: str, length: int, start: Any) -> Any:
    """A graph of ``length`` operations above ``start``."""
    node = start
    if shape == "chain of additions":
        for _ in range(length):
            node = node + 1
        return node
    called = library.deferred(first)
    if shape == "chain of calls":
        for _ in range(length):
            node = called(node)
        return node
    for _ in range(length):
        node = called(node, node)
    return node


def prepare(library: Any, spec: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Returns the function that is measured."""

    def job() -> dict[str, Any]:
        rows = []
        for shape in SHAPES:
            for values in (False, True):
                for length in spec["lengths"]:
                    rows.append(per_node(library, shape, values, length, spec["repeats"]))
        return {"rows": rows}

    return job


def per_node(
    library: Any, shape: str, values: bool, length: int, repeats: int
) -> dict[str, Any]:
    """The best of some repeats, in microseconds for a node."""
    building, capturing = [], []
    for _ in range(repeats):
        start = library.var("start", 1) if values else library.var("start")
        begin = time.perf_counter()
        node = build(library, shape, length, start)
        building.append(time.perf_counter() - begin)
        if library.__name__ == "stratum":
            capturing.append(capture_seconds(node))
    found = {"shape": shape, "values": values, "length": length}
    found["build"] = min(building) / length * 1e6
    if capturing:
        found["capture"] = min(capturing) * 1e6
    return found


def capture_seconds(node: Any) -> float:
    """Seconds for a node to capture a graph into an engine that has seen nothing."""
    from stratum.engine import Engine

    plan = Engine().new_plan()
    begin = time.perf_counter()
    plan.capture(node)
    return (time.perf_counter() - begin) / len(plan)


# -- In the parent ------------------------------------------------------------------------------


def take(options: report.Options) -> report.Result:
    """Take both sides."""
    answers = {}
    for side in ("skrub", "stratum"):
        if not options.wanted(side, side):
            continue
        lengths = (QUICK_LENGTHS if options.quick else LENGTHS)[side]
        spec = {"table": "nodes", "side": side, "lengths": lengths, "repeats": 3}
        answer = options.measure(side, spec)
        if answer is None:
            continue
        answers[side] = {"total": answer["window"]["wall"], **answer}
        options.say(side, answers[side])
    by_key: dict[tuple[str, bool, int], dict[str, float]] = {}
    for side, answer in answers.items():
        for row in answer["rows"]:
            cells = by_key.setdefault((row["shape"], row["values"], row["length"]), {})
            cells[f"{side} build"] = row["build"]
            if "capture" in row:
                cells["capture"] = row["capture"]
    kinds = ("skrub build", "stratum build", "capture")
    lines = [
        [shape, "yes" if values else "no", f"{length:,}"]
        + [f"{cells[kind]:.1f}" if kind in cells else "" for kind in kinds]
        for (shape, values, length), cells in sorted(
            by_key.items(), key=lambda item: (SHAPES.index(item[0][0]), *item[0][1:])
        )
    ]
    ours = answers["stratum"]["rows"] if "stratum" in answers else []
    long = [row for row in ours if row["length"] >= 100]
    return report.Result(
        name=NAME,
        title=TITLE,
        columns=["", "values", "length", "skrub build", "stratum build", "stratum capture"],
        lines=lines,
        targets=[
            report.Target("capture, worst from 100 nodes on", worst(long, "capture"), "<=", 15.0),
            report.Target("building, worst from 100 nodes on", worst(long, "build"), "<=", 40.0),
            report.Target("growth of a node's cost, longest / 100", growth(long), "<=", 2.0),
        ],
        answers=answers,
        notes=[
            "Best of three. values: whether the variable has one, so that each step is previewed.",
            *("void: " + side for side, answer in answers.items() if answer["void"]),
        ],
    )


def worst(rows: list[dict[str, Any]], kind: str) -> float | None:
    """The largest cost of a node; None where nothing was measured."""
    return max((row[kind] for row in rows), default=None)


def growth(rows: list[dict[str, Any]]) -> float | None:
    """How much dearer a node is in the longest graph than in one of 100, at worst."""
    found = []
    for row in rows:
        base = next(
            other
            for other in rows
            if other["length"] == 100
            and (other["shape"], other["values"]) == (row["shape"], row["values"])
        )
        found += [row[kind] / base[kind] for kind in ("build", "capture")]
    return max(found, default=None)
