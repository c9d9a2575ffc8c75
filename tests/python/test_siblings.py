"""Candidates that differ in a penalty alone: what a search shows is what skrub shows, fitted together or not.

Each case runs with plain skrub in a process of its own (see `sides`) and here; `fused` says how many fits of a candidate
on a fold were made without nodes of their own.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sides
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.dummy import DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, Ridge
from sklearn.metrics import f1_score, make_scorer, mean_squared_error
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

PENALTIES = [float(one) for one in np.logspace(-3, 2, 5)]
MODELS = {"Ridge": Ridge, "Lasso": Lasso, "ElasticNet": ElasticNet, "LogisticRegression": LogisticRegression}
NAMES = {"LogisticRegression": "C"}


def table(n: int = 90, classes: int = 0, seed: int = 0, columns: int = 6) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, columns)), columns=[f"c{i}" for i in range(columns)])
    score = X["c0"] - 0.5 * X["c1"] + rng.normal(size=n)
    if classes:
        return X, pd.Series(pd.qcut(score, classes, labels=False).to_numpy(), name="label")
    return X, score.rename("value")


def data(kind: str, model: str, classes: int = 2) -> tuple[Any, Any]:
    """The table in one of its forms."""
    X, y = table(classes=classes if model == "LogisticRegression" else 0)
    if kind == "numpy":
        return X.to_numpy(), y.to_numpy()
    if kind == "polars":
        return pl.from_pandas(X), pl.Series("y", y.to_numpy())
    if kind == "float32":
        return X.astype(np.float32), y.astype(np.float32) if y.dtype.kind == "f" else y
    if kind == "whole":
        return (X * 10).astype(int), (y * 10).astype(int) if y.dtype.kind == "f" else y
    if kind == "strings":
        return X, y.map({0: "no", 1: "yes", 2: "ö"})
    if kind == "objects":
        return X.to_numpy(), y.map({0: "no", 1: "yes", 2: "ö"}).to_numpy(dtype=object)
    if kind == "booleans":
        return X, y == 1
    if kind == "float labels":
        return X, y.astype(float)
    if kind == "odd index":
        return X.set_index(pd.Index([7, 3] * (len(X) // 2))), y.set_axis([3, 7] * (len(y) // 2))
    if kind == "column":
        return X, y.to_frame()
    if kind == "two targets":
        return X, pd.DataFrame({"a": y, "b": -y})
    if kind == "constant":
        return X, y * 0 + 3.0
    if kind == "nan":
        return X.mask(X > 2.2), y
    if kind == "infinite":
        return X.mask(X > 2.2, np.inf), y
    if kind == "nullable":
        return X.astype("Float64"), y
    if kind == "rare class":
        return X, pd.Series(np.where(np.arange(len(y)) < 30, 1, 0))
    assert kind == "pandas", kind
    return X, y


def everything(search: Any) -> dict:
    """What a search shows."""
    found = {name: getattr(search, name, None) for name in ("cv_results_", "best_params_", "best_index_", "best_score_")}
    found["results_"], found["detailed_results_"] = search.results_, search.detailed_results_
    return found


def learned(search: Any) -> dict:
    model = search.best_learner_.find_fitted_estimator(lambda op: hasattr(op._skrub_impl, "estimator_") and hasattr(op._skrub_impl.estimator_, "coef_"))
    return {name: value for name, value in vars(model).items() if name.endswith("_")}


def case(
    skrub: Any, model: str, kind: str = "pandas", options: dict | None = None, classes: int = 2, steps: Any = None,
    **params: Any,
) -> dict:  # fmt: skip
    X, y = data(kind, model, classes)
    name = NAMES.get(model, "alpha")
    penalty = params.pop("penalty", None)
    if penalty is None:
        penalty = PENALTIES
    if isinstance(penalty, list):
        penalty = skrub.choose_from(penalty, name="penalty")
    waits = params.pop("waits", False)  # no values: previews would raise what is to be raised in folds
    rows, target = (skrub.var("X").skb.mark_as_X(), skrub.var("y").skb.mark_as_y()) if waits else (skrub.X(X), skrub.y(y))
    for step in [StandardScaler()] if steps is None else steps:
        rows = rows.skb.apply(step)
    pred = rows.skb.apply(MODELS[model](**{name: penalty, **params}), y=target)
    search = pred.skb.make_grid_search(**{"cv": 3, **(options or {})})
    return everything(search.fit({"X": X, "y": y}))


@pytest.fixture(autouse=True)
def rounded(monkeypatch):
    """Results may differ by rounding, and few candidates are a group: the other side takes its time."""
    import stratum
    from stratum.hosts import siblings

    monkeypatch.setattr(siblings, "LEAST", 3)
    with stratum.config_context(exactness="equivalent"):
        yield


def fused() -> int:
    import stratum

    run = stratum.last_run()
    assert not run.fallbacks
    return run.fused


def check(*args: Any, of: int | None = None, rtol: float | None = None, function: Any = case, **more: Any) -> Any:
    """Both sides agree, in the number of warnings too; `of`: so many pairs were fitted together."""
    rtol = rtol if rtol is not None else 2e-5 if "LogisticRegression" in args else 1e-8
    keywords = tuple(more.items())
    plain, said = (side(by_keywords, function.__name__, args, keywords) for side in (sides.plain, sides.ours))
    errors = [one.error and (one.error[0], sides._message(one.error[1]), one.error[2]) for one in (plain, said)]
    assert errors[0] == errors[1]
    found = sides.difference(said.value, plain.value, rtol=rtol)
    assert found is None, found
    assert sorted(c for c, _ in said.warnings) == sorted(c for c, _ in plain.warnings)
    if of is not None:
        assert fused() == of
    return said.value


def by_keywords(skrub: Any, name: str, args: tuple, keywords: tuple) -> Any:
    return globals()[name](skrub, *args, **dict(keywords))


ALL = (len(PENALTIES) - 1) * 3


# -- What is fitted together ----------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["pandas", "numpy", "polars", "whole", "odd index"])
def test_tables(model, kind):
    check(model, kind, of=ALL)


@pytest.mark.parametrize("kind", ["strings", "objects", "booleans", "float labels"])
@pytest.mark.parametrize("classes", [2, 3])
def test_labels(kind, classes):
    if kind == "booleans" and classes == 3:
        classes = 2
    check("LogisticRegression", kind, classes=classes, of=ALL)


@pytest.mark.parametrize(
    "options",
    [
        {"scoring": "r2"}, {"scoring": "neg_mean_squared_error", "return_train_score": True},
        {"scoring": ["r2", "neg_mean_absolute_error", "neg_root_mean_squared_error"], "refit": "r2"},
        {"return_train_score": True}, {"refit": False}, {"cv": KFold(4, shuffle=True, random_state=0)},
        {"error_score": "raise"}, {"error_score": -1.0}, {"n_jobs": 2},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("model", ["Ridge", "Lasso"])
def test_options_of_regressors(model, options):
    check(model, "pandas", options, of=4 * getattr(options.get("cv"), "n_splits", 3))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"scoring": "accuracy", "return_train_score": True}, {"scoring": "neg_log_loss"},
        {"scoring": ["accuracy", "neg_log_loss"], "refit": "accuracy", "return_train_score": True}, {},
    ],
    ids=str,
)  # fmt: skip
def test_options_of_classifiers(options, classes):
    check("LogisticRegression", "pandas", options, classes=classes, of=ALL)


def test_ranking():
    check("LogisticRegression", "strings", {"scoring": ["roc_auc", "accuracy"], "refit": "roc_auc"}, of=ALL)


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("Ridge", {"fit_intercept": False}), ("Ridge", {"solver": "cholesky"}), ("Lasso", {"positive": True}),
        ("ElasticNet", {"fit_intercept": False, "l1_ratio": 0.2}), ("LogisticRegression", {"fit_intercept": False}),
        ("LogisticRegression", {"class_weight": "balanced"}), ("LogisticRegression", {"tol": 1e-6}),
    ],
    ids=str,
)  # fmt: skip
def test_parameters(model, params):
    check(model, "pandas", of=ALL, **params)


def ranges(skrub: Any) -> dict:
    X, y = table()
    pred = skrub.X(X).skb.apply(skrub.choose_from([StandardScaler(), MinMaxScaler()], name="scaler")).skb.apply(
        ElasticNet(
            alpha=skrub.choose_float(1e-3, 1.0, log=True, n_steps=3, name="alpha"),
            l1_ratio=skrub.choose_float(0.1, 0.9, n_steps=2, name="ratio"),
            fit_intercept=skrub.choose_bool(name="intercept"),
        ),
        y=skrub.y(y),
    )
    return everything(pred.skb.make_grid_search(fitted=True, cv=3))


def test_several_groups():
    """Two scalers, with and without intercept: four groups of six."""
    check(function=ranges, of=4 * 5 * 3)


def models(skrub: Any, random: bool = False) -> dict:
    X, y = table()
    model = skrub.choose_from(
        {
            "ridge": Ridge(alpha=skrub.choose_float(0.01, 100, log=True, n_steps=None if random else 5, name="a")),
            "lasso": Lasso(alpha=skrub.choose_from([0.001 * k for k in range(1, 5)], name="b")),
            "dummy": DummyRegressor(),
        },
        name="model",
    )
    pred = skrub.X(X).skb.apply(StandardScaler()).skb.apply(model, y=skrub.y(y))
    if random:
        return everything(pred.skb.make_randomized_search(fitted=True, cv=3, n_iter=15, random_state=1))
    return everything(pred.skb.make_grid_search(fitted=True, cv=3))


def test_choice_of_models():
    check(function=models, of=(4 + 3) * 3)


def test_randomized():
    check(function=models, random=True)
    assert fused() > 12


def test_the_learner_is_fitted_as_ever():
    import stratum

    X, y = table()

    def fit() -> dict:
        pred = stratum.X(X).skb.apply(StandardScaler())
        pred = pred.skb.apply(Ridge(alpha=stratum.choose_from(PENALTIES, name="alpha")), y=stratum.y(y))
        return pred.skb.make_grid_search(fitted=True, cv=3)

    together = fit()
    assert fused() == ALL
    with stratum.config_context(native=False):
        alone = fit()
    assert fused() == 0
    assert sides.difference(learned(together), learned(alone), rtol=1e-8) is None
    assert sides.difference(together.best_learner_.predict({"X": X}), alone.best_learner_.predict({"X": X})) is None


def test_same_bits_as_one_by_one(monkeypatch):
    """Ridge and coordinate descent: not a bit of a score depends on whether candidates are fitted together."""
    import stratum
    from stratum.hosts import siblings

    for model in ("Ridge", "Lasso", "ElasticNet"):
        for options in ({}, {"scoring": ["r2", "neg_mean_absolute_error"], "refit": False}):
            for kind in ("pandas", "numpy", "float32", "whole"):
                together = case(stratum, model, kind, {**options, "return_train_score": True})["cv_results_"]
                seen = fused()
                assert seen == ALL or kind == "float32"
                with monkeypatch.context() as patch:
                    patch.setattr(siblings, "LEAST", 1000)
                    alone = case(stratum, model, kind, {**options, "return_train_score": True})["cv_results_"]
                assert fused() == 0
                for name, values in alone.items():
                    if "time" not in name:
                        assert np.array_equal(values, together[name]), (model, options, kind, name)


def test_large_groups_are_cut(monkeypatch):
    from stratum.hosts import siblings

    monkeypatch.setattr(siblings, "MOST", 3)
    check("Ridge", of=ALL)


# -- What is not ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "kind", "options", "params"),
    [
        ("Ridge", "column", {}, {}), ("Ridge", "two targets", {}, {}), ("Ridge", "constant", {}, {}),
        ("Lasso", "constant", {}, {}), ("Ridge", "nan", {}, {}), ("LogisticRegression", "nan", {}, {}),
        ("Ridge", "infinite", {}, {}), ("Ridge", "nan", {"error_score": 0.5}, {}),
        ("LogisticRegression", "pandas", {"scoring": "f1"}, {}),
        ("Ridge", "pandas", {"scoring": "neg_max_error"}, {}), ("Ridge", "pandas", {}, {"solver": "svd"}),
        ("Ridge", "pandas", {}, {"positive": True}), ("LogisticRegression", "pandas", {}, {"solver": "newton-cg"}),
        ("LogisticRegression", "pandas", {}, {"l1_ratio": 0.5, "solver": "saga", "random_state": 0}),
        ("Ridge", "pandas", {"scoring": "accuracy"}, {}),
        ("LogisticRegression", "pandas", {"scoring": "roc_auc", "error_score": 0.25}, {"classes": 3}),
        ("LogisticRegression", "column", {}, {}), ("LogisticRegression", "rare class", {"cv": KFold(3)}, {}),
        ("LogisticRegression", "pandas", {}, {"max_iter": 2}), ("Lasso", "pandas", {}, {"max_iter": 1, "tol": 1e-8}),
    ],
    ids=str,
)  # fmt: skip
def test_left_alone(model, kind, options, params):
    check(model, kind, options, waits=True, **params)
    if params.get("max_iter") is None:
        assert fused() == 0


def test_errors_are_raised():
    error = "ValueError"
    arguments = ("case", ("Ridge", "nan", {"error_score": "raise"}), (("waits", True),))
    said = sides.same(by_keywords, *arguments, error=error)
    assert said.error is not None
    assert fused() == 0


def test_imputed():
    check("Ridge", "nan", waits=True, steps=[SimpleImputer(), StandardScaler()], of=ALL)


def test_single_precision():
    check("Ridge", "float32", rtol=1e-4)
    check("LogisticRegression", "float32", rtol=1e-3)


@pytest.mark.parametrize("bad", [-1.0, 0.0, "strong", None, True, np.inf, np.nan, [1.0]], ids=str)
@pytest.mark.parametrize("model", ["Ridge", "LogisticRegression"])
def test_a_penalty_that_is_refused(model, bad):
    """One candidate fails, or is something else than the others; those are fitted together all the same or not."""
    check(model, penalty=[*PENALTIES[:3], bad, *PENALTIES[3:]], waits=True, rtol=2e-5)


def test_a_penalty_that_is_negative_leaves_the_others_together():
    check("Ridge", penalty=[-1.0, *PENALTIES], waits=True, of=ALL)


def test_some_do_not_converge():
    """Each of those is fitted by the original, and warns as often as it would."""
    found = check("LogisticRegression", max_iter=8, tol=1e-8)
    assert found["cv_results_"]
    assert 0 <= fused() < ALL


def test_identical(monkeypatch):
    import stratum

    with stratum.config_context(exactness="identical"):
        check("Ridge", of=0)
        check("LogisticRegression", of=0)
    with stratum.config_context(native=False):
        check("Ridge", of=0)


class Adds(TransformerMixin, BaseEstimator):
    """A transformer of the user's, with a parameter for which there is the same choice as for the penalty."""

    def __init__(self, by: float = 0.0) -> None:
        self.by = by

    def fit(self, X: Any, y: Any = None) -> Adds:
        return self

    def transform(self, X: Any) -> Any:
        return X + self.by * X**2


