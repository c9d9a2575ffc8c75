"""Naive Bayes: `MultinomialNB`.

A subclass of scikit-learn's, for whoever imports `stratum.native`, and behind its class (`stratum.hosts.kernels`).
What `fit` learns are sums of rows by class: one native pass, which also finds what may not be in X
(`_core.numeric_counts`). Everything else is inherited.

Identical bits for sparse X, where each sum is made in the original's order, and for whole counts, which have one sum
only. The sums of fractions in dense X differ by the order in which BLAS makes them (1e-13 relative); with
`exactness="identical"` the original makes those.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from sklearn import get_config, naive_bayes
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import validate_data

from .. import _core
from . import _config, _sklearn
from ._base import Declined, Native, threads
from ._labels import as_codes, numbered

__all__ = ["MultinomialNB"]

_BAD, _FRACTIONS = 1, 2
_TYPES = (np.float64, np.float32, np.int64, np.int32)


class MultinomialNB(Native, naive_bayes.MultinomialNB):
    """`sklearn.naive_bayes.MultinomialNB`; dense and CSR input is native."""

    _original: ClassVar[type] = naive_bayes.MultinomialNB

    @_sklearn.fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to X, y; parameters as the original's."""
        try:
            X, y = _checked(self, X, y, reset=True)
            classes, codes = numbered(y)
            counted = _counted(X, codes, len(classes), sample_weight)
            if sample_weight is None:
                _check_precision(X, y, counted[0])
        except Declined as reason:
            super().fit(X, y, sample_weight=sample_weight)
            self._declined(reason)
            return self
        # (twice each: classes that are all different would be warned of)
        self.classes_ = unique_labels(np.repeat(classes, 2))
        self._init_counters(len(classes), X.shape[1])
        return self._learn(*counted)

    @_sklearn.fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Fit to more rows; parameters as the original's."""
        first = not hasattr(self, "classes_")
        try:
            if first and classes is None:
                raise Declined("no classes")
            known = unique_labels(classes) if first else self.classes_
            X, y = _checked(self, X, y, reset=first)
            counted = _counted(X, as_codes(y, known), len(known), sample_weight)
        except Declined as reason:
            super().partial_fit(X, y, classes=classes, sample_weight=sample_weight)
            self._declined(reason)
            return self
        if _sklearn.begin_partial_fit(self, classes):
            self._init_counters(len(known), X.shape[1])
        return self._learn(*counted)

    def _learn(self, sums: np.ndarray, rows: np.ndarray) -> Self:
        """Add to the counts, and say what follows from them, in the original's order."""
        self.feature_count_ += sums
        self.class_count_ += rows
        alpha = self._check_alpha()
        self._update_feature_log_prob(alpha)
        self._update_class_log_prior(class_prior=self.class_prior)
        self.fitted_by_ = "stratum"
        return self


def _checked(estimator: Any, X: Any, y: Any, reset: bool) -> tuple[Any, np.ndarray]:
    """X and y, checked as scikit-learn does, but for the numbers in X: the pass over them tells."""
    if get_config()["array_api_dispatch"]:
        raise Declined("array API dispatch")
    try:
        return validate_data(estimator, X, y, accept_sparse="csr", reset=reset, ensure_all_finite=False)
    except (TypeError, ValueError):
        # which of several faults comes first the original says
        raise Declined("input that is refused") from None


def _check_precision(X: Any, y: np.ndarray, sums: np.ndarray) -> None:
    """Decline sums that the original makes in less than double precision: those of short labels and numbers."""
    indicators = y.dtype if y.dtype.kind == "i" else np.dtype(np.int64)
    kind = np.result_type(indicators, X.dtype)
    if kind.kind == "f" and kind != np.float64:
        raise Declined("sums in single precision")
    if kind.kind == "i" and sums.max(initial=0) > np.iinfo(kind).max:
        raise Declined("sums that overflow")


def _counted(X: Any, codes: np.ndarray, k: int, sample_weight: Any) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the rows of each class, and how many they are (their weight)."""
    weight = None
    if sample_weight is not None:
        try:
            weight = _sklearn.check_sample_weight(sample_weight, X)
        except (TypeError, ValueError):
            raise Declined("weights that are refused") from None
        weight = np.ascontiguousarray(weight, dtype=np.float64)
    sparse = hasattr(X, "indptr")
    data = X.data if sparse else X
    if data.dtype not in _TYPES:
        if data.dtype.kind not in "biu":
            raise Declined("numbers of another type")
        data = data.astype(np.float64)
    sums = np.empty((k, X.shape[1]))
    indptr = column = None
    if sparse:
        indptr, column = X.indptr, X.indices
        if len(data) != len(column) or len(data) != indptr[-1]:
            raise Declined("a sparse matrix with numbers to spare")
        if indptr.dtype != column.dtype:
            indptr, column = indptr.astype(np.int64), column.astype(np.int64)
        data = np.ascontiguousarray(data)
    met = _core.numeric_counts(
        data, indptr, column, X.shape[1], codes, k, weight, threads(data.nbytes, 4 if sparse else 1), sums.reshape(-1)
    )
    if met & _BAD:
        raise Declined("numbers below zero, or not finite")
    whole = not met & _FRACTIONS and (weight is None or bool((weight == np.trunc(weight)).all()))
    if not (whole and sums.size and np.abs(sums).max() < 2.0**53):
        if data.dtype.kind in "iu" and weight is None:
            raise Declined("whole numbers that are too large")
        if not sparse and _config.exactness() == "identical":
            raise Declined("sums of fractions, in BLAS's order")
    if weight is None:
        return sums, np.bincount(codes, minlength=k).astype(np.float64)
    if k == 1:
        return sums, weight.sum(keepdims=True)
    return sums, np.bincount(codes, weights=weight, minlength=k)
