"""Table: two preprocessings and four models on the price-paid schema, three folds.

The pipelines are those of the ``uk-housing`` demonstration, on a generated table. One grid of
eight candidates, or eight searches of one candidate, each built from its first variable on. The
clock runs from the first DataOp to the result; ``search`` is the part without the building.
Peers: skrub as it comes, with two jobs, and with its own cache, cold and warm. stratum's rows are taken
with the libraries' operators alone, and two of them again with native kernels. Beside those the floor: the models'
fits and predictions alone, on ready matrices.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold

from . import harness, report

NAME = "uk-housing"
TITLE = "Two preprocessings x four models, three folds, price-paid schema"
ROWS, QUICK_ROWS = 100_000, 1_500

FLOOR = "floor: the fits and predictions on ready matrices, kernels"

# label, side, shape, options for make_grid_search, with skrub's cache
TABLE: tuple[tuple[str, str, str, dict[str, Any], bool], ...] = (
    ("skrub, one grid", "skrub", "grid", {}, False),
    ("skrub, one grid, n_jobs=2", "skrub", "grid", {"n_jobs": 2}, False),
    ("skrub, one grid, its cache, cold", "skrub", "grid", {}, True),
    ("skrub, one grid, its cache, warm", "skrub", "grid", {}, True),
    ("skrub, eight one after another", "skrub", "eight", {}, False),
    ("stratum, one grid", "stratum", "grid", {}, False),
    ("stratum, eight in one run", "stratum", "eight", {}, False),
    ("stratum, one grid, refit=False", "stratum", "grid", {"refit": False}, False),
    ("stratum, eight, refit=False", "stratum", "eight", {"refit": False}, False),
    ("stratum, one grid, kernels", "stratum", "grid", {}, False),
    ("stratum, eight in one run, kernels", "stratum", "eight", {}, False),
    (FLOOR, "stratum", "floor", {}, False),
)


# -- In the measured process --------------------------------------------------------------------


def prepare(library: Any, spec: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Make the table; returns the function that is measured."""
    workload = importlib.import_module("uk_housing")
    data = workload.load(spec["rows"])
    if spec["side"] == "stratum":
        library.set_config(native=spec["kernels"])
    if spec["cache"] is not None:
        library.set_config(cache=spec["cache"])
    if spec["shape"] == "floor":
        matrices = ready(library, workload, data)
        return lambda: floor(workload, matrices)
    shape = {"grid": one_grid, "eight": eight}[spec["shape"]]
    return lambda: shape(library, workload, data, spec["options"])


def one_grid(library: Any, workload: Any, data: Any, options: dict[str, Any]) -> dict[str, Any]:
    """All candidates in one search."""
    start = time.perf_counter()
    search = workload.grid(library, data, **options)
    built = time.perf_counter()
    search.fit(data)
    end = time.perf_counter()
    # A grid counts its candidates in its own order; name them to compare with the eight.
    table = search.results_
    scores = {
        f"{row['preprocessing']} + {row['model']}": float(row["mean_test_score"])
        for _, row in table.iterrows()
    }
    return {"total": end - start, "search": end - built, "scores": scores}


