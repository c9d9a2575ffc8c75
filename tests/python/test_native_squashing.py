"""`stratum.native.SquashingScaler` against skrub's: bits, errors, warnings, state."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from amounts import cases
import scipy.sparse
import skrub
from hypothesis import given, settings, strategies as st
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

import stratum
from stratum import _core, native
from stratum.native import _base


def outcome(call):
    """What a call gives: its value or its error, and its warnings."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result = call()
        except Exception as error:
            result = (type(error), str(error))
    return result, [(w.category, str(w.message)) for w in seen]


def same_bits(got, want, what=""):
    assert type(got) is type(want), what
    if isinstance(want, pd.DataFrame):
        pd.testing.assert_frame_equal(got, want, check_exact=True)
        got, want = got.to_numpy(), want.to_numpy()
    if isinstance(want, np.ndarray):
        assert got.dtype == want.dtype and got.shape == want.shape, what
        np.testing.assert_array_equal(got, want, err_msg=what)
        if want.dtype.kind == "f":
            there = ~np.isnan(want)
            np.testing.assert_array_equal(np.signbit(got[there]), np.signbit(want[there]), err_msg=what)
            assert got.flags.c_contiguous == want.flags.c_contiguous, what
    elif hasattr(want, "__dict__"):
        assert list(vars(got)) == list(vars(want)), what
        for name, value in vars(want).items():
            same_bits(vars(got)[name], value, f"{what}.{name}")
    else:
        assert got == want, what


def same_state(mine, theirs):
    assert {*vars(mine)} - {"fitted_by_"} == {*vars(theirs)}
    for name, value in vars(theirs).items():
        same_bits(vars(mine)[name], value, name)


def check(X, parameters=None, other=None):
    """All methods on X (and on `other`, of which nothing was learned); which code has fitted."""
    mine, theirs = native.SquashingScaler(**parameters or {}), skrub.SquashingScaler(**parameters or {})
    before = copy.deepcopy(X)
    got, want = outcome(lambda: mine.fit_transform(X)), outcome(lambda: theirs.fit_transform(X))
    assert got[1] == want[1]
    if isinstance(want[0], tuple):
        assert got[0] == want[0]
        assert outcome(lambda: clone(mine).fit(X))[0] == want[0]
        return "an error"
    same_bits(got[0], want[0])
    same_state(mine, theirs)
    again = clone(mine)
    assert outcome(lambda: again.fit(X))[1] == want[1]
    same_state(again, theirs)
    for data in (X, other) if other is not None else (X,):
        for one in (mine, type(mine).from_original(theirs)):
            got, want = outcome(lambda m=one, d=data: m.transform(d)), outcome(lambda d=data: theirs.transform(d))
            assert got[1] == want[1]
            same_bits(got[0], want[0])
    np.testing.assert_array_equal(mine.get_feature_names_out(), theirs.get_feature_names_out())
    np.testing.assert_array_equal(X, before)
    return mine.fitted_by_


def table(seed, shape, dtype=np.float64, order="C"):
    """Columns of each kind in turn: general, few different numbers, constant, mostly zero, with both zeros."""
    rng = np.random.default_rng(seed)
    X = rng.standard_cauchy(size=shape) * 10
    for j in range(shape[1]):
        if j % 5 == 1:
            X[:, j] = np.round(X[:, j] / 40)
        elif j % 5 == 2:
            X[:, j] = j - 7
        elif j % 5 == 3:
            X[:, j] *= rng.random(shape[0]) < 0.1
        elif j % 5 == 4:
            X[:, j] = np.where(rng.random(shape[0]) < 0.5, -0.0, np.round(X[:, j] / 20))
    if dtype in (np.float16, np.float32, np.float64):
        X[rng.random(shape) < 0.1] = np.nan
        X[rng.random(shape) < 0.02] = np.inf
        X[rng.random(shape) < 0.02] = -np.inf
        X[0] = 1
    else:
        X = np.clip(X, -100, 100)
    with np.errstate(over="ignore"):
        return np.asarray(X, dtype=dtype, order=order)


def test_scikit_learns_checks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine, theirs = (
            {r["check_name"] for r in check_estimator(e, on_fail=None) if r["status"] == "failed"}
            for e in (native.SquashingScaler(), skrub.SquashingScaler())
        )
    assert mine <= theirs


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int8, bool])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (5, 3), (90, 25), (700, 1), (701, 7), (333, 60), (3000, 5)])
def test_tables(dtype, order, shape):
    X = table(1, shape, dtype, order)
    by = check(X, other=table(2, (40, shape[1]), dtype, order))
    assert by == "stratum" or "half precision" in by


