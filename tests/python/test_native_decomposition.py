"""`stratum.native.PCA` and `TruncatedSVD` against scikit-learn's own; `FrequentDirections` against its bounds."""

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
from sklearn import decomposition
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

import stratum
from stratum import _core, native
from stratum.hosts import kernels
from stratum.native import _base, decomposition as ours
from stratum.native.decomposition import TOLERANCE

SIZES = {"FEW_ROWS": 1, "MANY": 1, "VERY_TALL": 2, "NARROW": 512, "MANY_DENSE": 1}
TRUE_SIZES = {name: getattr(ours, name) for name in SIZES}


@pytest.fixture(autouse=True, scope="module")
def whatever_the_size() -> Any:
    """Small inputs are native too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SIZES.items():
            patch.setattr(ours, name, value)
        yield


def outcome(call: Any) -> Any:
    """What a call gives: its value or its error, and its warnings."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result = call()
        except Exception as error:
            result = (type(error), str(error))
    return result, [(w.category, str(w.message)) for w in seen]


def close(got: Any, want: Any, tolerance: float, name: str) -> None:
    """Type and shape, and values to a tolerance relative to the largest; bits without a tolerance."""
    assert type(got) is type(want), (name, type(got), type(want))
    if isinstance(want, (np.ndarray, np.floating, float)):
        got, want = np.asarray(got), np.asarray(want)
        assert got.dtype == want.dtype and got.shape == want.shape, name
        if tolerance and want.dtype.kind == "f" and want.size:
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max(), err_msg=name)
        else:
            np.testing.assert_array_equal(got, want, err_msg=name)
    elif isinstance(want, (int, str, np.integer)):
        assert got == want, name


def same(mine: Any, theirs: Any, tolerance: float = 0) -> None:
    """Fitted attributes: names, types and values."""
    a, b = ({k: v for k, v in vars(e).items() if k != "fitted_by_"} for e in (mine, theirs))
    assert a.keys() == b.keys()
    for name, want in b.items():
        close(a[name], want, tolerance, name)


def check(name: str, X: Any, tolerance: float = 0, seed: Any = 0, **parameters: Any) -> Any:
    """Fit both, compare what they are, say and give; returns ours."""
    if name == "TruncatedSVD" or "svd_solver" in parameters:
        parameters["random_state"] = seed
    mine, theirs = (getattr(m, name)(**parameters) for m in (native, decomposition))
    got, want = outcome(lambda: mine.fit_transform(X)), outcome(lambda: theirs.fit_transform(X))
    assert got[1] == want[1]
    if isinstance(want[0], tuple):
        assert got[0] == want[0]
        return mine
    if not mine.fitted_by_ == "stratum":
        tolerance = 0
    same(mine, theirs, tolerance)
    close(got[0], want[0], tolerance, "fit_transform")
    got, want = outcome(lambda: mine.transform(X)), outcome(lambda: theirs.transform(X))
    assert got[1] == want[1]
    close(got[0], want[0], tolerance, "transform")
    back, wanted = (outcome(lambda e=e: e.inverse_transform(got[0]))[0] for e in (mine, theirs))
    if isinstance(wanted, tuple):
        assert back == wanted
    else:
        close(back, wanted, tolerance, "inverse_transform")
    again = getattr(native, name)(**parameters).fit(X)
    same(again, mine)
    return mine


