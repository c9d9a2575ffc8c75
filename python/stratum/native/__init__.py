"""Estimators computed by libstratum, in place of scikit-learn's and skrub's own.

Each is a subclass of the original with the original's parameters, attributes and errors, so that it can stand
wherever the original stood. What the C kernels do not do (another analyzer, a callable, another solver) the
original does, unseen; each class says what that is. ``to_original()`` gives the fitted original, ``from_original``
takes one.

Names are imported when they are asked for: the package costs nothing to import.
"""

from __future__ import annotations

import importlib
from typing import Any

# Name -> the module that has it.
_NAMES = {
    "CleanNullStrings": "cleaning",
    "CountVectorizer": "text",
    "DatetimeEncoder": "dates",
    "DropUninformative": "checking",
    "ElasticNet": "linear",
    "FrequentDirections": "decomposition",
    "HashingVectorizer": "text",
    "Lasso": "linear",
    "LinearRegression": "linear",
    "LogisticRegression": "linear",
    "MinMaxScaler": "scalers",
    "MultinomialNB": "bayes",
    "OneHotEncoder": "encoders",
    "OrdinalEncoder": "encoders",
    "PCA": "decomposition",
    "PolynomialFeatures": "scalers",
    "Ridge": "linear",
    "RobustScaler": "scalers",
    "SimpleImputer": "impute",
    "SquashingScaler": "squashing",
    "StandardScaler": "scalers",
    "StringEncoder": "string_encoder",
    "TargetEncoder": "encoders",
    "TfidfTransformer": "text",
    "TfidfVectorizer": "text",
    "ToDatetime": "dates",
    "ToFloat": "checking",
    "ToStr": "cleaning",
    "TruncatedSVD": "decomposition",
    "config_context": "_config",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
