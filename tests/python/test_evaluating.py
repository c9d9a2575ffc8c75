"""Single evaluations: what the engine's own loop leaves and says is what skrub's evaluator does.

A case runs with plain skrub in a process of its own and with stratum here (see `sides`). On our side skrub's
evaluator is out of order: what still went through it fails.
"""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pandas as pd
import pytest
import sides
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.preprocessing import StandardScaler


pytestmark = pytest.mark.usefixtures("no_evaluator")


def table(n=40, seed=0):
    rng = np.random.default_rng(seed)
    df = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    df["y"] = df["a"] - 2 * df["b"] + rng.normal(size=n) * 0.1
    return df


def pipeline(skrub, estimator=None):
    data = skrub.var("data")
    X = data.drop(columns="y").skb.mark_as_X()
    y = data["y"].skb.mark_as_y()
    X = X.assign(d=X["a"] * X["b"]).skb.set_name("wide")
    return X.skb.apply(StandardScaler()).skb.apply(Ridge() if estimator is None else estimator, y=y)


def nodes_of(data_op):
    from skrub._data_ops import _evaluation

    return [node._skrub_impl for node in _evaluation.nodes(data_op)]


# -- Values ---------------------------------------------------------------------------------------


def values_and_environments(skrub):
    a, b = skrub.var("a", 1), skrub.var("b", 10, becomes_default=True)
    c = (a + b).skb.set_name("c")
    d = skrub.as_data_op({"list": [a, (b, c)], "set": {1, 2}, "text": "x"})
    e = skrub.var("text", "abcdef")[a : a + 2]
    return [
        c.skb.eval(), c.skb.eval({"a": 5}), c.skb.eval({"c": 99}), c.skb.eval({"a": 1, "b": 2}),
        d.skb.eval({"a": 2, "c": 0}), d.skb.eval(), d.skb.preview(), e.skb.eval(), e.skb.eval({"text": "xyz", "a": 0}),
        skrub.eval_mode().skb.eval(), (c * 2).skb.eval({c._skrub_impl.uuid: 7}),
    ]  # fmt: skip


def choices(skrub):
    number = skrub.choose_from([1, 2, 3], name="number")
    power = number.match({1: "one", 2: "two"}, default="many")
    op = skrub.as_data_op([number, power, skrub.choose_float(0.0, 1.0, name="f"), skrub.choose_bool(name="yes")])
    learner = op.skb.make_learner()
    before = learner.fit_transform({})
    learner.set_named_params(number=2)
    return [op.skb.eval(), before, learner.fit_transform({}), op.skb.eval({"number": 2, "f": 0.5}), op.skb.preview()]


def branches(skrub):
    a = skrub.var("a")
    half = skrub.deferred(lambda x: 1 / x)(a)
    picked = (a != 0).skb.if_else(half, "zero")
    word = a.skb.match({0: half, 1: "one"}, default=a + 100)
    return [picked.skb.eval({"a": v}) for v in (0, 2)] + [word.skb.eval({"a": v}) for v in (1, 5)]


def frozen_and_joined(skrub):
    df = table()
    X = skrub.var("X")
    mean = X.mean().skb.freeze_after_fit()
    both = (X - mean).skb.concat([X.add_prefix("raw_")], axis=1)
    learner = both.skb.make_learner()
    fitted = learner.fit_transform({"X": df})
    return [fitted, learner.transform({"X": df.head(3)}), learner.transform({"X": df.tail(1)})]


@pytest.mark.parametrize("case", [values_and_environments, choices, branches, frozen_and_joined])
def test_values(case):
    sides.same(case)


def the_same_object(skrub):
    df = table()
    x = skrub.var("x")
    kept = skrub.as_data_op({"frame": x, "other": [x]}).skb.eval({"x": df})
    return [x.skb.eval({"x": df}) is df, kept["frame"] is df, kept["other"][0] is df]


def test_environment_values_come_back_as_they_are():
    assert sides.same(the_same_object).value == [True, True, True]


def order_of_calls(skrub):
    seen = []

    def note(name):
        def f(*args):
            seen.append(name)
            return name

        return skrub.deferred(f)

    a = skrub.var("a")
    left, right = note("left")(a), note("right")(a)
    both = note("both")(right, left, [note("inside")(left)])
    note("last")(both, note("never used twice")(right)).skb.eval({"a": 1})
    return seen


