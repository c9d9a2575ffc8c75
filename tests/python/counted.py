"""Estimators and functions that count how often they are called, for the tests of sharing.

What was counted lies in a registry that the encoding of user code does not reach (an attribute set on
`sys`), so that counting does not change what a function or an estimator is.
"""

from __future__ import annotations

import collections
import sys
import threading

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin


class _Log:
    """Counts by name; several threads may add at once."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = collections.Counter()

    def add(self, name):
        with self.lock:
            self.counts[name] += 1

    def take(self):
        """The counts since the last call."""
        with self.lock:
            counts, self.counts = self.counts, collections.Counter()
        return dict(sorted(counts.items()))


def log():
    """The log of this process."""
    found = getattr(sys, "_counted_log", None)
    if found is None:
        found = sys._counted_log = _Log()
    return found


def hit(name):
    log().add(name)


hit._stratum_purity = "pure"  # counting does not change what is computed


def values(X):
    return np.asarray(X, dtype=float)


class Shift(TransformerMixin, BaseEstimator):
    """Subtracts the mean and adds `by`."""

    def __init__(self, by=0.0):
        self.by = by

    def fit(self, X, y=None):
        hit(f"Shift({self.by}).fit")
        self.mean_ = values(X).mean(axis=0)
        return self

    def transform(self, X):
        hit(f"Shift({self.by}).transform")
        return X - self.mean_ + self.by

    def fit_transform(self, X, y=None, **kwargs):
        self.fit(X, y)
        return X - self.mean_ + self.by


class Scale(TransformerMixin, BaseEstimator):
    """Divides by `by` times the standard deviation."""

    def __init__(self, by=1.0):
        self.by = by

    def fit(self, X, y=None):
        hit(f"Scale({self.by}).fit")
        self.std_ = values(X).std(axis=0)
        return self

    def transform(self, X):
        hit(f"Scale({self.by}).transform")
        return X / (1 + self.by * self.std_)

    def fit_transform(self, X, y=None, **kwargs):
        self.fit(X, y)
        return X / (1 + self.by * self.std_)


class Mean(RegressorMixin, BaseEstimator):
    """Predicts a weighted mean of the target."""

    def __init__(self, weight=1.0):
        self.weight = weight

    def fit(self, X, y):
        hit(f"Mean({self.weight}).fit")
        self.value_ = float(np.mean(y)) * self.weight
        self.coef_ = values(X).mean(axis=0)
        return self

    def predict(self, X):
        hit(f"Mean({self.weight}).predict")
        return self.value_ + values(X) @ self.coef_ * 1e-3


class Nearest(ClassifierMixin, BaseEstimator):
    """The class whose mean is nearest; with all the ways of predicting."""

    def __init__(self, power=2.0):
        self.power = power

    def fit(self, X, y):
        hit(f"Nearest({self.power}).fit")
        self.classes_ = np.unique(y)
        self.means_ = np.array([values(X)[np.asarray(y) == c].mean(axis=0) for c in self.classes_])
        return self

    def _distances(self, X):
        return (np.abs(values(X)[:, None, :] - self.means_[None]) ** self.power).sum(axis=2)

    def predict(self, X):
        hit(f"Nearest({self.power}).predict")
        return self.classes_[self._distances(X).argmin(axis=1)]

    def predict_proba(self, X):
        hit(f"Nearest({self.power}).predict_proba")
        weights = np.exp(-self._distances(X) / (1 + self.power))
        return weights / weights.sum(axis=1, keepdims=True)
