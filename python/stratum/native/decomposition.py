"""Decompositions: `PCA`, `TruncatedSVD`, `FrequentDirections`.

The first two are subclasses of scikit-learn's, for whoever imports `stratum.native`, and behind its classes
(`stratum.hosts.kernels`). In dense decompositions BLAS is most of the time; what can be saved are passes over the rows.

* `PCA` reads X once, for the products of its centred columns (`_core.numeric_gram`), where the original has passes for
  means, products and finiteness, or a singular value decomposition of all rows. Equivalent.
* `TruncatedSVD` of sparse X makes scikit-learn's randomized steps with products in C on several threads: identical,
  bit for bit. Where results may be equivalent, the power iterations take one pass over the rows each
  (`_core.sparse_twice`; for dense X the products of columns): they span the same space, which LU of a tall matrix only
  writes in another basis.
* `FrequentDirections` sketches the rows in one pass: approximate, with a bound.

Equivalent ways multiply X by itself, which costs half the digits of what is small. So they ask of what they found
whether it is told by more than rounding: values that are far enough from zero and from each other, and signs. Else
the original's way is taken, on the same random numbers. What passes agrees to `TOLERANCE`.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from scipy import linalg, sparse
from sklearn import decomposition, get_config
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.extmath import svd_flip
from sklearn.utils.sparsefuncs import mean_variance_axis
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import _core
from . import _config, _sklearn
from ._base import Declined, Native, as_lines, check_plain, threads

__all__ = ["PCA", "FrequentDirections", "TruncatedSVD"]

_FLOATS = (np.float64, np.float32)

# By how much components may differ from the original's (their norm is 1), and values relative to the largest.
TOLERANCE = 1e-6

# Part of the largest eigenvalue (and of the square of the mean, which the original subtracts) by which eigenvalues must
# differ, and exceed zero: rounding moves a component by some 1e-15 over this.
LEAST_GAP = 1e-8
# The same for the least of the singular values over the largest, where they come from squares.
LEAST_VALUE = 1e-3
# Entries of a component that are this close in size could each be the largest, whose sign is made positive.
SAME_SIZE = 1e-6

# Columns from which BLAS's products are faster than ours (see linear.py).
MOST_COLUMNS = 512


def _apart(values: np.ndarray, k: int, scale: float) -> bool:
    """Whether the first k of descending eigenvalues are further from the others and from zero than rounding."""
    least = LEAST_GAP * scale
    near = values[: k + 1]
    return bool((near[:-1] - near[1:] >= least).all() and values[k - 1] > least)


def _signed(components: np.ndarray) -> bool:
    """Whether the largest entry of each row, which is to be positive, is known beyond rounding, or its sign is."""
    size = np.abs(components)
    near = size >= size.max(axis=1, keepdims=True) - SAME_SIZE
    return not ((near & (components > 0)).any(axis=1) & (near & (components < 0)).any(axis=1)).any()


def _products(X: np.ndarray, center: bool) -> tuple[np.ndarray, np.ndarray]:
    """Means of the columns of X, and sums of products of the (centred) columns."""
    p = X.shape[1]
    mean, product = np.empty(p), np.empty((p, p))
    _core.numeric_gram(X, X[:, :0], None, center, threads(X.nbytes, 1 + p / 16), mean, product)
    if not np.isfinite(product.diagonal()).all():
        raise Declined("numbers that are not finite, or have no finite squares")
    return mean, product


# -- PCA -------------------------------------------------------------------------------------------------------

# A decomposition of all rows: rows, and rows a column, from which products of columns are cheaper (200 x 60: 1.7 times
# as fast, 60 x 20: as fast).
FEW_ROWS, TALL = 100, 2
# The original's own products of columns: numbers in X, and rows a column, from which making them in one pass is worth it
# (25,000 x 20: 1.2 times as fast, 1,000 x 20: 0.8 times), and columns up to which it is (66,667 x 110: 1.1 times as fast
# with all components, 1.4 times with five, 20,000 x 300: 1.0 and 1.1).
MANY, VERY_TALL, NARROW = 400_000, 64, 256
# Rows a column from which a sample is asked first whether columns depend on each other; rows a column of the sample.
LOOK_FIRST, SAMPLE = 6, 1.5


def _singular(mean: np.ndarray, covariance: np.ndarray) -> bool:
    """Whether the least eigenvalue is next to nothing: told by a Cholesky factor, a tenth of the eigenvectors' time."""
    squares = covariance.diagonal()
    least = LEAST_GAP * (squares.max() + mean @ mean)
    if not squares.min() >= least:
        return True
    try:
        return not (np.linalg.cholesky(covariance).diagonal() ** 2).min() >= least
    except np.linalg.LinAlgError:
        return True


