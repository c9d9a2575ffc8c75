"""Table: 200 candidates of Ridge, three folds, 100 rows by 10 columns: nothing but overhead.

Beside skrub and stratum, in the same process and in turns with them, the bare scikit-learn fits
and scores of the same models on arrays cut beforehand.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from . import report

NAME = "ridge"
TITLE = "200 candidates of Ridge, three folds, 100 rows x 10 columns"
CANDIDATES, N_ROWS, N_COLUMNS, N_FOLDS = 200, 100, 10, 3


# -- In the measured process --------------------------------------------------------------------


def prepare(library: Any, spec: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Make the arrays; returns the function that is measured."""
    import numpy as np
    from sklearn.model_selection import KFold

    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS, N_COLUMNS))
    y = X @ rng.normal(size=N_COLUMNS) + rng.normal(size=N_ROWS)
    alphas = [float(alpha) for alpha in np.logspace(-3, 3, spec["candidates"])]
    cut = [
        (X[train], y[train], X[test], y[test]) for train, test in KFold(N_FOLDS).split(X)
    ]
    repeats = spec["repeats"]

    def job() -> dict[str, Any]:
        totals, searches, bare, off = [], [], [], 0.0
        for _ in range(repeats):
            total, search, scores = through_search(library, X, y, alphas)
            totals.append(total)
            searches.append(search)
            seconds, expected = bare_fits(cut, alphas)
            bare.append(seconds)
            off = max(off, *(abs(a - b) for a, b in zip(scores, expected, strict=True)))
        return {"totals": totals, "searches": searches, "bare": bare, "off": off}

    return job


def through_search(
    library: Any, X: Any, y: Any, alphas: list[float]
) -> tuple[float, float, list[float]]:
    """One grid search: seconds in all, seconds of the search, the mean scores in order."""
    from sklearn.linear_model import Ridge

    start = time.perf_counter()
    features, target = library.X(X), library.y(y)
    alpha = library.choose_from(alphas, name="alpha")
    search = features.skb.apply(Ridge(alpha=alpha), y=target).skb.make_grid_search(cv=N_FOLDS)
    built = time.perf_counter()
    search.fit({"X": X, "y": y})
    end = time.perf_counter()
    return end - start, end - built, [float(s) for s in search.cv_results_["mean_test_score"]]


def bare_fits(cut: list[Any], alphas: list[float]) -> tuple[float, list[float]]:
    """The same fits and scores without any search: seconds, and the mean scores."""
    from sklearn.linear_model import Ridge

    start = time.perf_counter()
    scores = []
    for alpha in alphas:
        folds = []
        for X_train, y_train, X_test, y_test in cut:
            folds.append(Ridge(alpha=alpha).fit(X_train, y_train).score(X_test, y_test))
        scores.append(sum(folds) / len(folds))
    return time.perf_counter() - start, scores


# -- In the parent ------------------------------------------------------------------------------


def take(options: report.Options) -> report.Result:
    """Take both rows."""
    answers = {}
    for side in ("skrub", "stratum"):
        label = f"{side}, one grid"
        if not options.wanted(label, side):
            continue
        spec = {
            "table": "ridge",
            "side": side,
            "candidates": 20 if options.quick else CANDIDATES,
            # skrub needs some 20 s for one; its spread is small against what is compared
            "repeats": 2 if options.quick or side == "skrub" else 7,
        }
        answer = options.measure(label, spec)
        if answer is None:
            continue
        answer["total"] = statistics.median(answer["totals"])
        answer["search"] = statistics.median(answer["searches"])
        answer["bare"] = statistics.median(answer["bare"])
        answers[label] = answer
        options.say(label, answer)
    candidates = 20 if options.quick else CANDIDATES
    columns = ["", "total ms", "search ms", "first ms", "bare ms", "total / bare", "score off by"]
    lines = [
        [
            label,
            f"{answer['total'] * 1e3:.0f}",
            f"{answer['search'] * 1e3:.0f}",
            f"{answer['totals'][0] * 1e3:.0f}",
            f"{answer['bare'] * 1e3:.0f}",
            f"{answer['total'] / answer['bare']:.2f}",
            f"{answer['off']:.1e}",
            "void" if answer["void"] else "",
        ]
        for label, answer in answers.items()
    ]
    ours, theirs = answers.get("stratum, one grid"), answers.get("skrub, one grid")
    return report.Result(
        name=NAME,
        title=TITLE.replace("200", str(candidates)),
        columns=[*columns, "void"],
        lines=lines,
        targets=[
            report.Target(
                "skrub / stratum",
                theirs["total"] / ours["total"] if ours and theirs else None,
                ">=",
                6.0,
            ),
            report.Target(
                "stratum / bare fits and scores",
                ours["total"] / ours["bare"] if ours else None,
                "<=",
                2.0,
            ),
        ],
        answers=answers,
        notes=[
            "total, search, bare: medians over the repeats of one process; first: the first of "
            "them.",
            "bare: scikit-learn's fits and scores on ready arrays, in turns with the searches, "
            "in the same process; without the refit that the search makes.",
        ],
    )
