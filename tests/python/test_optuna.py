"""Searches by Optuna: the same study as skrub's, and what trials share computed once.

A case runs with plain skrub in a process of its own and with stratum here (see `sides`).
"""

from __future__ import annotations

import contextlib
import io
import pickle
import threading

import counted
import joblib
import numpy as np
import pandas as pd
import pytest
import sides
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import MinMaxScaler, StandardScaler

pytestmark = pytest.mark.slow

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.WARNING)


def table(n=80, seed=0):
    rng = np.random.default_rng(seed)
    df = pd.DataFrame(rng.normal(size=(n, 4)), columns=["a", "b", "c", "d"])
    df["y"] = df["a"] - 2 * df["b"] + rng.normal(size=n)
    return df


def regression(skrub, scale=None, kind=None):
    data = skrub.var("data")
    X = data.drop(columns="y").skb.mark_as_X()
    y = data["y"].skb.mark_as_y()
    if kind == "labels":
        y = (data["y"] > 0).astype(int).skb.mark_as_y()
    scaled = X.skb.apply(scale or skrub.choose_from([StandardScaler(), MinMaxScaler()], name="scaler"))
    if kind == "labels":
        return scaled.skb.apply(LogisticRegression(C=skrub.choose_float(0.01, 10, log=True, name="C")), y=y)
    return scaled.skb.apply(Ridge(alpha=skrub.choose_float(0.01, 100, log=True, name="alpha")), y=y)


def fitted(predictor, data=None, **kwargs):
    kwargs = {"n_iter": 4, "random_state": 0, **kwargs}
    search = predictor.skb.make_randomized_search(backend="optuna", **kwargs)
    with contextlib.redirect_stdout(io.StringIO()):  # names the study and a temporary folder
        search.fit({"data": table() if data is None else data})
    return search


def everything(search):
    found = {
        "attributes": sorted(k for k in vars(search) if not k.startswith("_")),
        "trials": [(t.number, t.value, t.params, str(t.state), distributions(t)) for t in search.study_.trials],
        "user": [sorted(t.user_attrs.get("cv_results", {})) for t in search.study_.trials],
        "results": search.results_, "detailed": search.detailed_results_, "best": search.best_params_,
        "score": search.best_score_, "refit": search.refit_, "n_jobs": search.n_jobs,
        "direction": str(search.study_.direction), "sampler": type(search.study_.sampler).__name__,
        "cv_results": sorted(search.cv_results_),
    }  # fmt: skip
    if hasattr(search, "best_learner_"):
        found["learner"] = search.best_learner_.describe_params()
        found["predictions"] = search.best_learner_.predict({"data": table(7, seed=3)})
    return found


def distributions(trial):
    return {k: str(v) for k, v in trial.distributions.items()}


def study(skrub, kwargs, kind=None):
    return everything(fitted(regression(skrub, kind=kind), **kwargs))


@pytest.mark.parametrize(
    "kwargs",
    [
        {}, {"n_jobs": 1}, {"n_iter": 12, "cv": 3}, {"refit": False}, {"scoring": "neg_mean_absolute_error"},
        {"scoring": ["r2", "neg_max_error"], "refit": "neg_max_error"}, {"return_train_score": True, "random_state": 4},
        {"timeout": 600, "n_iter": 3},
    ],
)  # fmt: skip
def test_same_study(kwargs):
    import stratum

    sides.same(study, kwargs)
    assert stratum.last_run().fallbacks == []


def test_same_study_of_a_classifier():
    sides.same(study, {"scoring": "roc_auc"}, "labels")


def samplers(skrub):
    found = []
    for sampler in (optuna.samplers.RandomSampler(seed=3), optuna.samplers.TPESampler(seed=5, n_startup_trials=2)):
        found.append(everything(fitted(regression(skrub), sampler=sampler)))
    return found


def test_same_study_with_a_given_sampler():
    sides.same(samplers)


def broken(skrub, error_score):
    """Half of the candidates fail."""
    data = skrub.var("data")
    X = data.drop(columns="y").skb.mark_as_X()
    y = data["y"].skb.mark_as_y()
    n = skrub.choose_from([2, 40], name="n")
    op = X.skb.apply(PCA(n, random_state=0)).skb.apply(Ridge(), y=y)
    search = fitted(op, error_score=error_score)
    found = everything(search)
    del found["detailed"], found["results"]  # times of trials without folds are NaN
    return found, [(trial.value, trial.params) for trial in search.study_.trials]


def test_failing_trials():
    sides.same(broken, -1.0, check_warnings=False)
    sides.same(broken, "raise", error="ValueError", check_warnings=False)


def stored(skrub, folder):
    """A study in a file goes on where it stopped."""
    storage = f"sqlite:///{folder}"
    first = fitted(regression(skrub), storage=storage, study_name="it", n_iter=3)
    second = fitted(regression(skrub), storage=storage, study_name="it", n_iter=2)
    return len(first.study_.trials), everything(second)


