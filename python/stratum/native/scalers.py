"""Scalers and polynomials: `StandardScaler`, `MinMaxScaler`, `RobustScaler`, `PolynomialFeatures`.

Subclasses of scikit-learn's, for whoever imports `stratum.native`. Given the same state, what they write is
the original's to the bit, rounded after each step as it is there. Limits, medians and quantiles are the
original's numbers; means and variances are sums in another order (relative 1e-12). All in one pass, where
the original has one for each step and others to look for infinities.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from scipy import stats
from sklearn import preprocessing
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import _core
from . import _sklearn
from ._base import Declined, Native, as_lines, check_plain, order_statistics, rewrite, threads

__all__ = ["MinMaxScaler", "PolynomialFeatures", "RobustScaler", "StandardScaler"]

_FLOATS = (np.float64, np.float32, np.float16)  # what the original keeps; half precision is its own


def _fitting(estimator: Any, X: Any) -> np.ndarray:
    """X for learning from, checked as scikit-learn does, but for infinities: the sums tell those."""
    check_plain(X)
    return as_lines(validate_data(estimator, X, dtype=_FLOATS, ensure_all_finite=False))


def _applying(estimator: Any, X: Any) -> np.ndarray:
    """X to be rewritten; with ``copy=False`` the original is the one who knows when that is in place."""
    check_plain(X)
    check_is_fitted(estimator)
    if not getattr(estimator, "copy", True):
        raise Declined("copy=False")
    return as_lines(validate_data(estimator, X, dtype=_FLOATS, ensure_all_finite=False, reset=False))


class StandardScaler(Native, preprocessing.StandardScaler):
    """`sklearn.preprocessing.StandardScaler`; dense input without weights is native."""

    _original: ClassVar[type] = preprocessing.StandardScaler

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn means and variances; parameters as the original's."""
        self._reset()
        return self.partial_fit(X, y, sample_weight)

    @_sklearn.fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn from one more batch; the first one is native."""
        try:
            self._first_fit(X, sample_weight)
        except Declined as reason:
            super().partial_fit(X, y, sample_weight)
            self._declined(reason)
        return self

    def _first_fit(self, X: Any, sample_weight: Any) -> None:
        if sample_weight is not None or hasattr(self, "n_samples_seen_") or hasattr(self, "_skl_callbacks"):
            raise Declined("weights, callbacks, or a second batch")
        if not self.with_mean and not self.with_std:
            raise Declined("nothing to learn")
        X = _fitting(self, X)
        count, mean, variance = np.empty((3, X.shape[1]))
        _core.numeric_sums(X, threads(X.nbytes), count, mean, variance)
        there = count > 0
        if not (np.isfinite(mean[there]).all() and np.isfinite(variance[there]).all() and there.all()):
            raise Declined("infinities, or nothing but NaN")
        self.mean_ = mean
        self.var_ = variance if self.with_std else None
        self.n_samples_seen_ = count[0] if count.max() == count.min() else count
        self.scale_ = None
        if self.with_std:
            constant = _sklearn.is_constant_feature(variance, mean, self.n_samples_seen_)
            self.scale_ = _sklearn.handle_zeros_in_scale(np.sqrt(variance), copy=False, constant_mask=constant)
        self.fitted_by_ = "stratum"

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        """Center and scale."""
        try:
            if copy is not None and not copy:
                raise Declined("copy=False")
            values = _applying(self, X)
            how = "sub_div" if self.with_mean and self.with_std else "sub" if self.with_mean else "div"
            if not self.with_mean and not self.with_std:
                raise Declined("nothing to do")
            first = self.mean_ if self.with_mean else self.scale_
            second = self.scale_ if self.with_std else self.mean_
            return rewrite(values, how, first.astype(values.dtype), second.astype(values.dtype))
        except Declined:
            return super().transform(X, copy=copy)


class MinMaxScaler(Native, preprocessing.MinMaxScaler):
    """`sklearn.preprocessing.MinMaxScaler`; the first batch and what is not clipped are native."""

    _original: ClassVar[type] = preprocessing.MinMaxScaler

    @_sklearn.fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn from one more batch; the first one is native."""
        try:
            self._first_fit(X)
        except Declined as reason:
            super().partial_fit(X, y)
            self._declined(reason)
        return self

    def _first_fit(self, X: Any) -> None:
        low, high = self.feature_range
        if low >= high or hasattr(self, "n_samples_seen_"):
            raise Declined("a range without room, or a second batch")
        X = _fitting(self, X)
        least, most = np.empty((2, X.shape[1]))
        _core.numeric_limits(X, threads(X.nbytes), least, most)
        if not (np.isfinite(least).all() and np.isfinite(most).all()):
            raise Declined("infinities, or nothing but NaN")
        low, high = np.asarray(low, dtype=X.dtype), np.asarray(high, dtype=X.dtype)
        self.n_samples_seen_ = X.shape[0]
        self.data_min_, self.data_max_ = least.astype(X.dtype), most.astype(X.dtype)
        self.data_range_ = self.data_max_ - self.data_min_
        self.scale_ = (high - low) / _sklearn.handle_zeros_in_scale(self.data_range_, copy=True)
        self.min_ = low - self.data_min_ * self.scale_
        self.fitted_by_ = "stratum"

    def transform(self, X: Any) -> Any:
        """Scale to the range."""
        try:
            if self.clip:
                raise Declined("clipping")
            return rewrite(_applying(self, X), "mul_add", self.scale_, self.min_)
        except Declined:
            return super().transform(X)


