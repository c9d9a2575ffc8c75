"""Numeric kernels against scikit-learn: the cases that ``bench.kernels`` measures.

For the targets linear models have 66,667 rows of 110 columns: two folds of three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from .kernel_case import Case


def _regression(rows: int, columns: int = 110) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(3.0, 1.0, size=(rows, columns))
    coef = rng.normal(size=columns) * (rng.random(columns) < 0.3)
    return X, (X - 3.0) @ coef + rng.normal(size=rows)


def _classes(k: int) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    def make(rows: int) -> tuple[np.ndarray, np.ndarray]:
        X, y = _regression(rows)
        return X - 3.0, np.minimum((np.argsort(np.argsort(y)) * k) // rows, k - 1)

    return make


def _holes(rows: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, 20)).round(2)
    X[rng.random(X.shape) < 0.1] = np.nan
    return X


def _table(rows: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, 20))


def _labels(rows: int, k: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, k, rows)


def _words(rows: int) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """About thirty words of five thousand in each row."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 5000, (rows, 30))
    counts = rng.integers(1, 6, rows * 30)
    begins = np.arange(0, rows * 30 + 1, 30)
    return scipy.sparse.csr_array((counts, words.ravel(), begins), shape=(rows, 5000)), _labels(rows, 5)


def _counts(rows: int) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).integers(0, 5, (rows, 50)).astype(np.float64), _labels(rows, 5)


def _tfidf(rows: int) -> scipy.sparse.csr_array:
    """Thirty weights in each row, some of five thousand columns much oftener than others."""
    rng = np.random.default_rng(0)
    words = (5000 * rng.random((rows, 30)) ** 2).astype(np.int32)
    begins = np.arange(0, rows * 30 + 1, 30)
    return scipy.sparse.csr_array((rng.random(rows * 30) / 4, words.ravel(), begins), shape=(rows, 5000))


def _mixed(rows: int, columns: int = 110) -> np.ndarray:
    """Columns that have some things in common."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(columns // 5, columns)) * 0.8 ** np.arange(columns // 5)[:, None]
    return rng.normal(size=(rows, columns // 5)) @ common + 0.3 * rng.normal(size=(rows, columns))


def _pair(module: str, name: str, **parameters: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """The same class twice: from scikit-learn and from `stratum.native`, imported when called."""

    def run(where: str, data: Any) -> Any:
        estimator = getattr(__import__(where, fromlist=[name]), name)(**parameters)
        return estimator.fit(*data) if isinstance(data, tuple) else estimator.fit_transform(data)

    return (lambda data: run(module, data)), (lambda data: run("stratum.native", data))


_LINEAR, _SCALING = "sklearn.linear_model", "sklearn.preprocessing"
_PARTS = "sklearn.decomposition"

_ROWS = {"target_rows": 66_667, "sizes": (100, 10_000, 66_667, 200_000)}

CASES = [
    Case("Ridge", _regression, *_pair(_LINEAR, "Ridge"), target=3, **_ROWS),
    Case("LinearRegression", _regression, *_pair(_LINEAR, "LinearRegression"), target=3, **_ROWS),
    Case("ElasticNet", _regression, *_pair(_LINEAR, "ElasticNet", alpha=0.1), target=4, **_ROWS),
    Case("Lasso", _regression, *_pair(_LINEAR, "Lasso", alpha=0.05), target=4, **_ROWS),
    Case("LogisticRegression, 2 classes", _classes(2), *_pair(_LINEAR, "LogisticRegression"), target=3, **_ROWS),
    Case("LogisticRegression, 5 classes", _classes(5), *_pair(_LINEAR, "LogisticRegression"), target=3, **_ROWS),
    Case("MultinomialNB, sparse", _words, *_pair("sklearn.naive_bayes", "MultinomialNB"), target=3),
    Case("MultinomialNB, dense", _counts, *_pair("sklearn.naive_bayes", "MultinomialNB"), target=3),
    Case("PCA", _mixed, *_pair(_PARTS, "PCA"), **_ROWS),
    Case("PCA, 10 of 300 columns", lambda rows: _mixed(rows, 300), *_pair(_PARTS, "PCA", n_components=10), **_ROWS),
    Case("TruncatedSVD, sparse", _tfidf, *_pair(_PARTS, "TruncatedSVD", n_components=30, random_state=0)),
    Case("TruncatedSVD, dense", _mixed, *_pair(_PARTS, "TruncatedSVD", n_components=10, random_state=0), **_ROWS),
    Case("StandardScaler", _table, *_pair(_SCALING, "StandardScaler"), target=5),
    Case("MinMaxScaler", _table, *_pair(_SCALING, "MinMaxScaler"), target=4),
    Case("RobustScaler", _table, *_pair(_SCALING, "RobustScaler"), target=4),
    Case("SquashingScaler", _table, *_pair("skrub", "SquashingScaler"), target=4),
    Case("PolynomialFeatures", _table, *_pair(_SCALING, "PolynomialFeatures"), target=8),
    Case("SimpleImputer, mean", _holes, *_pair("sklearn.impute", "SimpleImputer"), target=10),
    Case("SimpleImputer, median", _holes, *_pair("sklearn.impute", "SimpleImputer", strategy="median"), target=10),
    Case(
        "SimpleImputer, most frequent", _holes,
        *_pair("sklearn.impute", "SimpleImputer", strategy="most_frequent"), target=10,
    ),
]  # fmt: skip
