"""No search starts a process: what the engine does not do itself runs on threads, as many as `n_jobs` says.

Each case is left to skrub or scikit-learn: metadata routing is on, or single fits are reported. Children are counted
as the kernel knows them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import sklearn.experimental.enable_halving_search_cv  # noqa: F401
from sides import difference
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

TASKS = Path("/proc/self/task")


def children() -> set[int]:
    """Processes that this one has started and not waited for."""
    while True:
        try:
            return {int(pid) for task in TASKS.iterdir() for pid in (task / "children").read_text().split()}
        except (FileNotFoundError, ProcessLookupError):
            pass  # a thread ended while it was asked: its children are another's now


@pytest.fixture
def processes() -> Any:
    """Fails a test that leaves a process: loky's workers and its resource tracker stay for minutes."""
    if not TASKS.is_dir():
        pytest.skip("the system does not tell of children")
    joblib.externals.loky.get_reusable_executor(max_workers=1).shutdown(wait=True, kill_workers=True)
    before = children()
    yield children
    assert children() == before


def table() -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.RandomState(0)
    X = pd.DataFrame(rng.normal(size=(90, 3)), columns=["a", "b", "c"])
    return X, (X["a"] + rng.normal(size=90) > 0).to_numpy().astype(int)


def searched(skrub: Any) -> Any:
    data = skrub.var("data")
    X = data[["a", "b", "c"]].skb.mark_as_X()
    C = skrub.choose_from([0.1, 10.0], name="C")
    return X.skb.apply(LogisticRegression(C=C), y=data["label"].skb.mark_as_y())


def environment() -> dict:
    X, y = table()
    return {"data": X.assign(label=y)}


def skrub_grid(n_jobs: Any, **how: Any) -> Any:
    import stratum as skrub

    return searched(skrub).skb.make_grid_search(cv=3, n_jobs=n_jobs, **how).fit(environment()).cv_results_


def skrub_randomized(n_jobs: Any, **how: Any) -> Any:
    import stratum as skrub

    search = searched(skrub).skb.make_randomized_search(cv=3, n_iter=2, random_state=0, n_jobs=n_jobs, **how)
    return search.fit(environment()).cv_results_


def skrub_cross_validate(n_jobs: Any, **how: Any) -> Any:
    import stratum as skrub

    return searched(skrub).skb.cross_validate(environment(), cv=3, n_jobs=n_jobs, **how).to_dict("list")


def skrub_batch(n_jobs: Any, **how: Any) -> Any:
    import stratum as skrub

    search = searched(skrub).skb.make_grid_search(cv=3, n_jobs=n_jobs, **how)
    return skrub.run([(search, environment())])[0].cv_results_


def sklearn_search(name: str) -> Callable[..., Any]:
    def fitted(n_jobs: Any, **how: Any) -> Any:
        import stratum.sklearn

        X, y = table()
        grid = {"logisticregression__C": [0.1, 10.0]}
        model = make_pipeline(StandardScaler(), LogisticRegression())
        if "Random" in name:
            how["random_state"] = 0
            how |= {"n_candidates": 2} if "Halving" in name else {"n_iter": 2}
        return getattr(stratum.sklearn, name)(model, grid, cv=3, n_jobs=n_jobs, **how).fit(X, y).cv_results_

    return fitted


def sklearn_function(name: str) -> Callable[..., Any]:
    def called(n_jobs: Any, **how: Any) -> Any:
        import stratum.sklearn

        X, y = table()
        model = make_pipeline(StandardScaler(), LogisticRegression())
        return getattr(stratum.sklearn, name)(model, X, y, cv=3, n_jobs=n_jobs, **how)

    return called


WAYS: dict[str, Callable[..., Any]] = {
    "grid": skrub_grid, "randomized": skrub_randomized, "skrub.cross_validate": skrub_cross_validate, "run": skrub_batch,
    **{n: sklearn_search(n) for n in (
        "GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV",
    )},
    **{n: sklearn_function(n) for n in ("cross_validate", "cross_val_score", "cross_val_predict")},
}  # fmt: skip


def without_times(found: Any) -> Any:
    return {k: v for k, v in found.items() if "time" not in k} if isinstance(found, dict) else found


@pytest.mark.parametrize("way", WAYS)
def test_what_is_left_to_the_libraries_runs_on_threads(way: str, processes: Any) -> None:
    import stratum

    with sklearn.config_context(enable_metadata_routing=True):
        expected = WAYS[way](1)
        every = ({"n_jobs": 2}, {"backend": "loky", "n_jobs": 2}, {"backend": "threading", "n_jobs": 2})
        for settings in every if way in ("grid", "GridSearchCV") else every[:1]:
            with joblib.parallel_config(**settings):
                found = WAYS[way](None)
            assert ("metadata" in str(stratum.last_run().fallbacks)) and stratum.last_run().fallbacks
            assert difference(without_times(found), without_times(expected)) is None
        found = WAYS[way](-1)
    assert difference(without_times(found), without_times(expected)) is None


@pytest.mark.parametrize("way", ["grid", "GridSearchCV", "cross_val_score"])
def test_reports_of_single_fits_come_from_threads(way: str, processes: Any, capfd: Any) -> None:
    import stratum

    WAYS[way](2, verbose=2)
    assert "verbose" in stratum.last_run().fallbacks[0][1]
    said = capfd.readouterr()
    assert said.out.count("END") == (3 if way == "cross_val_score" else 6) and "Loky" not in said.err


