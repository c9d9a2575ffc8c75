"""Boosted fits that share a binned dataset: the models are the packages' own, to the last bit.

The fits are made as the engine's operators make them, by `boosting.reading` around the fit, with a node that has as
many readers as there are candidates; and by searches. The reference is the same fit outside.
"""

from __future__ import annotations

import gc
import pickle
import re
import threading
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import model_selection
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import stratum
import stratum.sklearn
from stratum.hosts import boosting, kernels

lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")

CLASSES = ("LGBMRegressor", "LGBMClassifier", "XGBRegressor", "XGBClassifier")
COMMON = {"n_estimators": 4, "n_jobs": 1}


def model(name: str, **parameters: Any) -> Any:
    """One of the four classes, quiet and small."""
    if name.startswith("LGBM"):
        return getattr(lightgbm, name)(**{"verbose": -1, "min_child_samples": 5, **COMMON, **parameters})
    return getattr(xgboost, name)(**{**COMMON, **parameters})


def candidates(name: str, **parameters: Any) -> list[Any]:
    """Four candidates that differ in what the bins do not depend on."""
    size = "num_leaves" if name.startswith("LGBM") else "max_leaves"
    varied = [
        {}, {size: 5, "learning_rate": 0.3}, {"reg_lambda": 3.0, "reg_alpha": 0.1, "max_depth": 2},
        {"subsample": 0.6, "colsample_bytree": 0.5, "min_child_weight": 2.0, "n_estimators": 7},
    ]  # fmt: skip
    if name.startswith("LGBM"):
        varied[3]["subsample_freq"] = 1
    return [model(name, **{**parameters, **one}) for one in varied]


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    """A test that failed is no reason for the next one to fail."""
    boosting.forget()


def rate_of(iteration: int) -> float:
    """A learning rate that falls."""
    return 0.3 / (1 + iteration)


class Node:
    """What `reading` asks of a running node."""

    def __init__(self, value: Any, readers: int) -> None:
        self.value, self.left = value, readers

    def readers(self, value: Any) -> int:
        return self.left if value is self.value else 0


def outcome(call: Any) -> Any:
    """What a call gives: its value or its error, and its warnings."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result = call()
        except Exception as error:
            result = (type(error), undated(error).splitlines()[:1])
    return result, [(w.category, undated(w.message)) for w in seen]


def undated(message: Any) -> str:
    """XGBoost's messages begin with the time of day."""
    return re.sub(r"\d\d:\d\d:\d\d", "", str(message))


def shown(value: Any) -> str:
    """An object as text, without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def squares(y: Any, p: Any) -> tuple[Any, Any]:
    """An objective of the user's."""
    return p - y, np.ones_like(y)


def fit_in(node: Node, estimator: Any, X: Any, y: Any, **arguments: Any) -> Any:
    """Fit as an operator does."""
    with kernels.on():
        try:
            with boosting.reading(node, estimator, X, X, arguments):
                return estimator.fit(X, y, **arguments)
        finally:
            node.left -= 1


def same(mine: Any, theirs: Any, X: Any) -> None:
    """All that can be asked of two fitted estimators."""
    a, b = vars(mine), vars(theirs)
    assert list(a) == list(b)
    assert shown(mine.get_params()) == shown(theirs.get_params())
    for name in a.keys() - {"_Booster", "_le"}:
        assert shown(a[name]) == shown(b[name]), name
    if type(mine).__name__.startswith("LGBM"):
        assert mine.booster_.model_to_string() == theirs.booster_.model_to_string()
        assert shown(mine.booster_.params) == shown(theirs.booster_.params)
        assert vars(mine.booster_).keys() == vars(theirs.booster_).keys()
        names = ("evals_result_", "best_score_", "best_iteration_", "feature_name_", "objective_", "n_iter_")
    else:
        one, other = mine.get_booster(), theirs.get_booster()
        assert one.save_raw() == other.save_raw()
        assert one.save_config() == other.save_config()
        assert (one.feature_names, one.feature_types) == (other.feature_names, other.feature_types)
        names = ()
    for name in (*names, "n_features_in_", "feature_names_in_", "classes_", "n_classes_", "feature_importances_"):
        got, want = (outcome(lambda m=m, n=name: getattr(m, n)) for m in (mine, theirs))
        assert shown(got) == shown(want), name
    methods = ["predict", "predict_proba"] if hasattr(theirs, "predict_proba") else ["predict"]
    again = pickle.loads(pickle.dumps(mine))
    for method in methods:
        want = getattr(theirs, method)(X)
        for one in (mine, again):
            got = getattr(one, method)(X)
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)


