"""Table: searches of 1,000 candidates that differ in a penalty, three folds, 100 rows by 10 columns.

How many candidates a second a search makes, from the first DataOp to the table of results: of Ridge and of
LogisticRegression behind a StandardScaler, by skrub, by stratum, and by scikit-learn's own grid search.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from . import report

NAME = "small"
TITLE = "1,000 candidates of a linear model, three folds, 100 rows x 10 columns"
CANDIDATES, N_ROWS, N_COLUMNS, N_FOLDS = 1_000, 100, 10, 3
MODELS = ("Ridge", "LogisticRegression")
# label, side, by DataOps or by scikit-learn's search
WAYS = (
    ("scikit-learn", "skrub", False),
    ("skrub", "skrub", True),
    ("stratum", "stratum", True),
)


# -- In the measured process --------------------------------------------------------------------


def prepare(library: Any, spec: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Make the table; returns the function that is measured."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(N_ROWS, N_COLUMNS)), columns=[f"c{i}" for i in range(N_COLUMNS)])
    score = X.to_numpy() @ rng.normal(size=N_COLUMNS) + 2 * rng.normal(size=N_ROWS)
    y = pd.Series((score > 0).astype(int) if spec["model"] == "LogisticRegression" else score, name="y")
    penalties = [float(one) for one in np.logspace(-3, 2, spec["candidates"])]
    run = through_data_ops if spec["data_ops"] else through_sklearn

    def job() -> dict[str, Any]:
        totals: list[float] = []
        scores: list[float] = []
        for _ in range(spec["repeats"]):
            start = time.perf_counter()
            scores = run(library, spec["model"], X, y, penalties)
            totals.append(time.perf_counter() - start)
        return {"totals": totals, "scores": scores}

    return job


def model_of(name: str, penalty: Any) -> Any:
    """The model with its penalty, which may be a choice."""
    from sklearn import linear_model

    return linear_model.Ridge(alpha=penalty) if name == "Ridge" else linear_model.LogisticRegression(C=penalty)


def through_data_ops(library: Any, model: str, X: Any, y: Any, penalties: list[float]) -> list[float]:
    """A grid search of DataOps with its table of results: the mean scores in the order of the penalties."""
    from sklearn.preprocessing import StandardScaler

    features, target = library.X(X), library.y(y)
    # (a range: of a choice from a thousand values skrub's own grid takes over a minute to make)
    penalty = library.choose_float(penalties[0], penalties[-1], log=True, n_steps=len(penalties), name="penalty")
    predicted = features.skb.apply(StandardScaler()).skb.apply(model_of(model, penalty), y=target)
    search = predicted.skb.make_grid_search(fitted=True, cv=N_FOLDS)
    assert len(search.results_) == len(penalties)
    return [float(score) for score in search.cv_results_["mean_test_score"]]


def through_sklearn(library: Any, model: str, X: Any, y: Any, penalties: list[float]) -> list[float]:
    """The same by scikit-learn's grid search of a Pipeline."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = Pipeline([("scale", StandardScaler()), ("model", model_of(model, 1.0))])
    name = "model__alpha" if model == "Ridge" else "model__C"
    search = GridSearchCV(pipeline, {name: penalties}, cv=N_FOLDS).fit(X, y)
    return [float(score) for score in search.cv_results_["mean_test_score"]]


# -- In the parent ------------------------------------------------------------------------------


def take(options: report.Options) -> report.Result:
    """Take the rows."""
    answers = {}
    for model in MODELS:
        for way, side, data_ops in WAYS:
            label = f"{way}, {model}"
            if not options.wanted(label, side):
                continue
            spec = {
                "table": "small",
                "side": side,
                "model": model,
                "data_ops": data_ops,
                # skrub needs 40 s for a thousand
                "candidates": 20 if options.quick else 100 if way == "skrub" else CANDIDATES,
                "repeats": 7 if way == "stratum" and not options.quick else 2,
            }
            answer = options.measure(label, spec)
            if answer is None:
                continue
            answer["total"] = statistics.median(answer["totals"])
            answer["rate"] = spec["candidates"] / answer["total"]
            answers[label] = answer
            options.say(label, answer)
    rates = {label: answer["rate"] for label, answer in answers.items()}
    lines = []
    for label, answer in answers.items():
        model = label.rpartition(", ")[2]
        expected = answers.get(f"scikit-learn, {model}")
        off = ""
        if expected and len(expected["scores"]) == len(answer["scores"]):
            pairs = zip(answer["scores"], expected["scores"], strict=True)
            off = f"{max(abs(a - b) for a, b in pairs):.1e}"
        first = len(answer["scores"]) / answer["totals"][0]
        lines.append(
            [label, f"{answer['rate']:,.0f}", f"{first:,.0f}", off, "void" if answer["void"] else ""]
        )
    return report.Result(
        name=NAME,
        title=TITLE,
        columns=["", "candidates a second", "first time", "score off by", "void"],
        lines=lines,
        targets=[
            report.Target(f"stratum, {model}: candidates a second", rates.get(f"stratum, {model}"), ">=", 2000.0)
            for model in MODELS
        ],
        answers=answers,
        notes=[
            "From the first DataOp to `results_` (scikit-learn: `fit`), the refit included; medians over the "
            "repeats of one process; first time: the first of them. skrub: 100 candidates.",
            "score off by: largest difference of a mean score from scikit-learn's.",
        ],
    )
