"""Table: a scikit-learn grid search, three preprocessings and six models, five folds, flights.

A Pipeline of a ColumnTransformer and a Ridge on the joined tables of the ``flights`` demonstration,
as scikit-learn is used without skrub: ``sklearn.model_selection.GridSearchCV`` against
``stratum.sklearn.GridSearchCV``. The clock runs over ``fit``, the refit included.
Peers: scikit-learn with one job, with two, and with two and ``memory=`` on an empty folder.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

from . import report

NAME = "sklearn-search"
TITLE = "scikit-learn's grid search: three preprocessings x six models, five folds, flights"
ROWS, QUICK_ROWS = 50_000, 1_500
N_FOLDS = 5
ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)

# label, side, n_jobs, with memory=
TABLE: tuple[tuple[str, str, int | None, bool], ...] = (
    ("scikit-learn, n_jobs=1", "skrub", 1, False),
    ("scikit-learn, n_jobs=2", "skrub", 2, False),
    ("scikit-learn, n_jobs=2, memory=", "skrub", 2, True),
    ("stratum", "stratum", None, False),
    ("stratum, memory=", "stratum", None, True),
)


# -- In the measured process --------------------------------------------------------------------


def prepare(library: Any, spec: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Make the table and the search; returns the function that is measured."""
    X, y = flights(importlib.import_module("flights"), spec["rows"])
    ours = library.__name__ == "stratum"
    module = importlib.import_module("stratum.sklearn" if ours else "sklearn.model_selection")
    folder = tempfile.mkdtemp(prefix="bench-memory-") if spec["memory"] else None
    search = module.GridSearchCV(
        pipeline(folder),
        {"prepare": preprocessings(), "model__alpha": list(ALPHAS)},
        cv=N_FOLDS,
        n_jobs=spec["n_jobs"],
    )
    if spec["n_jobs"] == 2:
        start_workers()

    def job() -> dict[str, Any]:
        start = time.perf_counter()
        search.fit(X, y)
        total = time.perf_counter() - start
        if folder is not None:
            shutil.rmtree(folder)
        scores = [float(score) for score in search.cv_results_["mean_test_score"]]
        found = {"total": total, "scores": scores, "share": None}
        if not ours and spec["n_jobs"] == 1:
            found["share"] = share_of_preprocessing(X, y)
        return found

    return job


def flights(workload: Any, rows: int) -> tuple[Any, Any]:
    """The joined table and the delay at arrival."""
    tables = workload.load(rows)
    landed = tables["flights"].dropna(subset=["arr_delay"]).reset_index(drop=True)
    table = landed.drop(columns=["arr_delay", *workload.LATER])
    table = table.merge(tables["airlines"].rename(columns={"name": "airline"}), on="carrier", how="left")
    table = table.merge(workload.describe_planes(tables["planes"]), on="tailnum", how="left")
    weather = workload.smooth_weather(tables["weather"])
    table = table.merge(weather, on=["origin", "time_hour"], how="left")
    table = table.merge(workload.place(tables["airports"], "dest", key="dest"), on="dest", how="left")
    table = workload.add_clock(table).drop(columns=["year", "time_hour"])
    names = [*workload.CATEGORIES, *workload.TEXTS]
    table[names] = table[names].fillna("unknown").astype(object)
    return table, landed["arr_delay"]


def pipeline(memory: str | None) -> Any:
    """The Pipeline of the search; its first step is one of the choices."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import Pipeline

    return Pipeline([("prepare", "passthrough"), ("model", Ridge())], memory=memory)


def preprocessings() -> list[Any]:
    """Three ColumnTransformers over numbers, categories and texts."""
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, SplineTransformer, StandardScaler

    categories = ["carrier", "origin", "dest", "manufacturer", "engine"]

    def text(**options: Any) -> Any:
        words = TfidfVectorizer(analyzer="char_wb", **options)
        return make_pipeline(words, TruncatedSVD(8, n_iter=2, random_state=0))

    def columns(numbers: list[Any], **options: Any) -> Any:
        steps = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), *numbers)
        one_hot = OneHotEncoder(
            handle_unknown="infrequent_if_exist", min_frequency=20, sparse_output=False
        )
        texts = [(name, text(**options), name) for name in ("tailnum", "model")]
        selected = make_column_selector(dtype_include="number")
        return ColumnTransformer([("numbers", steps, selected), ("names", one_hot, categories), *texts])

    return [
        columns([], ngram_range=(2, 3)),
        columns([], ngram_range=(2, 4)),
        columns([SplineTransformer(4)], ngram_range=(2, 3)),
    ]


def start_workers() -> None:
    """Have joblib's processes running and their imports done before the clock starts."""
    from sklearn.datasets import make_regression
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import cross_val_score

    X, y = make_regression(100, 3, random_state=0)
    cross_val_score(Ridge(), X, y, n_jobs=2)