def check(models: list[Any], X: Any, y: Any, datasets: int | None = 1, **arguments: Any) -> None:
    """Fit all on one matrix, with sharing and without; `datasets`: how many are made (None: none is shared)."""
    before = boosting.counts()
    node = Node(X, len(models))
    for estimator in models:
        mine, theirs = clone(estimator), clone(estimator)
        got = outcome(lambda m=mine: fit_in(node, m, X, y, **arguments))
        want = outcome(lambda t=theirs: t.fit(X, y, **arguments))
        assert got[1] == want[1]
        if want[0] is not theirs:
            assert got[0] == want[0]
            continue
        assert got[0] is mine
        same(mine, theirs, X)
    made, taken, held = boosting.counts()
    assert held == 0, "nothing stays when the last reader is done"
    if datasets is None:
        assert (made, taken) == before[:2]
    else:
        assert made - before[0] == datasets
        assert taken - before[1] == len(models) - datasets


def numbers(n: int = 240, p: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)).round(2)
    X[:, 1] = rng.integers(0, 4, n)
    return X


def targets(name: str, n: int = 240, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    X = numbers(n)
    raw = X[:, 0] + X[:, 1] + rng.standard_normal(n) * 0.3
    return (raw > 1).astype(np.int64) if name.endswith("Classifier") else raw


def holed(X: np.ndarray) -> np.ndarray:
    X = X.copy()
    X[::7, 2], X[3, 3], X[::5, 4] = np.nan, -0.0, 0.0
    return X


def exclusive(X: np.ndarray) -> np.ndarray:
    """Sparse columns that exclude each other: LightGBM puts them into one."""
    X = X.copy()
    for i in range(2, X.shape[1]):
        X[np.arange(len(X)) % X.shape[1] != i, i] = 0.0
    return X


def constant(X: np.ndarray) -> np.ndarray:
    X = X.copy()
    X[:, 2], X[:, 3] = 5.0, np.where(np.arange(len(X)) == 0, 1.0, 0.0)
    return X


def frame(X: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(X, columns=["a", "ä b", "c", "d", "e", "f"], index=np.arange(len(X))[::-1] * 3)


def strided(X: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(X, 2, axis=0), 2, axis=1)[::2, ::2]


def read_only(X: np.ndarray) -> np.ndarray:
    X = X.copy()
    X.flags.writeable = False
    return X


def polars_frame(X: np.ndarray) -> Any:
    pl = pytest.importorskip("polars")
    return pl.DataFrame({f"c{i}": X[:, i] for i in range(X.shape[1])})


MATRICES = {
    "float64": lambda X: X,
    "float32": lambda X: X.astype(np.float32),
    "columns first": np.asfortranarray,
    "whole": lambda X: X.astype(np.int32),
    "small whole": lambda X: X.astype(np.int8),
    "bool": lambda X: X > 0,
    "holes": holed,
    "exclusive": exclusive,
    "constant": constant,
    "strided": strided,
    "read-only": read_only,
    "big-endian": lambda X: X.astype(">f8"),
    "frame": frame,
    "frame of kinds": lambda X: frame(X).astype({"a": "float32", "c": "int16", "d": "bool"}),
    "nullable": lambda X: frame(X).astype({"a": "Float64", "c": "Float32"}),
    "arrow": lambda X: frame(X).convert_dtypes(dtype_backend="pyarrow"),
    "arrow with nulls": lambda X: frame(holed(X)).convert_dtypes(dtype_backend="pyarrow"),
    "polars": polars_frame,
    "one column": lambda X: X[:, :1],
    "few rows": lambda X: X[:12],
}


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("name", CLASSES)
def test_matrices(name: str, matrix: str) -> None:
    """Every matrix that may be shared."""
    X = MATRICES[matrix](numbers())
    y = targets(name)[: len(X)]
    refused = (matrix == "big-endian" and name.startswith("XGB")) or ("arrow" in matrix and name.startswith("LGBM"))
    check(candidates(name), X, y, None if refused else 1)


@pytest.mark.parametrize("name", CLASSES)
def test_series(name: str) -> None:
    """A target with a name and an index."""
    X = frame(numbers())
    check(candidates(name), X, pd.Series(targets(name), index=X.index, name="y"))


@pytest.mark.parametrize("name", ["LGBMClassifier", "XGBClassifier"])
def test_classes(name: str) -> None:
    """Many classes, and labels that are not 0 to n."""
    X, rng = numbers(), np.random.default_rng(3)
    check(candidates(name), X, rng.integers(0, 4, len(X)))
    if name == "LGBMClassifier":
        check(candidates(name), X, rng.integers(0, 3, len(X)) * 7 - 5)
        check(candidates(name, class_weight="balanced"), X, (rng.random(len(X)) < 0.2).astype(int))
        check(candidates(name), X, np.array(["no", "ja"], dtype=object)[rng.integers(0, 2, len(X))])


def broken(name: str, what: str) -> tuple[Any, Any]:
    X, y = numbers(), targets(name).astype(float)
    if what == "nan in y":
        y[4] = np.nan
    elif what == "inf in y":
        y[4] = np.inf
    elif what == "constant y":
        y[:] = 1.0
    elif what == "inf in X":
        X[5, 0] = np.inf
    elif what == "short y":
        y = y[:-3]
    elif what == "one row":
        X, y = X[:1], y[:1]
    elif what == "no row":
        X, y = X[:0], y[:0]
    elif what == "no column":
        X = X[:, :0]
    elif what == "strings":
        y = np.array(["a"] * len(X), dtype=object)
    elif what == "wrong type":
        y = None
    return X, y


@pytest.mark.parametrize(
    "what",
    [
        "nan in y", "inf in y", "constant y", "inf in X", "short y", "one row", "no row", "no column", "strings",
        "wrong type",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", CLASSES)
def test_errors(name: str, what: str) -> None:
    """The same exceptions and warnings for each candidate, and nothing stays."""
    X, y = broken(name, what)
    outcome(lambda: model(name).fit(X, y))  # (XGBoost says once a process that there are no rows)
    node = Node(X, 4)
    for estimator in candidates(name):
        mine, theirs = clone(estimator), clone(estimator)
        got = outcome(lambda m=mine: fit_in(node, m, X, y))
        want = outcome(lambda t=theirs: t.fit(X, y))
        assert got[1] == want[1]
        if want[0] is theirs:
            same(mine, theirs, X)
        else:
            assert got[0] == want[0]
    assert boosting.counts()[2] == 0


@pytest.mark.parametrize(
    ("parameters", "datasets"),
    [
        ({}, 1), ({"boosting_type": "dart"}, 1), ({"boosting_type": "rf", "subsample": 0.5, "subsample_freq": 1}, 1),
        ({"objective": "regression_l1"}, 1), ({"objective": "huber", "alpha": 0.7}, 1), ({"random_state": 7}, 1),
        ({"max_bin": 15, "min_data_in_bin": 1}, 1), ({"subsample_for_bin": 50}, 1), ({"extra_trees": True}, 1),
        ({"use_missing": False, "zero_as_missing": True}, 1), ({"enable_bundle": False}, 1),
        ({"force_row_wise": True, "deterministic": True}, 1), ({"importance_type": "gain"}, 1),
        ({"metric": ["l1", "l2"]}, 1),
        ({"linear_tree": True}, None), ({"categorical_feature": [1]}, None),
        ({"monotone_constraints": [1, 0, 0, 0, 0, 0]}, None),
        ({"objective": squares}, None),
    ],
)  # fmt: skip
def test_parameters_of_lightgbm(parameters: dict, datasets: int | None) -> None:
    """What is known is shared, what is not is left to the package."""
    name = "LGBMRegressor"
    models = candidates(name, **parameters)
    for one in models:
        one.set_params(**parameters)
    check(models, exclusive(holed(numbers())), targets(name), datasets)


@pytest.mark.parametrize(
    ("parameters", "datasets"),
    [
        ({}, 1), ({"booster": "dart"}, 1), ({"max_bin": 16}, 1), ({"missing": 0.0}, 1), ({"random_state": 3}, 1),
        ({"objective": "reg:absoluteerror"}, 1), ({"grow_policy": "lossguide"}, 1), ({"num_parallel_tree": 2}, 1),
        ({"monotone_constraints": (1, 0, 0, 0, 0, 0)}, 1), ({"interaction_constraints": [[0, 1], [2, 3]]}, 1),
        ({"sampling_method": "uniform", "colsample_bynode": 0.5}, 1), ({"eval_metric": "mae"}, 1),
        ({"tree_method": "exact"}, None), ({"tree_method": "approx"}, None), ({"booster": "gblinear"}, None),
        ({"objective": squares}, None),
        ({"early_stopping_rounds": 2}, 1), ({"max_cat_to_onehot": 2}, 1),
        ({"callbacks": [xgboost.callback.LearningRateScheduler(rate_of)]}, None),
        ({"feature_weights": np.arange(1.0, 7.0)}, None),
    ],
)  # fmt: skip
def test_parameters_of_xgboost(parameters: dict, datasets: int | None) -> None:
    """What is known is shared, what is not is left to the package."""
    models = [model("XGBRegressor", **{"learning_rate": rate, **parameters}) for rate in (0.1, 0.3)]
    check(models, holed(numbers()), targets("XGBRegressor"), datasets)


@pytest.mark.parametrize("name", ["LGBMRegressor", "XGBRegressor"])
def test_arguments_of_fit(name: str) -> None:
    """A fit with more than X and y is the package's alone."""
    X, y = numbers(), targets(name)
    check(candidates(name), X, y, None, sample_weight=np.linspace(0.5, 2, len(X)))
    check(candidates(name), X, y, None, eval_set=[(X, y)])


def test_categories_are_left_alone() -> None:
    """Columns that are not numbers keep their package's road."""
    X = frame(numbers()).astype({"ä b": "category"})
    check(candidates("LGBMRegressor"), X, targets("LGBMRegressor"), None)
    check(candidates("XGBRegressor"), X, targets("XGBRegressor"), None)


def test_other_bins_are_other_datasets() -> None:
    """What the bins depend on is told apart: parameters, the target, the matrix."""
    X, y = numbers(), targets("LGBMRegressor")
    check([model("LGBMRegressor", max_bin=b) for b in (15, 63, 15)], X, y, 2)
    check([model("LGBMRegressor", random_state=s) for s in (1, 2, 1)], X, y, 2)
    check([model("LGBMRegressor", min_child_samples=m) for m in (5, 90, 5)], constant(X), y, 2)
    check([model("LGBMRegressor", min_child_samples=m) for m in (90, 5, 20, 90, 7)], X, y, 1)
    check([model("LGBMRegressor", min_child_samples=m) for m in (5, 90, 20, 5)], X, y, 2)
    check([model("LGBMRegressor", min_child_samples=m) for m in (90, 5, 1, 90)], constant(X), y, 3)
    check([model("LGBMRegressor", min_child_samples=m, feature_pre_filter=False) for m in (5, 90)], constant(X), y, 1)
    check([model("XGBRegressor", max_bin=b) for b in (15, 64, 15)], X, y, 2)
    check([model("LGBMRegressor"), model("XGBRegressor"), model("LGBMRegressor"), model("XGBRegressor")], X, y, 2)
    for name in ("LGBMRegressor", "XGBRegressor"):
        node, before = Node(X, 3), boosting.counts()
        for target in (y, -y, y.copy()):
            mine, theirs = model(name), model(name).fit(X, target)
            same(fit_in(node, mine, X, target), theirs, X)
        made, taken, held = boosting.counts()
        assert (made - before[0], taken - before[1], held) == (2, 1, 0)


@pytest.mark.parametrize("name", CLASSES)
def test_subclasses_and_single_readers(name: str) -> None:
    """A subclass may have overridden anything; a matrix with one reader is not kept."""
    X, y = numbers(), targets(name)
    before = boosting.counts()
    own = type(name, (type(model(name)),), {})
    fit_in(Node(X, 5), own(n_estimators=2, n_jobs=1), X, y)
    same(fit_in(Node(X, 1), model(name), X, y), model(name).fit(X, y), X)
    with stratum.config_context(native=False):
        fit_in(Node(X, 5), model(name), X, y)
    fit_in(Node(X.copy(), 5), model(name), X, y)  # some other value: not this node's input
    assert boosting.counts() == before


def test_an_unknown_version_declines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Private names of a version that nobody has read are not touched."""
    X, y = numbers(), targets("LGBMRegressor")
    boosting._known.cache_clear()
    monkeypatch.setattr(lightgbm, "__version__", "4.8.0")
    monkeypatch.setattr(xgboost, "__version__", "4.0.0")
    try:
        check(candidates("LGBMRegressor"), X, y, None)
        check(candidates("XGBRegressor"), X, y, None)
    finally:
        boosting._known.cache_clear()


@pytest.mark.parametrize("name", CLASSES)
def test_goes_with_the_matrix(name: str) -> None:
    """A dataset does not outlive its matrix, nor a run."""
    X, y = numbers(), targets(name)
    node = Node(X, 9)
    fitted = fit_in(node, model(name), X, y)
    assert boosting.counts()[2] == 1
    del X, node
    gc.collect()
    assert boosting.counts()[2] == 0
    X = numbers()
    fit_in(Node(X, 9), model(name), X, y)
    boosting.forget()
    assert boosting.counts()[2] == 0
    same(fitted, model(name).fit(X, y), X)


@pytest.mark.parametrize("name", CLASSES)
def test_two_threads(name: str) -> None:
    """Fits side by side on one dataset: one makes it, the other waits, both train."""
    X, y = numbers(3000), targets(name, 3000)
    models = candidates(name) * 3
    node, before = Node(X, len(models) + 1), boosting.counts()
    start = threading.Barrier(2)
    failed: list[BaseException] = []

    def work(mine: list[Any]) -> None:
        try:
            start.wait()
            for one in mine:
                with kernels.on(), boosting.reading(node, one, X, X):
                    one.fit(X, y)
        except BaseException as error:
            failed.append(error)

    fitted = [clone(one) for one in models]
    threads = [threading.Thread(target=work, args=(fitted[i::2],)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    made, taken, _ = boosting.counts()
    assert (made - before[0], taken - before[1]) == (1, len(models) - 1)
    boosting.forget()
    for mine, theirs in zip(fitted, models, strict=True):
        same(mine, theirs.fit(X, y), X)


def test_bins_depend_on_what_the_key_has(tmp_path: Any) -> None:
    """The parameters that are not in the key, and the number of threads, change no bin."""
    X, y = exclusive(holed(numbers(2000, 12))), targets("LGBMRegressor", 2000)
    texts = []
    free = [
        {"learning_rate": 0.5}, {"num_leaves": 100, "max_depth": 9}, {"num_iterations": 3}, {"reg_alpha": 1.0},
        {"reg_lambda": 9.0}, {"subsample": 0.2, "subsample_freq": 2}, {"colsample_bytree": 0.1},
        {"min_split_gain": 5.0}, {"min_child_weight": 50.0}, {"num_threads": 2},
    ]  # fmt: skip
    assert {name for one in free for name in one} == boosting._LIGHTGBM_FREE
    for number, extra in enumerate([{}, *free, {"feature_pre_filter": False, "min_child_samples": 1},
                                    {"feature_pre_filter": False, "min_child_samples": 900}]):  # fmt: skip
        path = tmp_path / f"{number}.txt"
        params = {"verbose": -1, "num_threads": 1, "min_child_samples": 3, **extra}
        lightgbm.Dataset(X, y, params=params).construct()._dump_text(path)
        texts.append(path.read_text())
    assert len(texts[0]) > 1000
    assert all(text == texts[0] for text in texts[:-2])
    assert texts[-1] == texts[-2]
    whole = []
    for least in (1, 900):
        params = {"verbose": -1, "num_threads": 1, "min_child_samples": least}
        lightgbm.Dataset(numbers(2000), y, params=params).construct()._dump_text(tmp_path / "whole.txt")
        whole.append((tmp_path / "whole.txt").read_text())
    assert whole[0] == whole[1]
    cuts = [xgboost.QuantileDMatrix(X, y, nthread=n).get_quantile_cut() for n in (1, 2)]
    for one, other in zip(*cuts, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", CLASSES)
def test_search(name: str) -> None:
    """scikit-learn's search: one dataset a fold, the refit's own, and scikit-learn's results."""
    X, y = numbers(600), targets(name, 600)
    size = "num_leaves" if name.startswith("LGBM") else "max_leaves"
    grid = {size: [4, 8], "learning_rate": [0.1, 0.3]}
    before = boosting.counts()
    mine = stratum.sklearn.GridSearchCV(model(name), grid, cv=3).fit(X, y)
    made, taken, held = boosting.counts()
    assert (made - before[0], taken - before[1], held) == (3, 9, 0)
    theirs = model_selection.GridSearchCV(model(name), grid, cv=3).fit(X, y)
    np.testing.assert_array_equal(mine.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])
    same(mine.best_estimator_, theirs.best_estimator_, X)


def test_search_behind_a_step() -> None:
    """The matrix that a step made for several candidates."""
    X, y = numbers(600), targets("LGBMRegressor", 600)
    before = boosting.counts()
    grid = {"lgbmregressor__num_leaves": [4, 8, 12]}
    pipe = make_pipeline(StandardScaler(), model("LGBMRegressor"))
    mine = stratum.sklearn.GridSearchCV(pipe, grid, cv=2, return_train_score=True).fit(X, y)
    made, taken, held = boosting.counts()
    assert (made - before[0], taken - before[1], held) == (2, 4, 0)
    theirs = model_selection.GridSearchCV(pipe, grid, cv=2, return_train_score=True).fit(X, y)
    for name in ("mean_test_score", "mean_train_score"):
        np.testing.assert_array_equal(mine.cv_results_[name], theirs.cv_results_[name])
    same(mine.best_estimator_[-1], theirs.best_estimator_[-1], mine.best_estimator_[0].transform(X))


@pytest.mark.parametrize("name", CLASSES)
def test_skrub_search(name: str) -> None:
    """skrub's search over a choice."""
    X, y = frame(numbers(600)), pd.Series(targets(name, 600), name="y")
    X.index = y.index

    def search(engine: str) -> Any:
        with stratum.config_context(engine=engine):
            rate = stratum.choose_from([0.1, 0.2, 0.3], name="rate")
            data = stratum.X(X).skb.apply(model(name, learning_rate=rate), y=stratum.y(y))
            found = data.skb.make_grid_search(cv=2, refit=True)
            return found.fit({"X": X, "y": y})

    before = boosting.counts()
    mine = search("stratum")
    made, taken, held = boosting.counts()
    assert (made - before[0], taken - before[1], held) == (2, 4, 0)
    theirs = search("skrub")
    np.testing.assert_array_equal(mine.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])
    a, b = (s.best_learner_.predict({"X": X}) for s in (mine, theirs))
    np.testing.assert_array_equal(a, b)
