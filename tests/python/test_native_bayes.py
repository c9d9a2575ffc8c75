"""`stratum.native.MultinomialNB` against scikit-learn's own: bits, errors, warnings, state."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from amounts import cases
import scipy.sparse
import sklearn
from hypothesis import given, settings, strategies as st
from sklearn import naive_bayes
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

import stratum
from stratum import _core, native
from stratum.hosts import kernels
from stratum.native import _base

STATE = ("classes_", "class_count_", "feature_count_", "class_log_prior_", "feature_log_prob_")


def outcome(call: Any) -> Any:
    """What a call gives: its value or its error, and its warnings."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result = call()
        except Exception as error:
            result = (type(error), str(error))
    return result, [(w.category, str(w.message)) for w in seen]


def same(mine: Any, theirs: Any, rtol: float = 0) -> None:
    """Fitted attributes: names, types, and values (their bits, without a tolerance)."""
    a, b = ({k: v for k, v in vars(e).items() if k != "fitted_by_"} for e in (mine, theirs))
    assert a.keys() == b.keys()
    for name, want in b.items():
        got = a[name]
        assert type(got) is type(want), name
        if not isinstance(want, np.ndarray):
            continue
        assert got.dtype == want.dtype and got.shape == want.shape, name
        if rtol and want.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol, err_msg=name)
        else:
            np.testing.assert_array_equal(got, want, err_msg=name)


def check(X: Any, y: Any, weight: Any = None, rtol: float = 0, **parameters: Any) -> Any:
    """Fit both and compare what they are, say and predict; returns ours."""
    mine, theirs = native.MultinomialNB(**parameters), naive_bayes.MultinomialNB(**parameters)
    got = outcome(lambda: mine.fit(X, y, sample_weight=weight))
    want = outcome(lambda: theirs.fit(X, y, sample_weight=weight))
    assert got[1] == want[1]
    if want[0] is not theirs:
        assert got[0] == want[0]
        return mine
    same(mine, theirs, rtol)
    for method in ("predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba"):
        a, b = outcome(lambda m=method: getattr(mine, m)(X)), outcome(lambda m=method: getattr(theirs, m)(X))
        assert a[1] == b[1]
        if rtol and method != "predict":
            np.testing.assert_allclose(a[0], b[0], rtol=rtol, atol=rtol)
        else:
            np.testing.assert_array_equal(a[0], b[0])
    return mine


def counts(seed: int, n: int = 300, p: int = 40, dtype: Any = np.int64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.integers(1, 6, (n, p)) * (rng.random((n, p)) < 0.3)).astype(dtype)


LABELS = {
    "two": lambda r, n: r.integers(0, 2, n),
    "five": lambda r, n: r.integers(-2, 3, n).astype(np.int8),
    "far": lambda r, n: r.choice([-(10**12), 7, 10**12], n),
    "unsigned": lambda r, n: r.integers(250, 256, n).astype(np.uint8),
    "bool": lambda r, n: r.random(n) < 0.4,
    "floats": lambda r, n: r.integers(0, 3, n).astype(np.float64),
    "strings": lambda r, n: r.choice(np.array(["b", "ä", "ccc"], dtype=object), n),
    "fixed": lambda r, n: r.choice(["no", "yes"], n),
    "series": lambda r, n: pd.Series(r.choice(["no", "yes"], n), index=np.arange(n) * 2),
    "categories": lambda r, n: pd.Series(r.choice(["no", "yes"], n), dtype="category"),
    "list": lambda r, n: r.integers(0, 2, n).tolist(),
    "column": lambda r, n: r.integers(0, 2, (n, 1)),
    "one": lambda r, n: np.full(n, 3),
    "uneven": lambda r, n: (r.random(n) < 0.02).astype(int),
}


