"""Estimators with native kernels, under scikit-learn's and skrub's own names.

Nothing is imported before a name is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "ElasticNet": "linear",
    "Lasso": "linear",
    "LinearRegression": "linear",
    "LogisticRegression": "linear",
    "MinMaxScaler": "scalers",
    "PolynomialFeatures": "scalers",
    "Ridge": "linear",
    "RobustScaler": "scalers",
    "SimpleImputer": "impute",
    "StandardScaler": "scalers",
    "use_threads": "_base",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