def shared_choice(skrub: Any) -> dict:
    """The penalty is that of a step before as well."""
    X, y = table()
    penalty = skrub.choose_from(PENALTIES, name="penalty")
    pred = skrub.X(X).skb.apply(Adds(by=penalty)).skb.apply(Ridge(alpha=penalty), y=skrub.y(y))
    return everything(pred.skb.make_grid_search(fitted=True, cv=3))


def two_models(skrub: Any) -> dict:
    """A Ridge before the last one has a penalty too."""
    X, y = table()
    first = skrub.choose_from(PENALTIES, name="first")
    rows, target = skrub.X(X), skrub.y(y)
    guess = rows.skb.apply(Ridge(alpha=first), y=target)
    pred = rows.assign(guess=guess).skb.apply(Ridge(alpha=1.0), y=target)
    return everything(pred.skb.make_grid_search(fitted=True, cv=3))


def after_the_model(skrub: Any) -> dict:
    """What the model predicts is changed before it is scored."""
    X, y = table()
    pred = skrub.X(X).skb.apply(Ridge(alpha=skrub.choose_from(PENALTIES, name="penalty")), y=skrub.y(y))
    return everything((pred * 2).skb.make_grid_search(fitted=True, cv=3, scoring="r2"))


def matched(skrub: Any) -> dict:
    """The choice of the penalty decides something else as well."""
    X, y = table()
    penalty = skrub.choose_from(PENALTIES, name="penalty")
    power = penalty.match({one: 1 + k % 2 for k, one in enumerate(PENALTIES)})
    rows = skrub.X(X) ** power
    pred = rows.skb.apply(Ridge(alpha=penalty), y=skrub.y(y))
    return everything(pred.skb.make_grid_search(fitted=True, cv=3))