def eight(library: Any, workload: Any, data: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Each candidate in a search of its own: one after another, or in one run."""
    start = time.perf_counter()
    batch = workload.first_iteration(library, data, **options)
    built = time.perf_counter()
    if library.__name__ == "stratum":
        fitted = library.run([(search, data) for _, _, search in batch])
    else:
        fitted = [search.fit(data) for _, _, search in batch]
    end = time.perf_counter()
    scores = {
        f"{preprocessing} + {model}": float(search.cv_results_["mean_test_score"][0])
        for (preprocessing, model, _), search in zip(batch, fitted, strict=True)
    }
    return {"total": end - start, "search": end - built, "scores": scores}


Matrices = list[tuple[str, list[tuple[Any, Any, Any, Any]], tuple[Any, Any]]]


def ready(library: Any, workload: Any, data: dict[str, Any]) -> Matrices:
    """The features of each preprocessing: of every fold's two sides with the targets, and of all rows."""
    sales = data["sales"]
    target = np.log(sales["Price"])
    found = []
    for name in workload.PREPROCESSINGS:
        learner = workload.prepared(library, *workload.start(library, data), name).skb.make_learner()
        folds = []
        for train, test in KFold(workload.N_FOLDS).split(sales):
            fitted = learner.fit_transform({"sales": sales.iloc[train]})
            applied = learner.transform({"sales": sales.iloc[test]})
            folds.append((fitted, target.iloc[train], applied, target.iloc[test]))
        found.append((name, folds, (learner.fit_transform({"sales": sales}), target)))
    return found


def floor(workload: Any, matrices: Matrices) -> dict[str, Any]:
    """What no scheduler can undercut: the models' fits and predictions alone, and the refit of the best.

    Boosting by its Python packages, Ridge and ElasticNet by kernels; one after another with a thread for each core,
    and side by side with one each: the shorter of the two counts.
    """
    from stratum.hosts import kernels, threads
    from stratum.native import _config as native_config

    cores = threads.cores()
    cases = [
        (f"{preprocessing} + {name}", name, fold, whole)
        for preprocessing, folds, whole in matrices
        for name in workload.MODELS
        for fold in folds
    ]

    def fitted(name: str, X: Any, y: Any, n_threads: int) -> Any:
        model = workload.model(name)
        if "n_jobs" in model.get_params():
            model.set_params(n_jobs=n_threads)
        with kernels.on(), native_config.config_context(n_threads=n_threads):
            return model.fit(X, y)

    def score(case: Any, n_threads: int) -> float:
        _, name, (X, y, X_test, y_test), _ = case
        model = fitted(name, X, y, n_threads)
        with kernels.on(), native_config.config_context(n_threads=n_threads):
            return float(r2_score(y_test, model.predict(X_test)))

    totals, scores = [], {}
    for side_by_side in (False, True):
        start = time.perf_counter()
        if side_by_side:
            with ThreadPoolExecutor(cores) as pool:
                found = list(pool.map(lambda case: score(case, 1), cases))
        else:
            found = [score(case, cores) for case in cases]
        scores = {
            label: float(np.mean([value for value, case in zip(found, cases, strict=True) if case[0] == label]))
            for label in dict.fromkeys(case[0] for case in cases)
        }
        best = max(scores, key=scores.__getitem__)
        _, name, _, (X, y) = next(case for case in cases if case[0] == best)
        fitted(name, X, y, cores)
        totals.append(time.perf_counter() - start)
    return {"total": min(totals), "search": min(totals), "each": totals, "scores": scores}


# -- In the parent ------------------------------------------------------------------------------


def take(options: report.Options) -> report.Result:
    """Take all rows."""
    rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
    answers: dict[str, dict[str, Any]] = {}
    filled = None
    with tempfile.TemporaryDirectory(prefix="bench-cache-") as cache:
        for label, side, shape, search_options, cached in TABLE:
            if not options.wanted(label, side):
                continue
            spec = specification(side, shape, search_options, rows, kernels="kernels" in label)
            if cached and filled is None:
                # A cold cache is cold once: every try has a directory of its own, and what the
                # last one wrote is what the warm row finds.
                print(f"{label.replace('warm', 'cold')} ...", flush=True)
                answer, filled = cold(spec, cache, options.tries)
            if not cached or "warm" in label:
                answer = options.measure(label, {**spec, "cache": filled if cached else None})
            if answer is None:
                continue
            answers[label] = answer
            options.say(label, answer)
    return report.Result(
        name=NAME,
        title=f"{TITLE}, {rows:,} rows",
        columns=["", "total s", "search s", "peak MiB", "total / skrub", "score off by", "void"],
        lines=[line(label, answer, answers) for label, answer in answers.items()],
        targets=targets(answers),
        answers=answers,
        notes=[
            "total: from the first DataOp to the result, previews included; search: the search "
            "alone.",
            "peak: largest resident memory of the process, the table (and, with n_jobs, no "
            "worker) included.",
            "total / skrub: against skrub in the same shape (one grid, or eight one after "
            "another) with the same refit; above 1 is faster.",
            "score off by: largest difference of a mean score from skrub's one grid.",
        ],
    )


def specification(
    side: str, shape: str, search_options: dict[str, Any], rows: int, *, kernels: bool
) -> dict[str, Any]:
    """What the child is told."""
    return {
        "table": "uk_housing",
        "side": side,
        "shape": shape,
        "options": search_options,
        "rows": rows,
        "kernels": kernels,
        "cache": None,
    }


def peer(label: str, answers: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """skrub's row of the same shape and refit."""
    if label == FLOOR:
        return answers.get("skrub, one grid")
    label = label.replace(", kernels", "")
    shape = "eight" if "eight" in label else "one grid"
    for name in answers:
        plain = name in (f"skrub, {shape}", f"skrub, {shape} one after another")
        if ("refit=False" in label and name == f"skrub, {shape}, refit=False") or (
            "refit=False" not in label and plain
        ):
            return answers[name]
    return None


def line(label: str, answer: dict[str, Any], answers: dict[str, dict[str, Any]]) -> list[str]:
    """One row as text."""
    against, reference = peer(label, answers), answers.get("skrub, one grid")
    ratio = f"{against['total'] / answer['total']:.2f}" if against else ""
    off = ""
    if reference is not None:
        differences = [
            abs(value - reference["scores"][name]) for name, value in answer["scores"].items()
        ]
        off = f"{max(differences):.1e}"
    return [
        label,
        f"{answer['total']:.1f}",
        f"{answer['search']:.1f}",
        f"{answer['memory']['peak']:.0f}",
        ratio,
        off,
        "void" if answer["void"] else "",
    ]


def targets(answers: dict[str, dict[str, Any]]) -> list[report.Target]:
    """What is to be reached, where both rows were taken."""

    def ratio(over: str, under: str, what: str = "total") -> float | None:
        if over not in answers or under not in answers:
            return None
        if what == "peak":
            return answers[over]["memory"]["peak"] / answers[under]["memory"]["peak"]
        return answers[over][what] / answers[under][what]

    wanted = [
        ("one grid: skrub / stratum", "skrub, one grid", "stratum, one grid", "total", ">=", 2.5),
        (
            "eight searches: skrub / stratum",
            "skrub, eight one after another",
            "stratum, eight in one run",
            "total",
            ">=",
            3.0,
        ),
        (
            "one grid: skrub / stratum with kernels", "skrub, one grid", "stratum, one grid, kernels",
            "total", ">=", 6.0,
        ),
        (
            "one grid with kernels / the floor", "stratum, one grid, kernels", FLOOR, "total", "<=", 1.3,
        ),
        (
            "the search alone, refit=False: eight in one run / one grid",
            "stratum, eight, refit=False",
            "stratum, one grid, refit=False",
            # eight pipelines have eight predictions to preview, the grid has one
            "search",
            "<=",
            1.1,
        ),
        ("peak memory: stratum / skrub", "stratum, one grid", "skrub, one grid", "peak", "<=", 1.3),
        (
            "peak memory, eight searches: stratum / skrub",
            "stratum, eight in one run",
            "skrub, eight one after another",
            "peak",
            "<=",
            1.3,
        ),
    ]
    return [
        report.Target(text, ratio(over, under, what), sign, bound)
        for text, over, under, what, sign, bound in wanted
    ]


def cold(spec: dict[str, Any], folder: str, tries: int) -> tuple[dict[str, Any], str]:
    """The row with an empty cache, and the directory that it filled."""
    for attempt in range(1, tries + 1):
        directory = tempfile.mkdtemp(dir=folder)
        answer = harness.measure({**spec, "cache": directory}, tries=1)
        if not answer["void"]:
            break
    return {**answer, "tries": attempt}, directory
