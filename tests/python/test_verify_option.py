"""`verify=True`: both ways run and are compared; a difference is an error that says where."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler


def data(n=45):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    return X, pd.Series(X["a"] + rng.normal(size=n), name="y")


def pipeline(step=None):
    import stratum

    X, y = data()
    x = stratum.var("X", X).skb.mark_as_X()
    if step is not None:
        x = x.skb.apply_func(step)
    x = x.skb.apply(StandardScaler())
    return x.skb.apply(Ridge(alpha=stratum.choose_from([0.1, 10.0], name="alpha")), y=stratum.var("y", y).skb.mark_as_y())


@pytest.fixture
def verifying():
    import stratum

    with stratum.config_context(verify=True):
        yield stratum


def test_equal_results_pass(verifying):
    search = pipeline().skb.make_grid_search(fitted=True, cv=3)
    assert len(search.results_) == 2 and verifying.last_run().nodes_run > 0
    table = pipeline().skb.cross_validate(cv=3)
    assert len(table) == 3
    values = verifying.run([verifying.lazy.eval(verifying.var("a", 1) + k) for k in range(3)])
    assert values == [1, 2, 3]


def other_each_time(df, calls=[]):  # noqa: B006
    """Not a function of its arguments, by means that nobody can see."""
    calls.append(1)
    return df + len(calls)


other_each_time._stratum_purity = "pure"


def noisy(df):
    return df + np.random.default_rng().normal(size=df.shape)


noisy._stratum_purity = "pure"


def test_a_difference_is_an_error_that_says_where(verifying):
    with pytest.raises(verifying.VerifyError, match=r"differ at search\['.*split0_test_score'\]"):
        pipeline(noisy).skb.make_grid_search(cv=3, fitted=True)
    op = verifying.var("X", data()[0]).skb.apply_func(other_each_time)
    with pytest.raises(AssertionError, match="differ at eval"):
        verifying.run([verifying.lazy.eval(op)])


def fails(df):
    raise KeyError("gone")


def test_equal_errors_pass(verifying):
    op = verifying.var("a", 1)
    with verifying.config_context(eager_data_ops=False):
        failing = op.skb.apply_func(fails)
    with pytest.raises(KeyError, match="gone"):
        verifying.run([verifying.lazy.eval(failing)])


def test_one_difference_leaves_the_other_items(verifying):
    X, _ = data()
    bad = verifying.lazy.eval(verifying.var("X", X).skb.apply_func(noisy))
    good = verifying.lazy.eval(verifying.var("a", 1) + 1)
    results = verifying.run([bad, good], on_error="return")
    assert isinstance(results[0], verifying.VerifyError) and results[1] == 2


def test_users_pipeline_is_untouched(verifying):
    pred = pipeline()
    before = {k: id(v) for k, v in vars(pred._skrub_impl).items() if k not in ("results", "errors", "metadata")}
    search = pred.skb.make_grid_search(cv=3)
    X, y = data()
    assert search.fit({"X": X, "y": y}) is search
    assert {k: id(v) for k, v in vars(pred._skrub_impl).items() if k in before} == before


def test_single_evaluations_are_compared(verifying, monkeypatch):
    """Learners run both ways too; what they leave on nodes is the engine's."""
    from stratum.hosts import evaluating

    X, y = data()
    environment = {"X": X, "y": y}
    learner = pipeline().skb.make_learner().fit(environment)
    assert learner.__sklearn_is_fitted__() and len(learner.predict(environment)) == len(X)
    original = evaluating.in_order
    monkeypatch.setattr(evaluating, "in_order", lambda *args: original(*args) + 1e-3)
    with pytest.raises(verifying.VerifyError, match="differ at predict"):
        learner.predict(environment)
    with verifying.config_context(verify=False):
        learner.predict(environment)


def test_what_draws_is_not_compared(verifying):
    X, y = data()
    op = verifying.var("X", X).sample(n=5)
    assert len(op.skb.eval()) == 5
    forest = verifying.var("X", X).skb.apply(RandomForestRegressor(3), y=y)
    assert len(forest.skb.make_learner().fit_transform({"X": X})) == len(X)
