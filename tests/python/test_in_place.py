"""What is changed in place between two steps of a script counts as it is then, as in plain skrub.

Previews serve later fits and other pipelines: a frame, an array, an estimator or a preview that was written
to since must not be taken for what it was.
"""

from __future__ import annotations

import gc
import threading

import numpy as np
import pandas as pd
import pytest
from sides import same
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler


def table(n=40):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(n, 2)), columns=["a", "b"])
    return X, pd.Series(X.a * 2 + X.b + rng.normal(size=n) * 0.1, name="y")


def searched(search, environment):
    search.fit(environment)
    return search.cv_results_["mean_test_score"], np.asarray(search.predict({"X": environment["X"]}))


def change_frame(X, y):
    X["a"] *= 3
    X.loc[3, "b"] = 100.0


def change_array(X, y):
    X[:, 0] *= 3


def change_target(X, y):
    y.iloc[5] = 50.0


def data_changed_before_the_search(skrub, change, as_array):
    X, y = table()
    X = X.to_numpy().copy() if as_array else X
    d = skrub.X(X).skb.apply(StandardScaler()).skb.apply(Ridge(), y=skrub.y(y))
    change(X, y)
    return searched(d.skb.make_grid_search(cv=3), {"X": X, "y": y})


@pytest.mark.parametrize(
    ("change", "as_array"), [(change_frame, False), (change_array, True), (change_target, False)]
)
def test_data_changed_before_the_search(change, as_array):
    same(data_changed_before_the_search, change, as_array)


def data_changed_between_two_steps(skrub):
    X, y = table()
    X = X.to_numpy().copy()
    before = X.copy()
    x, target = skrub.X(X), skrub.y(y)
    first = x.skb.apply(StandardScaler()).skb.apply(Ridge(), y=target)
    X[:, 0] *= 3
    X[3, 1] = 20.0
    again = x.skb.apply(StandardScaler()).skb.apply(Ridge(), y=target)
    other = x.skb.apply(StandardScaler()).skb.apply(Ridge(alpha=7.0), y=target)
    return (
        np.asarray(first.skb.preview()),
        np.asarray(again.skb.preview()),
        searched(other.skb.make_grid_search(cv=3), {"X": before, "y": y}),
    )


def test_data_changed_between_two_steps():
    same(data_changed_between_two_steps)


def estimator_changed_between_two_steps(skrub):
    X, y = table()
    ridge = Ridge()
    first = skrub.X(X).skb.apply(ridge, y=skrub.y(y))
    ridge.alpha = 1000.0
    second = skrub.X(X).skb.apply(ridge, y=skrub.y(y))
    return np.asarray(first.skb.preview()), np.asarray(second.skb.preview())


def test_estimator_changed_between_two_steps():
    same(estimator_changed_between_two_steps)


def preview_changed(skrub, as_array):
    X, y = table()
    scaled = skrub.X(X.to_numpy() if as_array else X).skb.apply(StandardScaler())
    preview = scaled.skb.preview()
    if as_array:
        preview[:] = 7.0
    else:
        preview.iloc[:, 0] = 7.0
    d = scaled.skb.apply(Ridge(), y=skrub.y(y))
    given = {"X": X.to_numpy() if as_array else X, "y": y}
    return np.asarray(d.skb.preview()), searched(d.skb.make_grid_search(cv=3), given)


@pytest.mark.parametrize("as_array", [False, True])
def test_preview_changed(as_array):
    same(preview_changed, as_array)


def fitted_estimator_changed(skrub):
    X, y = table()
    d = skrub.X(X).skb.apply(Ridge(), y=skrub.y(y))
    d.skb.applied_estimator.skb.preview().coef_ *= 100
    again = skrub.X(X).skb.apply(Ridge(), y=skrub.y(y))
    return np.asarray(again.skb.preview()), searched(d.skb.make_grid_search(cv=3), {"X": X, "y": y})


def test_fitted_estimator_changed():
    same(fitted_estimator_changed)