@pytest.mark.slow
def test_scikit_learns_checks() -> None:
    with warnings.catch_warnings(), sklearn.config_context(assume_finite=False):
        warnings.simplefilter("ignore")
        found = {
            name: {r["check_name"] for r in check_estimator(cls(), on_fail=None) if r["status"] == "failed"}
            for name, cls in (("mine", native.MultinomialNB), ("theirs", naive_bayes.MultinomialNB))
        }
    assert found["mine"] <= found["theirs"]


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_input_has_the_originals_bits(labels: str, weighted: bool) -> None:
    rng = np.random.default_rng(len(labels))
    X = scipy.sparse.csr_matrix(counts(1))
    y = LABELS[labels](rng, 300)
    weight = rng.random(300) if weighted else None
    with native.config_context(exactness="identical"):
        assert check(X, y, weight).fitted_by_ == "stratum"
        fractions = X.astype(np.float64)
        fractions.data *= rng.random(fractions.nnz)
        assert check(fractions, y, weight).fitted_by_ == "stratum"


@pytest.mark.parametrize(
    "form",
    [
        scipy.sparse.csr_array, scipy.sparse.csc_matrix, scipy.sparse.coo_array, np.asarray, np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=1)[:, ::2], lambda X: X[::-1], pd.DataFrame, lambda X: X.tolist(),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int32, np.int8, np.uint16, np.uint64, np.bool_])
def test_whole_counts_have_the_originals_bits(form: Any, dtype: Any) -> None:
    X = form(counts(2, dtype=dtype))
    y = np.random.default_rng(3).integers(0, 4, 300)
    with native.config_context(exactness="identical"):
        made = check(X, y)
    assert made.fitted_by_ == "stratum"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("weighted", [False, True])
def test_fractions_in_dense_input(order: str, dtype: Any, weighted: bool) -> None:
    rng = np.random.default_rng(4)
    X = np.asarray(rng.random((3000, 30)), dtype=dtype, order=order)
    y, weight = rng.integers(0, 3, 3000), rng.random(3000) if weighted else None
    assert check(X, y, weight, rtol=1e-12).fitted_by_ == "stratum"
    with native.config_context(exactness="identical"):
        assert "BLAS" in check(X, y, weight).fitted_by_


@pytest.mark.parametrize(
    "parameters",
    [
        {"alpha": 0.3}, {"alpha": 0}, {"alpha": 0, "force_alpha": False}, {"alpha": np.linspace(0.1, 2, 40)},
        {"alpha": [1.0, 2.0]}, {"alpha": -1.0}, {"alpha": np.full(40, -1.0)}, {"alpha": "much"},
        {"fit_prior": False}, {"class_prior": [0.2, 0.3, 0.5]}, {"class_prior": [0.5, 0.5]},
        {"fit_prior": False, "class_prior": [0.2, 0.3, 0.5]},
    ],
)  # fmt: skip
def test_parameters(parameters: dict[str, Any]) -> None:
    X, y = counts(5), np.arange(300) % 3
    check(X, y, **parameters)
    check(scipy.sparse.csr_array(X), y, np.linspace(0, 1, 300), **parameters)


