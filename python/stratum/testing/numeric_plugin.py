"""Pytest plugin for scikit-learn's own tests of numeric estimators: ``-p stratum.testing.numeric_plugin``.

Whoever imports such a class, or a metric, from its package gets the one of `stratum.native`. At the end the fits are
counted: how many of theirs there were, and how many the original's code did after all. (The kernel of a metric
counts as a fit.)
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import sklearn.metrics

import stratum.native
from stratum import _core
from stratum.native import decomposition, metrics

PACKAGES = {
    "sklearn.decomposition": ("PCA", "TruncatedSVD"),
    "sklearn.impute": ("SimpleImputer",),
    "sklearn.linear_model": ("ElasticNet", "Lasso", "LinearRegression", "LogisticRegression", "Ridge"),
    "sklearn.naive_bayes": ("MultinomialNB",),
    "sklearn.preprocessing": ("MinMaxScaler", "PolynomialFeatures", "RobustScaler", "StandardScaler"),
}

# Sizes below which the original is as fast: the tests' are, and are to be ours all the same.
SIZES = {"FEW_ROWS": 1, "MANY": 1, "VERY_TALL": 2, "NARROW": 512, "MANY_DENSE": 1}

_fits = [0]
_declined = [0]


def _counting(method: Any, counter: list[int]) -> Any:
    @functools.wraps(method)
    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        counter[0] += 1
        return method(self, *args, **kwargs)

    return counted


def _counting_calls(kernel: Any) -> Any:
    def counted(*args: Any) -> Any:
        _fits[0] += 1
        return kernel(*args)

    return counted


def pytest_configure(config: Any) -> None:
    """Put our classes where the tests look for scikit-learn's."""
    for package, names in PACKAGES.items():
        module = importlib.import_module(package)
        for name in names:
            cls = getattr(stratum.native, name)
            cls.fit = _counting(cls.fit, _fits)
            cls._declined = _counting(cls._declined, _declined)
            setattr(module, name, cls)
    for name, value in SIZES.items():
        setattr(decomposition, name, value)
    for name in ("metric_pairs", "metric_picked", "metric_ranking", "metric_residuals"):
        setattr(_core, name, _counting_calls(getattr(_core, name)))
    for name in metrics.__all__:
        setattr(sklearn.metrics, name, getattr(metrics, name))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say who fitted."""
    terminalreporter.write_line(f"stratum: {_fits[0]} fits, {_declined[0]} by scikit-learn itself")
