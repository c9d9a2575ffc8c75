"""What an agent does: send a batch, look at the scores, tune the winner.

``play`` runs the two iterations of a workload (``flights`` or ``uk_housing``, handed in as a
module) and returns everything that the leaderboard and the comparison need, as plain numbers that
go through JSON. Called by ``run`` with stratum and by ``plain`` with skrub; imports neither. The
clock starts before the first DataOp is made, so that previews count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def fit_each(items: Sequence[tuple[Any, dict[str, Any]]]) -> list[Any]:
    """Fit searches on their environments one after another, which is all that skrub can do."""
    return [search.fit(environment) for search, environment in items]


def play(
    workload: Any,
    skrub: Any,
    run: Callable[[Sequence[tuple[Any, dict[str, Any]]]], Sequence[Any]],
    data: dict[str, Any],
    seed: int = 0,
    after: Callable[[Sequence[Any]], None] = lambda fitted: None,
) -> dict[str, Any]:
    """Run the two iterations of a workload.

    Parameters
    ----------
    workload : module
        Has ``first_iteration`` and ``second_iteration``.
    skrub : module
        skrub, or stratum in its place.
    run : callable
        Fits a list of searches with their environments: ``stratum.run`` or `fit_each`.
    data : dict
        What ``workload.load`` returned: a table for each variable.
    seed : int
        Seeds folds and samplers.
    after : callable
        Is handed the fitted searches after each iteration, off the clock.

    Returns
    -------
    dict
        ``entries``: for each candidate its iteration, name, parameters, mean, spread and scores
        on the folds; ``seconds``: of building and running each iteration, and ``total``;
        ``winner``: preprocessing and model of the best entry of the first iteration.
    """
    clock = time.perf_counter
    seconds = {}

    start = clock()
    batch = workload.first_iteration(skrub, data, seed)
    seconds["build 1"] = clock() - start
    start = clock()
    fitted = run([(search, data) for _, _, search in batch])
    seconds["run 1"] = clock() - start
    after(fitted)

    entries = []
    for (preprocessing, model, _), search in zip(batch, fitted, strict=True):
        entries += scores_of(search, 1, f"{preprocessing} + {model}")
    means = [search.best_score_ for search in fitted]
    preprocessing, model, _ = batch[int(np.argmax(means))]

    start = clock()
    tuning = workload.second_iteration(skrub, data, preprocessing, model, seed)
    seconds["build 2"] = clock() - start
    start = clock()
    tuned = run([(tuning, data)])
    seconds["run 2"] = clock() - start
    after(tuned)

    entries += scores_of(tuned[0], 2, f"{preprocessing} + {model}")
    seconds["total"] = sum(seconds.values())
    return {"entries": entries, "seconds": seconds, "winner": [preprocessing, model]}


def scores_of(search: Any, iteration: int, name: str) -> list[dict[str, Any]]:
    """The entries of the candidates of one fitted search, in scikit-learn's order."""
    results = search.cv_results_
    n_folds = sum(key.startswith("split") and key.endswith("_test_score") for key in results)
    parameters = tuned_parameters(search)
    return [
        {
            "iteration": iteration,
            "name": name,
            "candidate": candidate,
            "parameters": parameters[candidate] if iteration > 1 else {},
            "mean": float(results["mean_test_score"][candidate]),
            "spread": float(results["std_test_score"][candidate]),
            "folds": [
                float(results[f"split{fold}_test_score"][candidate]) for fold in range(n_folds)
            ],
        }
        for candidate in range(len(results["mean_test_score"]))
    ]


def tuned_parameters(search: Any) -> list[dict[str, Any]]:
    """Outcome of each choice for each candidate, in the order of ``cv_results_``."""
    results = search.cv_results_
    # `results_` names the choices but is sorted by score: score and time find the candidate again.
    keys = [
        score_and_time(score, seconds)
        for score, seconds in zip(
            results["mean_test_score"], results["mean_fit_time"], strict=True
        )
    ]
    table = search.detailed_results_
    measured = {"mean_test_score", "std_test_score"}
    choices = [c for c in table.columns if c not in measured and not is_time(c)]
    found: list[dict[str, Any]] = [{} for _ in keys]
    for _, row in table.iterrows():
        candidate = keys.index(score_and_time(row["mean_test_score"], row["mean_fit_time"]))
        found[candidate] = {name: plain_value(row[name]) for name in choices}
    return found


def score_and_time(score: float, seconds: float) -> tuple[str, str]:
    """A key for one candidate; text, as NaN (a candidate that failed) is not equal to itself."""
    return repr(float(score)), repr(float(seconds))


def is_time(column: str) -> bool:
    """Whether a column of ``detailed_results_`` holds a time."""
    return column.endswith(("_fit_time", "_score_time"))


def plain_value(value: Any) -> Any:
    """A value that JSON can hold."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