def mean_error(y: Any, predicted: Any) -> float:
    return float(mean_squared_error(y, predicted))


def own_scorer(skrub: Any) -> dict:
    X, y = table()
    pred = skrub.X(X).skb.apply(Ridge(alpha=skrub.choose_from(PENALTIES, name="penalty")), y=skrub.y(y))
    scorer = make_scorer(mean_error, greater_is_better=False)
    return everything(pred.skb.make_grid_search(fitted=True, cv=3, scoring=scorer))


def scorer_with_options(skrub: Any) -> dict:
    X, y = table(classes=2)
    pred = skrub.X(X).skb.apply(LogisticRegression(C=skrub.choose_from(PENALTIES, name="C")), y=skrub.y(y))
    scorer = make_scorer(f1_score, pos_label=0)
    return everything(pred.skb.make_grid_search(fitted=True, cv=3, scoring=scorer))


def scoring_node(skrub: Any) -> dict:
    X, y = table()
    pred = skrub.X(X).skb.apply(Ridge(alpha=skrub.choose_from(PENALTIES, name="penalty")), y=skrub.y(y))
    return everything(pred.skb.with_scoring("r2").skb.make_grid_search(fitted=True, cv=3))


def given_in_the_environment(skrub: Any) -> dict:
    X, y = table()
    rows, target = skrub.var("X").skb.mark_as_X(), skrub.var("y").skb.mark_as_y()
    pred = rows.skb.apply(Ridge(alpha=skrub.choose_from(PENALTIES, name="penalty")), y=target)
    search = pred.skb.make_grid_search(cv=3)
    search.fit({"X": X, "y": y, "penalty": 3.0})
    return everything(search)