def changes_in_place(skrub):
    df = table(5)

    @skrub.deferred
    def add_column(frame):
        frame["new"] = 1.0
        return len(frame)

    x = skrub.var("x")
    copy = x.copy()
    result = skrub.as_data_op([add_column(copy), copy, copy.shape]).skb.eval({"x": df})
    return [list(df.columns), list(result[1].columns), result[2]]


def test_order_and_changes_in_place():
    sides.same(order_of_calls)
    sides.same(changes_in_place)


def one_at_a_time(skrub):
    """How many of the values made so far are alive when each node runs."""
    alive = weakref.WeakSet()
    counts = []

    class Thing:
        pass

    @skrub.deferred
    def step(before):
        thing = Thing()
        gc.collect()
        counts.append(len(alive))
        alive.add(thing)
        return thing

    x = step(skrub.var("path"))
    for _ in range(6):
        x = step(x)
    x.skb.eval({"path": "some text: nobody knows how much comes of it"})
    return counts


def test_values_go_with_their_last_reader():
    assert max(sides.same(one_at_a_time).value) <= 2


# -- Errors ---------------------------------------------------------------------------------------


def fails(skrub, which):
    @skrub.deferred
    def broken(x):
        if which == "stop":
            raise StopIteration("at once")
        return x / 0

    a = skrub.var("a")
    learner = pipeline(skrub).skb.make_learner()
    if which in ("function", "stop"):
        return (broken(a) + 1).skb.eval({"a": 3})
    if which == "missing":
        return (a + skrub.var("b")).skb.eval({"a": 3, "unknown": 1})
    if which == "unfitted":
        return learner.predict({"data": table()})
    if which == "predict":
        learner.fit({"data": table()})
        return learner.predict({"data": table()[["a", "y"]]})
    if which == "missing in predict":
        return learner.fit({"data": table()}).predict({"dta": table()})
    if which == "environment":
        return a.skb.eval([1, 2])
    if which == "data op in environment":
        return (a + 1).skb.make_learner().fit({"a": skrub.var("c", 1)})
    if which == "choice in environment":
        return (a + 1).skb.make_learner().fit({"a": [skrub.choose_from([1, 2])]})
    if which == "cycle":
        circle = {}
        circle["again"] = [circle]
        with skrub.config_context(eager_data_ops=False):
            return skrub.as_data_op(circle).skb.make_learner().fit_transform({})
    if which == "preview":
        return broken(skrub.var("with value", 1))
    raise AssertionError(which)


@pytest.mark.parametrize(
    "which, error",
    [
        ("function", "ZeroDivisionError"), ("stop", "RuntimeError"), ("missing", "UninitializedVariable"),
        ("unfitted", "NotFittedError"), ("predict", "KeyError"), ("missing in predict", "UninitializedVariable"),
        ("environment", "TypeError"), ("data op in environment", "TypeError"),
        ("choice in environment", "TypeError"), ("cycle", "CircularReferenceError"), ("preview", "RuntimeError"),
    ],
)  # fmt: skip
def test_errors(which, error):
    sides.same(fails, which, error=error)


# -- What is left on nodes ------------------------------------------------------------------------


def left_behind(skrub, clear, mode):
    from skrub._data_ops import _evaluation

    predictor = pipeline(skrub)
    learner = predictor.skb.make_learner().fit({"data": table()})
    seen = []

    def call(data_op, result, duration, env_key):
        seen.append((repr(data_op._skrub_impl), type(result).__name__, env_key, duration >= 0))

    environment = {"data": table(7)}
    _evaluation.evaluate(learner.data_op, mode, environment, clear=clear, callbacks=(call,))
    found = [
        (
            repr(impl), {k: type(v).__name__ for k, v in impl.results.items()}, list(impl.errors),
            {k: (sorted(v), v["env_key"]) for k, v in impl.metadata.items()}, sorted(k for k in vars(impl) if k.endswith("_")),
        )
        for impl in nodes_of(learner.data_op)
    ]  # fmt: skip
    return seen, found


@pytest.mark.parametrize("mode", ["fit", "fit_transform", "predict", "score", "transform"])
@pytest.mark.parametrize("clear", [True, False])
def test_what_is_left_on_nodes(clear, mode):
    sides.same(left_behind, clear, mode)


def error_left_behind(skrub):
    from skrub._data_ops import _evaluation

    op = skrub.deferred(lambda x: x / 0)(skrub.var("a") + 1) + 1
    try:
        _evaluation.evaluate(op, "fit_transform", {"a": 1}, clear=False)
    except ZeroDivisionError:
        pass
    return [
        (repr(i), sorted(i.results), {k: repr(v) for k, v in i.errors.items()}, list(i.metadata)) for i in nodes_of(op)
    ]


