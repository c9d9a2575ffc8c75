"""`SquashingScaler`: skrub's robust scaling with soft clipping, bit for bit.

Called by users under `stratum.native` and, behind skrub's class, by `stratum.hosts.kernels`. Limits, medians and
quantiles come from C in one pass each, where skrub asks NumPy column by column, twice for the quantiles; the matrix is
written in one pass instead of twelve. What is learned is skrub's own state, so that either can go on with it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import skrub
from skrub._squashing_scaler import _MinMaxScaler
from sklearn import preprocessing
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import _core
from . import _sklearn
from ._base import Declined, Native, as_lines, check_plain, order_statistics, rows_of_a_line, threads

__all__ = ["SquashingScaler"]

_FLOATS = (np.float64, np.float32, np.float16)  # what the original keeps; half precision is its own
# Limits within which sums of two numbers, and B, are in the range of single precision, too.
_LARGEST = {np.dtype(np.float64): 4e307, np.dtype(np.float32): 8e37}
_BOUNDS = (1e-30, 1e30)
# Longer than reading the input once: three divisions and a root a number.
_WORK = 6


class SquashingScaler(Native, skrub.SquashingScaler):
    """`skrub.SquashingScaler`; dense input in which every column has a finite number is native."""

    _original: ClassVar[type] = skrub.SquashingScaler

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn medians and scales; parameters as the original's."""
        try:
            self._fit(X)
        except Declined as reason:
            super().fit(X, y)
            self._declined(reason)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Learn medians and scales, and scale; parameters as the original's."""
        try:
            return _squash(*self._fit(X))
        except Declined as reason:
            result = super().fit_transform(X, y)
            self._declined(reason)
            return result

    def transform(self, X: Any) -> Any:
        """Scale."""
        try:
            check_plain(X)
            check_is_fitted(self, ["robust_scaler_", "minmax_scaler_"])
            limit = self._limit()
            minmax = self.minmax_scaler_
            columns = _columns(self.robust_scaler_, self.robust_cols_, minmax, self.minmax_cols_)
            values = as_lines(validate_data(self, X, dtype=_FLOATS, ensure_all_finite=False, reset=False))
            if values.dtype == np.float32 and minmax and not minmax.median_.dtype == minmax.scale_.dtype == np.float32:
                raise Declined("a state of more precision")
            return _squash(values, *columns, limit)
        except Declined:
            return super().transform(X)

    def _limit(self) -> float:
        """The largest absolute value of the result; the original tells what is wrong with others."""
        limit = self.max_absolute_value
        if type(limit) not in (float, int) or not _BOUNDS[0] <= limit <= _BOUNDS[1]:
            raise Declined("a limit that is no usual number")
        return float(limit)

    def _fit(self, X: Any) -> tuple:
        """Learn; the arguments of `_squash` for the same matrix."""
        check_plain(X)
        limit, usual = self._limit(), self.quantile_range
        if type(usual) is not tuple or len(usual) != 2 or not all(type(q) in (float, int) for q in usual):
            raise Declined("a range of quantiles that is no pair")
        low, high = usual
        if not 0 <= low <= high <= 100:
            raise Declined("a range that is none")
        X = as_lines(validate_data(self, X, dtype=_FLOATS, ensure_all_finite=False))
        if not X.size:
            raise Declined("nothing to learn from")
        finite, (least, most) = X, _limits(X)
        if np.isinf(least).any() or np.isinf(most).any():
            finite = np.where(np.isinf(X), X.dtype.type(np.nan), X)
            least, most = _limits(finite)
        # (a column without a number has limits that are infinite, and its median is one of the original's warnings)
        if not np.abs([least, most]).max() < _LARGEST[X.dtype]:
            raise Declined("a column without a number, or one near the end of the range")
        medians, quantiles = order_statistics(finite, [low, high])
        _put_zeros_right(finite, medians)
        least, most = least.astype(X.dtype), most.astype(X.dtype)
        zero = most == least
        minmax = (quantiles[0] == quantiles[1]) & ~zero
        robust = ~(minmax | zero)
        state = _Learned(self.quantile_range, medians, quantiles, least, most, robust, minmax)
        columns = _columns(state.robust, robust, state.minmax, minmax)
        # What leaves the range (in the steps before the clipping) leaves it at the limits, too: each step is monotone.
        _squash(np.array([least, most]), *columns, limit)
        self.robust_scaler_, self.robust_cols_ = state.robust, robust
        self.minmax_scaler_, self.minmax_cols_ = state.minmax, minmax
        self.zero_cols_ = zero
        self.fitted_by_ = "stratum"
        return X, *columns, limit