def _with(X: Any, value: Any, dtype: Any = np.float64) -> Any:
    X = X.astype(dtype)
    X[7, 3] = value
    return X


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    "case",
    ["nan", "inf", "negative", "minus zero", "large", "huge", "empty", "no columns", "one row", "y short", "y nan",
     "y continuous", "y many", "y pairs", "y None", "weight short", "weight nan", "weight negative", "weight zero",
     "weight text", "weight one", "objects", "text"],
)  # fmt: skip
def test_what_is_made_to_break_it(case: str, sparse: bool) -> None:
    X, y, weight = counts(6), np.arange(300) % 3, None
    if case in ("nan", "inf", "negative", "minus zero"):
        X = _with(X, {"nan": np.nan, "inf": np.inf, "negative": -1, "minus zero": -0.0}[case])
    elif case == "large":
        X = X * (2**52 + 1)
    elif case == "huge":
        X = _with(X, 1.7e308)
        X[10, 3] = 1e308  # (of the same class)
    elif case in ("empty", "no columns", "one row"):
        X = {"empty": X[:0], "no columns": X[:, :0], "one row": X[:1]}[case]
        y = y[: len(X)]
    elif case.startswith("y "):
        y = {
            "short": y[:-1], "nan": np.where(y == 0, np.nan, y), "continuous": y / 2, "many": np.arange(300),
            "pairs": np.column_stack([y, y]), "None": None,
        }[case[2:]]  # fmt: skip
    elif case.startswith("weight "):
        weight = {
            "short": np.ones(3), "nan": np.where(y == 0, np.nan, 1.0), "negative": np.where(y == 0, -1.0, 1.0),
            "zero": np.zeros(300), "text": ["a"] * 300, "one": 2.5,
        }[case[7:]]  # fmt: skip
    elif case == "objects":
        X = X.astype(object)
    elif case == "text":
        X = np.full((300, 2), "word", dtype=object)
    if sparse:
        if X.dtype == object:
            pytest.skip("no sparse matrix of objects")
        X = scipy.sparse.csr_matrix(X)
    with np.errstate(all="ignore"):
        check(X, y, weight, rtol=1e-12)


@pytest.mark.parametrize("labels", [np.int8, np.int16, np.int32])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.int32, np.uint64])
def test_short_labels_and_numbers(labels: Any, dtype: Any) -> None:
    y = (np.arange(300) % 3).astype(labels)
    for X in (counts(13, dtype=dtype), (counts(13) * 400).astype(dtype)):
        for form in (np.asarray, scipy.sparse.csr_matrix):
            with np.errstate(all="ignore"):
                check(form(X), y)
                check(form(X), y, np.ones(300))


def test_partial_fits() -> None:
    for form in (np.asarray, scipy.sparse.csr_matrix):
        for labels in ("two", "strings", "floats", "bool"):
            y = np.asarray(LABELS[labels](np.random.default_rng(8), 300))
            X, classes = form(counts(7)), np.unique(y)
            mine, theirs = native.MultinomialNB(), naive_bayes.MultinomialNB()
            for rows in (slice(0, 100), slice(100, 101), slice(101, 300)):
                for model in (mine, theirs):
                    weight = np.linspace(0, 1, 300)[rows] if rows.start else None
                    first = rows.start == 0
                    model.partial_fit(X[rows], y[rows], classes=classes if first else None, sample_weight=weight)
                same(mine, theirs, 1e-12)
                assert mine.fitted_by_ == "stratum"


def test_partial_fits_that_go_wrong() -> None:
    X, y = counts(9), np.arange(300) % 3
    for steps in (
        [(X, y, None)], [(X, y, [0, 1])], [(X, y, [2, 1, 0])], [(X, y, [0, 1, 2, 9])], [(X, y, [0, 1, 2]), (X[:, :3], y, None)],
        [(X, y, [0, 1, 2]), (X, y, [0, 1])], [(X, y, [0, 1, 2]), (X, y + 5, None)], [(X, y, ["a", "b", "c"])],
        [(X, y % 2, [0, 1]), (X, y, None)], [(-X, y, [0, 1, 2])], [(-X, y, [0, 1, 2]), (X, y, [0, 1, 2])], [(X, y, [])],
        [(X, y == 1, [False, True])], [(X, y, [0.0, 1.0, 2.0])], [(X, np.zeros(300, int), [0])],
    ):  # fmt: skip
        mine, theirs = native.MultinomialNB(), naive_bayes.MultinomialNB()
        for data, target, classes in steps:
            got, want = (
                outcome(lambda m=m: m.partial_fit(data, target, classes=classes) and None) for m in (mine, theirs)  # noqa: B023
            )
            assert got == want
        same(mine, theirs)