def cleared_first(skrub):
    """What an evaluation without clearing left is gone after one with it, and was not used by it."""
    from skrub._data_ops import _evaluation

    op = skrub.var("a") + 1
    kept = _evaluation.evaluate(op, "fit_transform", {"a": 1}, clear=False)
    again = _evaluation.evaluate(op, "fit_transform", {"a": 5}, clear=False)
    fresh = op.skb.eval({"a": 10})
    return kept, again, fresh, [sorted(i.results) for i in nodes_of(op)]


def previews(skrub):
    x = skrub.var("x", table(6))
    op = x[["a", "b"]].skb.apply(StandardScaler()).skb.set_name("scaled")
    return [(repr(i), sorted(i.results), sorted(i.metadata["preview"])) for i in nodes_of(op)], op.skb.preview()


def test_errors_and_previews_on_nodes():
    sides.same(error_left_behind)
    sides.same(cleared_first)
    sides.same(previews)


# -- Randomness -----------------------------------------------------------------------------------


def global_generator(skrub):
    """Draws of previews and fits, in skrub's order, from a generator that the script has seeded."""
    np.random.seed(7)
    df = table()
    X = skrub.var("X", df[["a", "b", "c"]]).skb.mark_as_X()
    y = skrub.var("y", df["y"]).skb.mark_as_y()
    predictor = X.sample(frac=1.0).sort_index().skb.apply(RandomForestRegressor(n_estimators=3), y=y)
    between = np.random.rand()
    learner = predictor.skb.make_learner()
    environment = {"X": df[["a", "b", "c"]], "y": df["y"]}
    first = learner.fit(environment).predict(environment)
    second = learner.fit(environment).predict(environment)
    return [predictor.skb.preview(), between, first, second, np.random.rand()]


def own_generator(skrub):
    rng = np.random.RandomState(3)
    X = skrub.var("X", table(20))
    first = X.sample(n=4, random_state=rng)
    second = X.sample(n=4, random_state=rng)
    return [first.skb.preview(), second.skb.preview(), first.skb.eval(), rng.rand()]


def test_generators():
    sides.same(global_generator)
    sides.same(own_generator)


# -- Fits on many rows: the graph -----------------------------------------------------------------

MANY = 60_000  # rows; four columns of them are more than `fitting.LEAST_CELLS`


def fits_of(skrub, estimator_index, method, rows):
    df = table(rows)
    estimator = [Ridge(), LinearRegression(), PCA(2, random_state=0)][estimator_index]
    data = skrub.var("data")
    X = data[["a", "b", "c"]].skb.mark_as_X()
    y = data["y"].skb.mark_as_y()
    left = X.skb.apply(StandardScaler(), cols=["a"])
    right = (X * 2).skb.apply(PCA(1, random_state=0)).add_prefix("right_")
    both = left.skb.concat([right], axis=1)
    op = both.skb.apply(estimator) if estimator_index == 2 else both.skb.apply(estimator, y=y)
    learner = op.skb.make_learner()
    if method == "fit":
        learner.fit({"data": df})
        out = learner.transform({"data": df.head(5)}) if estimator_index == 2 else learner.predict({"data": df.head(5)})
    else:
        out = learner.fit_transform({"data": df})
    last = learner.find_fitted_estimator(op._skrub_impl.name) if op._skrub_impl.name else None
    states = [sorted(k for k in vars(impl) if k.endswith("_")) for impl in nodes_of(learner.data_op)]
    return out, last, states, [sorted(i.results) for i in nodes_of(learner.data_op)]


@pytest.mark.parametrize("method", ["fit", "fit_transform"])
@pytest.mark.parametrize("estimator", [0, 1, 2])
def test_fits_by_the_graph(estimator, method):
    import stratum

    sides.same(fits_of, estimator, method, MANY)
    stats = stratum.last_run()
    assert stats.nodes_run >= 5 and stats.fallbacks == []


def fails_in_graph(skrub):
    df = table(MANY)
    df.loc[3, "a"] = np.inf
    data = skrub.var("data")
    op = data[["a", "b", "c"]].skb.apply(StandardScaler()).skb.apply(Ridge(), y=data["y"])
    return op.skb.make_learner().fit({"data": df})


def popped(skrub):
    """A method that changes its frame: who reads it first decides what is in it."""
    data = skrub.var("data").copy()
    y = data.pop("y")
    learner = data.skb.apply(StandardScaler()).skb.apply(Ridge(), y=y).skb.make_learner()
    fitted = learner.fit_transform({"data": table(MANY)})
    return fitted, learner.data_op._skrub_impl.estimator_.coef_