class Names(BaseEstimator, TransformerMixin):
    """Notes in which threads and processes it was fitted, and with what settings."""

    seen: list = []

    def fit(self, X: Any, y: Any = None) -> Names:
        import stratum

        warnings.warn("each fit says so", UserWarning, stacklevel=1)
        Names.seen.append((os.getpid(), threading.current_thread(), stratum.get_config()["seed"]))
        return self

    def transform(self, X: Any) -> Any:
        return X


def test_settings_and_warnings_are_those_of_the_caller(processes: Any) -> None:
    import stratum
    from stratum.sklearn import cross_val_score

    X, y = table()
    Names.seen = []
    filters = list(warnings.filters)
    with stratum.config_context(seed=17), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        cross_val_score(make_pipeline(Names(), Ridge()), X, y, cv=20, n_jobs=4, verbose=2)
        assert warnings.filters[0][0] == "always"
    assert warnings.filters == filters
    assert sum("each fit" in str(one.message) for one in said) == 20 == len(Names.seen)
    assert {(pid, seed) for pid, _, seed in Names.seen} == {(os.getpid(), 17)}
    assert threading.main_thread() not in {thread for _, thread, _ in Names.seen}


def test_n_jobs_of_an_estimator_is_its_own(processes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fit it is what it is in one of loky's processes: threads below threads."""
    from stratum.sklearn import GridSearchCV

    X, y = table()
    columns = ColumnTransformer([("a", Names(), ["a"]), ("b", Names(), ["b", "c"])], n_jobs=2)
    seen: list[tuple[str, int]] = []
    original = joblib.Parallel.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self.n_jobs == 2:
            seen.append((type(self._backend).__name__, self._backend.nesting_level))

    monkeypatch.setattr(joblib.Parallel, "__init__", init)
    GridSearchCV(make_pipeline(columns, Ridge()), {"ridge__alpha": [1.0]}, cv=2, n_jobs=2, verbose=2, refit=False).fit(X, y)
    # the search as scikit-learn makes it, on threads instead, and in each fit fit_transform and transform
    assert seen[:2] == [("LokyBackend", 0), ("ThreadingBackend", 0)]
    assert len(seen) > 2 and set(seen[2:]) == {("ThreadingBackend", 1)}


def test_backends_by_name_keep_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    from stratum.sklearn import cross_val_score

    asked: list[str] = []
    original = joblib.Parallel.__call__

    def call(self: Any, iterable: Any) -> Any:
        asked.append(type(self._backend).__name__)
        self.n_jobs = 1  # nothing is started here
        return original(self, iterable)

    monkeypatch.setattr(joblib.Parallel, "__call__", call)
    X, y = table()
    for name, backend in {"multiprocessing": "MultiprocessingBackend", "threading": "ThreadingBackend"}.items():
        asked.clear()
        with joblib.parallel_config(name, n_jobs=2):
            cross_val_score(make_pipeline(StandardScaler(), Ridge()), X, y, verbose=2)
        assert asked[0] == backend


def test_plain_skrub_is_plain_skrub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switched off, nothing is ours to change."""
    import stratum
    from stratum.sklearn import cross_val_score

    asked: list[str] = []
    original = joblib.Parallel.__call__

    def call(self: Any, iterable: Any) -> Any:
        asked.append(type(self._backend).__name__)
        self.n_jobs = 1
        return original(self, iterable)

    monkeypatch.setattr(joblib.Parallel, "__call__", call)
    X, y = table()
    with stratum.config_context(engine="skrub"):
        cross_val_score(Ridge(), X, y, n_jobs=2)
        skrub_grid(2)
    assert asked[:1] == ["LokyBackend"] and asked.count("LokyBackend") >= 2


SCRIPT = """
import os
from pathlib import Path
import numpy as np
import sklearn
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
import skrub

X = np.random.default_rng(0).normal(size=(60, 3))
y = X @ [1.0, 2.0, 3.0]
with sklearn.config_context(enable_metadata_routing=True):
    print(GridSearchCV(Ridge(), {"alpha": [0.1, 10.0]}, n_jobs=2).fit(X, y).best_score_)
    print(cross_validate(Ridge(), X, y, n_jobs=2)["test_score"])
    print(cross_val_predict(Ridge(), X, y, n_jobs=2)[:3])
    op = skrub.X(X).skb.apply(Ridge(alpha=skrub.choose_from([0.1, 10.0], name="a")), y=skrub.y(y))
    print(op.skb.make_grid_search(fitted=True, n_jobs=2).best_score_)
    print(op.skb.cross_validate(n_jobs=2)["test_score"].tolist())
started = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
print("started" if started else "none")
"""


def test_unmodified_scripts_start_none(tmp_path: Path) -> None:
    if not TASKS.is_dir():
        pytest.skip("the system does not tell of children")
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    run = subprocess.run(
        [sys.executable, "-m", "stratum", "run", "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("\n") >= 6 and run.stdout.endswith("none\n"), run.stdout


def test_children_are_seen(processes: Any) -> None:
    """What the tests above rely on: a process that is there is counted."""
    before = processes()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert processes() - before == {process.pid}
