"""Searches and cross-validations give what skrub gives: the same numbers in the same, genuine objects.

A case runs with plain skrub in a process of its own and with stratum here (see `sides`); what it returns
must be equal, exceptions and warnings too.
"""

from __future__ import annotations

import copy
import inspect
import pathlib
import pickle
import sys
import time

import forks
import numpy as np
import pandas as pd
import pytest
import sides
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import (
    GroupKFold, KFold, LeaveOneGroupOut, RepeatedKFold, ShuffleSplit, StratifiedKFold, TimeSeriesSplit,
)  # fmt: skip
from sklearn.preprocessing import MinMaxScaler, StandardScaler

HERE = pathlib.Path(__file__).resolve().parent


def table(n=90, seed=0, classes=2):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 4)), columns=["a", "b", "c", "d"])
    score = X["a"] + 0.5 * X["b"] + rng.normal(size=n) * 0.7
    labels = pd.Series(pd.qcut(score, classes, labels=False).to_numpy(), name="label")
    return X, labels


def classification(skrub, classes=2, values=True):
    X, y = table(classes=classes)
    x = (skrub.var("X", X) if values else skrub.var("X")).skb.mark_as_X()
    target = (skrub.var("y", y) if values else skrub.var("y")).skb.mark_as_y()
    return x, target


def grid(skrub, classes=2):
    """2 x 3 candidates, one of them with a numeric range."""
    x, y = classification(skrub, classes)
    scaled = x.skb.apply(skrub.choose_from([StandardScaler(), MinMaxScaler()], name="scaler"))
    return scaled.skb.apply(LogisticRegression(C=skrub.choose_from([0.01, 1.0, 10.0], name="C")), y=y)


def everything(search):
    """All that a fitted search shows, but for its learner."""
    found = {"attributes": sorted(k for k in vars(search) if k.endswith("_"))}
    for name in ("cv_results_", "best_params_", "best_index_", "best_score_", "n_splits_", "multimetric_", "refit_"):
        if hasattr(search, name):
            value = getattr(search, name)
            found[name] = value if not callable(value) else value.__name__
    for name in ("results_", "detailed_results_"):
        try:
            found[name] = getattr(search, name)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    found["scorer_"] = repr(getattr(search, "scorer_", None)).partition(" at 0x")[0]
    return found


def learner_of(search):
    """What the best learner says of itself and on new data."""
    learner = search.best_learner_
    X, _ = table(30, seed=5)
    found = {
        "type": f"{type(learner).__module__}.{type(learner).__qualname__}",
        "describe": learner.describe_params(),
        "params": {k: v for k, v in learner.get_params().items() if k != "data_op"},
        "attributes": sorted(vars(learner)),
    }
    for name in ("predict", "predict_proba", "decision_function", "transform"):
        if hasattr(learner, name):
            found[name] = getattr(learner, name)({"X": X})
    found["score"] = search.score({"X": X, "y": table(30, seed=5)[1]}) if hasattr(search, "score") else None
    return found


# -- Kinds of searches ----------------------------------------------------------------------------


def case_grid(skrub, options):
    search = grid(skrub).skb.make_grid_search(fitted=True, **options)
    return everything(search), learner_of(search) if search.refit_ else None


@pytest.mark.parametrize(
    "options",
    [
        {}, {"cv": 3}, {"cv": 3, "scoring": "roc_auc"}, {"cv": 3, "scoring": "neg_log_loss", "return_train_score": True},
        {"cv": 3, "scoring": ["accuracy", "roc_auc"], "refit": "roc_auc"}, {"cv": 3, "refit": False},
        {"cv": 3, "scoring": {"first": "accuracy", "second": "neg_log_loss"}, "refit": "second"}, {"cv": 3, "n_jobs": 2},
        {"cv": [(np.arange(60), np.arange(60, 90)), (np.arange(30, 90), np.arange(30))]},
        *(
            pytest.param(more, marks=pytest.mark.slow)
            for more in [
                {"cv": 3, "scoring": ["accuracy", "f1"], "refit": False, "return_train_score": True},
                {"cv": 3, "n_jobs": 1}, {"cv": 3, "n_jobs": -1},
                {"cv": KFold(4, shuffle=True, random_state=0)}, {"cv": ShuffleSplit(3, random_state=1)},
                {"cv": StratifiedKFold(3, shuffle=True, random_state=2)},
                {"cv": RepeatedKFold(n_splits=2, n_repeats=2, random_state=3)}, {"cv": TimeSeriesSplit(3)},
            ]
        ),
    ],
    ids=str,
)  # fmt: skip
def test_grid_search(options):
    value = sides.same(case_grid, options).value
    assert len(value[0]["cv_results_"]["params"]) == 6