@pytest.mark.parametrize("parameters, native_too", [
    ({"quantile_range": (10.0, 77.7)}, True), ({"quantile_range": (0, 100)}, True), ({"max_absolute_value": 5}, True),
    ({"quantile_range": (50.0, 50.0)}, True), ({"max_absolute_value": np.float64(2.5)}, False),
    ({"max_absolute_value": 1e-200}, False), ({"max_absolute_value": 1e300}, False),
    ({"max_absolute_value": True}, False), ({"quantile_range": [25.0, 75.0]}, False),
    ({"quantile_range": (75.0, 25.0)}, False), ({"quantile_range": (-1, 25.0)}, False),
    ({"quantile_range": (25.0,)}, False), ({"max_absolute_value": -1.0}, False),
    ({"max_absolute_value": np.inf}, False), ({"max_absolute_value": "3"}, False),
    ({"max_absolute_value": np.nan}, False), ({"quantile_range": None}, False),
])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_parameters(parameters, native_too, dtype):
    by = check(table(3, (200, 10), dtype), parameters)
    assert (by == "stratum") == native_too


def test_values_made_to_break_it():
    big = np.finfo(np.float64).max
    empty = np.array([[np.nan, 1.0], [np.nan, 2.0], [np.nan, 5.0]])
    cases = [
        np.array([[0.0, -0.0, 1e308], [np.nan, 0.0, -1e308], [5e-324, -0.0, 1.0]]),
        np.array([[1.0], [2.0], [3.0], [4.0], [1e200]]),
        np.array([[1.0], [2.0], [3.0], [4.0], [big]]),
        np.array([[1.0], [2.0], [3.0], [4.0], [1e25]], dtype=np.float32),
        np.array([[1e-310], [2e-310], [3e-310]]),
        np.array([[1.0], [1.0 + 1e-15], [1.0 + 3e-15], [1.0 + 4e-15]]),
        empty,
        np.array([[np.inf, 1.0], [-np.inf, 2.0], [np.nan, 5.0]]),
        np.array([[np.inf, 1.0], [2.0, 3.0]]),
        np.full((4, 2), np.nan),
        np.full((50, 2), 0.1),
        np.array([[-1.0], [1.0]]),
        np.array([[-0.0], [-0.0], [1.0], [-1.0]]),
        np.zeros((0, 3)),
        np.zeros((3, 0)),
        np.arange(12.0),
        np.arange(60.0).reshape(10, 6)[::2, ::-2],
        np.arange(60.0).reshape(10, 6)[::-1].T,
        np.array([["a", "b"], ["c", "d"]], dtype=object),
        np.array([[1, None], [2, 3.5]], dtype=object),
        np.array([[1 + 2j, 1], [2, 3.5]]),
        [[1, 2.5], [3, 4]],
        None,
        3.0,
    ]
    for X in cases:
        check(X)
    assert check(np.array([[1.0], [2.0], [3.0], [4.0], [1e200]])) == "scikit-learn: numbers that leave the range"
    assert "without a number" in check(empty)
    X = np.arange(20.0).reshape(5, 4)
    X.flags.writeable = False
    assert check(X) == "stratum"
    for sparse in (scipy.sparse.csr_matrix(np.eye(3)), scipy.sparse.csc_array(np.eye(3))):
        got, want = (outcome(lambda e=e, X=sparse: e().fit(X)) for e in (native.SquashingScaler, skrub.SquashingScaler))
        assert got == want


def test_what_a_transform_is_given():
    mine, theirs = native.SquashingScaler(), skrub.SquashingScaler()
    X = table(4, (60, 3))
    assert outcome(lambda: mine.transform(X)) == outcome(lambda: theirs.transform(X))
    mine.fit(X)
    theirs.fit(X)
    for data in (X[:, :2], X[:0], "abc", scipy.sparse.csr_matrix(X), np.full((2, 3), 1e300), X[:1].astype(np.float32)):
        got, want = outcome(lambda d=data: mine.transform(d)), outcome(lambda d=data: theirs.transform(d))
        assert got[1] == want[1]
        if isinstance(want[0], tuple):
            assert got[0] == want[0]
        else:
            same_bits(got[0], want[0])
    # a column without numbers has learned nothing: what comes later is NaN
    X[:, 0] = np.nan
    later = table(5, (60, 3))
    check(X, other=later)


@pytest.mark.parametrize("learned", [np.float64, np.float32])
@pytest.mark.parametrize("given_", [np.float64, np.float32, np.float16])
def test_another_precision_later(learned, given_):
    theirs = skrub.SquashingScaler().fit(table(6, (300, 10), learned))
    mine = native.SquashingScaler.from_original(theirs)
    X = table(7, (300, 10)).clip(-1e3, 1e3).astype(given_)
    got, want = outcome(lambda: mine.transform(X)), outcome(lambda: theirs.transform(X))
    assert got[1] == want[1]
    same_bits(got[0], want[0])