class PCA(Native, decomposition.PCA):
    """`sklearn.decomposition.PCA`; dense float64 with the solvers "covariance_eigh" and "full" is native.

    Also where "auto" comes to one of those. The original decomposes single precision, small and wide matrices
    (constants of this module say from where on), `n_components="mle"`, and data whose components are told by rounding: columns that depend
    on each other (where all components are kept), equal variances, means a ten thousandfold of the deviations.
    """

    _original: ClassVar[type] = decomposition.PCA

    def _fit(self, X: Any) -> Any:
        """What `fit` and `fit_transform` of the original ask for: (U or None, S, Vt, X, whether centred, namespace)."""
        try:
            return self._learn(X)
        except Declined as reason:
            found = super()._fit(X)
            self._declined(reason)
            return found

    def _learn(self, X: Any) -> Any:
        check_plain(X)
        k = self.n_components
        if self.svd_solver not in ("auto", "full", "covariance_eigh"):
            raise Declined("an iterative solver")
        if k is not None and (isinstance(k, (str, bool)) or k <= 0):
            raise Declined("a number of components that is guessed, or none")
        _decline_types(X)
        X = validate_data(self, X, dtype=_FLOATS, ensure_all_finite=False)
        if X.dtype != np.float64:
            raise Declined("single precision")
        n, p = X.shape
        solver = self._chosen(n, p)
        if k is None:
            k = p
        if solver == "full":
            worth = n >= max(FEW_ROWS, TALL * p) and p <= MOST_COLUMNS
        else:
            worth = n >= max(MANY / p, VERY_TALL * p) and p <= NARROW
        if not worth or k > p:
            raise Declined("few rows, many columns, or more components than those")
        if k == p and n >= LOOK_FIRST * p:
            rows = X[:: n // int(SAMPLE * p + 8)]
            mean, product = _products(rows, True)
            product /= len(rows) - 1
            if _singular(mean, product):
                raise Declined("columns that depend on each other")
        mean, covariance = _products(X, True)
        covariance /= n - 1
        if k == p and _singular(mean, covariance):
            raise Declined("columns that depend on each other")
        values, vectors = np.linalg.eigh(covariance)
        values, Vt = np.maximum(values[::-1], 0.0), vectors[:, ::-1].T
        if not values[0] > 0:
            raise Declined("no variance")
        ratio = values / values.sum()
        if not isinstance(k, Integral):
            share = np.cumsum(ratio)
            # (one that has these very bits was taken from a fit of ours)
            if np.abs(share - k).min() < TOLERANCE * 1e-3 and k not in share:
                raise Declined("a share of the variance that is met but for rounding")
            k = np.searchsorted(share, k, side="right") + 1
        scale = values[0] + mean @ mean
        rest = values[k:].mean() if k < p else None
        if not (_apart(values, k, scale) and (rest is None or rest >= LEAST_GAP * scale) and _signed(Vt[:k])):
            raise Declined("components that rounding would decide on")
        S = np.sqrt(values * (n - 1))
        _, Vt = svd_flip(None, Vt, u_based_decision=False)
        self._fit_svd_solver = solver
        self.mean_ = mean
        self.noise_variance_ = 0.0 if rest is None else rest
        self.n_samples_, self.n_components_ = n, k
        self.components_ = np.array(Vt[:k], order="C")
        self.explained_variance_ = values[:k].copy()
        self.explained_variance_ratio_ = ratio[:k].copy()
        self.singular_values_ = S[:k].copy()
        self.fitted_by_ = "stratum"
        return None, S, Vt, X, False, np

    def _chosen(self, n: int, p: int) -> str:
        """The solver that the original takes."""
        solver = self.svd_solver
        if solver == "auto":
            k = min(n, p) if self.n_components is None else self.n_components
            if p <= 1000 and n >= 10 * p:
                solver = "covariance_eigh"
            elif max(n, p) <= 500 or not 1 <= k < 0.8 * min(n, p):
                solver = "full"
            else:
                raise Declined("the randomized solver")
        if solver == "full" and not self.copy:
            raise Declined("X is to be overwritten")
        return solver


def _decline_types(X: Any) -> None:
    """Decline single and half precision before X is looked at."""
    dtype = getattr(X, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype != np.float64:
        raise Declined("a precision other than double")


# -- Truncated SVD ---------------------------------------------------------------------------------------------

# Columns for each random vector up to which the products of columns cost less than those with the vectors.
PRODUCTS = 8
# Rows for each column of dense X, and numbers in it, from which that holds (5,000 x 96, two components: 2.9 times as fast;
# 66,667 x 110, ten: 7 times; in less, a rank that is too low costs more than a tenth to find).
TALL_FOR_PRODUCTS, MANY_DENSE = 4, 100_000
# Columns, at all and for each component, from which a sketch takes less time than the original's products with random
# vectors (20,000 x 1,000, two components: a third, ten: a half; 3,000 x 1,000, forty: as much; 1,000 x 300: 1.6 times).
WIDE, WIDE_FOR_EACH = 1000, 40
# Stored numbers a column from which both products are made in one pass over the rows (`sparse_twice` has stretches of
# rows for threads from twice four on).
ONE_PASS = 8


class _Rows:
    """A sparse matrix by rows, with 32-bit indices, in double or single precision."""

    def __init__(
        self, indptr: np.ndarray, index: np.ndarray, data: np.ndarray, cols: int, other: _Rows | None = None
    ) -> None:
        self.indptr, self.index, self.data, self.cols = indptr, index, data, cols
        self.rows = len(indptr) - 1
        self._turned = other

    @property
    def turned(self) -> _Rows:
        """The transposed matrix; made when it is first asked for."""
        if self._turned is None:
            indptr = np.empty(self.cols + 1, np.int32)
            index, data = np.empty_like(self.index), np.empty_like(self.data)
            _core.sparse_turned(
                self.indptr, self.index, self.data, self.cols, _config.threads(), indptr, index, data
            )
            self._turned = _Rows(indptr, index, data, self.rows, self)
        return self._turned

    def times(self, Q: np.ndarray) -> np.ndarray:
        """A Q, with SciPy's bits."""
        return self._product(_core.sparse_times, Q, self.rows)

    def back(self, Y: np.ndarray) -> np.ndarray:
        """A'Y, with SciPy's bits."""
        return self._product(_core.sparse_back, Y, self.cols)

    def twice(self, Q: np.ndarray) -> np.ndarray:
        """A'(A Q)."""
        if len(self.data) < ONE_PASS * self.cols:
            return self.back(self.times(Q))
        return self._product(_core.sparse_twice, Q, self.cols)

    def _product(self, kernel: Any, Q: np.ndarray, rows: int) -> np.ndarray:
        k, Q = Q.shape[1], np.ascontiguousarray(Q, dtype=self.data.dtype)
        out = np.empty((rows, k), self.data.dtype)
        kernel(self.indptr, self.index, self.data, self.cols, k, Q, _config.threads(), out)
        return out


def _by_rows(A: Any) -> _Rows:
    """The matrix by rows, whatever it came as."""
    if A.dtype.kind not in "biuf" or A.dtype.itemsize > 8 or A.dtype == np.float16:
        raise Declined("numbers of another type")
    if max(*A.shape, A.nnz) >= 2**31 - 1:
        raise Declined("indices of 64 bits")
    stored = int(A.indptr[-1])
    data = A.data[:stored]
    if data.dtype != np.float32:
        data = data.astype(np.float64, copy=False)
    indptr, index = (np.ascontiguousarray(v, dtype=np.int32) for v in (A.indptr, A.indices[:stored]))
    made = _Rows(indptr, index, np.ascontiguousarray(data), A.shape[1 if A.format == "csr" else 0])
    return made if A.format == "csr" else made.turned


def _lu(Y: np.ndarray) -> np.ndarray:
    return linalg.lu(Y, permute_l=True, check_finite=False)[0]


def _qr(Y: np.ndarray) -> np.ndarray:
    return linalg.qr(Y, mode="economic", check_finite=False)[0]


def _same(Y: np.ndarray) -> np.ndarray:
    return Y


def _stepwise(
    M: _Rows, Q: np.ndarray, n_iter: int, normalize: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's randomized SVD of M: (basis Q, U, s, Vt), where M is about Q U s Vt."""
    for _ in range(n_iter):
        Q = normalize(M.times(Q))
        Q = normalize(M.back(Q))
    Q = _qr(M.times(Q))
    return (Q, *linalg.svd(M.back(Q).T, full_matrices=False, lapack_driver="gesdd"))


def _by_squares(
    twice: Callable[[np.ndarray], np.ndarray], Q: np.ndarray, n_iter: int, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The same from products with M'M alone: (s, V, P), where M P are the left vectors; None where digits would lack.

    With an orthonormal Q, R'R = Q'M'M Q and Z = M'M Q, the basis is M Q R^-1, and its product with M is R^-T Z'.
    """
    w, size = Q.shape
    if size >= w:
        # every basis of the whole space will do
        squares, vectors = np.linalg.eigh(twice(np.eye(w)))
        squares, V = squares[::-1], vectors[:, ::-1]
        if not _apart(squares, k, squares[0]):
            return None
        s = np.sqrt(squares[:k])
        return s, V[:, :k], V[:, :k] / s
    for step in range(n_iter):
        Q, upper = linalg.lu(twice(Q), permute_l=True, check_finite=False)
        if step == 0:
            pivots = np.abs(upper.diagonal())
            if not pivots.min() > 0.01 * LEAST_VALUE**2 * pivots.max():
                return None
    Q = _qr(Q)
    Z = twice(Q)
    G = Q.T @ Z
    try:
        R = linalg.cholesky((G + G.T) / 2)
        B = linalg.solve_triangular(R, Z.T, trans="T")
        squares, U = np.linalg.eigh(B @ B.T)
    except (np.linalg.LinAlgError, ValueError):  # (the latter: numbers that are not finite)
        return None
    squares, U = squares[::-1], U[:, ::-1]
    if not (squares[-1] > LEAST_VALUE**2 * squares[0] and _apart(squares, k, squares[0])):
        return None
    s, U = np.sqrt(squares[:k]), U[:, :k]
    return s, B.T @ (U / s), Q @ linalg.solve_triangular(R, U)


class TruncatedSVD(Native, decomposition.TruncatedSVD):
    """`sklearn.decomposition.TruncatedSVD`; sparse input with the randomized algorithm is native.

    Sparse input has the original's bits with `exactness="identical"` and in single precision. Else double precision
    is decomposed from products of columns, where that is cheaper and the digits suffice; dense input too, up to eight
    columns for each of `n_components + n_oversamples`. With `exactness="approximate"` wide dense input is sketched
    (`FrequentDirections`). The original does the rest.
    """

    _original: ClassVar[type] = decomposition.TruncatedSVD

    @_sklearn.fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit to X and return it in the new coordinates; parameters as the original's."""
        try:
            if self.algorithm != "randomized":
                raise Declined("ARPACK")
            if get_config()["array_api_dispatch"]:
                raise Declined("array API dispatch")
            return self._sparse(X) if sparse.issparse(X) else self._dense(X)
        except Declined as reason:
            found = super().fit_transform(X, y)
            self._declined(reason)
            return found

    def _normalizer(self) -> Callable[[np.ndarray], np.ndarray]:
        """What the original does to products between its steps."""
        name = self.power_iteration_normalizer
        if name == "auto":
            name = "none" if self.n_iter <= 2 else "LU"
        return {"none": _same, "LU": _lu, "QR": _qr}[name]

    def _by_squares(self) -> bool:
        """Whether the space may be found in another way."""
        # (what is not normalised loses digits in the original)
        return _config.exactness() != "identical" and (self.n_iter == 0 or self._normalizer() is not _same)

    def _sparse(self, X: Any) -> np.ndarray:
        X = validate_data(self, X, accept_sparse=["csr", "csc"], ensure_min_features=2)
        n, p = X.shape
        k = self.n_components
        if k > min(n, p):
            raise Declined("more components than rows or columns")
        A = _by_rows(X)
        transposed = n < p
        M = A.turned if transposed else A
        Q = check_random_state(self.random_state).normal(size=(M.cols, k + self.n_oversamples))
        found = None
        if self._by_squares() and A.data.dtype == np.float64:
            found = _by_squares(M.twice, Q, self.n_iter, k)
        if found is not None:
            s, V, P = found
            components = (M.times(P) if transposed else V).T
            if not _signed(components):
                found = None
        if found is None:
            Q, U, s, Vt = _stepwise(M, Q.astype(A.data.dtype, copy=False), self.n_iter, self._normalizer())
            components = (Q @ U)[:, :k].T if transposed else Vt[:k]
            s = s[:k]
        _, self.components_ = svd_flip(None, components, u_based_decision=False)
        out = A.times(self.components_.T)
        return self._fitted(out, s, mean_variance_axis(X, axis=0)[1].sum())

    def _dense(self, X: Any) -> np.ndarray:
        size = self.n_components + self.n_oversamples
        if not self._by_squares():
            raise Declined("dense input, whose products are BLAS's")
        _decline_types(X)
        shape = getattr(X, "shape", ())
        if len(shape) == 2:
            self._way(shape, size)
        check_plain(X)
        X = validate_data(self, X, ensure_min_features=2)
        way = self._way(X.shape, size)
        if X.dtype.kind not in "biu" and X.dtype != np.float64:
            raise Declined("numbers of another type")
        wide = as_lines(X.astype(np.float64, copy=False))
        s, components = way(wide, size)
        _, self.components_ = svd_flip(None, np.ascontiguousarray(components), u_based_decision=False)
        count, mean, variance = np.empty((3, wide.shape[1]))
        _core.numeric_sums(wide, threads(wide.nbytes), count, mean, variance)
        return self._fitted(X @ self.components_.T, s, variance.sum())

    def _way(self, shape: tuple[int, int], size: int) -> Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]:
        """How dense input of a shape is decomposed; shapes for which BLAS's own way is faster are declined."""
        least, most = min(shape), max(shape)
        if self.n_components <= least and least * most >= MANY_DENSE:
            if least <= min(MOST_COLUMNS, PRODUCTS * size) and most >= TALL_FOR_PRODUCTS * least:
                return self._from_products
            if _config.exactness() == "approximate" and shape[1] >= max(WIDE, WIDE_FOR_EACH * self.n_components):
                return self._from_sketch
        raise Declined("a shape for which BLAS is faster")

    def _from_products(self, X: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Singular values and components from the products of columns (of rows, where those are fewer)."""
        n, p = X.shape
        M = X if n >= p else X.T
        if size < M.shape[1]:
            some = linalg.svdvals(M[:: len(M) // (2 * size)], check_finite=False)
            if not some[size - 1] > LEAST_VALUE * some[0]:
                raise Declined("a low rank")
        random = check_random_state(self.random_state)
        before = random.get_state()
        Q = random.normal(size=(M.shape[1], size))
        product = _products(M, False)[1]
        found = _by_squares(product.__matmul__, Q, self.n_iter, self.n_components)
        components = None if found is None else (found[1] if n >= p else M @ found[2]).T
        if components is None or not _signed(components):
            random.set_state(before)
            raise Declined("components that rounding would decide on")
        return found[0], components

    def _from_sketch(self, X: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The same of a sketch, which draws nothing."""
        made = FrequentDirections(self.n_components).fit(X)
        return made.singular_values_, made.components_

    def _fitted(self, out: np.ndarray, s: np.ndarray, variance: Any) -> np.ndarray:
        self.explained_variance_ = np.var(out, axis=0)
        self.explained_variance_ratio_ = self.explained_variance_ / variance
        self.singular_values_ = s
        self.fitted_by_ = "stratum"
        return out

    def transform(self, X: Any) -> Any:
        """X in the new coordinates; CSR is native, with the original's bits."""
        if not sparse.issparse(X) or X.format != "csr" or get_config()["array_api_dispatch"]:
            return super().transform(X)
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        to = self.components_.T
        try:
            A = _by_rows(X)
            if not A.data.dtype == to.dtype:
                raise Declined("components of another precision")
            return A.times(to)
        except Declined:
            return X @ to


# -- Frequent Directions ---------------------------------------------------------------------------------------


class FrequentDirections(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Truncated SVD of a sketch that has seen each row once, by Frequent Directions.

    An approximation of `TruncatedSVD` that is deterministic, and can learn from batches. The sketch B has
    ``sketch_size`` rows, l. For all k < l, where A are the rows seen and A_k is the best approximation of rank k,

    - ``norm(A'A - B'B, 2) <= norm(A - A_k, "fro")**2 / (l - k)``, and A'A - B'B has no negative eigenvalue;
    - the rows projected onto the first k right vectors of B are at most ``1 + k / (l - k)`` times as far from A as A_k
      is, in squares (Frobenius);

    by M. Ghashami, E. Liberty, J. M. Phillips, D. P. Woodruff: Frequent Directions: simple and deterministic matrix
    sketching. SIAM Journal on Computing 45(5), 2016 (theorems 1.1 and 1.2). What was lost is known afterwards,
    and mostly far less: ``norm(A'A - B'B, 2) <= shrinkage_``.

    Parameters
    ----------
    n_components : int, default=2
        Dimensions of the output, at most the columns.
    sketch_size : int or None, default=None
        Rows of the sketch, more than `n_components`. None: twice as many and ten more.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Right singular vectors of the sketch; the largest entry of each is positive.
    singular_values_ : ndarray of shape (n_components,)
        Of the sketch. Their squares are too small by up to `shrinkage_`.
    sketch_ : ndarray of shape (at most sketch_size, n_features)
        B.
    shrinkage_ : float
        How much A'A may exceed B'B.
    n_samples_seen_ : int
        Rows.
    n_features_in_ : int
        Columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where they are all strings.
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_components": [_sklearn.Interval(Integral, 1, None, closed="left")],
        "sketch_size": [_sklearn.Interval(Integral, 2, None, closed="left"), None],
    }

    def __init__(self, n_components: int = 2, *, sketch_size: int | None = None) -> None:
        self.n_components = n_components
        self.sketch_size = sketch_size

    def fit(self, X: Any, y: Any = None) -> Self:
        """Sketch the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored.

        Returns
        -------
        FrequentDirections
            This object.
        """
        for name in ("sketch_", "shrinkage_", "n_samples_seen_"):
            vars(self).pop(name, None)
        return self.partial_fit(X)

    @_sklearn.fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Add the rows of X to the sketch.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored.

        Returns
        -------
        FrequentDirections
            This object.
        """
        first = not hasattr(self, "sketch_")
        X = validate_data(
            self, X, accept_sparse="csr", dtype=_FLOATS, reset=first, ensure_min_features=2 if first else 1
        )
        n, p = X.shape
        k = self.n_components
        if k > p:
            raise ValueError(f"n_components({k}) must be <= n_features({p}).")
        size = 2 * k + 10 if self.sketch_size is None else self.sketch_size
        if size <= k:
            raise ValueError(f"sketch_size({size}) must be > n_components({k}).")
        if first:
            self.sketch_, self.shrinkage_, self.n_samples_seen_ = np.empty((0, p)), 0.0, 0
        sketch, lost = _sketched(X, size, self.sketch_)
        _, s, Vt = linalg.svd(sketch, full_matrices=False)
        _, Vt = svd_flip(None, Vt[:k], u_based_decision=False)
        self.sketch_ = sketch
        self.shrinkage_ += lost
        self.n_samples_seen_ += n
        self.singular_values_ = s[:k].astype(X.dtype)
        self.components_ = Vt.astype(X.dtype)
        return self

    def transform(self, X: Any) -> Any:
        """Project rows onto the components.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            In the new coordinates.
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=_FLOATS, reset=False)
        return X @ self.components_.T

    def inverse_transform(self, X: Any) -> Any:
        """Bring rows back to the original coordinates.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            In the new coordinates.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The rows of least norm that are projected there.
        """
        check_is_fitted(self)
        return check_array(X, dtype=_FLOATS) @ self.components_

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


# Rows that join a sketch at a time, for each of its own (20,000 x 1,000: one takes 1.1 times as long).
BATCH = 3


def _sketched(X: Any, size: int, sketch: np.ndarray) -> tuple[np.ndarray, float]:
    """A sketch with the rows of X added to it, and what was taken from squares on the way.

    Where rows of the sketch and new ones are more than `size`, they are turned onto their singular directions, whose
    squares are lessened by the largest that is to vanish. The directions come from the products of rows.
    """
    n, p = X.shape
    room = max(size, len(sketch)) + BATCH * size
    rows = np.empty((room, p))
    lost, at = 0.0, 0
    while at < n:
        old = len(sketch)
        new = min(n - at, room - old)
        rows[:old] = sketch
        part = X[at : at + new]
        rows[old : old + new] = part.toarray() if sparse.issparse(part) else part
        at += new
        sketch = rows[: old + new]
        if len(sketch) > size:
            squares, U = np.linalg.eigh(sketch @ sketch.T)
            taken = max(float(squares[-size - 1]), 0.0)
            kept = squares[-size:]
            factor = np.sqrt(np.maximum(kept - taken, 0.0) / np.maximum(kept, np.finfo(np.float64).tiny))
            sketch = (U[:, -size:] * factor).T @ sketch
            lost += taken
    return np.array(sketch), lost