def test_methods_that_change_their_object_keep_their_order():
    sides.same(popped)


def nothing_fitted(skrub):
    return skrub.var("data")[["b", "a"]].skb.eval({"data": table(MANY)}).head(3)


def test_what_fits_nothing_needs_no_graph():
    import stratum

    stratum.run([stratum.lazy.eval(stratum.var("a", 1) + 1)])
    before = stratum.last_run()
    sides.same(nothing_fitted)
    assert stratum.last_run() is before


def missing_in_graph(skrub):
    data = skrub.var("data")
    return data.skb.apply(StandardScaler()).skb.concat([skrub.var("other")], axis=1).skb.eval({"data": table(MANY)})


def test_errors_of_the_graph():
    sides.same(fails_in_graph, error="ValueError")
    sides.same(missing_in_graph, error="UninitializedVariable")


def test_previews_serve_fits_and_stay_apart():
    """A fit of what was previewed computes nothing, and gives an estimator that is nobody else's."""
    import stratum as skrub

    df = table(MANY)
    X = skrub.var("X", df[["a", "b", "c"]]).skb.mark_as_X()
    op = X.skb.apply(StandardScaler()).skb.apply(Ridge(), y=skrub.var("y", df["y"]).skb.mark_as_y())
    expected = op.skb.preview().copy()
    environment = {"X": df[["a", "b", "c"]], "y": df["y"]}
    first = op.skb.make_learner().fit(environment)
    assert skrub.last_run().reused > 0 and skrub.last_run().nodes_run == 1  # the delivery
    fitted = first.data_op._skrub_impl.estimator_
    fitted.coef_[:] = 0.0
    value = op.skb.eval()
    assert np.allclose(value, expected)
    value.iloc[:] = -1.0
    second = op.skb.make_learner().fit(environment)
    assert second.data_op._skrub_impl.estimator_ is not fitted
    assert np.allclose(second.predict(environment), expected)
    assert np.allclose(op.skb.eval(), expected) and np.allclose(op.skb.preview(), expected)


def test_results_of_batches_are_not_what_previews_keep():
    """What `stratum.lazy.eval` gives may be changed; an equal pipeline gets its own."""
    import stratum as skrub

    df = table(200)
    op = skrub.var("X", df[["a", "b", "c"]]).skb.apply(StandardScaler())
    expected = op.skb.preview().copy()
    (value,) = skrub.run([skrub.lazy.eval(op)])
    fitted = op._skrub_impl.estimator_
    value.iloc[:] = -1.0
    assert skrub.run([skrub.lazy.eval(op)])[0].equals(expected) and op.skb.preview().equals(expected)
    assert op._skrub_impl.estimator_ is not fitted


class Loud(TransformerMixin, BaseEstimator):
    """An estimator of the user: where it runs, and in which order, is skrub's business."""

    seen: list = []

    def __init__(self, name=""):
        self.name = name

    def fit(self, X, y=None):
        self.seen.append((self.name, threading.current_thread() is threading.main_thread()))
        return self

    def transform(self, X):
        return X


def order_of_many_rows(skrub):
    Loud.seen.clear()
    x = skrub.var("x")
    first, second = x.skb.apply(Loud("first")), x.skb.apply(Loud("second"))
    second.skb.concat([first], axis=0).skb.eval({"x": table(MANY)})
    return list(Loud.seen)


def test_code_of_users_keeps_its_order():
    assert sides.same(order_of_many_rows).value == [("second", True), ("first", True)]


# -- Threads --------------------------------------------------------------------------------------


def test_predicting_in_several_threads():
    """Values are not put on the learner's nodes: threads do not see each other's rows."""
    import stratum as skrub

    learner = pipeline(skrub).skb.make_learner().fit({"data": table()})
    frames = [table(n, seed=n) for n in range(1, 9)]
    expected = [learner.predict({"data": df}) for df in frames]
    wrong = []

    def work(i):
        for _ in range(15):
            if not np.array_equal(learner.predict({"data": frames[i]}), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(frames))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def deep(skrub):
    with skrub.config_context(eager_data_ops=False):
        x = skrub.var("x")
        for _ in range(1500):
            x = x + 1
        nested = skrub.as_data_op([[[[x, {"a": (x,)}]]]])
    return nested.skb.eval({"x": 0})


def test_depth_costs_no_stack():
    sides.same(deep)