def case_randomized(skrub, options):
    x, y = classification(skrub)
    pred = x.skb.apply(PCA(n_components=skrub.choose_int(1, 4, name="n"), random_state=0)).skb.apply(
        LogisticRegression(
            C=skrub.choose_float(1e-3, 10.0, log=True, name="C"), fit_intercept=skrub.choose_bool(name="intercept")
        ),
        y=y,
    )
    search = pred.skb.make_randomized_search(fitted=True, cv=3, n_iter=6, random_state=11, **options)
    return everything(search), learner_of(search) if search.refit_ else None


@pytest.mark.parametrize("options", [{}, {"scoring": "roc_auc"}, {"refit": False}, {"return_train_score": True}], ids=str)
def test_randomized_search(options):
    value = sides.same(case_randomized, options).value
    assert len(value[0]["cv_results_"]["params"]) == 6


def case_seeded_models(skrub):
    x, y = classification(skrub)
    model = skrub.choose_from(
        {
            "forest": RandomForestClassifier(n_estimators=skrub.choose_from([3, 6], name="trees"), random_state=1),
            "linear": LogisticRegression(C=skrub.choose_float(0.1, 10.0, log=True, n_steps=2, name="C")),
            "dummy": DummyClassifier(),
        },
        name="model",
    )
    kept = x.skb.apply(skrub.optional(SelectKBest(f_classif, k=2), name="select"), y=y)
    search = kept.skb.apply(model, y=y).skb.make_grid_search(fitted=True, cv=3, scoring="roc_auc")
    return everything(search), learner_of(search)


def test_choices_of_whole_estimators():
    value = sides.same(case_seeded_models).value
    assert len(value[0]["cv_results_"]["params"]) == 10
    assert isinstance(value[0]["cv_results_"]["param_data_op__0"], np.ma.MaskedArray)


def case_no_choice(skrub):
    x, y = classification(skrub)
    search = x.skb.apply(LogisticRegression(), y=y).skb.make_grid_search(fitted=True, cv=3)
    return everything(search), learner_of(search)


def test_search_without_choices():
    sides.same(case_no_choice)


def case_if_and_match(skrub):
    x, y = classification(skrub)
    mode = skrub.choose_from(["none", "scale"], name="mode")
    step = mode.match({"none": x, "scale": x.skb.apply(StandardScaler())}).as_data_op()
    wide = skrub.choose_bool(name="wide").if_else(step, step[["a", "b"]]).as_data_op()
    pred = wide.skb.apply(LogisticRegression(), y=y)
    search = pred.skb.make_grid_search(fitted=True, cv=3)
    return everything(search), learner_of(search)


def test_choices_that_decide_over_others():
    assert len(sides.same(case_if_and_match).value[0]["cv_results_"]["params"]) == 4


def pick_third(cv_results):
    return 2


def case_refit_callable(skrub):
    search = grid(skrub).skb.make_grid_search(fitted=True, cv=3, refit=pick_third)
    return everything(search), learner_of(search)


def test_refit_by_a_callable():
    value = sides.same(case_refit_callable).value[0]
    assert value["best_index_"] == 2 and "best_score_" not in value


def case_regression(skrub):
    X, _ = table()
    y = X[["a", "b"]] * 2 + X[["c", "d"]].to_numpy()
    x = skrub.var("X", X[["a", "c"]]).skb.mark_as_X()
    forest = RandomForestRegressor(n_estimators=3, random_state=0, max_depth=skrub.choose_from([2, None], name="depth"))
    search = x.skb.apply(forest, y=skrub.var("y", y).skb.mark_as_y()).skb.make_grid_search(fitted=True, cv=3)
    return everything(search), search.best_learner_.predict({"X": X[["a", "c"]].head(7)})


