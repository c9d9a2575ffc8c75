"""`SimpleImputer` for numbers; a subclass of scikit-learn's, for whoever imports `stratum.native`.

NaN as the missing value in float64 and float32 is native; everything else (strings, other missing values,
sparse matrices, strategies of users) is the original's code on the same object. Medians and most frequent
values are the original's numbers, means differ by the order of the sum (relative 1e-12), and what is
filled in is the same to the bit.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn import impute
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import _core
from . import _sklearn
from ._base import Declined, Native, as_lines, check_plain, order_statistics, rewrite, threads

__all__ = ["SimpleImputer"]

_FLOATS = (np.float64, np.float32)
_KEPT = (*_FLOATS, np.float16)  # by the original
_STRATEGIES = ("mean", "median", "most_frequent", "constant")


class SimpleImputer(Native, impute.SimpleImputer):
    """`sklearn.impute.SimpleImputer`; floating-point input with NaN for what is missing is native."""

    _original: ClassVar[type] = impute.SimpleImputer

    @_sklearn.fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Any:
        """Learn what to fill in; parameters as the original's."""
        try:
            self._fit(X)
        except Declined as reason:
            super().fit(X, y)
            self._declined(reason)
        return self

    def _check(self, X: Any) -> None:
        check_plain(X)
        missing = self.missing_values
        if not isinstance(missing, (float, np.floating)) or missing == missing or self.add_indicator:
            raise Declined("a missing value other than NaN, or an indicator")
        # Others may be numbers that have to be found out, or stay what they are.
        given = getattr(X, "dtype", None)
        if self.strategy not in _STRATEGIES:
            raise Declined("a strategy of the user's")
        if self.strategy in ("most_frequent", "constant") and given not in _FLOATS:
            raise Declined("no array of floating-point numbers")

    def _fit(self, X: Any) -> None:
        self._check(X)
        fill = 0 if self.fill_value is None else self.fill_value
        if self.strategy == "constant" and type(fill) not in (int, float):
            raise Declined("a value of another kind")
        try:
            X = as_lines(validate_data(self, X, dtype=_KEPT, ensure_all_finite=False))
        except ValueError as error:
            if "could not convert" in str(error):
                raise Declined("what is no number") from None
            raise
        count, mean, variance = np.empty((3, X.shape[1]))
        _core.numeric_sums(X, threads(X.nbytes), count, mean, variance)
        present = count > 0
        if not np.isfinite(mean[present]).all():
            raise Declined("infinities")
        if self.strategy == "mean":
            found = mean  # in double precision, as there
        elif self.strategy == "median":
            found = order_statistics(X, [])[0]
        elif self.strategy == "most_frequent":
            found = np.empty(X.shape[1])
            _core.numeric_mode(X, threads(X.nbytes, 32), found)
        else:
            found = np.full(X.shape[1], fill, dtype=np.object_)
        if self.strategy != "constant" or not self.keep_empty_features:
            found[~present] = 0 if self.keep_empty_features else np.nan
        self.statistics_ = found
        self._fit_dtype = self._fill_dtype = X.dtype
        self.indicator_ = None
        self.fitted_by_ = "stratum"

    def transform(self, X: Any) -> Any:
        """Fill in what was learned."""
        try:
            return self._transform(X)
        except Declined:
            return super().transform(X)

    def _transform(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        self._check(X)
        if not self.copy or self._fit_dtype not in _FLOATS or self._fill_dtype not in _FLOATS:
            raise Declined("copy=False, or fitted on other data")
        statistics = self.statistics_.astype(np.float64)
        if self.keep_empty_features is False and np.isnan(statistics).any():
            raise Declined("columns to be left out")
        try:
            X = as_lines(validate_data(self, X, dtype=_KEPT, ensure_all_finite=False, reset=False))
        except ValueError as error:
            if "could not convert" in str(error):
                raise Declined("what is no number") from None
            raise
        if self.strategy == "constant" and X.dtype != self._fill_dtype:
            raise Declined("another type than that of the fit")
        values = statistics.astype(self._fill_dtype).astype(X.dtype)
        return rewrite(X, "fill", values, values)
