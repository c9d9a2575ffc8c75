"""Table: how long a fitted learner takes for one row, and for a thousand.

Three pipelines over the same columns: two numeric steps; a TableVectorizer and a model; thirty small
operations on columns and a model. What is measured is ``learner.predict({"data": rows})``, the way in
which a service asks for predictions; the median of many calls, as the slowest ones are other processes'.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from . import report

NAME = "predict"
TITLE = "Milliseconds for a prediction"
PIPELINES = ("scaler, ridge", "table vectorizer, ridge", "thirty operations, ridge")
ROWS = (1, 1_000)
CALLS = 200
QUICK_CALLS = 10


# -- In the measured process --------------------------------------------------------------------


def table(rows: int) -> pd.DataFrame:
    """Numbers, a few categories and what is to be predicted."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name: rng.normal(size=rows) for name in "abcdef"})
    frame["city"] = rng.choice(["Paris", "Rome", "Oslo", "Lima"], rows)
    frame["target"] = frame["a"] - frame["b"] + rng.normal(size=rows)
    return frame


def learner(library: Any, pipeline: str) -> Any:
    """A learner, not fitted yet."""
    data = library.var("data")
    x = data.drop(columns="target").skb.mark_as_X()
    y = data["target"].skb.mark_as_y()
    if pipeline == "table vectorizer, ridge":
        x = x.skb.apply(library.TableVectorizer())
    elif pipeline == "scaler, ridge":
        x = x[list("abcdef")].skb.apply(StandardScaler())
    else:
        x = x[list("abcdef")]
        for i in range(10):
            column = "abcdef"[i % 6]
            x = x.assign(**{f"n{i}": x[column] * i})
    return x.skb.apply(Ridge(), y=y).skb.make_learner()


def prepare(library: Any, spec: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Returns the function that is measured."""
    frame = table(5_000)
    fitted = {name: learner(library, name).fit({"data": frame}) for name in PIPELINES}

    def job() -> dict[str, Any]:
        rows = []
        for name, one in fitted.items():
            for count in ROWS:
                environment = {"data": frame.head(count)}
                one.predict(environment)
                seconds = []
                for _ in range(spec["calls"]):
                    begin = time.perf_counter()
                    one.predict(environment)
                    seconds.append(time.perf_counter() - begin)
                rows.append({"pipeline": name, "rows": count, "ms": statistics.median(seconds) * 1e3})
        return {"rows": rows}

    return job


# -- In the parent ------------------------------------------------------------------------------


def take(options: report.Options) -> report.Result:
    """Take both sides."""
    answers = {}
    for side in ("skrub", "stratum"):
        if not options.wanted(side, side):
            continue
        spec = {"table": NAME, "side": side, "calls": QUICK_CALLS if options.quick else CALLS}
        answer = options.measure(side, spec)
        if answer is None:
            continue
        answers[side] = {"total": answer["window"]["wall"], **answer}
        options.say(side, answers[side])
    cells: dict[tuple[str, int], dict[str, float]] = {}
    for side, answer in answers.items():
        for row in answer["rows"]:
            cells.setdefault((row["pipeline"], row["rows"]), {})[side] = row["ms"]
    lines = []
    ratios: dict[int, list[float]] = {count: [] for count in ROWS}
    for (name, count), found in cells.items():
        line = [name, f"{count:,}"]
        line += [f"{found[side]:.2f}" if side in found else "" for side in ("skrub", "stratum")]
        if len(found) == 2:
            ratios[count].append(found["stratum"] / found["skrub"])
            line.append(f"{ratios[count][-1]:.2f}")
        else:
            line.append("")
        lines.append(line)
    return report.Result(
        name=NAME,
        title=TITLE,
        columns=["", "rows", "skrub", "stratum", "stratum / skrub"],
        lines=lines,
        targets=[
            report.Target(f"worst of the pipelines, rows: {count:,}", max(found, default=None), "<=", 1.1)
            for count, found in ratios.items()
        ],
        answers=answers,
        notes=[
            "Medians. What is left of stratum's time is inside the libraries' own code.",
            *("void: " + side for side, answer in answers.items() if answer["void"]),
        ],
    )