def test_threads_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_base, "PARALLEL_BYTES", 1)
    rng = np.random.default_rng(10)
    X, y = rng.random((5000, 200)), rng.integers(0, 5, 5000)
    for data in (X, np.asfortranarray(X), scipy.sparse.csr_array(X * (X < 0.1))):
        made = []
        for n in (1, 2, 3):
            with native.config_context(n_threads=n):
                made.append(native.MultinomialNB().fit(data, y))
        for other in made[1:]:
            same(other, made[0])


def test_ways_to_and_from_the_original() -> None:
    X, y = pd.DataFrame(counts(11), columns=[f"w{j}" for j in range(40)]), np.arange(300) % 3
    made = native.MultinomialNB(alpha=0.5).fit(X, y)
    plain = made.to_original()
    assert type(plain) is naive_bayes.MultinomialNB and not hasattr(plain, "fitted_by_")
    again = native.MultinomialNB.from_original(plain)
    for other in (plain, again, pickle.loads(pickle.dumps(made))):
        np.testing.assert_array_equal(other.predict_proba(X), made.predict_proba(X))
    assert clone(made).get_params() == made.get_params()
    X.to_numpy().setflags(write=False)
    with pytest.raises(ValueError, match="feature names"):
        made.partial_fit(X.iloc[:, ::-1], y)


def test_behind_scikit_learns_class() -> None:
    X, y = counts(12), np.arange(300) % 3
    wanted = naive_bayes.MultinomialNB().fit(X, y).partial_fit(X, y)
    for exactness in ("identical", "equivalent"):
        with stratum.config_context(exactness=exactness), kernels.on():
            made = naive_bayes.MultinomialNB().fit(X, y).partial_fit(X, y)
        assert type(made) is naive_bayes.MultinomialNB and "fitted_by_" not in vars(made)
        same(made, wanted)


def test_the_kernel_checks_what_would_break_memory() -> None:
    X, codes = np.ones((4, 2)), np.zeros(4, np.uint32)
    out = np.empty(2)
    assert _core.numeric_counts(X, None, None, 2, codes, 1, None, 1, out) == 0
    good = scipy.sparse.csr_array(X)
    bad = good.indices.copy()
    bad[3] = 2
    for arguments in (
        (X, None, None, 3, codes, 1, None, 1, out), (X, None, None, 2, codes[1:], 1, None, 1, out),
        (X, None, None, 2, codes + np.uint32(1), 1, None, 1, out), (X, None, None, 2, codes, 1, X[0], 1, out),
        (X, None, None, 2, codes, 1, None, 1, out[1:]), (X.astype(np.int8), None, None, 2, codes, 1, None, 1, out),
        (X[0], None, None, 2, codes, 1, None, 1, out),
        (good.data, good.indptr, bad, 2, codes, 1, None, 1, out),
        (good.data, good.indptr + 1, good.indices, 2, codes, 1, None, 1, out),
        (good.data, good.indptr.astype(np.int64), good.indices, 2, codes, 1, None, 1, out),
        (good.data[::2], good.indptr, good.indices[::2], 2, codes, 1, None, 1, out),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError, BufferError)):
            _core.numeric_counts(*arguments)


def random_case(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, p = int(rng.integers(1, 200)), int(rng.integers(1, 30))
    X = rng.random((n, p)) * (rng.random((n, p)) < 0.4)
    if rng.random() < 0.5:
        X = np.floor(X * 5)
    X = X.astype(rng.choice([np.float64, np.float32, np.int64]))
    form = rng.choice(["csr", "C", "F"])
    X = scipy.sparse.csr_array(X) if form == "csr" else np.asarray(X, order=form)
    y = LABELS[rng.choice(list(LABELS))](rng, n)
    weight = rng.random(n) if rng.random() < 0.4 else None
    with np.errstate(all="ignore"):
        check(X, y, weight, 0 if form == "csr" else 1e-11, alpha=float(rng.choice([0, 0.5, 1])))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_tables(seed: int) -> None:
    random_case(seed)


@pytest.mark.slow
@pytest.mark.many
@settings(max_examples=cases(4000), deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_many_random_tables(seed: int) -> None:
    random_case(seed)
