"""A pytest plugin that puts the numeric estimators of `stratum.native` in place of scikit-learn's.

``pytest -p stratum.testing.numeric_plugin --pyargs sklearn.linear_model.tests.test_ridge`` runs scikit-learn's
own tests against them: whoever imports such a class from its package gets the native one. How many
fits were not native after all is reported at the end.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest

PACKAGES = {
    "sklearn.impute": ("SimpleImputer",),
    "sklearn.linear_model": ("ElasticNet", "Lasso", "LinearRegression", "LogisticRegression", "Ridge"),
    "sklearn.preprocessing": ("MinMaxScaler", "PolynomialFeatures", "RobustScaler", "StandardScaler"),
}

declined = [0]


def pytest_configure(config: pytest.Config) -> None:
    """Replace the names before any test module is imported."""
    native = importlib.import_module("stratum.native")
    for package, names in PACKAGES.items():
        module = importlib.import_module(package)
        for name in names:
            cls = getattr(native, name)
            cls._declined = _counting_declined(cls._declined)
            setattr(module, name, cls)


def _counting_declined(original: Any) -> Any:
    def counting(self: Any, reason: Any) -> None:
        declined[0] += 1
        original(self, reason)

    return counting


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How often the original's code had to do it."""
    terminalreporter.write_line(f"stratum: {declined[0]} fits by scikit-learn itself")