@pytest.mark.parametrize(
    "function",
    [
        shared_choice, two_models, after_the_model, matched, own_scorer, scorer_with_options, scoring_node,
        given_in_the_environment,
    ],
)  # fmt: skip
def test_not_a_penalty_alone(function):
    check(function=function, of=0)


def test_nodes_are_counted():
    import stratum

    case(stratum, "Ridge")
    together = stratum.last_run()
    with stratum.config_context(exactness="identical"):
        case(stratum, "Ridge")
    alone = stratum.last_run()
    assert together.fused == ALL
    # (nodes that folds share are counted once for a lowering: up to a fold's rows, the same)
    assert abs(together.nodes_before - alone.nodes_before) <= 0.2 * alone.nodes_before
    assert together.nodes_run < alone.nodes_run
    assert f"fits made together with others: {ALL}" in stratum.explain(together)


def test_a_fault_is_told(monkeypatch):
    """Where the kernel for several fails, each is fitted for itself, and that is said."""
    import stratum
    from stratum.native import linear

    expected = case(stratum, "Ridge")

    def fails(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a fault")

    monkeypatch.setattr(linear.Ridge, "fit_many", fails)
    with pytest.warns(RuntimeWarning, match="fitting candidates together failed .RuntimeError: a fault"):
        found = case(stratum, "Ridge")
    assert fused() == 0
    assert sides.difference(found, expected) is None


def test_other_scores_of_the_first_are_noticed(monkeypatch):
    import stratum
    from stratum.hosts import siblings

    expected = case(stratum, "Ridge")
    plain = siblings._Predicted.r2
    monkeypatch.setattr(siblings._Predicted, "r2", lambda self: plain(self) + 1e-12)
    found = case(stratum, "Ridge")
    assert fused() == 0
    assert sides.difference(found, expected) is None


# -- scikit-learn's searches ----------------------------------------------------------------------


def by_sklearn(
    skrub: Any, model: str, kind: str = "pandas", options: dict | None = None, classes: int = 2, bare: bool = False,
    grid: dict | None = None, penalty: list | None = None, search: str = "GridSearchCV", **params: Any,
) -> dict:  # fmt: skip
    """The same by a search of scikit-learn's, of a Pipeline or of the model itself."""
    module = importlib.import_module("stratum.sklearn" if skrub.__name__ == "stratum" else "sklearn.model_selection")
    X, y = data(kind, model, classes)
    estimator: Any = MODELS[model](**params)
    prefix = "" if bare else "model__"
    if not bare:
        estimator = Pipeline([("scale", StandardScaler()), ("model", estimator)])
    values = {**(grid or {}), prefix + NAMES.get(model, "alpha"): penalty or PENALTIES}
    found = getattr(module, search)(estimator, values, **{"cv": 3, **(options or {})}).fit(X, y)
    best = found.best_estimator_ if getattr(found, "refit", True) else None
    last = best if bare or best is None else best[-1]
    results = {}
    for name, values in found.cv_results_.items():  # (estimators are equal to themselves alone)
        results[name] = [str(one) for one in values] if name.startswith("param") else values
    return {
        "cv_results_": results, "n_splits_": found.n_splits_,
        "best": None if last is None else {k: v for k, v in vars(last).items() if k.endswith("_")},
    }  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("kind", ["pandas", "numpy"])
def test_sklearn(model, bare, kind):
    check(model, kind, bare=bare, of=ALL, function=by_sklearn)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("Ridge", {"scoring": "r2", "return_train_score": True}), ("Ridge", {"return_train_score": True}),
        ("Ridge", {"scoring": ["r2", "neg_mean_squared_error"], "refit": False}), ("Ridge", {"error_score": "raise"}),
        ("LogisticRegression", {"scoring": ["accuracy", "roc_auc", "neg_log_loss"], "refit": "roc_auc"}),
        ("LogisticRegression", {"return_train_score": True, "n_jobs": 2}),
    ],
    ids=str,
)  # fmt: skip
def test_sklearn_options(model, options):
    check(model, "numpy", options, of=ALL, function=by_sklearn)


