"""Table: the grid of ``uk-housing`` again, in a new process, with what the process before it left.

Rows: skrub's own cache cold and warm; stratum where nothing is kept, with a store that is empty, the same
script again, and with one model's parameter changed. The clock runs as in the table ``uk-housing``: imports and the
making of the table are outside of it.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from typing import Any

from . import report, uk_housing

NAME = "reuse"
TITLE = "The same grid in a new process: two preprocessings x four models, three folds"
ROWS, QUICK_ROWS = 100_000, 1_500

SKRUB_COLD, SKRUB_WARM = "skrub, its cache, cold", "skrub, its cache, warm"
NOTHING, COLD, WARM = "stratum, nothing kept", "stratum, store, empty", "stratum, store, again"
EDITED = "stratum, store, one parameter edited"


def prepare(library: Any, spec: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Make the table; returns the function that is measured."""
    workload = importlib.import_module("uk_housing")
    if spec["store"] is not None:
        library.set_config(reuse="disk", store=spec["store"])
    if spec["edited"]:
        plain = workload.model
        workload.model = lambda name, **given: plain(name, **({"alpha": 2.5} if name == "ridge" else {}), **given)
    return uk_housing.prepare(library, spec)


def take(options: report.Options) -> report.Result:
    """Take all rows."""
    rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
    answers: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-reuse-") as folder:
        # Each row is taken once: a second try would find what the first one left.
        once = report.Options(quick=options.quick, rows=options.rows, tries=1, failed=options.failed)
        for label, side in (
            (SKRUB_COLD, "skrub"), (SKRUB_WARM, "skrub"), (NOTHING, "stratum"), (COLD, "stratum"), (WARM, "stratum"),
            (EDITED, "stratum"),
        ):  # fmt: skip
            if not options.wanted(label, side):
                continue
            spec = uk_housing.specification(side, "grid", {}, rows, kernels=True)
            kept = side == "stratum" and label != NOTHING
            spec |= {
                "table": "reuse", "cache": f"{folder}/skrub" if side == "skrub" else None,
                "store": f"{folder}/store" if kept else None, "edited": label == EDITED,
            }  # fmt: skip
            answer = once.measure(label, spec)
            if answer is not None:
                answers[label] = answer
                options.say(label, answer)
    return report.Result(
        name=NAME,
        title=f"{TITLE}, {rows:,} rows",
        columns=["", "total s", "search s", "peak MiB", "nothing kept / this", "void"],
        lines=[_line(label, answers) for label in answers],
        targets=[
            report.Target("the same script again, seconds", _value(answers, WARM), "<=", 1.5),
            report.Target("warm: skrub / stratum", _ratio(answers, SKRUB_WARM, WARM), ">=", 15),
            report.Target("store on / off, where nothing is found", _ratio(answers, COLD, NOTHING), "<=", 1.03),
        ],
        answers=answers,
        notes=["One parameter edited: another alpha of the Ridge; what comes before it is found."],
    )


def _value(answers: dict[str, dict[str, Any]], label: str) -> float | None:
    return answers[label]["total"] if label in answers else None


def _ratio(answers: dict[str, dict[str, Any]], over: str, under: str) -> float | None:
    above, below = _value(answers, over), _value(answers, under)
    return None if above is None or below is None else above / below


def _line(label: str, answers: dict[str, dict[str, Any]]) -> list[str]:
    answer, plain = answers[label], answers.get(NOTHING)
    return [
        label, f"{answer['total']:.2f}", f"{answer['search']:.2f}", f"{answer['memory']['peak']:.0f}",
        f"{plain['total'] / answer['total']:.2f}" if plain else "", "void" if answer["void"] else "",
    ]  # fmt: skip