def test_several_targets():
    sides.same(case_regression)


def case_unsupervised(skrub):
    X, _ = table()
    pred = skrub.var("X", X).skb.mark_as_X().skb.apply(PCA(n_components=skrub.choose_from([1, 2], name="n"), random_state=0))
    search = pred.skb.make_grid_search(fitted=True, cv=3, scoring=explained)
    return everything(search), search.best_learner_.transform({"X": X.head(3)})


def explained(estimator, X, y=None):
    return float(np.asarray(estimator.transform(X)).var())


def test_unsupervised_search():
    sides.same(case_unsupervised)


def case_verbose(skrub):
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        search = grid(skrub).skb.make_grid_search(fitted=True, cv=3, verbose=1)
    return out.getvalue(), everything(search)


def test_verbose():
    assert "Fitting 3 folds for each of 6 candidates, totalling 18 fits" in sides.same(case_verbose).value[0]


# -- Failing candidates ---------------------------------------------------------------------------


class FailsIf(TransformerMixin, BaseEstimator):
    """Fails to fit, or to transform, as told."""

    def __init__(self, when="never"):
        self.when = when

    def fit(self, X, y=None):
        if self.when == "fit":
            raise RuntimeError("this transformer does not fit")
        return self

    def transform(self, X):
        if self.when == "transform":
            raise RuntimeError("this transformer does not transform")
        return X

    def fit_transform(self, X, y=None, **kwargs):
        return self.fit(X).transform(X) if self.when == "transform-too" else (self.fit(X) and X)

    def get_feature_names_out(self, input_features=None):
        return input_features


def case_failing(skrub, whens, options):
    x, y = classification(skrub, values=False)
    pred = x.skb.apply(FailsIf(skrub.choose_from(whens, name="when")), no_wrap=True).skb.apply(LogisticRegression(), y=y)
    search = pred.skb.make_grid_search(cv=3, **options)
    X, target = table()
    search.fit({"X": X, "y": target})
    return everything(search)


@pytest.mark.slow
@pytest.mark.parametrize("error_score", [np.nan, 0.25])
@pytest.mark.parametrize("scoring", [None, "roc_auc", ["accuracy", "f1"]])
@pytest.mark.parametrize("whens", [["never", "fit"], ["never", "transform"], ["fit", "never", "transform"]], ids=str)
def test_failing_candidates(whens, scoring, error_score):
    options = {"error_score": error_score, "scoring": scoring, "refit": False}
    if scoring is None and "transform" in whens:
        # the pipeline's own score has no error_score around it in skrub either
        reference = sides.plain(case_failing, whens, options)
        error = reference.error and reference.error[0].rpartition(".")[2]
        sides.same(case_failing, whens, options, error=error)
        return
    said = sides.same(case_failing, whens, options)
    assert any(category == "FitFailedWarning" for category, _ in said.warnings) == ("fit" in whens)


@pytest.mark.parametrize("whens", [["fit"], ["fit", "fit"]], ids=str)
def test_all_fits_fail(whens):
    said = sides.same(case_failing, whens, {}, error="ValueError")
    assert said.error[1].startswith("\nAll the ") and "this transformer does not fit" in said.error[1]


@pytest.mark.parametrize("whens", [["never", "fit"], ["never", "transform"]], ids=str)
def test_error_score_raise(whens):
    said = sides.same(case_failing, whens, {"error_score": "raise"}, error="RuntimeError")
    assert any("FailsIf" in note and "case_failing" in note for note in said.error[2])


@pytest.mark.parametrize("scoring", [["accuracy", "f1"], {"a": "accuracy"}])
def test_failing_candidates_with_several_metrics_and_train_scores(scoring):
    options = {"scoring": scoring, "refit": False, "return_train_score": True, "error_score": -1.0}
    value = sides.same(case_failing, ["fit", "never"], options).value
    name = list(scoring)[0]
    assert value["cv_results_"][f"mean_test_{name}"][0] == -1.0 and value["cv_results_"][f"mean_test_{name}"][1] > 0


# -- Scorers --------------------------------------------------------------------------------------


def two_numbers(estimator, X, y):
    labels = estimator.predict(X)
    return {"right": float((labels == y).mean()), "wrong": float((labels != y).mean())}