def test_stored_study(tmp_path):
    pytest.importorskip("sqlalchemy")
    reference = sides.plain(stored, f"{tmp_path}/theirs.db")
    got = sides.ours(stored, f"{tmp_path}/ours.db")
    assert reference.error is None and got.error is None, (reference.trace, got.trace)
    assert sides.difference(got.value, reference.value) is None


def nested(skrub):
    search = regression(skrub).skb.make_randomized_search(backend="optuna", n_iter=2, random_state=0)
    with contextlib.redirect_stdout(io.StringIO()):
        return skrub.cross_validate(search, {"data": table()}, cv=3)


def test_nested_cross_validation():
    sides.same(nested)


def bad_data(skrub, what):
    df = table()
    if what == "nan":
        df.loc[3, "a"] = np.nan
    if what == "empty":
        df = df.head(0)
    if what == "few":
        df = df.head(3)
    if what == "text":
        df["a"] = "text"
    return everything(fitted(regression(skrub), data=df, error_score="raise"))


@pytest.mark.parametrize("what", ["nan", "empty", "few", "text"])
def test_bad_data(what):
    sides.same(bad_data, what, error="ValueError", check_warnings=False)


# -- Sharing --------------------------------------------------------------------------------------


def test_trials_share_until_the_study_ends():
    """The scaler is fitted once for each fold, however many trials there are; afterwards nothing is kept."""
    import stratum as skrub
    from stratum import engine

    counted.log().take()
    search = fitted(regression(skrub, scale=counted.Shift(1.0)), n_iter=7, cv=4, refit=False)
    counts = counted.log().take()
    assert len(search.study_.trials) == 7
    assert counts["Shift(1.0).fit"] == 4, counts
    assert skrub.last_run().reused > 0
    # the next study begins anew
    before = engine.get_engine().graph.stats()
    fitted(regression(skrub, scale=counted.Shift(1.0)), n_iter=2, cv=4, refit=False)
    assert counted.log().take()["Shift(1.0).fit"] == 4
    assert engine.get_engine().graph.stats()["nodes"] <= before["nodes"] + 1


def test_memory_that_trials_may_hold_is_bounded(monkeypatch):
    """Where there is no room nothing is kept, and nothing changes."""
    import stratum as skrub
    from stratum.hosts import studies

    expected = everything(fitted(regression(skrub), n_iter=4))
    original = studies.Study.__init__

    def small(self, n_jobs=None):
        original(self, n_jobs)
        self.most = 100

    monkeypatch.setattr(studies.Study, "__init__", small)
    counted.log().take()
    fitted(regression(skrub, scale=counted.Shift(1.0)), n_iter=3, cv=4, refit=False)
    assert counted.log().take()["Shift(1.0).fit"] == 12
    assert sides.difference(everything(fitted(regression(skrub), n_iter=4)), expected) is None


def branch(skrub):
    """A branch that is not taken is not computed for the next trial's sake."""
    data = skrub.var("data")
    X = data.drop(columns="y").skb.mark_as_X()
    y = data["y"].skb.mark_as_y()
    bad = skrub.deferred(lambda frame: frame["no such column"])(X)
    X = (X.shape[1] > 100).skb.if_else(bad, X)
    op = X.skb.apply(StandardScaler()).skb.apply(Ridge(alpha=skrub.choose_float(0.1, 10, name="alpha")), y=y)
    return everything(fitted(op))


def test_branches():
    sides.same(branch)


# -- joblib ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [2, -1])
def test_n_jobs_starts_no_process_and_no_thread_of_trials(n_jobs, monkeypatch):
    """Trials run one after the other on the engine's threads: the study is that of one job."""
    import stratum as skrub

    def refused(*args, **kwargs):
        raise AssertionError("joblib was asked for workers")

    monkeypatch.setattr(joblib.parallel.LokyBackend, "configure", refused)
    monkeypatch.setattr(joblib.parallel.ThreadingBackend, "configure", refused)
    search = fitted(regression(skrub), n_jobs=n_jobs)
    assert search.n_jobs == n_jobs
    expected = everything(fitted(regression(skrub), n_jobs=1))
    expected["n_jobs"] = n_jobs
    assert sides.difference(everything(search), expected) is None


def test_a_search_in_a_thread():
    import stratum as skrub

    found = []
    thread = threading.Thread(target=lambda: found.append(everything(fitted(regression(skrub)))))
    thread.start()
    thread.join()
    assert sides.difference(found[0], everything(fitted(regression(skrub)))) is None


def test_fitted_searches_are_pickled():
    import stratum as skrub

    search = fitted(regression(skrub))
    again = pickle.loads(pickle.dumps(search))
    environment = {"data": table(9, seed=2)}
    assert np.array_equal(again.predict(environment), search.predict(environment))
    assert again.study_.best_value == search.study_.best_value