def share_of_preprocessing(X: Any, y: Any) -> float:
    """The part of the time of fits and scores that goes into the first step, on one fold."""
    from sklearn.base import clone
    from sklearn.model_selection import KFold

    train, test = next(KFold(N_FOLDS).split(X))
    first = other = 0.0
    for step in preprocessings():
        for alpha in ALPHAS:
            model = clone(pipeline(None).named_steps["model"]).set_params(alpha=alpha)
            own = clone(step)
            start = time.perf_counter()
            rows = own.fit_transform(X.iloc[train], y.iloc[train])
            first += time.perf_counter() - start
            start = time.perf_counter()
            model.fit(rows, y.iloc[train])
            other += time.perf_counter() - start
            start = time.perf_counter()
            rows = own.transform(X.iloc[test])
            first += time.perf_counter() - start
            start = time.perf_counter()
            model.score(rows, y.iloc[test])
            other += time.perf_counter() - start
    return first / (first + other)


# -- In the parent ------------------------------------------------------------------------------


def take(options: report.Options) -> report.Result:
    """Take all rows."""
    rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
    answers: dict[str, dict[str, Any]] = {}
    for label, side, n_jobs, memory in TABLE:
        if not options.wanted(label, side):
            continue
        spec = {"table": "sklearn_search", "side": side, "n_jobs": n_jobs, "memory": memory, "rows": rows}
        answer = options.measure(label, spec)
        if answer is None:
            continue
        answers[label] = answer
        options.say(label, answer)
    return report.Result(
        name=NAME,
        title=f"{TITLE}, {rows:,} rows",
        columns=["", "total s", "peak MiB", "n_jobs=1 / this", "score off by", "void"],
        lines=[line(label, answer, answers) for label, answer in answers.items()],
        targets=targets(answers),
        answers=answers,
        notes=[
            "total: `GridSearchCV.fit`, the refit included; joblib's processes run before the clock starts.",
            "peak: largest resident memory of the process, without joblib's.",
            "score off by: largest difference of a mean score from scikit-learn's with one job.",
        ],
    )


def line(label: str, answer: dict[str, Any], answers: dict[str, dict[str, Any]]) -> list[str]:
    """One row as text."""
    one = answers.get("scikit-learn, n_jobs=1")
    off = ""
    if one is not None:
        off = f"{max(abs(a - b) for a, b in zip(answer['scores'], one['scores'], strict=True)):.1e}"
    return [
        label,
        f"{answer['total']:.1f}",
        f"{answer['memory']['peak']:.0f}",
        f"{one['total'] / answer['total']:.2f}" if one else "",
        off,
        "void" if answer["void"] else "",
    ]


def targets(answers: dict[str, dict[str, Any]]) -> list[report.Target]:
    """What is to be reached, where both rows were taken."""

    def ratio(over: str, under: str) -> float | None:
        if over not in answers or under not in answers:
            return None
        return answers[over]["total"] / answers[under]["total"]

    one = answers.get("scikit-learn, n_jobs=1")
    plain = "stratum, memory=", "stratum"
    return [
        report.Target("preprocessing's part of scikit-learn's time", one and one["share"], ">=", 0.85),
        report.Target("scikit-learn n_jobs=1 / stratum", ratio("scikit-learn, n_jobs=1", "stratum"), ">=", 3.0),
        report.Target("scikit-learn n_jobs=2 / stratum", ratio("scikit-learn, n_jobs=2", "stratum"), ">=", 2.0),
        report.Target(
            "scikit-learn n_jobs=2, memory= / stratum",
            ratio("scikit-learn, n_jobs=2, memory=", "stratum"), ">=", 1.0,
        ),
        report.Target("stratum with memory= / without", ratio(*plain), "<=", 1.1),
    ]  # fmt: skip