def on_other_rows(estimator, X, y):
    """Calls the model on rows of its own choice, in several ways."""
    half = X.iloc[: len(X) // 2]
    first, all_of_it = estimator.predict(half), estimator.predict(X)
    assert np.array_equal(first, all_of_it[: len(half)])
    moved = estimator.predict_proba(half + 0.1)
    return float(np.asarray(moved)[:, 1].mean() + all_of_it.mean() + estimator.decision_function(half).mean())


def looks_inside(estimator, X, y):
    fitted = estimator.find_fitted_estimator(lambda node: "LogisticRegression" in repr(node))
    assert list(estimator.classes_) == [0, 1]
    return float(np.abs(fitted.coef_).sum())


def fails_to_score(estimator, X, y):
    raise ArithmeticError("no score today")


def not_a_number(estimator, X, y):
    return "high"


def cost(y, predicted, weight=1.0):
    return weight * float(np.mean(np.abs(np.asarray(y) - np.asarray(predicted))))


def case_scorer(skrub, scoring, options):
    if scoring == "made":
        scoring = make_scorer(cost, greater_is_better=False, weight=2.0)
    elif scoring == "proba":
        scoring = make_scorer(accuracy_score, response_method="predict")
    elif isinstance(scoring, str):
        scoring = globals().get(scoring, scoring)
    search = grid(skrub).skb.make_grid_search(fitted=True, cv=3, scoring=scoring, **options)
    return everything(search), learner_of(search) if search.refit_ else None


@pytest.mark.parametrize("scoring", ["on_other_rows", "looks_inside", "made", "proba", "average_precision", "matthews_corrcoef"])
def test_scorer(scoring):
    sides.same(case_scorer, scoring, {"return_train_score": True})


def test_scorer_of_several_numbers():
    value = sides.same(case_scorer, "two_numbers", {"refit": "right"}).value[0]
    assert value["multimetric_"] is True
    np.testing.assert_allclose(value["cv_results_"]["mean_test_right"] + value["cv_results_"]["mean_test_wrong"], 1)


@pytest.mark.parametrize("error_score", [np.nan, 0.5, "raise"])
def test_scorer_that_raises(error_score):
    error = "ArithmeticError" if error_score == "raise" else None
    sides.same(case_scorer, "fails_to_score", {"error_score": error_score, "refit": False}, error=error)


def test_scorer_without_a_number():
    sides.same(case_scorer, "not_a_number", {}, error="ValueError")


@pytest.mark.slow
@pytest.mark.parametrize("scoring", ["roc_auc_ovr", "neg_log_loss", "f1_macro", None])
def test_three_classes(scoring):
    sides.same(case_three_classes, scoring)


def case_three_classes(skrub, scoring):
    search = grid(skrub, classes=3).skb.make_grid_search(fitted=True, cv=3, scoring=scoring)
    return everything(search), learner_of(search)


def case_with_scoring(skrub, kind):
    x, y = classification(skrub)
    pred = x.skb.apply(LogisticRegression(C=skrub.choose_from([0.01, 1.0], name="C")), y=y)
    if kind == "one":
        pred = pred.skb.with_scoring("roc_auc")
    elif kind == "two":
        pred = pred.skb.with_scoring(["accuracy", "neg_log_loss"])
    elif kind == "named":
        pred = pred.skb.with_scoring("accuracy", name="first").skb.with_scoring(two_numbers, name="second")
    elif kind == "weights":
        weights = (x["a"].abs() + 0.1).to_numpy()
        pred = pred.skb.with_scoring("accuracy", kwargs={"sample_weight": weights})
    options = {} if kind in ("one", "weights") else {"refit": False}
    search = pred.skb.make_grid_search(fitted=True, cv=3, **options)
    return everything(search), pred.skb.cross_validate(cv=3)


@pytest.mark.parametrize("kind", ["one", "two", "named", "weights"])
def test_with_scoring(kind):
    sides.same(case_with_scoring, kind)


# -- Splits from the pipeline ---------------------------------------------------------------------


def case_mark_as_x(skrub, splitter, how):
    X, y = table()
    groups = pd.Series(np.arange(len(X)) % 5, name="g")
    frame = skrub.var("df", X.assign(g=groups, y=y))
    splitters = {
        "groups": GroupKFold(3), "leave": LeaveOneGroupOut(), "plain": KFold(3, shuffle=True, random_state=0), "number": 4,
    }  # fmt: skip
    kwargs = {"split_kwargs": {"groups": frame["g"]}} if splitter in ("groups", "leave") else {}
    x = frame[["a", "b", "c", "d"]].skb.mark_as_X(cv=splitters[splitter], **kwargs)
    pred = x.skb.apply(StandardScaler()).skb.apply(
        LogisticRegression(C=skrub.choose_from([0.01, 1.0], name="C")), y=frame["y"].skb.mark_as_y()
    )
    if how == "search":
        return everything(pred.skb.make_grid_search(fitted=True))
    if how == "override":
        return everything(pred.skb.make_grid_search(fitted=True, cv=2))
    return pred.skb.cross_validate(return_indices=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["search", "override", "cross_validate"])
@pytest.mark.parametrize("splitter", ["groups", "leave", "plain", "number"])
def test_splits_from_the_pipeline(splitter, how):
    value = sides.same(case_mark_as_x, splitter, how).value
    if how == "search":
        assert value["n_splits_"] == {"groups": 3, "leave": 5, "plain": 3, "number": 4}[splitter]


# -- What comes back is skrub's own ---------------------------------------------------------------


def fitted_search():
    import stratum

    return grid(stratum).skb.make_grid_search(fitted=True, cv=3, return_train_score=True)


def test_objects_are_skrubs():
    import skrub
    import stratum

    search = fitted_search()
    assert type(search) is skrub.ParamSearch is stratum.ParamSearch
    assert type(search.best_learner_) is skrub.SkrubLearner
    assert type(search.results_) is pd.DataFrame
    assert type(search.best_learner_.data_op) is type(skrub.var("z"))
    fitted = search.best_learner_.find_fitted_estimator(lambda node: "LogisticRegression" in repr(node))
    assert type(fitted) is LogisticRegression
    for name, value in vars(search.best_learner_).items():
        assert not type(value).__module__.startswith("stratum"), name


def test_fit_returns_the_search_itself():
    import stratum

    search = grid(stratum).skb.make_grid_search(cv=3)
    X, y = table()
    assert search.fit({"X": X, "y": y}) is search
    pd.testing.assert_frame_equal(search.results_, fitted_search().results_)


def test_times_are_there_and_add_up():
    import stratum

    x, target = classification(stratum, values=False)  # without previews, which would spare the refit
    pipeline = x.skb.apply(StandardScaler()).skb.apply(
        LogisticRegression(C=stratum.choose_from([0.01, 1.0, 10.0], name="C")), y=target
    )
    search = pipeline.skb.make_grid_search(cv=3)
    X, y = table()
    start = time.perf_counter()
    search.fit({"X": X, "y": y})
    wall = time.perf_counter() - start
    results = search.cv_results_
    for name in ("mean_fit_time", "mean_score_time"):
        assert results[name].dtype == float and (results[name] > 0).all()
    spent = 3 * (results["mean_fit_time"].sum() + results["mean_score_time"].sum()) + search.refit_time_
    workers = stratum.get_config()["n_threads"] or 64
    assert 0 < spent <= wall * (workers + 1)
    assert spent <= stratum.last_run().node_seconds * 1.001
    assert search.refit_time_ > 0


def case_plots(skrub):
    search = grid(skrub).skb.make_grid_search(fitted=True, cv=3)
    try:
        figure = search.plot_results()
    except ImportError as error:
        return str(error)
    return [type(figure).__name__, [type(trace).__name__ for trace in figure.data], len(figure.data[0].dimensions)]


def test_plot_results():
    sides.same(case_plots)


def case_representations(skrub):
    search = grid(skrub).skb.make_grid_search(fitted=True, cv=3)
    fresh = grid(skrub).skb.make_grid_search(cv=3)
    return repr(search), repr(search.best_learner_), repr(fresh), repr(search.best_learner_.data_op)


def test_representations():
    sides.same(case_representations)


def test_learner_without_stratum(tmp_path):
    """Pickled here, used where stratum cannot be imported."""
    search = fitted_search()
    X, _ = table(20, seed=9)
    path = tmp_path / "learner.pickle"
    path.write_bytes(pickle.dumps((search.best_learner_, search, X)))
    script = f"""
import pickle, sys
class No:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'stratum':
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, No())
learner, search, X = pickle.load(open({str(path)!r}, 'rb'))
assert not any(m.startswith('stratum') for m in sys.modules)
assert len(search.results_) == 6
print([float(p) for p in learner.predict_proba({{'X': X}})[:, 1]])
"""
    found = forks.run(script, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    expected = search.best_learner_.predict_proba({"X": X})[:, 1]
    np.testing.assert_allclose(eval(found.stdout), expected, rtol=1e-12)


def test_clone_and_fit_again():
    search = fitted_search()
    X, y = table()
    again = clone(search)
    assert not hasattr(again, "cv_results_") and not hasattr(again, "best_learner_")
    again.fit({"X": X, "y": y})
    pd.testing.assert_frame_equal(again.results_, search.results_)
    first, copied = search.best_learner_, clone(search.best_learner_)
    assert not copied.__sklearn_is_fitted__()
    copied.fit({"X": X, "y": y})
    np.testing.assert_allclose(copied.predict_proba({"X": X}), first.predict_proba({"X": X}), rtol=1e-9)
    other = table(40, seed=3)
    before = first.predict_proba({"X": X})
    search.fit({"X": other[0], "y": other[1]})  # the same object a second time
    assert not np.allclose(search.best_learner_.predict_proba({"X": X}), before)
    np.testing.assert_array_equal(first.predict_proba({"X": X}), before)


def test_learner_can_be_fitted_again():
    search = fitted_search()
    X, y = table(50, seed=4)
    learner = search.best_learner_
    coefficients = learner.find_fitted_estimator(lambda node: "Logistic" in repr(node)).coef_.copy()
    learner.fit({"X": X, "y": y})
    changed = learner.find_fitted_estimator(lambda node: "Logistic" in repr(node)).coef_
    assert not np.allclose(coefficients, changed)


def estimators_in(obj, found=None, seen=None):
    """All estimators (and fitted arrays) reachable from an object, by id."""
    found = {} if found is None else found
    seen = set() if seen is None else seen
    todo = [obj]
    while todo:
        x = todo.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, BaseEstimator):
            if any(k.endswith("_") for k in vars(x)):
                found[id(x)] = x
            todo.extend(vars(x).values())
        elif isinstance(x, dict):
            todo.extend(x.values())
        elif isinstance(x, (list, tuple)):
            todo.extend(x)
        elif hasattr(x, "_skrub_impl"):
            todo.append(vars(x._skrub_impl))
        elif type(x).__module__.startswith("skrub") and hasattr(x, "__dict__"):
            todo.append(vars(x))
    return found


def fitted_in(result):
    return estimators_in(getattr(result, "best_learner_", result))


def test_two_results_never_share_a_fitted_estimator():
    import stratum

    def one():
        x, y = classification(stratum)
        return x.skb.apply(StandardScaler()).skb.apply(RandomForestClassifier(n_estimators=2, random_state=0), y=y)

    pipelines = [one(), one()]
    items = [p.skb.make_grid_search(cv=3) for p in pipelines]
    items += [stratum.lazy.cross_validate(p, cv=3, return_learner=True) for p in pipelines]
    results = stratum.run(items)
    holders = [fitted_in(results[0]), fitted_in(results[1])]
    for table_ in results[2:]:
        holders.extend(fitted_in(learner) for learner in table_["learner"])
    holders.extend(estimators_in(p) for p in pipelines)
    assert all(len(h) >= 2 for h in holders[:-2])
    for i, first in enumerate(holders):
        for second in holders[i + 1 :]:
            shared = [first[k] for k in first.keys() & second.keys()]
            assert not shared, shared


def state_of(data_op):
    """Attributes and estimator parameters of all nodes, deep."""
    from skrub._data_ops import _evaluation

    found = []
    for node in _evaluation.nodes(data_op):
        impl = node._skrub_impl
        attributes = {}
        for name, value in vars(impl).items():
            if isinstance(value, BaseEstimator):
                params = {k: (id(v) if isinstance(v, BaseEstimator) else repr(v)) for k, v in value.get_params().items()}
                attributes[name] = (id(value), params, sorted(vars(value)))
            elif name in ("results", "errors", "metadata"):
                attributes[name] = sorted(value)
            else:
                attributes[name] = id(value)
        found.append(attributes)
    return found


@pytest.mark.parametrize("how", ["search", "cross_validate", "batch"])
def test_users_objects_are_untouched(how):
    import stratum

    X, y = table()
    scaler, forest = StandardScaler(), RandomForestClassifier(n_estimators=3)  # unseeded
    depth = stratum.choose_from([1, 3], name="depth")
    forest.set_params(max_depth=depth)
    x = stratum.var("X", X).skb.mark_as_X()
    pred = (x + 0.0).skb.apply(scaler).skb.apply(forest, y=stratum.var("y", y).skb.mark_as_y())
    preview = pred.skb.preview().copy()
    environment = {"X": X, "y": y}
    X_before, y_before = X.copy(deep=True), y.copy(deep=True)
    search = pred.skb.make_grid_search(cv=3)
    inner = {k: id(v) for k, v in vars(search).items()}
    before = state_of(pred)
    vars_before = (dict(vars(scaler)), {k: v for k, v in vars(forest).items()})
    if how == "search":
        search.fit(environment)
        assert {k: id(v) for k, v in vars(search).items() if not k.endswith("_")} == inner
        assert search.search.cv == 3 and not hasattr(search.search, "cv_results_")
    elif how == "cross_validate":
        pred.skb.cross_validate(environment, cv=3)
    else:
        stratum.run([search, stratum.lazy.cross_validate(pred, environment, cv=3)])
    assert state_of(pred) == before
    assert (dict(vars(scaler)), dict(vars(forest))) == vars_before
    assert forest.random_state is None
    pd.testing.assert_frame_equal(X, X_before)
    pd.testing.assert_series_equal(y, y_before)
    assert list(environment) == ["X", "y"] and environment["X"] is X
    assert (pred.skb.preview() == preview).all()


# -- cross_validate -------------------------------------------------------------------------------


def case_cross_validate(skrub, options):
    x, y = classification(skrub)
    pred = x.skb.apply(StandardScaler()).skb.apply(LogisticRegression(), y=y)
    result = pred.skb.cross_validate(**options)
    learners = result.pop("learner") if "learner" in result else []
    X, _ = table(10, seed=8)
    learned = [
        (type(one).__name__, one.predict_proba({"X": X}), one.find_fitted_estimator(lambda n: "Log" in repr(n)).coef_)
        for one in learners
    ]
    return result, learned


@pytest.mark.parametrize(
    "options",
    [
        {}, {"cv": 3}, {"cv": 3, "scoring": "roc_auc", "return_train_score": True}, {"cv": 3, "return_learner": True},
        {"cv": KFold(3, shuffle=True, random_state=0), "return_indices": True}, {"cv": 3, "scoring": ["accuracy", "neg_log_loss"]},
        {"cv": 3, "scoring": {"x": "accuracy"}, "return_learner": True, "return_train_score": True, "return_indices": True},
        {"cv": 3, "n_jobs": 2}, {"cv": 3, "scoring": two_numbers}, {"cv": 3, "scoring": on_other_rows},
        {"cv": 3, "error_score": "raise"}, {"cv": 3, "verbose": 0},
    ],
    ids=str,
)  # fmt: skip
def test_cross_validate(options):
    value = sides.same(case_cross_validate, options).value
    assert len(value[1]) == (3 if options.get("return_learner") else 0)


@pytest.mark.parametrize("options", [{"cv": 1}, {"return_estimator": True}, {"no_such_option": 1}], ids=str)
def test_cross_validate_with_bad_options(options):
    reference = sides.plain(case_cross_validate, options)
    assert reference.error is not None
    sides.same(case_cross_validate, options, error=reference.error[0].rpartition(".")[2])


def case_cross_validate_function(skrub, nested):
    X, y = table()
    pred = grid(skrub)
    learner = pred.skb.make_grid_search(cv=2) if nested else pred.skb.make_learner()
    return skrub.cross_validate(learner, {"X": X, "y": y}, cv=3)


@pytest.mark.parametrize("nested", [False, True])
def test_cross_validate_function(nested):
    sides.same(case_cross_validate_function, nested)


def case_subsampling(skrub, keep):
    X, y = table()
    frame = skrub.var("df", X.assign(y=y)).skb.subsample(n=40, how="head")
    x = frame[["a", "b"]].skb.mark_as_X()
    pred = x.skb.apply(LogisticRegression(C=skrub.choose_from([0.1, 1.0], name="C")), y=frame["y"].skb.mark_as_y())
    table_ = pred.skb.cross_validate(cv=3, keep_subsampling=keep, return_indices=True)
    search = pred.skb.make_grid_search(fitted=True, cv=3, keep_subsampling=keep)
    return table_, everything(search), len(pred.skb.preview())


@pytest.mark.parametrize("keep", [False, True])
def test_subsampling(keep):
    table_, _, preview = sides.same(case_subsampling, keep).value
    rows = sum(len(i) for i in table_["test_indices"])
    assert rows == (40 if keep else 90) and preview == 40


def case_random_subsampling(skrub, keep):
    X, y = table()
    frame = skrub.var("df", X.assign(y=y)).skb.subsample(n=50, how="random")
    pred = frame[["a", "b"]].skb.mark_as_X().skb.apply(LogisticRegression(), y=frame["y"].skb.mark_as_y())
    return pred.skb.cross_validate(cv=3, keep_subsampling=keep)


@pytest.mark.parametrize("keep", [False, True])
def test_random_subsampling(keep):
    sides.same(case_random_subsampling, keep)


def test_signatures_are_skrubs():
    import skrub
    import stratum

    code = "import inspect, skrub; print(inspect.signature(skrub.cross_validate)); print(inspect.signature(skrub.ParamSearch.fit))"
    plain = forks.run(code, cwd=HERE.parent).stdout.split("\n")
    assert str(inspect.signature(stratum.cross_validate)) == plain[0]
    assert str(inspect.signature(skrub.ParamSearch.fit)) == plain[1]
    assert stratum.cross_validate.__doc__ == skrub.cross_validate.__doc__


# -- Scorers that do more than predict ------------------------------------------------------------


def spread(predictions, y):
    return float(-np.mean((np.asarray(predictions) - np.asarray(y)) ** 2))


def fits_the_model(model, X, y):
    return spread(model.fit(X, y).predict(X), y)


def fits_a_clone(model, X, y):
    return spread(clone(model).fit(X, y).predict(X), y)


def copies_the_model(model, X, y):
    return spread(pickle.loads(pickle.dumps(copy.deepcopy(model))).predict(X), y)


def writes_to_its_rows(model, X, y):
    X["a"] = 0.0
    return spread(model.predict(X), y)


def sets_parameters(model, X, y):
    model.set_params(data_op__0=0)
    return spread(model.predict(X), y)


def unusual_scorer(skrub, scorer, train):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(40, 2)), columns=["a", "b"])
    y = X["a"] * 2 + X["b"] + rng.normal(size=40) * 0.1
    ridge = Ridge(alpha=skrub.choose_from([0.1, 100.0], name="alpha"))
    d = skrub.X(X).skb.apply(StandardScaler()).skb.apply(ridge, y=skrub.y(y))
    search = d.skb.make_grid_search(cv=3, scoring=scorer, return_train_score=train, fitted=True)
    scores = {name: value for name, value in search.cv_results_.items() if "score" in name}
    return scores, np.asarray(search.predict({"X": X})), d.skb.cross_validate(cv=3, scoring=scorer)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    "scorer", [fits_the_model, fits_a_clone, copies_the_model, writes_to_its_rows, sets_parameters]
)
def test_scorers_that_do_more_than_predict(scorer, train):
    sides.same(unusual_scorer, scorer, train)


def models_that_a_scorer_keeps(skrub):
    X = pd.DataFrame({"a": np.arange(30.0)})
    kept = []

    def scorer(model, X, y):
        kept.append(model)
        return 1.0

    d = skrub.X(X).skb.apply(StandardScaler()).skb.apply(Ridge(), y=skrub.y(X["a"] ** 2))
    d.skb.cross_validate(cv=3, scoring=scorer)
    return [np.asarray(model.predict(X)) for model in kept]


def test_models_that_a_scorer_keeps():
    sides.same(models_that_a_scorer_keeps)