def correlated(n: int = 2000, p: int = 30, seed: int = 0, shift: float = 3.0) -> np.ndarray:
    """Columns of falling variances, mixed."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(p, p)))[0]
    return rng.normal(size=(n, p)) * 0.9 ** np.arange(p) @ turn + rng.normal(size=p) * shift


def words(n: int = 800, p: int = 300, density: float = 0.05, seed: int = 0, form: str = "csr") -> Any:
    """Counts as of words: some often, most seldom."""
    rng = np.random.default_rng(seed)
    often = 1 / (1 + np.arange(p)) ** 0.5
    X = rng.random((n, p)) * (rng.random((n, p)) < density * often / often.mean())
    return scipy.sparse.csr_array(X).asformat(form)


# -- Both -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PCA", "TruncatedSVD"])
@pytest.mark.parametrize("exactness", ["identical", "equivalent", "approximate"])
def test_scikit_learns_checks(name: str, exactness: str) -> None:
    with warnings.catch_warnings(), native.config_context(exactness=exactness):
        warnings.simplefilter("ignore")
        found = {
            side: {r["check_name"] for r in check_estimator(cls(), on_fail=None) if r["status"] == "failed"}
            for side, cls in (("mine", getattr(native, name)), ("theirs", getattr(decomposition, name)))
        }
    assert found["mine"] <= found["theirs"]


@pytest.mark.parametrize(("name", "X"), [("PCA", correlated()), ("TruncatedSVD", words())])
def test_ways_to_and_from_the_original(name: str, X: Any) -> None:
    cls, original = getattr(native, name), getattr(decomposition, name)
    made = cls(n_components=5, random_state=0).fit(X)
    assert made.fitted_by_ == "stratum"
    plain = made.to_original()
    assert type(plain) is original and not hasattr(plain, "fitted_by_")
    for other in (plain, cls.from_original(plain), pickle.loads(pickle.dumps(made))):
        np.testing.assert_array_equal(other.transform(X), made.transform(X))
    assert clone(made).get_params() == made.get_params()
    frame = made.set_output(transform="pandas").fit_transform(X)
    assert list(frame.columns) == [f"{name.lower()}{j}" for j in range(5)]


@pytest.mark.parametrize(("name", "X"), [("PCA", correlated()), ("TruncatedSVD", words())])
def test_behind_scikit_learns_class(name: str, X: Any) -> None:
    original = getattr(decomposition, name)
    wanted = original(n_components=5, random_state=0)
    out = wanted.fit_transform(X)
    for exactness in ("identical", "equivalent", "approximate"):
        with stratum.config_context(exactness=exactness), kernels.on():
            made = original(n_components=5, random_state=0)
            got = made.fit_transform(X)
            fitted = original(n_components=5, random_state=0).fit(X)
        assert type(made) is original and "fitted_by_" not in vars(made)
        tolerance = 0 if exactness == "identical" else TOLERANCE
        same(made, wanted, tolerance)
        same(fitted, made)
        close(got, out, tolerance, "fit_transform")


@pytest.mark.parametrize(
    ("name", "X"), [("PCA", correlated(40_000, 12)), ("TruncatedSVD", words(3000)), ("TruncatedSVD", words(300, 900)),
                    ("TruncatedSVD", correlated(9000, 20))],
)  # fmt: skip
def test_threads_do_not_show(name: str, X: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_base, "PARALLEL_BYTES", 1)
    made = []
    for n in (1, 2, 3):
        with native.config_context(n_threads=n):
            made.append(getattr(native, name)(n_components=6, random_state=0).fit(X))
    assert made[0].fitted_by_ == "stratum"
    for other in made[1:]:
        same(other, made[0])


# -- PCA ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["auto", "covariance_eigh", "full"])
@pytest.mark.parametrize("k", [None, 1, 7, 30, 0.5, 0.99])
@pytest.mark.parametrize("whiten", [False, True])
def test_pca(solver: str, k: Any, whiten: bool) -> None:
    for X in (correlated(), correlated(150)):
        made = check("PCA", X, TOLERANCE, svd_solver=solver, n_components=k, whiten=whiten)
        assert made.fitted_by_ == "stratum" or made._fit_svd_solver == "randomized"
        assert abs(made.score(X) - made.to_original().score(X)) == 0


@pytest.mark.parametrize("solver", ["arpack", "randomized"])
def test_iterative_solvers_are_the_originals(solver: str) -> None:
    assert "iterative" in check("PCA", correlated(), svd_solver=solver, n_components=3).fitted_by_
    X = words()
    check("PCA", X, svd_solver="covariance_eigh", n_components=3)
    check("PCA", X, svd_solver="arpack", n_components=3)


@pytest.mark.parametrize(
    "form",
    [
        np.asfortranarray, lambda X: np.repeat(X, 2, axis=1)[:, ::2], lambda X: X[::-1], pd.DataFrame, lambda X: X.tolist(),
        lambda X: (X * 100).astype(np.int64), lambda X: (X * 10).astype(np.int8), lambda X: X > 3, lambda X: X.astype(object),
        lambda X: pd.DataFrame(X).convert_dtypes(), lambda X: pd.DataFrame(X, index=np.arange(len(X)) * 3 - 7),
        lambda X: X.astype(np.float32), lambda X: X.astype(np.float16),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["PCA", "TruncatedSVD"])
def test_forms_of_dense_input(form: Any, name: str) -> None:
    X = form(correlated(p=12))
    made = check(name, X, TOLERANCE, n_components=3)
    single = getattr(X, "dtype", None) in (np.float32, np.float16)
    assert (made.fitted_by_ == "stratum") == (not single)
    if isinstance(X, np.ndarray):
        X.setflags(write=False)
        check(name, X, TOLERANCE, n_components=3)


BROKEN = {
    "nan": lambda X: _with(X, np.nan),
    "inf": lambda X: _with(X, np.inf),
    "minus inf": lambda X: _with(X, -np.inf),
    "huge": lambda X: X * 1e200,
    "tiny": lambda X: X * 1e-170,
    "minus zero": lambda X: X * -0.0,
    "zeros": lambda X: X * 0.0,
    "constant column": lambda X: np.column_stack([X[:, 1:], np.full(len(X), 7.0)]),
    "constant": lambda X: np.full(X.shape, 2.0),
    "same columns": lambda X: np.column_stack([X, X[:, :2]]),
    "sums of columns": lambda X: np.column_stack([X, X[:, :2].sum(axis=1)]),
    "equal variances": lambda X: np.linalg.qr(X - X.mean(axis=0))[0],
    "two standard columns": lambda X: (X[:, :2] - X[:, :2].mean(axis=0)) / X[:, :2].std(axis=0),
    "far": lambda X: X + 1e7,
    "low rank": lambda X: X[:, :4] @ X[:4],
    "one hot": lambda X: np.eye(12)[np.arange(len(X)) % 12],
    "empty": lambda X: X[:0],
    "no columns": lambda X: X[:, :0],
    "one row": lambda X: X[:1],
    "two rows": lambda X: X[:2],
    "one column": lambda X: X[:, :1],
    "line": lambda X: X[:, 0],
    "cube": lambda X: X[:, :, None],
    "text": lambda X: np.full(X.shape, "a"),
    "None": lambda X: None,
    "complex": lambda X: X * 1j,
}


def _with(X: np.ndarray, value: float) -> np.ndarray:
    X = X.copy()
    X[17, 3] = value
    return X


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("k", [None, 2, 0.9])
def test_pca_of_what_is_made_to_break_it(case: str, k: Any) -> None:
    X = BROKEN[case](correlated(600, 12))
    with np.errstate(all="ignore"):
        for solver in ("auto", "full"):
            check("PCA", X, TOLERANCE, n_components=k, svd_solver=solver)


def test_small_inputs_are_the_originals(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TRUE_SIZES.items():
        monkeypatch.setattr(ours, name, value)
    assert "few rows" in check("PCA", correlated(900, 12)).fitted_by_
    assert "few rows" in check("PCA", correlated(40, 12), svd_solver="full").fitted_by_
    assert "BLAS" in check("TruncatedSVD", correlated(900, 12)).fitted_by_
    assert check("PCA", correlated(40_000, 12), TOLERANCE).fitted_by_ == "stratum"
    assert check("PCA", correlated(120, 12), TOLERANCE, svd_solver="full").fitted_by_ == "stratum"
    assert check("TruncatedSVD", correlated(9000, 12), TOLERANCE).fitted_by_ == "stratum"


def test_what_rounding_would_decide_on_is_the_originals() -> None:
    X = correlated(1200, 12)
    for case in ("constant column", "same columns", "sums of columns", "equal variances", "two standard columns"):
        made = native.PCA().fit(BROKEN[case](X))
        assert "rounding" in made.fitted_by_ or "depend" in made.fitted_by_
    # some components of few are well told
    assert native.PCA(3).fit(BROKEN["same columns"](X)).fitted_by_ == "stratum"


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_components": 0}, {"n_components": 31}, {"n_components": -1}, {"n_components": 1.5}, {"n_components": "mle"},
        {"n_components": "much"}, {"n_components": True}, {"n_components": np.int64(3)}, {"copy": False}, {"tol": -1.0},
        {"svd_solver": "none"}, {"whiten": "yes"}, {"n_components": 30.0},
        {"n_components": np.float64(0.7)}, {"svd_solver": "full", "n_components": "mle"},
    ],
)  # fmt: skip
def test_parameters_of_pca(parameters: dict[str, Any]) -> None:
    check("PCA", correlated(), TOLERANCE, **parameters)


def test_a_share_that_is_met_exactly() -> None:
    X = correlated(600, 12)
    for cls in (native.PCA, decomposition.PCA):
        share = float(cls().fit(X).explained_variance_ratio_.cumsum()[-2])
        assert cls(n_components=share).fit(X).n_components_ == 12
        for near in (np.nextafter(share, 0), np.nextafter(share, 1)):
            assert check("PCA", X, n_components=near).n_components_ in (11, 12)


def test_what_is_overwritten_by_the_original() -> None:
    X, Y = correlated(), correlated()
    mine, theirs = (m.PCA(4, svd_solver="full", copy=False) for m in (native, decomposition))
    mine.fit(X)
    theirs.fit(Y)
    assert "overwritten" in mine.fitted_by_
    same(mine, theirs)
    np.testing.assert_array_equal(X, Y)


def test_pca_says_of_names_what_the_original_says() -> None:
    frame = pd.DataFrame(correlated(300, 4), columns=list("abcd"))
    made, plain = native.PCA(2).fit(frame), decomposition.PCA(2).fit(frame)
    assert made.fitted_by_ == "stratum"
    for X in (frame[list("dcba")], frame.to_numpy(), frame.iloc[:, :3]):
        got, want = outcome(lambda: made.transform(X)), outcome(lambda: plain.transform(X))  # noqa: B023
        assert got[1] == want[1]
        if isinstance(want[0], tuple):
            assert got[0] == want[0]
    with sklearn.config_context(transform_output="pandas"):
        assert list(made.fit_transform(frame).columns) == ["pca0", "pca1"]


# -- Truncated SVD --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil"])
@pytest.mark.parametrize("shape", [(800, 300), (200, 700), (400, 400), (60, 12), (12, 60)])
@pytest.mark.parametrize("exactness", ["identical", "equivalent"])
def test_sparse_input(form: str, shape: tuple[int, int], exactness: str) -> None:
    X = words(*shape, density=0.1, form=form)
    with native.config_context(exactness=exactness):
        tolerance = 0 if exactness == "identical" else TOLERANCE
        for k in (1, 5, 11):
            assert check("TruncatedSVD", X, tolerance, n_components=k).fitted_by_ == "stratum"
        kept = check("TruncatedSVD", X.astype(np.float32), 0, n_components=5)
        assert kept.fitted_by_ == "stratum" and kept.components_.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint16, np.uint64, np.bool_])
def test_sparse_counts_have_the_originals_bits(dtype: Any) -> None:
    X = words()
    X.data = np.ceil(X.data * 3)
    with native.config_context(exactness="identical"):
        made = check("TruncatedSVD", X.astype(dtype), n_components=4)
    assert made.fitted_by_ == "stratum"


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_iter": 0}, {"n_iter": 1}, {"n_iter": 2}, {"n_iter": 9}, {"power_iteration_normalizer": "QR"},
        {"power_iteration_normalizer": "none"}, {"power_iteration_normalizer": "LU", "n_iter": 1}, {"n_oversamples": 1},
        {"n_oversamples": 60}, {"algorithm": "arpack"}, {"n_components": 0}, {"n_components": 700}, {"n_components": 2.0},
        {"n_iter": -1}, {"power_iteration_normalizer": "some"}, {"n_oversamples": 0}, {"n_components": 250}, {"tol": 0.5},
    ],
)  # fmt: skip
@pytest.mark.parametrize("X", [words(), words(250, 600), correlated(1500, 40), correlated(1500, 40).T])
@pytest.mark.parametrize("exactness", ["identical", "equivalent"])
def test_parameters_of_truncated_svd(parameters: dict[str, Any], X: Any, exactness: str) -> None:
    with native.config_context(exactness=exactness):
        check("TruncatedSVD", X, 0 if exactness == "identical" else TOLERANCE, **parameters)


@pytest.mark.parametrize("exactness", ["identical", "equivalent"])
def test_matrices_that_are_odd(exactness: str) -> None:
    X = words(300, 80)
    wide = X.copy()
    wide.indptr, wide.indices = wide.indptr.astype(np.int64), wide.indices.astype(np.int64)
    twice = scipy.sparse.csr_array((np.tile(X.data, 2), np.tile(X.indices, 2), X.indptr * 2), shape=X.shape)
    backwards = scipy.sparse.csr_array((X.data[::-1], X.indices[::-1], (X.nnz - X.indptr)[::-1]), shape=X.shape)
    empty = scipy.sparse.csr_array(X.shape)
    stored = X.copy()
    stored.data[::3] = 0
    rare = X.copy()
    rare.data[5:] = 0
    with native.config_context(exactness=exactness), np.errstate(all="ignore"):
        for each in (wide, twice, backwards, empty, stored, rare, scipy.sparse.csr_matrix(X), X[:3], X[:1], X[:, :2], X[:0]):
            check("TruncatedSVD", each, 0 if exactness == "identical" else TOLERANCE)
        for value in (np.nan, np.inf, 1e200, -0.0):
            each = X.copy()
            each.data[7] = value
            check("TruncatedSVD", each, 0 if exactness == "identical" else TOLERANCE)


@pytest.mark.parametrize("case", BROKEN)
def test_truncated_svd_of_what_is_made_to_break_it(case: str) -> None:
    X = BROKEN[case](correlated(600, 12))
    with np.errstate(all="ignore"):
        check("TruncatedSVD", X, TOLERANCE)
        check("TruncatedSVD", X, TOLERANCE, n_components=3, n_oversamples=2)
        if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype == np.float64:
            check("TruncatedSVD", scipy.sparse.csr_array(X), TOLERANCE, n_components=3, n_oversamples=2)


@pytest.mark.parametrize("shape", [(3000, 20), (3000, 80), (80, 3000), (20, 3000), (500, 60)])
def test_dense_input(shape: tuple[int, int]) -> None:
    X = correlated(*shape) if shape[0] > shape[1] else correlated(*shape[::-1]).T
    for k in (1, 5, 12):
        assert check("TruncatedSVD", X, TOLERANCE, n_components=k).fitted_by_ == "stratum"
    with native.config_context(exactness="identical"):
        assert "BLAS" in check("TruncatedSVD", X).fitted_by_


def test_wide_dense_input_is_sketched_where_that_is_asked_for() -> None:
    X = correlated(600, 40, shift=0) @ np.random.default_rng(1).normal(size=(40, 1000))
    X += 0.1 * np.random.default_rng(2).normal(size=X.shape)
    made, plain = native.TruncatedSVD(2, random_state=0), decomposition.TruncatedSVD(2, random_state=0)
    want = plain.fit_transform(X)
    assert "BLAS" in made.fit(X).fitted_by_
    with native.config_context(exactness="approximate"):
        got = made.fit_transform(X)
        again = native.TruncatedSVD(2, random_state=1).fit(X)
    assert made.fitted_by_ == "stratum"
    assert {k: type(v) for k, v in vars(made).items()} == {**{k: type(v) for k, v in vars(plain).items()}, "fitted_by_": str}
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_array_equal(again.components_, made.components_)  # nothing is drawn
    squares = np.linalg.svd(X, compute_uv=False) ** 2
    left = (X**2).sum() - (got**2).sum()
    assert left <= (1 + 2 / 12) * squares[2:].sum()
    with stratum.config_context(exactness="approximate"), kernels.on():
        unseen = decomposition.TruncatedSVD(2, random_state=0)
        np.testing.assert_array_equal(unseen.fit_transform(X), got)


def test_random_numbers_are_drawn_as_by_the_original() -> None:
    flat = np.vstack([np.eye(30)] * 10)  # (declined late)
    for X in (words(), correlated(1500, 30), flat):
        states = []
        for cls in (native.TruncatedSVD, decomposition.TruncatedSVD):
            random = np.random.RandomState(3)
            cls(n_components=4, random_state=random).fit(X)
            np.random.seed(5)
            cls(n_components=4).fit(X)
            states.append((random.normal(), np.random.normal()))
        assert states[0] == states[1]
    check("TruncatedSVD", flat, n_components=4)


def test_transform_of_new_rows() -> None:
    X = words()
    made = native.TruncatedSVD(5, random_state=0).fit(X)
    plain = made.to_original()
    for rows in (X[:70], X[:1], X.tocsc(), X.toarray(), X.astype(np.float32), X.astype(np.int64), X.tocoo(), X[:, :9]):
        got, want = outcome(lambda: made.transform(rows)), outcome(lambda: plain.transform(rows))  # noqa: B023
        assert got[1] == want[1]
        if isinstance(want[0], tuple):
            assert got[0] == want[0]
        else:
            close(got[0], want[0], 0, "transform")
    with pytest.raises(sklearn.exceptions.NotFittedError):
        native.TruncatedSVD().transform(X)


def test_the_kernels_check_what_would_break_memory() -> None:
    m = scipy.sparse.csr_array(np.array([[1.0, 0, 2], [0, 3, 0]]))
    q, out, three = np.ones(6), np.empty(4), np.empty(6)
    _core.sparse_times(m.indptr, m.indices, m.data, 3, 2, q, 1, out)
    np.testing.assert_array_equal(out, [3, 3, 3, 3])
    _core.sparse_twice(m.indptr, m.indices, m.data, 3, 2, q, 1, three)
    np.testing.assert_array_equal(three, [3, 3, 9, 9, 6, 6])
    _core.sparse_back(m.indptr, m.indices, m.data, 3, 2, np.ones(4), 1, three)
    np.testing.assert_array_equal(three, [1, 1, 3, 3, 2, 2])
    for arguments in (
        (m.indptr, m.indices[::-1] + np.int32(1), m.data, 3, 2, np.ones(4), 1, three),
        (m.indptr, m.indices, m.data, 3, 2, np.ones(5), 1, three), (m.indptr, m.indices, m.data, 3, 2, np.ones(4), 1, out),
        (m.indptr, m.indices, m.data, 3, 2, np.ones(4, np.float32), 1, three),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError, BufferError)):
            _core.sparse_back(*arguments)
    outside, falling = m.indices.copy(), m.indptr[::-1].copy()
    outside[1] = 3
    for kernel, to in ((_core.sparse_times, out), (_core.sparse_twice, three)):
        for arguments in (
            (m.indptr, outside, m.data, 3, 2, q, 1, to), (falling, m.indices, m.data, 3, 2, q, 1, to),
            (m.indptr + np.int32(1), m.indices, m.data, 3, 2, q, 1, to), (m.indptr, m.indices, m.data, 3, 2, q[1:], 1, to),
            (m.indptr, m.indices, m.data, 3, 2, q, 1, to[1:]), (m.indptr, m.indices, m.data[1:], 3, 2, q, 1, to),
            (m.indptr, m.indices[1:], m.data[1:], 3, 2, q, 1, to), (m.indptr[:0], m.indices, m.data, 3, 2, q, 1, to),
            (m.indptr.astype(np.int64), m.indices, m.data, 3, 2, q, 1, to), (m.indptr, m.indices, m.data, -3, 2, q, 1, to),
            (m.indptr, m.indices, m.data.astype(np.float32), 3, 2, q, 1, to), (m.indptr, -m.indices, m.data, 3, 2, q, 1, to),
        ):  # fmt: skip
            with pytest.raises((ValueError, TypeError, BufferError)):
                kernel(*arguments)
    ptr, index, data = np.empty(4, np.int32), np.empty(3, np.int32), np.empty(3)
    _core.sparse_turned(m.indptr, m.indices, m.data, 3, 1, ptr, index, data)
    np.testing.assert_array_equal(data, m.tocsc().data)
    for arguments in (
        (m.indptr, outside, m.data, 3, 1, ptr, index, data), (m.indptr, m.indices, m.data, 3, 1, ptr[1:], index, data),
        (m.indptr, m.indices, m.data, 3, 1, ptr, index[1:], data), (m.indptr, m.indices, m.data, 3, 1, ptr, index, data[1:]),
        (m.indptr, m.indices, m.data, 4, 1, ptr, index, data),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError, BufferError)):
            _core.sparse_turned(*arguments)


def random_case(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, p = int(rng.integers(1, 400)), int(rng.integers(1, 60))
    X = rng.normal(size=(n, p)) * rng.choice([1.0, 0.0, 1e-3, 1e3], p, p=[0.85, 0.05, 0.05, 0.05])
    if rng.random() < 0.3:
        X = X @ rng.normal(size=(p, p))
    if rng.random() < 0.3:
        X = np.floor(X * 2)
    if rng.random() < 0.3:
        X += rng.choice([1.0, 100.0, 1e5])
    if rng.random() < 0.2:
        X = X.astype(np.float32)
    exactness = str(rng.choice(["identical", "equivalent"]))
    k = int(rng.integers(1, p + 2))
    with np.errstate(all="ignore"), native.config_context(exactness=exactness):
        tolerance = TOLERANCE if exactness == "equivalent" else 0
        check("PCA", X, TOLERANCE, n_components=rng.choice([None, k, 0.8]), whiten=bool(rng.random() < 0.3))
        parameters = {"n_components": k, "n_iter": int(rng.integers(0, 7)), "n_oversamples": int(rng.integers(1, 20))}
        check("TruncatedSVD", X if rng.random() < 0.5 else X.T, tolerance, seed=seed % 99, **parameters)
        rows = scipy.sparse.csr_array(X * (rng.random(X.shape) < 0.3)).asformat(str(rng.choice(["csr", "csc"])))
        check("TruncatedSVD", rows if rng.random() < 0.5 else rows.T, tolerance, seed=seed % 99, **parameters)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_tables(seed: int) -> None:
    random_case(seed)


@pytest.mark.slow
@pytest.mark.many
@settings(max_examples=cases(3000), deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_many_random_tables(seed: int) -> None:
    random_case(seed)


# -- Frequent Directions --------------------------------------------------------------------------------------


def bounds_hold(X: Any, made: Any) -> None:
    """What the class promises of its sketch."""
    A = X.toarray() if scipy.sparse.issparse(X) else np.asarray(X, dtype=np.float64)
    B = made.sketch_
    size = made.sketch_size or 2 * made.n_components + 10
    assert len(B) <= size and made.n_samples_seen_ == len(A)
    squares = np.linalg.svd(A, compute_uv=False) ** 2
    rounding = 1e-11 * max(squares.sum(), 1e-300)
    off = np.linalg.eigvalsh(A.T @ A - B.T @ B)
    assert off[0] >= -rounding and off[-1] <= made.shrinkage_ + rounding
    Vt = np.linalg.svd(B, full_matrices=False)[2]
    for k in range(min(size, len(squares))):
        rest = squares[k:].sum()
        assert made.shrinkage_ <= rest / (size - k) + rounding
        if 0 < k <= len(Vt):
            left = (A**2).sum() - ((A @ Vt[:k].T) ** 2).sum()
            assert left <= (1 + k / (size - k)) * rest + rounding


@pytest.mark.parametrize("size", [None, 3, 5, 40, 1000])
@pytest.mark.parametrize("form", [np.asarray, np.asfortranarray, pd.DataFrame, scipy.sparse.csr_array, scipy.sparse.csc_array])
def test_frequent_directions_keep_their_bounds(size: int | None, form: Any) -> None:
    X = correlated(700, 60, shift=0.3)
    made = native.FrequentDirections(2, sketch_size=size).fit(form(X))
    bounds_hold(X, made)
    other = native.FrequentDirections(2, sketch_size=size)
    for rows in (slice(0, 1), slice(1, 300), slice(300, 700)):
        other.partial_fit(form(X)[rows] if not isinstance(form(X), scipy.sparse.csc_array) else form(X[rows]))
    bounds_hold(X, other)
    out = made.transform(form(X))
    assert out.shape == (700, 2)
    np.testing.assert_allclose(out, X @ made.components_.T, atol=1e-9)
    np.testing.assert_allclose(made.inverse_transform(out), out @ made.components_, atol=1e-9)


def test_a_sketch_with_room_for_all_is_exact() -> None:
    X = correlated(500, 20)
    made = native.FrequentDirections(4, sketch_size=20).fit(X)
    s, Vt = np.linalg.svd(X, full_matrices=False)[1:]
    np.testing.assert_allclose(made.singular_values_, s[:4], rtol=1e-10)
    np.testing.assert_allclose(np.abs((made.components_ * Vt[:4]).sum(axis=1)), 1, rtol=1e-8)
    assert made.shrinkage_ <= 1e-9 * s[0] ** 2
    assert (made.components_[np.arange(4), np.abs(made.components_).argmax(axis=1)] > 0).all()


def test_frequent_directions_refuse_and_repeat() -> None:
    X = correlated(100, 6)
    for parameters, data in (
        ({"n_components": 7}, X), ({"n_components": 0}, X), ({"n_components": 3, "sketch_size": 3}, X), ({"sketch_size": 1}, X),
        ({}, _with(X, np.nan)), ({}, X[:0]), ({}, X[:, :1]),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            native.FrequentDirections(**parameters).fit(data)
    made = native.FrequentDirections(2, sketch_size=4).fit(X)
    again = pickle.loads(pickle.dumps(clone(made).fit(X)))
    np.testing.assert_array_equal(made.components_, again.components_)
    assert made.fit(X).n_samples_seen_ == 100
    # another size in between
    made.set_params(sketch_size=3).partial_fit(X)
    assert len(made.sketch_) == 3
    single = native.FrequentDirections(2).fit(X.astype(np.float32))
    assert single.components_.dtype == single.transform(X.astype(np.float32)).dtype == np.float32
    frame = native.FrequentDirections(2).set_output(transform="pandas").fit_transform(pd.DataFrame(X, columns=list("abcdef")))
    assert list(frame.columns) == ["frequentdirections0", "frequentdirections1"]


def test_scikit_learns_checks_of_frequent_directions() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        failed = [r for r in check_estimator(native.FrequentDirections(), on_fail=None) if r["status"] == "failed"]
    assert not failed, failed