class _Learned:
    """The scalers that skrub's would be fitted with."""

    def __init__(
        self,
        quantile_range: tuple,
        medians: np.ndarray,
        quantiles: np.ndarray,
        least: np.ndarray,
        most: np.ndarray,
        robust: np.ndarray,
        minmax: np.ndarray,
    ) -> None:
        self.robust = self.minmax = None
        if robust.any():
            scaler = preprocessing.RobustScaler(quantile_range=quantile_range)
            scaler.n_features_in_ = int(np.count_nonzero(robust))
            scaler.center_ = medians[robust]
            scaler.scale_ = _sklearn.handle_zeros_in_scale(quantiles[1, robust] - quantiles[0, robust], copy=False)
            self.robust = scaler
        if minmax.any():
            scaler = _MinMaxScaler()
            scaler.median_ = medians[minmax]
            scaler.scale_ = 2 / (most[minmax] - least[minmax] + np.finfo("float32").tiny)
            self.minmax = scaler


def _limits(X: np.ndarray) -> np.ndarray:
    limits = np.empty((2, X.shape[1]))
    _core.numeric_limits(X, threads(X.nbytes), *limits)
    return limits


def _put_zeros_right(X: np.ndarray, medians: np.ndarray) -> None:
    """Medians that are zero where a zero of the column is negative: how NumPy sorts decides which one it is."""
    mixed = []
    for j in np.flatnonzero(medians == 0):
        column = X[:, j]
        if np.signbit(column[column == 0]).any():
            mixed.append(j)
    if mixed:
        medians[mixed] = np.nanmedian(X[:, mixed], axis=0)


def _columns(robust: Any, robust_cols: Any, minmax: Any, minmax_cols: Any) -> tuple[np.ndarray, ...]:
    """What `numeric_squash` does with each column; a column of zeros is multiplied by zero."""
    n = len(robust_cols)
    center, by, times, plus = np.zeros(n), np.ones(n), np.zeros(n), np.zeros(n)
    if robust is not None:
        center[robust_cols], by[robust_cols] = robust.center_, robust.scale_
        times[robust_cols], plus[robust_cols] = 1.0, -0.0
    if minmax is not None:
        center[minmax_cols], times[minmax_cols], plus[minmax_cols] = minmax.median_, minmax.scale_, -0.0
    if not np.isfinite(center).all():
        raise Declined("a median that is no number")
    return center, by, times, plus


def _squash(
    X: np.ndarray, center: np.ndarray, by: np.ndarray, times: np.ndarray, plus: np.ndarray, limit: float
) -> np.ndarray:
    """A scaled and clipped copy of X, in C order as the original's is."""
    n, p = X.shape
    columns, n_threads = (center, by, times, plus), threads(X.nbytes, _WORK)
    out = np.empty(X.shape, dtype=X.dtype)
    k, done = rows_of_a_line(X)
    lost = False
    if done:
        parts = [m[:done].reshape(done // k, k * p) for m in (X, out)]
        lost = _core.numeric_squash(parts[0], *(np.tile(c, k) for c in columns), limit, n_threads, parts[1])
    if done < n:
        lost |= _core.numeric_squash(X[done:], *columns, limit, n_threads, out[done:])
    if lost:
        raise Declined("numbers that leave the range")
    return out