def test_frames():
    rng = np.random.default_rng(6)
    frames = [
        pd.DataFrame({"ä": rng.normal(size=9), "b": range(9)}, index=rng.permutation(9)),
        pd.DataFrame(rng.normal(size=(6, 2)), columns=["x", "x"]),
        pd.DataFrame({"i": pd.array([1, 2, 3, 4, None], dtype="Int64"), "f": [1.5, 2, 3, 4, 5]}),
        pd.DataFrame({"f": pd.array([1.5, 2, 3, 4, None], dtype="float[pyarrow]")}),
        pd.DataFrame({"c": pd.Categorical(["1", "2", "1"])}),
        pd.DataFrame({"c": ["a", "b"]}),
        pd.DataFrame({"b": [True, False, True], "i": np.array([1, 2, 3], dtype=np.int8)}),
        pd.DataFrame({"a": []}),
        pd.DataFrame(),
        pd.Series([1.0, 2.0]),
    ]
    for X in frames:
        results = []
        for scaler in (native.SquashingScaler(), skrub.SquashingScaler()):
            scaler.set_output(transform="pandas")
            results.append([outcome(lambda s=scaler, x=X: s.fit_transform(x)), scaler])
        (got, mine), (want, theirs) = results
        assert got[1] == want[1]
        if isinstance(want[0], tuple):
            assert got[0] == want[0]
        else:
            same_bits(got[0], want[0])
            same_state(mine, theirs)


def test_ways_to_and_from_the_original():
    X = table(8, (200, 6))
    mine = native.SquashingScaler(max_absolute_value=2).fit(X)
    original = mine.to_original()
    assert type(original) is skrub.SquashingScaler and not hasattr(original, "fitted_by_")
    assert type(clone(mine)) is native.SquashingScaler
    for other in (
        original, native.SquashingScaler.from_original(original), pickle.loads(pickle.dumps(mine)), copy.deepcopy(mine)
    ):  # fmt: skip
        same_bits(other.transform(X), mine.transform(X))
        assert other.get_params() == mine.get_params()
    with pytest.raises(TypeError, match="is wanted"):
        native.SquashingScaler.from_original(object())


@pytest.mark.parametrize("order", ["C", "F"])
def test_threads_do_not_show(order, monkeypatch):
    monkeypatch.setattr(_base, "PARALLEL_BYTES", 0)
    X = table(9, (5000, 12), order=order)
    results = []
    for threads in (1, 2, 5):
        with native.config_context(n_threads=threads):
            results.append(native.SquashingScaler().fit_transform(X).tobytes())
    assert len(set(results)) == 1


def test_behind_skrubs_class_in_the_engine(monkeypatch):
    seen = []
    original = native.SquashingScaler.fit_transform

    def noted(self, X, y=None):
        seen.append(len(X))
        return original(self, X, y)

    monkeypatch.setattr(native.SquashingScaler, "fit_transform", noted)
    X = table(10, (300, 6))
    want = skrub.SquashingScaler().fit_transform(X)
    assert not seen
    with stratum.config_context(exactness="identical"):
        plan = stratum.var("X").skb.apply(skrub.SquashingScaler())
        got = plan.skb.eval({"X": pd.DataFrame(X)})
        assert seen == [300]
        np.testing.assert_array_equal(np.asarray(got), want)


def test_arrays_that_would_break_memory_are_refused():
    X, one, out = np.ones((4, 3)), np.ones(3), np.empty((4, 3))
    squash = _core.numeric_squash
    assert squash(X, one, one, one, one, 3.0, 1, out) is False
    for k in range(4):
        columns = [one] * 4
        columns[k] = one[:2]
        with pytest.raises(ValueError, match="3 float64 values"):
            squash(X, *columns, 3.0, 1, out)
    for bad in (np.empty((4, 3), order="F"), np.empty((4, 2)), np.empty((4, 3), np.float32)):
        with pytest.raises(ValueError):
            squash(X, one, one, one, one, 3.0, 1, bad)
    out.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        squash(X, one, one, one, one, 3.0, 1, out)
    with pytest.raises(TypeError):
        squash(X.astype(int), one, one, one, one, 3.0, 1, np.empty((4, 3)))


def random_case(seed):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 900)), int(rng.integers(1, 14)))
    X = table(seed, shape, rng.choice([np.float64, np.float32]), rng.choice(["C", "F"]))
    X = X * 10.0 ** rng.integers(-3, 4, size=shape[1])
    low, high = np.sort(rng.random(2) * 100)
    check(X, {"max_absolute_value": float(rng.random() * 9 + 0.1), "quantile_range": (float(low), float(high))})


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_tables(seed):
    random_case(seed)


@pytest.mark.slow
@pytest.mark.many
@settings(max_examples=cases(4000), deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_many_random_tables(seed):
    random_case(seed)