class RobustScaler(Native, preprocessing.RobustScaler):
    """`sklearn.preprocessing.RobustScaler`; dense input is native."""

    _original: ClassVar[type] = preprocessing.RobustScaler

    @_sklearn.fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn medians and quantiles; parameters as the original's."""
        try:
            self._fit(X)
        except Declined as reason:
            super().fit(X, y)
            self._declined(reason)
        return self

    def _fit(self, X: Any) -> None:
        low, high = self.quantile_range
        if not 0 <= low <= high <= 100:
            raise Declined("a range that is none")
        X = _fitting(self, X)
        medians, quantiles = order_statistics(X, [low, high])
        if not (np.isfinite(medians).all() and np.isfinite(quantiles).all()):
            raise Declined("infinities, or nothing but NaN")
        self._check_infinite(X)
        self.center_ = medians if self.with_centering else None
        self.scale_ = None
        if self.with_scaling:
            self.scale_ = _sklearn.handle_zeros_in_scale(quantiles[1] - quantiles[0], copy=False)
            if self.unit_variance:
                self.scale_ = self.scale_ / (stats.norm.ppf(high / 100.0) - stats.norm.ppf(low / 100.0))
        self.fitted_by_ = "stratum"

    @staticmethod
    def _check_infinite(X: np.ndarray) -> None:
        least, most = np.empty((2, X.shape[1]))
        _core.numeric_limits(X, threads(X.nbytes), least, most)
        if not (np.isfinite(least).all() and np.isfinite(most).all()):
            raise Declined("infinities")

    def transform(self, X: Any) -> Any:
        """Center and scale."""
        try:
            values = _applying(self, X)
            if not self.with_centering and not self.with_scaling:
                raise Declined("nothing to do")
            how = "sub_div" if self.with_centering and self.with_scaling else "sub" if self.with_centering else "div"
            first = self.center_ if self.with_centering else self.scale_
            return rewrite(values, how, first, self.scale_ if self.with_scaling else first)
        except Declined:
            return super().transform(X)


class PolynomialFeatures(Native, preprocessing.PolynomialFeatures):
    """`sklearn.preprocessing.PolynomialFeatures`; dense input to rows in C order is native, bit for bit."""

    _original: ClassVar[type] = preprocessing.PolynomialFeatures

    def transform(self, X: Any) -> Any:
        """Products of columns."""
        try:
            return self._transform(X)
        except Declined:
            return super().transform(X)

    def _transform(self, X: Any) -> np.ndarray:
        check_plain(X)
        check_is_fitted(self)
        if self.order != "C" or self._min_degree > 1 or self._max_degree < 1:
            raise Declined("another order, or degrees that are left out")
        X = validate_data(self, X, dtype=_FLOATS, ensure_all_finite=False, reset=False)
        if X.dtype == np.float16:
            raise Declined("half precision")
        out = np.empty((X.shape[0], self._n_out_full), dtype=X.dtype)
        if not _core.numeric_products(X, self.include_bias, self._steps(), threads(out.nbytes), out):
            raise Declined("numbers that are not finite")
        return out

    def _steps(self) -> np.ndarray:
        """Which products make which columns, in the original's order: (from, how many, column, to) each."""
        n, at = self.n_features_in_, int(self.include_bias)
        steps = []
        # where the terms of the last degree that begin with feature f, or a later one, begin
        begins = [*range(at, at + n), at + n]
        at += n
        for _ in range(2, self._max_degree + 1):
            new, end = [], begins[-1]
            for feature in range(n):
                begin = begins[feature]
                new.append(at)
                if self.interaction_only:
                    begin += begins[feature + 1] - begins[feature]
                if end <= begin:
                    break
                steps.append((begin, end - begin, feature, at))
                at += end - begin
            new.append(at)
            begins = new
        return np.array(steps, dtype=np.int64).reshape(-1, 4)
