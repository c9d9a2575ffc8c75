"""Table: tuning LightGBM and XGBoost, eight candidates, three folds, on a ready matrix.

A grid search without a refit against the same fits and scores one after the other through the libraries' own
packages, on folds that were cut beforehand. Each library runs as it does by default, with as many threads as
there are cores, and on one thread.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

from . import report

NAME = "boosting"
TITLE = "tuning LightGBM and XGBoost, eight candidates, three folds"
ROWS, QUICK_ROWS, COLUMNS, TREES, N_FOLDS = 100_000, 1_500, 110, 100, 3
SIZES, RATES, PENALTIES = (15, 31), (0.05, 0.1), (0.5, 1.0)

# label, side, library, type of the matrix, n_jobs
TABLE: tuple[tuple[str, str, str, str, int | None], ...] = tuple(
    (f"{library}, {dtype}, {'default threads' if n_jobs is None else 'one thread'}, {who}", side, library, dtype, n_jobs)
    for library in ("LightGBM", "XGBoost")
    for dtype, n_jobs in (("float32", None), ("float64", None), ("float32", 1))
    for who, side in (("its package", "skrub"), ("stratum", "stratum"))
)


# -- In the measured process --------------------------------------------------------------------


def prepare(library: Any, spec: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Make the matrix; returns the function that is measured."""
    import numpy as np
    from sklearn.base import clone
    from sklearn.model_selection import KFold, ParameterGrid

    rng = np.random.default_rng(0)
    X = rng.normal(size=(spec["rows"], COLUMNS)).astype(spec["dtype"])
    y = 2 * X[:, 0] + np.sin(X[:, 1]) + X[:, 2] * X[:, 3] + 0.3 * rng.normal(size=len(X))
    size = "num_leaves" if spec["library"] == "LightGBM" else "max_leaves"
    grid = {size: list(SIZES), "learning_rate": list(RATES), "reg_lambda": list(PENALTIES)}
    if spec["library"] == "LightGBM":
        model = importlib.import_module("lightgbm").LGBMRegressor(
            n_estimators=spec["trees"], n_jobs=spec["n_jobs"], verbose=-1
        )
    else:
        model = importlib.import_module("xgboost").XGBRegressor(
            n_estimators=spec["trees"], n_jobs=spec["n_jobs"]
        )
    cut = [(X[train], y[train], X[test], y[test]) for train, test in KFold(N_FOLDS).split(X)]

    def one_by_one() -> list[float]:
        scores = []
        for parameters in ParameterGrid(grid):
            for X_train, y_train, X_test, y_test in cut:
                fitted = clone(model).set_params(**parameters).fit(X_train, y_train)
                scores.append(float(fitted.score(X_test, y_test)))
        return scores

    def searched() -> list[float]:
        search = importlib.import_module("stratum.sklearn").GridSearchCV(
            model, grid, cv=KFold(N_FOLDS), refit=False
        )
        found = search.fit(X, y).cv_results_
        splits = [found[f"split{i}_test_score"] for i in range(N_FOLDS)]
        return [float(score) for scores in zip(*splits, strict=True) for score in scores]

    run = searched if library.__name__ == "stratum" else one_by_one

    def job() -> dict[str, Any]:
        start, used = time.perf_counter(), time.process_time()
        scores = run()
        total, used = time.perf_counter() - start, time.process_time() - used
        return {"total": total, "used": used, "scores": scores}

    return job


# -- In the measuring process -------------------------------------------------------------------


def take(options: report.Options) -> report.Result:
    """Take all rows."""
    rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
    trees = 5 if options.quick else TREES
    answers: dict[str, dict[str, Any]] = {}
    for label, side, library, dtype, n_jobs in TABLE:
        if not options.wanted(label, side):
            continue
        spec = {
            "table": "boosting", "side": side, "library": library, "dtype": dtype, "n_jobs": n_jobs,
            "rows": rows, "trees": trees,
        }  # fmt: skip
        answer = options.measure(label, spec)
        if answer is None:
            continue
        answers[label] = answer
        options.say(label, answer)
    return report.Result(
        name=NAME,
        title=f"{TITLE}, {rows:,} rows x {COLUMNS} columns, {trees} trees",
        columns=["", "total s", "processor s", "peak MiB", "package / this", "score off by", "void"],
        lines=[line(label, answer, answers) for label, answer in answers.items()],
        targets=[
            report.Target(f"{label} / stratum", ratio(label, answers), ">=", 1.25)
            for label, side, *_ in TABLE
            if side == "skrub"
        ],
        answers=answers,
        notes=[
            "its package: every fit and score one after the other, on folds that were cut before the clock starts.",
            "score off by: largest difference of a fold's score from the package's.",
        ],
    )


def _other(label: str, who: str) -> str:
    return f"{label.rpartition(', ')[0]}, {who}"


def ratio(label: str, answers: dict[str, dict[str, Any]]) -> float | None:
    """Seconds of the package over stratum's, where both were taken."""
    theirs, ours = answers.get(_other(label, "its package")), answers.get(_other(label, "stratum"))
    return theirs["total"] / ours["total"] if theirs and ours else None


def line(label: str, answer: dict[str, Any], answers: dict[str, dict[str, Any]]) -> list[str]:
    """One row as text."""
    theirs = answers.get(_other(label, "its package"))
    off = ""
    if theirs is not None:
        off = f"{max(abs(a - b) for a, b in zip(answer['scores'], theirs['scores'], strict=True)):.1e}"
    return [
        label,
        f"{answer['total']:.1f}",
        f"{answer['used']:.1f}",
        f"{answer['memory']['peak']:.0f}",
        f"{theirs['total'] / answer['total']:.2f}" if theirs else "",
        off,
        "void" if answer["void"] else "",
    ]
