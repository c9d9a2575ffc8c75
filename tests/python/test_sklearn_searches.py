"""scikit-learn's searches by the engine against scikit-learn itself, in a process of its own.

Each case is run with `sklearn.model_selection` on one side and `stratum.sklearn` on the other (see sides.py);
what is compared are results, predictions, parameters, errors and warnings.
"""

from __future__ import annotations

import copy
import functools
import importlib
import pickle
import re
import subprocess
import sys
import threading
import time
import warnings
from typing import Any

import counted
import forks
import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import sklearn.experimental.enable_halving_search_cv  # noqa: F401
from scipy import sparse
from sides import ours, same
from sklearn import model_selection
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, StackingRegressor, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LassoCV, LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler, TargetEncoder
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier


def of(skrub: Any) -> Any:
    """The module with the searches of a side."""
    return importlib.import_module("stratum.sklearn") if skrub.__name__ == "stratum" else model_selection


def table(rows: int = 240, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Numbers with holes, strings, and a target of each kind."""
    rng = np.random.RandomState(seed)
    X = pd.DataFrame(
        {
            "a": rng.normal(size=rows), "b": rng.normal(size=rows) * 100, "c": rng.uniform(size=rows),
            "city": rng.choice(["Oslo", "Rome", "Lima", "Bern"], size=rows),
            "word": rng.choice(["red fox", "blue cat", "green owl", "red cat"], size=rows),
        }
    )  # fmt: skip
    X.loc[::7, "b"] = np.nan
    value = X["a"] + X["b"].fillna(0) / 100 + (X["city"] == "Rome") + rng.normal(size=rows) * 0.3
    return X, (value > value.median()).to_numpy().astype(int), value.to_numpy()


def columns(**options: Any) -> ColumnTransformer:
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include="number")),
            ("city", OneHotEncoder(handle_unknown="ignore"), ["city"]),
            ("word", CountVectorizer(), "word"),
        ],
        **options,
    )


def text(obj: Any) -> str:
    """What an object shows, without addresses."""
    return re.sub(r"0x[0-9a-f]+", "0x", repr(obj))


def told(search: Any, X: Any) -> dict:
    """What a user reads from a fitted search."""
    found: dict[str, Any] = {"results": dict(search.cv_results_), "n_splits": search.n_splits_}
    for name in ("best_score_", "best_index_", "best_params_", "multimetric_"):
        if hasattr(search, name):
            value = getattr(search, name)
            found[name] = text(value) if name == "best_params_" else value
    found["results"]["params"] = [text(p) for p in search.cv_results_["params"]]
    found["results"] = {k: v if not isinstance(v, np.ma.MaskedArray) else text(v) for k, v in found["results"].items()}
    if hasattr(search, "best_estimator_"):
        found["best"] = text(search.best_estimator_)
        for method in ("predict", "predict_proba"):
            if hasattr(search.best_estimator_, method):
                found[method] = getattr(search, method)(X)
        found["seen"] = [getattr(search, n, None) for n in ("n_features_in_", "feature_names_in_")]
        found["refit_time"] = search.refit_time_ >= 0
    return found


# -- Searches -------------------------------------------------------------------------------------


def grid_columns(skrub: Any) -> dict:
    X, y, _ = table()
    model = Pipeline([("prep", columns()), ("model", LogisticRegression())])
    grid = {"prep__numbers__simpleimputer__strategy": ["mean", "median"], "model__C": [0.1, 1.0]}
    search = of(skrub).GridSearchCV(model, grid, cv=3, return_train_score=True)
    return told(search.fit(X, y), X)


def multimetric(skrub: Any) -> dict:
    X, _, y = table()
    model = Pipeline([("prep", columns(remainder="drop")), ("svd", TruncatedSVD(3, random_state=0)), ("model", Ridge())])
    search = of(skrub).RandomizedSearchCV(
        model, {"model__alpha": [0.1, 1.0, 10.0], "svd__n_components": [2, 3]}, n_iter=4, random_state=1, cv=4,
        scoring={"r2": "r2", "mae": make_scorer(mean_absolute_error, greater_is_better=False)}, refit="mae",
        return_train_score=True,
    )  # fmt: skip
    return told(search.fit(X, y), X)


def steps_replaced(skrub: Any) -> dict:
    X, y, _ = table()
    X = X[["a", "c"]]
    model = Pipeline([("scale", StandardScaler()), ("reduce", PCA(1)), ("model", LogisticRegression())])
    grid = [
        {"scale": ["passthrough", StandardScaler()], "model__C": [0.5, 2.0]},
        {"reduce": [None], "model": [KNeighborsClassifier(3), SVC(probability=False)]},
    ]
    search = of(skrub).GridSearchCV(model, grid, cv=3, scoring="roc_auc")
    return told(search.fit(X, y), X)


def last_step_passes(skrub: Any) -> Any:
    X, y, _ = table()
    model = Pipeline([("scale", StandardScaler()), ("last", "passthrough")])

    def scoring(fitted: Any, X: Any, y: Any = None) -> float:
        return float(np.abs(fitted.transform(X)).mean())

    search = of(skrub).GridSearchCV(model, {"scale__with_mean": [True, False]}, cv=3, scoring=scoring)
    return told(search.fit(X[["a", "c"]], y), X[["a", "c"]])


def union_and_target(skrub: Any) -> dict:
    X, _, y = table()
    union = FeatureUnion([("scaled", StandardScaler()), ("pca", PCA(2))], transformer_weights={"pca": 0.5})
    inner = Pipeline([("union", union), ("model", Ridge())])
    model = TransformedTargetRegressor(inner, func=np.arcsinh, inverse_func=np.sinh)
    grid = {"regressor__model__alpha": [0.1, 1.0], "regressor__union__pca__n_components": [1, 2]}
    search = of(skrub).GridSearchCV(model, grid, cv=3)
    return told(search.fit(X[["a", "c"]], y), X[["a", "c"]])


def ensembles(skrub: Any) -> list:
    X, y, value = table(150)
    X = X[["a", "c"]]
    found = []
    for model in (
        VotingClassifier([("lr", LogisticRegression()), ("knn", KNeighborsClassifier())], voting="soft"),
        BaggingClassifier(DecisionTreeClassifier(random_state=0), n_estimators=3, random_state=0),
        CalibratedClassifierCV(LogisticRegression(), cv=3),
        RandomForestClassifier(5, random_state=0),
    ):
        scores = of(skrub).cross_validate(make_pipeline(StandardScaler(), model), X, y, cv=3, scoring="neg_log_loss")
        found.append(scores)
    for model in (StackingRegressor([("r", Ridge()), ("l", LinearRegression())], cv=3), LassoCV(cv=3)):
        found.append(of(skrub).cross_val_score(make_pipeline(StandardScaler(), model), X, value, cv=3))
    return found


def halving(skrub: Any) -> list:
    X, y, _ = table(400)
    model = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    grid = {"model__C": [0.01, 0.1, 1.0, 10.0]}
    first = of(skrub).HalvingGridSearchCV(model, grid, random_state=0, cv=3).fit(X[["a", "c"]], y)
    second = of(skrub).HalvingRandomSearchCV(model, grid, random_state=0, cv=3).fit(X[["a", "c"]], y)
    return [told(first, X[["a", "c"]]), told(second, X[["a", "c"]]), first.n_resources_, second.n_candidates_]


def sparse_text(skrub: Any) -> dict:
    X, y, _ = table()
    model = Pipeline([("words", TfidfVectorizer()), ("model", LogisticRegression())])
    search = of(skrub).GridSearchCV(model, {"words__ngram_range": [(1, 1), (1, 2)], "model__C": [1.0, 5.0]}, cv=3)
    return told(search.fit(list(X["word"]), y), list(X["word"]))


def sparse_matrix(skrub: Any) -> dict:
    rng = np.random.RandomState(0)
    X = sparse.random(200, 30, density=0.2, random_state=rng, format="csr")
    y = np.asarray(X.sum(axis=1)).ravel() > 3
    model = make_pipeline(StandardScaler(with_mean=False), LogisticRegression())
    return told(of(skrub).GridSearchCV(model, {"logisticregression__C": [0.1, 1.0]}, cv=3).fit(X, y), X)


def kernel_matrix(skrub: Any) -> dict:
    X, y, _ = table(120)
    K = X[["a", "c"]].to_numpy() @ X[["a", "c"]].to_numpy().T
    return told(of(skrub).GridSearchCV(SVC(kernel="precomputed"), {"C": [0.1, 1.0]}, cv=3).fit(K, y), K)


def unsupervised(skrub: Any) -> dict:
    X, _, _ = table()
    model = make_pipeline(StandardScaler(), PCA(svd_solver="full"))
    return told(of(skrub).GridSearchCV(model, {"pca__n_components": [1, 2]}, cv=3).fit(X[["a", "c"]]), X[["a", "c"]])


def groups(skrub: Any) -> dict:
    X, y, _ = table()
    by = np.arange(len(X)) // 20
    search = of(skrub).GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [0.1, 1.0]},
        cv=model_selection.GroupKFold(4),
    )  # fmt: skip
    return told(search.fit(X[["a", "c"]], y, groups=by), X[["a", "c"]])


def splits_given(skrub: Any) -> list:
    X, y, _ = table()
    X = X[["a", "c"]]
    pairs = [(np.arange(100), np.arange(100, 240)), (np.arange(100), np.arange(100, 240)), (np.arange(50, 240), np.arange(50))]
    model = make_pipeline(StandardScaler(), LogisticRegression())
    search = of(skrub).GridSearchCV(model, {"logisticregression__C": [0.1, 1.0, 0.1]}, cv=iter(pairs))
    scores = of(skrub).cross_validate(model, X, y, cv=pairs, return_estimator=True, return_indices=True, return_train_score=True)
    models = scores.pop("estimator")
    assert len({id(step) for model in models for _, step in model.steps}) == 6, "fitted steps are shared by results"
    return [told(search.fit(X, y), X), scores, [model.predict_proba(X) for model in models]]


def fit_parameters(skrub: Any) -> list:
    X, y, _ = table()
    X = X[["a", "c"]]
    weight = np.linspace(0.1, 2, len(X))
    model = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    search = of(skrub).GridSearchCV(model, {"model__C": [0.1, 1.0]}, cv=3)
    found = told(search.fit(X, y, model__sample_weight=weight, scale__sample_weight=weight), X)
    alone = of(skrub).GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=3).fit(X, y, sample_weight=weight)
    predicted = of(skrub).cross_val_predict(model, X, y, cv=3, method="predict_proba", params={"model__sample_weight": weight})
    return [found, told(alone, X), predicted]


def predictions(skrub: Any) -> list:
    X, y, value = table()
    model = make_pipeline(columns(), LogisticRegression())
    names = np.array(["no", "yes", "maybe"])[np.where(X["a"] > 0.5, 2, y)]
    found = [of(skrub).cross_val_predict(model, X, y, cv=3, method=m) for m in ("predict", "decision_function")]
    found.append(of(skrub).cross_val_predict(model, X, names, cv=3, method="predict_log_proba"))
    found.append(of(skrub).cross_val_predict(make_pipeline(columns(), Ridge()), X, value, cv=3))
    return found


def callable_scorers(skrub: Any) -> list:
    X, y, _ = table()
    X = X[["a", "c"]]
    model = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])

    def several(fitted: Any, X: Any, y: Any) -> dict:
        assert type(fitted) is Pipeline and fitted.named_steps["scale"].n_samples_seen_ > 0
        again = pickle.loads(pickle.dumps(fitted))
        return {
            "right": float((fitted.predict(X) == y).mean()),
            "half": float((fitted.predict(X[:20]) == y[:20]).mean()),
            "again": float((again.predict(X) == y).mean()),
            "names": float(len(fitted[:-1].get_feature_names_out())),
            "sure": float(fitted.predict_proba(X).max()),
        }

    search = of(skrub).GridSearchCV(model, {"model__C": [0.1, 1.0]}, cv=3, scoring=several, refit="right")
    return [told(search.fit(X, y), X), of(skrub).cross_validate(model, X, y, cv=3, scoring=several)]


class Refuses(ClassifierMixin, BaseEstimator):
    """Fails for some values of its parameter, in fit or in predict."""

    def __init__(self, when: str = "never") -> None:
        self.when = when

    def fit(self, X: Any, y: Any) -> Refuses:
        if self.when == "fit":
            raise ValueError("this fit fails")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:
        if self.when == "predict":
            raise RuntimeError("this prediction fails")
        return np.full(len(X), self.classes_[0])


def failing(skrub: Any, error_score: Any = np.nan) -> dict:
    X, y, _ = table()
    model = Pipeline([("scale", StandardScaler()), ("model", Refuses())])
    search = of(skrub).GridSearchCV(
        model, {"model__when": ["never", "fit", "predict"]}, cv=3, error_score=error_score, scoring=["accuracy", "f1"],
        refit="accuracy",
    )  # fmt: skip
    return told(search.fit(X[["a", "c"]], y), X[["a", "c"]])


def all_failing(skrub: Any) -> Any:
    X, y, _ = table()
    return of(skrub).cross_val_score(make_pipeline(columns(), LogisticRegression(C=-1.0)), X, y, cv=3)


def failing_transformer(skrub: Any) -> Any:
    X, y, _ = table()
    model = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    return of(skrub).GridSearchCV(model, {"model__C": [1.0]}, cv=3, error_score="raise").fit(X, y)


def bad_parameter(skrub: Any) -> Any:
    X, y, _ = table()
    model = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    return of(skrub).GridSearchCV(model, {"model__D": [1.0]}, cv=3).fit(X[["a", "c"]], y)


def bad_pipeline(skrub: Any) -> Any:
    X, y, _ = table()
    model = Pipeline([("scale", Ridge()), ("model", LogisticRegression())])
    return of(skrub).cross_val_score(model, X[["a", "c"]], y, cv=3, error_score="raise")


def bad_memory(skrub: Any) -> Any:
    X, y, _ = table()
    model = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())], memory=3)
    return of(skrub).cross_val_score(model, X[["a", "c"]], y, cv=3, error_score="raise")


def no_candidates(skrub: Any) -> Any:
    X, y, _ = table()
    return of(skrub).GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=iter(())).fit(X[["a", "c"]], y)


def writes_in_place(skrub: Any) -> list:
    _, y, value = table()
    X = np.random.RandomState(0).normal(5, 3, size=(240, 4))
    given = X.copy()
    model = Pipeline([("scale", StandardScaler(copy=False)), ("model", LinearRegression(copy_X=False))])
    grid = {"scale__with_std": [True, False], "model__fit_intercept": [True, False]}
    found = told(of(skrub).GridSearchCV(model, grid, cv=3, return_train_score=True, refit=False).fit(X, value), X)
    return [found, (X == given).all()]


def _center(X: Any) -> Any:
    X -= X.mean(axis=0)
    return X


def user_writes_in_place(skrub: Any) -> list:
    _, _, value = table()
    X = np.random.RandomState(0).normal(5, 3, size=(240, 4))
    model = Pipeline([("mine", FunctionTransformer(_center)), ("model", Ridge())])
    return [told(of(skrub).GridSearchCV(model, {"model__alpha": [0.1, 1.0]}, cv=3, refit=False).fit(X, value), X)]


class Centers(TransformerMixin, BaseEstimator):
    """Writes to what it is given."""

    def __init__(self, by: float = 1.0) -> None:
        self.by = by

    def fit(self, X: Any, y: Any = None) -> Centers:
        return self

    def transform(self, X: Any) -> Any:
        X *= self.by
        return X


def user_writes_inside(skrub: Any) -> dict:
    """The scaled rows are the same for all candidates; each writes to its own."""
    _, _, value = table()
    X = np.random.RandomState(0).normal(5, 3, size=(240, 4))
    model = TransformedTargetRegressor(make_pipeline(StandardScaler(), Centers(), Ridge()), func=np.arcsinh, inverse_func=np.sinh)
    search = of(skrub).GridSearchCV(model, {"regressor__centers__by": [1.0, 2.0, 3.0]}, cv=3)
    return told(search.fit(X, value), X)


def target_encoded(skrub: Any) -> dict:
    X, _, y = table()
    encoder = TargetEncoder(target_type="continuous", cv=model_selection.KFold(3, shuffle=True, random_state=0))
    model = Pipeline([("encode", encoder), ("model", Ridge())])
    search = of(skrub).GridSearchCV(model, {"model__alpha": [0.1, 1.0]}, cv=3, return_train_score=True)
    return told(search.fit(X[["city", "word"]], y), X[["city", "word"]])


def frames_out(skrub: Any) -> dict:
    X, y, _ = table()
    model = Pipeline([("prep", columns(sparse_threshold=0)), ("model", LogisticRegression())])
    model.set_params(prep__city__sparse_output=False, prep__word="drop")
    model.set_output(transform="pandas")
    return told(of(skrub).GridSearchCV(model, {"model__C": [0.1, 1.0]}, cv=3).fit(X, y), X)


CASES = [
    grid_columns, multimetric, steps_replaced, union_and_target, ensembles, halving, sparse_text, sparse_matrix,
    kernel_matrix, unsupervised, groups, splits_given, fit_parameters, predictions, callable_scorers,
    last_step_passes, failing, user_writes_in_place, user_writes_inside,
    target_encoded, frames_out,
]  # fmt: skip
ERRORS = {
    "all_failing": "ValueError", "failing_transformer": "ValueError", "bad_parameter": "ValueError",
    "bad_pipeline": "TypeError", "bad_memory": "InvalidParameterError", "no_candidates": "ValueError",
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_same(case: Any) -> None:
    import stratum

    same(case)
    assert stratum.last_run().nodes_run > 0
    assert stratum.last_run().fallbacks == []


@pytest.mark.parametrize("name", ERRORS)
def test_same_error(name: str) -> None:
    same(globals()[name], error=ERRORS[name], check_warnings=name != "all_failing")


@pytest.mark.parametrize("error_score", ["raise", 0.25])
def test_failing_candidates(error_score: Any) -> None:
    same(failing, error_score, error="ValueError" if error_score == "raise" else None)


# -- What is left to scikit-learn -----------------------------------------------------------------


def reports_each_fit(skrub: Any) -> Any:
    X, y, _ = table()
    return of(skrub).cross_val_score(make_pipeline(StandardScaler(), LogisticRegression()), X[["a", "c"]], y, verbose=2)


def with_backend(skrub: Any) -> Any:
    X, y, _ = table()
    with joblib.parallel_config(backend="multiprocessing", n_jobs=2):
        return of(skrub).cross_val_score(make_pipeline(StandardScaler(), LogisticRegression()), X[["a", "c"]], y)


def with_routing(skrub: Any) -> Any:
    X, y, _ = table()
    weight = np.linspace(0.1, 2, len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        model = LogisticRegression().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        return of(skrub).cross_val_score(model, X[["a", "c"]], y, params={"sample_weight": weight})


FALLBACKS = {
    "reports_each_fit": "verbose", "with_backend": "joblib's backend is MultiprocessingBackend",
    "with_routing": "metadata routing", "writes_in_place": "works in place",
}  # fmt: skip


@pytest.mark.parametrize("name", FALLBACKS)
def test_fallbacks_are_counted(name: str) -> None:
    import stratum

    same(globals()[name])
    ((what, reason),) = stratum.last_run().fallbacks
    assert what in ("GridSearchCV", "cross_val_score") and FALLBACKS[name] in reason


def test_one_thread_waits_for_nobody() -> None:
    import stratum

    with stratum.config_context(n_threads=1):
        same(grid_columns)
        same(ensembles)
    assert stratum.last_run().fallbacks == []


def test_engine_off() -> None:
    import stratum

    X, y, _ = table()
    before = stratum.last_run()
    with stratum.config_context(engine="skrub"):
        of(stratum).cross_val_score(LogisticRegression(), X[["a", "c"]], y)
    assert stratum.last_run() is before


def test_verified() -> None:
    import stratum

    with stratum.config_context(verify=True):
        assert ours(grid_columns).error is None
        assert ours(splits_given).error is None


# -- What is shared -------------------------------------------------------------------------------


def counts(case: Any) -> dict:
    """How often the counted estimators did what, over a case."""
    counted.log().take()
    case()
    return counted.log().take()


def counted_search(**options: Any) -> None:
    """Two prefixes and six models over three folds."""
    import stratum

    X, _, y = table()
    steps = [("shift", counted.Shift()), ("scale", counted.Scale()), ("model", counted.Mean())]
    grid = {"scale__by": [1.0, 2.0], "model__weight": [0.5, 1.0, 1.5]}
    of(stratum).GridSearchCV(Pipeline(steps, **options.pop("pipeline", {})), grid, cv=3, **options).fit(X[["a", "c"]], y)


SHARED = {
    "Shift(0.0).fit": 3, "Shift(0.0).transform": 3, "Scale(1.0).fit": 3, "Scale(1.0).transform": 3,
    "Scale(2.0).fit": 3, "Scale(2.0).transform": 3,
    **{f"Mean({w}).{method}": 6 for w in (0.5, 1.0, 1.5) for method in ("fit", "predict")},
}  # fmt: skip


def test_prefixes_are_fitted_once_per_fold() -> None:
    assert counts(lambda: counted_search(refit=False)) == SHARED


def test_metrics_share_predictions() -> None:
    scoring = ["r2", "neg_mean_absolute_error", "neg_max_error"]
    assert counts(lambda: counted_search(refit=False, scoring=scoring)) == SHARED


def test_seeds_are_put_and_taken_out_again() -> None:
    import stratum

    X, y, _ = table()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = of(stratum).cross_validate(
            make_pipeline(StandardScaler(), BaggingClassifier(DecisionTreeClassifier())), X[["a", "c"]], y, cv=3,
            return_estimator=True,
        )  # fmt: skip
    assert stratum.last_run().fallbacks == []
    for model in found["estimator"]:
        values = [v for name, v in model.get_params(deep=True).items() if name.endswith("random_state")]
        assert values == [None, None], values
        assert model[-1].estimator_.random_state is None


def test_a_users_memory_is_not_written(tmp_path: Any) -> None:
    found = counts(lambda: counted_search(pipeline={"memory": str(tmp_path)}))
    assert found["Shift(0.0).fit"] == 4  # three folds and the refit
    assert list(tmp_path.iterdir()) == []


def test_equal_candidates_are_one() -> None:
    import stratum

    X, _, y = table()
    grid = {"weight": [1.0, 1.0, 1.0]}
    search = of(stratum).GridSearchCV(counted.Mean(), grid, cv=3, refit=False)
    assert counts(lambda: search.fit(X[["a", "c"]], y)) == {"Mean(1.0).fit": 3, "Mean(1.0).predict": 3}
    assert len(search.cv_results_["params"]) == 3


def fits_of(monkeypatch: Any, cls: type, method: str = "fit") -> list:
    """Every call of a method of a class, from now on."""
    import stratum  # noqa: F401  (what it puts in front of the method is there before)

    calls: list = []
    original = getattr(cls, method)

    @functools.wraps(original)
    def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not type(self).__module__.startswith("stratum.native"):  # a kernel's call of its original is no second one
            calls.append(type(self))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(cls, method, counting)
    return calls


def search_inside(model: Any, grid: dict, X: Any, y: Any, cv: int = 3) -> None:
    import stratum

    of(stratum).GridSearchCV(model, grid, cv=cv, refit=False, error_score="raise").fit(X, y)
    assert stratum.last_run().fallbacks == []


def test_columns_that_are_treated_alike(monkeypatch: Any) -> None:
    X, y, _ = table()
    ours_, words = fits_of(monkeypatch, OneHotEncoder, "fit_transform"), fits_of(monkeypatch, CountVectorizer, "fit_transform")
    transforms = fits_of(monkeypatch, OneHotEncoder, "transform")
    scalers = fits_of(monkeypatch, StandardScaler)
    grid = {"prep__numbers__simpleimputer__strategy": ["mean", "median"], "prep__numbers__standardscaler__with_std": [True, False]}
    imputers = fits_of(monkeypatch, SimpleImputer)
    search_inside(Pipeline([("prep", columns()), ("model", LogisticRegression())]), grid, X, y)
    assert (len(ours_), len(words), len(scalers), len(imputers)) == (3, 3, 12, 6)
    assert len(transforms) == 3  # of the other side's rows


def test_preprocessing_inside_a_transformed_target(monkeypatch: Any) -> None:
    X, _, y = table()
    fits = fits_of(monkeypatch, OneHotEncoder, "fit_transform")
    model = TransformedTargetRegressor(make_pipeline(columns(), Ridge()), func=np.arcsinh, inverse_func=np.sinh)
    search_inside(model, {"regressor__ridge__alpha": [0.1, 1.0, 10.0]}, X, y)
    assert len(fits) == 3


def test_models_of_an_ensemble(monkeypatch: Any) -> None:
    X, y, value = table()
    X = X[["a", "c"]]
    trees = fits_of(monkeypatch, DecisionTreeClassifier)
    models = [("lr", LogisticRegression()), ("tree", DecisionTreeClassifier())]
    search_inside(VotingClassifier(models), {"lr__C": [0.1, 1.0, 10.0]}, X, y)
    assert len(trees) == 3
    linear = fits_of(monkeypatch, LinearRegression)
    stack = StackingRegressor([("r", Ridge()), ("l", LinearRegression())], cv=3, final_estimator=Ridge())
    search_inside(stack, {"r__alpha": [0.1, 1.0, 10.0]}, X, value)
    assert len(linear) == 3 * (1 + 3)


def test_a_search_inside_a_pipeline(monkeypatch: Any) -> None:
    import stratum

    X, _, y = table()
    scalers, ridges = fits_of(monkeypatch, StandardScaler), fits_of(monkeypatch, Ridge)
    for module in (model_selection, of(stratum)):
        inner = module.GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=3)
        search_inside(make_pipeline(StandardScaler(), inner), {"gridsearchcv__verbose": [0, 0]}, X[["a", "c"]], y)
        assert (len(scalers), len(ridges)) == (3, 3 * (2 * 3 + 1))
        scalers.clear(), ridges.clear()


def test_times_are_those_that_were_spent(monkeypatch: Any) -> None:
    import stratum

    X, y, _ = table()
    original = OneHotEncoder.fit

    def slow(self: Any, X: Any, y: Any = None) -> Any:
        time.sleep(0.05)
        return original(self, X, y)

    monkeypatch.setattr(OneHotEncoder, "fit", slow)
    model = Pipeline([("prep", columns()), ("model", LogisticRegression())])
    search = of(stratum).GridSearchCV(model, {"model__C": [0.1, 1.0]}, cv=2).fit(X, y)
    for name in ("split0_fit_time", "split1_fit_time"):  # two candidates share 0.05 s
        assert (search.cv_results_.get(name, search.cv_results_["mean_fit_time"]) >= 0.025).all()
    assert search.cv_results_["mean_fit_time"].sum() >= 0.05


# -- Objects --------------------------------------------------------------------------------------


def test_is_scikit_learns_class() -> None:
    import stratum.sklearn as own
    from sklearn.base import clone, is_classifier
    from stratum.capture import encode

    for name in ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV"):
        ours_, theirs = getattr(own, name), getattr(model_selection, name)
        assert issubclass(ours_, theirs) and ours_.__doc__ == theirs.__doc__
        search = ours_(LogisticRegression(), {"C": [1.0]})
        plain_one = theirs(LogisticRegression(), {"C": [1.0]})
        assert repr(search) == repr(plain_one) and repr(ours_) == repr(theirs)
        assert search._get_doc_link() == plain_one._get_doc_link()
        assert encode.encode(search) == encode.encode(clone(search)) != encode.encode(plain_one)
        assert type(clone(search)) is ours_ and type(copy.deepcopy(search)) is ours_ and is_classifier(search)


_LOADS = """
import pickle, sys
search = pickle.load(sys.stdin.buffer)
assert not any(name.startswith("stratum") for name in sys.modules)
import sklearn.model_selection
assert type(search) is sklearn.model_selection.GridSearchCV, type(search)
print(search.predict([[0.0, 0.0], [1.0, 1.0]]).tolist(), search.best_params_)
"""


def own_search_class() -> type:
    import stratum.sklearn

    return stratum.sklearn.GridSearchCV


def test_classes_pickle() -> None:
    assert pickle.loads(pickle.dumps(own_search_class())) is model_selection.GridSearchCV
    derived = type("Derived", (own_search_class(),), {"__module__": __name__, "__qualname__": "Derived"})
    globals()["Derived"] = derived
    search = pickle.loads(pickle.dumps(derived(LogisticRegression(), {"C": [0.1]})))
    assert type(search) is derived


def test_pickle_loads_without_stratum() -> None:
    import stratum

    X, y, _ = table()
    model = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    search = of(stratum).GridSearchCV(model, {"model__C": [0.1, 1.0]}, cv=3).fit(X[["a", "c"]].to_numpy(), y)
    expected = f"{search.predict([[0.0, 0.0], [1.0, 1.0]]).tolist()} {search.best_params_}"
    run = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", _LOADS], input=pickle.dumps(search), capture_output=True,
        env={"PATH": ""}, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout.decode().strip() == expected


_NO_CHILDREN = """
import os
import numpy as np
from sklearn.linear_model import Ridge
from stratum.sklearn import GridSearchCV
X = np.random.RandomState(0).normal(size=(60, 3))
GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, n_jobs=2).fit(X, X[:, 0])
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
"""


def test_no_process_is_started() -> None:
    run = forks.run(_NO_CHILDREN)
    assert run.stdout.strip() == "no child"


def test_threads_are_capped() -> None:
    import stratum

    seen: set[int] = set()
    X, y, _ = table()

    def scoring(fitted: Any, X: Any, y: Any) -> float:
        # The engine's threads are numbered; a store that was opened before may still write on one of its own.
        seen.add(sum(re.fullmatch(r"stratum-\d+", thread.name) is not None for thread in threading.enumerate()))
        return 0.0

    of(stratum).cross_val_score(LogisticRegression(), X[["a", "c"]], y, scoring=scoring, n_jobs=1)
    assert seen == {1}