@pytest.mark.parametrize(
    ("model", "kind", "options", "params"),
    [
        ("Ridge", "nan", {}, {}), ("Ridge", "nan", {"error_score": 2.5}, {}), ("Ridge", "two targets", {}, {}),
        ("LogisticRegression", "rare class", {"cv": KFold(3)}, {}), ("LogisticRegression", "column", {}, {}),
        ("Ridge", "pandas", {"scoring": "neg_max_error"}, {}), ("Ridge", "constant", {}, {"bare": True}),
        ("LogisticRegression", "pandas", {}, {"solver": "newton-cg"}),
    ],
    ids=str,
)  # fmt: skip
def test_sklearn_left_alone(model, kind, options, params):
    # (of the rare class, the fold in which it is the only one is left alone)
    check(model, kind, options, of=8 if kind == "rare class" else 0, function=by_sklearn, **params)


@pytest.mark.parametrize("bad", [-1.0, 0.0, "strong", None])
@pytest.mark.parametrize("model", ["Ridge", "LogisticRegression"])
def test_sklearn_penalties_that_are_refused(model, bad):
    check(model, penalty=[*PENALTIES[:3], bad, *PENALTIES[3:]], rtol=2e-5, function=by_sklearn)
    check(model, penalty=[bad, *PENALTIES], bare=True, rtol=2e-5, function=by_sklearn)


def test_sklearn_groups():
    grid = {"scale": [StandardScaler(), MinMaxScaler(), "passthrough"], "model__fit_intercept": [True, False]}
    check("Ridge", grid=grid, of=6 * 4 * 3, function=by_sklearn)
    check("Ridge", grid={"model": [Ridge(), Lasso(), DummyRegressor()]}, options={"error_score": 0.0}, function=by_sklearn)


def test_sklearn_errors_are_raised():
    said = sides.same(by_keywords, "by_sklearn", ("Ridge", "nan", {"error_score": "raise"}), (), error="ValueError")
    assert said.error is not None
    assert fused() == 0
    arguments = ("Ridge", "pandas", {"error_score": "raise"})
    sides.same(
        by_keywords, "by_sklearn", arguments, (("penalty", [*PENALTIES, -1.0]),), error="InvalidParameterError"
    )


def test_sklearn_halving():
    import sklearn.experimental.enable_halving_search_cv  # noqa: F401

    check("Ridge", search="HalvingGridSearchCV", options={"random_state": 0}, function=by_sklearn)


def test_sklearn_some_do_not_converge():
    check("LogisticRegression", max_iter=8, tol=1e-8, function=by_sklearn)
    assert 0 <= fused() < ALL
