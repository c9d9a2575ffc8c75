"""Input that is wrong: reported as skrub reports it, and other work is unharmed.

A case runs with plain skrub in a process of its own and with stratum here; exceptions must have the same
type, text and notes (among them the line where the failing node was made).
"""

from __future__ import annotations

import signal
import sys
import textwrap
import threading
import time

import forks
import numpy as np
import pandas as pd
import pytest
import sides
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler


def table(n=40, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    return X, pd.Series(rng.normal(size=n) + X["a"], name="y")


def pipeline(skrub, step=None, model=None):
    x = skrub.var("X").skb.mark_as_X()
    if step is not None:
        x = x.skb.apply_func(step)
    return x.skb.apply(model if model is not None else Ridge(), y=skrub.var("y").skb.mark_as_y())


def search_of(skrub, pred, environment, **kwargs):
    search = pred.skb.make_grid_search(cv=3, **kwargs)
    search.fit(environment)
    return search.cv_results_


# -- Data -----------------------------------------------------------------------------------------


def case_missing_file(skrub, how):
    path = skrub.var("path")
    df = skrub.deferred(pd.read_csv)(path)
    x = df.drop(columns="y").skb.mark_as_X()
    pred = x.skb.apply(Ridge(), y=df["y"].skb.mark_as_y())
    environment = {"path": "/no/such/file.csv"}
    if how == "search":
        return search_of(skrub, pred, environment)
    if how == "cross_validate":
        return pred.skb.cross_validate(environment)
    if how == "batch" and hasattr(skrub, "run"):
        return skrub.run([skrub.lazy.eval(pred, environment)])
    return pred.skb.eval(environment)


@pytest.mark.parametrize("how", ["search", "cross_validate", "eval", "batch"])
def test_missing_file(how):
    said = sides.same(case_missing_file, how, error="FileNotFoundError")
    assert "/no/such/file.csv" in said.error[1]
    assert any("df = skrub.deferred(pd.read_csv)(path)" in note for note in said.error[2])


def case_empty_table(skrub, refit):
    X, y = table(0)
    return search_of(skrub, pipeline(skrub), {"X": X, "y": y}, refit=refit)


@pytest.mark.parametrize("refit", [True, False])
def test_empty_table(refit):
    sides.same(case_empty_table, refit, error="ValueError")


def case_no_columns(skrub):
    X, y = table()
    return search_of(skrub, pipeline(skrub), {"X": X[[]], "y": y})


def test_no_columns():
    sides.same(case_no_columns, error="ValueError")


def case_nan_in_target(skrub, error_score):
    X, y = table()
    y[3] = np.nan
    return search_of(skrub, pipeline(skrub), {"X": X, "y": y}, error_score=error_score)


def test_nan_in_target_raises():
    sides.same(case_nan_in_target, "raise", error="ValueError")


def case_nan_in_target_without_refit(skrub):
    X, y = table()
    y[3] = np.nan
    return search_of(skrub, pipeline(skrub), {"X": X, "y": y}, refit=False)


def test_nan_in_target_fails_the_folds_that_train_on_it():
    # the fold that only scores on the NaN fails in the scorer
    results = sides.same(case_nan_in_target_without_refit).value
    assert np.isnan([results[f"split{i}_test_score"][0] for i in range(3)]).all()


def case_nan_in_target_with_refit(skrub):
    X, y = table()
    y[3] = np.nan
    return search_of(skrub, pipeline(skrub), {"X": X, "y": y})


def test_nan_in_target_fails_the_refit():
    sides.same(case_nan_in_target_with_refit, error="ValueError")


def case_one_class(skrub, scoring):
    X, y = table()
    labels = pd.Series([0] * 30 + [1] * 10, name="y")
    pred = pipeline(skrub, model=LogisticRegression(C=skrub.choose_from([0.1, 1.0], name="C")))
    search = pred.skb.make_grid_search(cv=KFold(4), scoring=scoring, refit=False)
    search.fit({"X": X, "y": labels})
    return search.cv_results_


@pytest.mark.parametrize("scoring", [None, "roc_auc", "neg_log_loss"])
def test_one_class_in_a_fold(scoring):
    """The last fold trains on one class alone: it fails and the others stand (roc_auc fails in each)."""
    results = sides.same(case_one_class, scoring).value
    assert np.isnan(results["split3_test_score"]).all()
    if scoring is None:
        assert not np.isnan(results["split0_test_score"]).any()


def case_unequal_lengths(skrub, how):
    X, y = table()
    environment = {"X": X, "y": y[:-1]}
    if how == "search":
        return search_of(skrub, pipeline(skrub), environment)
    return pipeline(skrub).skb.cross_validate(environment)


@pytest.mark.parametrize("how", ["search", "cross_validate"])
def test_unequal_lengths(how):
    sides.same(case_unequal_lengths, how, error="ValueError")


# -- Environments and pipelines -------------------------------------------------------------------


def case_missing_variable(skrub):
    X, _ = table()
    return search_of(skrub, pipeline(skrub), {"X": X})


def test_missing_variable():
    said = sides.same(case_missing_variable, error="UninitializedVariable")
    assert "y" in said.error[1]


def case_bad_environment(skrub, environment):
    return search_of(skrub, pipeline(skrub), environment)


@pytest.mark.parametrize("environment", [None, 3, "X", ["X"]])
def test_environment_of_a_wrong_type(environment):
    reference = sides.plain(case_bad_environment, environment)
    assert reference.error is not None
    sides.same(case_bad_environment, environment, error=reference.error[0].rpartition(".")[2])


def case_unmarked(skrub, x, y):
    a, b = skrub.var("X"), skrub.var("y")
    pred = (a.skb.mark_as_X() if x else a).skb.apply(Ridge(), y=b.skb.mark_as_y() if y else b)
    X, target = table()
    return search_of(skrub, pred, {"X": X, "y": target})


@pytest.mark.parametrize(("x", "y"), [(False, True), (True, False), (False, False)])
def test_unmarked_inputs(x, y):
    sides.same(case_unmarked, x, y, error="ValueError")


class OnlyFits(BaseEstimator):
    """Has no predict, no transform."""

    def __init__(self, power=1):
        self.power = power

    def fit(self, X, y=None):
        return self


def case_without_predict(skrub, error_score):
    X, y = table()
    pred = pipeline(skrub, model=skrub.choose_from({"good": Ridge(), "bad": OnlyFits()}, name="model"))
    search = pred.skb.make_grid_search(cv=3, refit=False, error_score=error_score)
    search.fit({"X": X, "y": y})
    return search.cv_results_


@pytest.mark.parametrize("error_score", [np.nan, -1.0, "raise"])
def test_estimator_without_predict(error_score):
    reference = sides.plain(case_without_predict, error_score)
    error = reference.error and reference.error[0].rpartition(".")[2]
    said = sides.same(case_without_predict, error_score, error=error)
    if error is None:
        scores = said.value["mean_test_score"]
        assert np.isfinite(scores[0]) and (np.isnan(scores[1]) or scores[1] == -1.0)


def case_bad_argument(skrub, name, value):
    X, y = table()
    search = pipeline(skrub).skb.make_grid_search(**{"cv": 3, name: value})
    search.fit({"X": X, "y": y})


@pytest.mark.parametrize(
    ("name", "value"),
    [("cv", 1), ("cv", 100), ("cv", "three"), ("error_score", "other"), ("refit", "no_metric"),
     ("n_jobs", "all"), ("scoring", ["r2", "neg_mean_squared_error"]), ("scoring", "roc_auc")],
)  # fmt: skip
def test_bad_argument_of_a_search(name, value):
    reference = sides.plain(case_bad_argument, name, value)
    error = reference.error and reference.error[0].rpartition(".")[2]
    sides.same(case_bad_argument, name, value, error=error)


def case_unknown_metric(skrub):
    try:
        case_bad_argument(skrub, "scoring", "no_such_metric")
    except ValueError as error:  # the text lists all metrics, in any order
        return type(error).__name__, str(error)[:60]


def test_unknown_metric():
    assert sides.same(case_unknown_metric).value[0] == "InvalidParameterError"


# -- User functions -------------------------------------------------------------------------------


def fails(df):
    raise KeyError("this column is not there", len(df.columns))


class Peculiar(Exception):
    """Of the user's own, with an argument that its text does not show."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def fails_peculiarly(df):
    raise Peculiar(17, "something odd happened")


def fails_chained(df):
    try:
        df["nothing"]
    except KeyError as error:
        raise RuntimeError("while looking") from error


def case_user_function_raises(skrub, name, how):
    X, y = table()
    environment = {"X": X, "y": y}
    pred = pipeline(skrub, step=globals()[name])
    if how == "search":
        return search_of(skrub, pred, environment)
    if how == "raise":
        return search_of(skrub, pred, environment, error_score="raise")
    if how == "cross_validate":
        return pred.skb.cross_validate(environment, error_score="raise")
    return pred.skb.eval(environment)


@pytest.mark.parametrize("how", ["search", "raise", "cross_validate", "eval"])
@pytest.mark.parametrize("name", ["fails", "fails_peculiarly", "fails_chained"])
def test_user_function_that_raises(name, how):
    kind = {"fails": "KeyError", "fails_peculiarly": "Peculiar", "fails_chained": "RuntimeError"}[name]
    said = sides.same(case_user_function_raises, name, how, error="ValueError" if how == "search" else kind)
    if how != "search":
        assert any("x = x.skb.apply_func(step)" in note for note in said.error[2])


def test_user_exception_is_the_users_object():
    import stratum

    X, y = table()
    with pytest.raises(Peculiar) as caught:
        pipeline(stratum, step=fails_peculiarly).skb.make_grid_search(cv=3, error_score="raise").fit({"X": X, "y": y})
    assert caught.value.code == 17
    with pytest.raises(RuntimeError) as chained:
        pipeline(stratum, step=fails_chained).skb.make_grid_search(cv=3, error_score="raise").fit({"X": X, "y": y})
    assert isinstance(chained.value.__cause__, KeyError)


def sometimes(df, limit):
    if df["a"].max() > limit:
        raise ValueError("too large")
    return df


def case_some_fail(skrub):
    X, y = table()
    x = skrub.var("X").skb.mark_as_X().skb.apply_func(sometimes, limit=skrub.choose_from([100.0, 1.5, -100.0], name="limit"))
    pred = x.skb.apply(StandardScaler()).skb.apply(Ridge(), y=skrub.var("y").skb.mark_as_y())
    search = pred.skb.make_grid_search(cv=3, refit=False)
    search.fit({"X": X, "y": y})
    return search.cv_results_, search.results_


def test_a_failing_candidate_leaves_the_others():
    results, _ = sides.same(case_some_fail).value
    assert np.isfinite(results["mean_test_score"][0]) and np.isnan(results["mean_test_score"][2])


def spoils(df):
    """Changes its input, which skrub hands to the siblings too."""
    df["a"] = 0.0
    df.loc[:, "b"] *= 1000
    return df


def spoils_array(x):
    x[:] = 0.0
    return x


def test_changing_the_input_does_not_reach_siblings():
    """The documented difference: skrub's siblings see the change, depending on order; here they do not."""
    import stratum

    X, y = table()
    x = (stratum.var("X").skb.mark_as_X() + 0.0).skb.set_name("shared")
    left = x.skb.apply_func(spoils)
    pred = left.skb.concat([x], axis=1).skb.apply(Ridge(), y=stratum.var("y").skb.mark_as_y())
    both = left.skb.concat([x], axis=1)
    value = stratum.run([stratum.lazy.eval(both, {"X": X})])[0]
    names = list(value.columns)
    np.testing.assert_allclose(value[names[3]], X["a"])
    assert (value[names[0]] == 0.0).all()
    original = X.copy()
    search = pred.skb.make_grid_search(cv=3)
    search.fit({"X": X, "y": y})
    pd.testing.assert_frame_equal(X, original)
    arrays = (stratum.var("X").skb.mark_as_X().to_numpy() * 2.0)
    spoiled = arrays.skb.apply_func(spoils_array)
    result = stratum.run([stratum.lazy.eval(spoiled.sum() + arrays.sum(), {"X": X}), stratum.lazy.eval(arrays, {"X": X})])
    assert result[0] == pytest.approx(X.to_numpy().sum() * 2)
    np.testing.assert_allclose(result[1], X.to_numpy() * 2)


def test_changing_the_input_leaves_other_candidates():
    import stratum

    def nothing(df):
        return df

    X, y = table()
    x = stratum.var("X").skb.mark_as_X() * 1.0
    spoiled = stratum.choose_from({"spoiled": x.skb.apply_func(spoils), "clean": x.skb.apply_func(nothing)}, name="how")
    pred = spoiled.as_data_op().skb.apply(Ridge(), y=stratum.var("y").skb.mark_as_y())
    search = pred.skb.make_grid_search(cv=3)
    search.fit({"X": X, "y": y})
    from sklearn.model_selection import cross_val_score

    expected = cross_val_score(Ridge(), X, y, cv=3).mean()
    by_name = dict(zip(search.results_["how"], search.results_["mean_test_score"]))
    assert by_name["clean"] == pytest.approx(expected)
    assert by_name["spoiled"] < by_name["clean"]


def hungry(df):
    raise MemoryError("no room for 10 TiB")


def case_memory_error(skrub, how):
    X, y = table()
    pred = pipeline(skrub, step=hungry)
    if how == "eval":
        return pred.skb.eval({"X": X, "y": y})
    return search_of(skrub, pred, {"X": X, "y": y}, error_score="raise" if how == "raise" else np.nan)


@pytest.mark.parametrize(("how", "error"), [("eval", "MemoryError"), ("raise", "MemoryError"), ("nan", "ValueError")])
def test_memory_error(how, error):
    sides.same(case_memory_error, how, error=error)


class Leaves(TransformerMixin, BaseEstimator):
    """Ends the process, or tries to."""

    def fit(self, X, y=None):
        sys.exit(3)

    def transform(self, X):
        return X


def leave(df):
    raise SystemExit(4)


@pytest.mark.parametrize("what", ["function", "estimator"])
def test_system_exit(what):
    """It goes through, as in skrub; and the next run works."""
    import stratum

    X, y = table()
    if what == "function":
        pred, code = pipeline(stratum, step=leave), 4
    else:
        x = stratum.var("X").skb.mark_as_X().skb.apply(Leaves())
        pred, code = x.skb.apply(Ridge(), y=stratum.var("y").skb.mark_as_y()), 3
    for _ in range(2):
        with pytest.raises(SystemExit) as caught:
            pred.skb.make_grid_search(cv=3).fit({"X": X, "y": y})
        assert caught.value.code == code
    good = pipeline(stratum).skb.make_grid_search(cv=3)
    assert np.isfinite(good.fit({"X": X, "y": y}).cv_results_["mean_test_score"]).all()


# -- Ctrl-C ---------------------------------------------------------------------------------------


def interrupted(script):
    """Run a script in a process of its own; Ctrl-C, once, when it says READY. (What it said, its errors, its status.)

    What is interrupted does not end by itself: that a script goes on at all says that it was stopped. One that does not
    is killed in the end.
    """
    process = forks.start(textwrap.dedent(script))
    guard = threading.Timer(300, process.kill)
    guard.start()
    lines, sent = [], False
    try:
        for line in process.stdout:
            lines.append(line.strip())
            if lines[-1] == "READY" and not sent:
                time.sleep(0.3)  # so that it is mostly well inside, not at its first line
                process.send_signal(signal.SIGINT)
                sent = True
        err = process.stderr.read()
        code = process.wait(60)
    finally:
        guard.cancel()
        process.kill()
    assert sent, (lines, err)
    return [line for line in lines if line != "READY"], err, code


PREAMBLE = """
import sys, time, warnings
import numpy as np, pandas as pd
import stratum
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import Ridge
rng = np.random.default_rng(0)
X = pd.DataFrame(rng.normal(size=(40, 3)), columns=["a", "b", "c"])
y = pd.Series(rng.normal(size=40), name="y")

def say(text):
    print(text, flush=True)

def good():
    p = stratum.var("X").skb.mark_as_X().skb.apply(Ridge(), y=stratum.var("y").skb.mark_as_y())
    s = p.skb.make_grid_search(cv=3).fit({"X": X, "y": y})
    assert np.isfinite(s.cv_results_["mean_test_score"]).all()

good()
"""


@pytest.mark.parametrize("sleeping", ["while True: time.sleep(0.01)", "time.sleep(3600)", "while True: sum(range(1000))"])
def test_ctrl_c_stops_a_user_function(sleeping):
    lines, err, code = interrupted(
        PREAMBLE
        + f"""
def forever(df):
    say("READY")
    {sleeping}

p = stratum.var("X").skb.mark_as_X().skb.apply_func(forever).skb.apply(Ridge(), y=stratum.var("y").skb.mark_as_y())
try:
    p.skb.make_grid_search(cv=3).fit({{"X": X, "y": y}})
except KeyboardInterrupt:
    say("STOPPED")
good()
say("NEXT")
"""
    )
    assert (lines, code) == (["STOPPED", "NEXT"], 0), (lines, err)


def test_ctrl_c_stops_python_code_on_a_worker():
    lines, err, code = interrupted(
        PREAMBLE
        + """
from sklearn.preprocessing import FunctionTransformer
import sklearn.linear_model

class Slow(sklearn.linear_model.Ridge):
    def fit(self, X, y):
        say("READY")
        while True:
            time.sleep(0.01)

# taken for an estimator of the library: it runs on a worker
Slow.__module__ = "sklearn.linear_model._slow"
p = stratum.var("X").skb.mark_as_X().skb.apply(Slow(), y=stratum.var("y").skb.mark_as_y())
try:
    p.skb.make_grid_search(cv=3).fit({"X": X, "y": y})
except KeyboardInterrupt:
    say("STOPPED")
good()
say("NEXT")
"""
    )
    assert (lines, code) == (["STOPPED", "NEXT"], 0), (lines, err)


def test_ctrl_c_abandons_a_library_call_that_cannot_be_stopped():
    """A call that does not come back from C: its worker is left behind and named, and all goes on."""
    lines, err, code = interrupted(
        PREAMBLE
        + """
import os, threading
import sklearn.linear_model

end, release = os.pipe()
inside, returned = [], threading.Semaphore(0)

class Stuck(sklearn.linear_model.Ridge):
    def fit(self, X, y):
        inside.append(1)
        say("READY")
        try:
            os.read(end, 1)  # one call into C: no exception reaches it before it returns
        finally:
            say("RETURNED")
            returned.release()
        return super().fit(X, y)

Stuck.__module__ = "sklearn.linear_model._stuck"
p = stratum.var("X").skb.mark_as_X().skb.apply(Stuck(), y=stratum.var("y").skb.mark_as_y())
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        p.skb.make_grid_search(cv=3).fit({"X": X, "y": y})
    except KeyboardInterrupt:
        say("STOPPED")
texts = [str(w.message) for w in caught]
assert any("abandoned" in t and "Stuck" in t for t in texts), texts
good()
say("NEXT")
os.write(release, bytes(len(inside)))
for _ in inside:
    assert returned.acquire(timeout=60)
"""
    )
    # The call was inside until all had gone on without it.
    assert lines[:2] == ["STOPPED", "NEXT"] and set(lines[2:]) == {"RETURNED"} and code == 0, (lines, err)