# -- Steps beside the pipeline ----------------------------------------------------------------------


def zeroes(df):
    df["a"] = 0.0
    return df


class Zeroes(BaseEstimator, TransformerMixin):
    """Changes what it is given."""

    def fit(self, X, y=None):
        X["a"] = 0.0
        return self

    def transform(self, X):
        return X


def changed_by_a_step_beside(skrub, how):
    X, y = table()
    z = skrub.X(X)[["a", "b"]]
    if how == "function":
        z.skb.apply_func(zeroes)
    elif how == "estimator":
        z.skb.apply(Zeroes(), no_wrap=True)
    else:
        z.drop(columns=["a"], inplace=True)
    d = z.skb.apply(StandardScaler()).skb.apply(Ridge(), y=skrub.y(y))
    return searched(d.skb.make_grid_search(cv=3), {"X": X, "y": y})


@pytest.mark.parametrize("how", ["function", "estimator", "method"])
def test_a_step_beside_the_pipeline_changes_its_argument(how):
    """A search does not run it, so the previews that serve its refit must not have seen what it did."""
    same(changed_by_a_step_beside, how)


@pytest.mark.parametrize("changed", [False, True])
def test_an_object_that_two_variables_hold(changed):
    """It is encoded once for both, and compared with what each of them held when it was first read."""
    import stratum
    from stratum.capture import previews

    values = np.arange(12.0).reshape(6, 2)
    step = stratum.var("a", values) * 1
    if changed:
        values[0] = 100.0
    fitted = (step + stratum.var("b", values)).skb.apply(StandardScaler())
    assert (id(fitted) in previews._previews) is not changed


def identity(x):
    return x


@pytest.mark.parametrize(("seconds", "bound"), [(0.0, True), (1e9, False)])
def test_a_long_call_is_worth_what_capturing_it_costs(monkeypatch, seconds, bound):
    """However long it took: what was built since would have to be captured first."""
    import stratum
    from stratum.capture import previews

    monkeypatch.setattr(previews, "LONG_CALL_S", 0.0)
    monkeypatch.setattr(previews, "CAPTURE_S", seconds)
    monkeypatch.setattr(previews, "_long_calls", {})
    called = stratum.var("values", np.arange(3.0)).skb.apply_func(identity)
    assert (id(called) in previews._previews) is bound


@pytest.mark.parametrize(("calls", "most"), [(False, 4), (True, 5)])
def test_a_node_is_few_objects_for_the_collector(calls, most, monkeypatch):
    """Full passes of the collector come with every quarter of more objects: they are half of what building costs."""
    import gc

    import stratum
    from stratum.capture import previews

    monkeypatch.setattr(previews, "LONG_CALL_S", float("inf"))  # on a busy machine a call seems long, and is bound
    monkeypatch.setattr(previews, "_long_calls", {})
    called = stratum.deferred(identity)

    def step(node):
        return called(node) if calls else node + 1

    node = stratum.var("start", 1)
    for _ in range(50):
        node = step(node)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(200):
        node = step(node)
    gc.collect()  # containers of plain values leave its lists
    assert len(gc.get_objects()) - before <= most * 200 + 100


def test_the_collector_may_find_a_search_at_any_time():
    """It ran while a search was being released, found another one, and waited for what its own thread held."""
    import skrub
    import stratum  # noqa: F401
    from stratum.capture import previews

    data = skrub.var("data", pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [0.0, 1.0, 0.0, 1.0]}))
    op = data[["a"]].skb.mark_as_X().skb.apply(Ridge(), y=data["b"].skb.mark_as_y())
    kept = [op.skb.make_grid_search(cv=2)]
    key = id(kept[0])
    assert key in previews._environments

    def collects(held):
        kept.clear()
        gc.collect()
        return held

    def release():
        other = op.skb.make_grid_search(cv=2)
        previews._hold_instead(other, collects)

    thread = threading.Thread(target=release, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert key not in previews._environments
