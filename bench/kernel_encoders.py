"""Encoders of categories and dates against scikit-learn and skrub: the cases that ``bench.kernels`` measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn import preprocessing

from stratum import native

from .kernel_case import Case


def _strings(distinct: int, dtype: str = "str") -> Callable[[int], pd.DataFrame]:
    def make(rows: int) -> pd.DataFrame:
        rng = np.random.default_rng(0)
        pool = np.array([f"category {i}" for i in range(distinct)], dtype=object)
        return pd.DataFrame({name: pd.Series(rng.choice(pool, rows), dtype=dtype) for name in "abc"})

    return make


def _with_target(make: Callable[[int], pd.DataFrame], classes: int = 0) -> Callable[[int], tuple[Any, Any]]:
    def both(rows: int) -> tuple[Any, Any]:
        rng = np.random.default_rng(1)
        return make(rows), rng.integers(0, classes, rows) if classes else rng.normal(size=rows)

    return both


def _integers(rows: int) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).integers(0, 20, (rows, 3)), columns=list("abc"))


def _pair(name: str, **parameters: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def run(module: Any, data: Any) -> Any:
        return getattr(module, name)(**parameters).fit_transform(*(data if isinstance(data, tuple) else (data,)))

    return (lambda data: run(preprocessing, data)), (lambda data: run(native, data))


_DENSE = {"sparse_output": False, "dtype": "float32", "handle_unknown": "ignore", "drop": "if_binary"}

CASES = [
    Case("OneHotEncoder, 20 strings", _strings(20), *_pair("OneHotEncoder"), target=12),
    Case("OneHotEncoder, 20 strings, dense", _strings(20), *_pair("OneHotEncoder", **_DENSE), target=12),
    Case("OneHotEncoder, 20 strings, objects", _strings(20, "object"), *_pair("OneHotEncoder")),
    Case("OneHotEncoder, 1,000 strings", _strings(1000), *_pair("OneHotEncoder")),
    Case("OneHotEncoder, integers", _integers, *_pair("OneHotEncoder")),
    Case("OrdinalEncoder, 20 strings", _strings(20), *_pair("OrdinalEncoder"), target=12),
    Case("OrdinalEncoder, 1,000 strings", _strings(1000), *_pair("OrdinalEncoder")),
    Case("OrdinalEncoder, integers", _integers, *_pair("OrdinalEncoder")),
    Case("TargetEncoder, 1,000 strings", _with_target(_strings(1000)), *_pair("TargetEncoder"), target=4),
    Case("TargetEncoder, 1,000 strings, 3 classes", _with_target(_strings(1000), 3), *_pair("TargetEncoder")),
]
