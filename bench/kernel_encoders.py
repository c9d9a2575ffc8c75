"""Encoders of categories and dates against scikit-learn and skrub: the cases that ``bench.kernels`` measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import skrub
from sklearn import preprocessing
from skrub.core import RejectColumn

import stratum
from stratum import native
from stratum.demo import price_paid
from stratum.hosts import kernels

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


def _dates(distinct: int, fmt: str = "%Y-%m-%d %H:%M") -> Callable[[int], pd.Series]:
    def make(rows: int) -> pd.Series:
        minutes = 720 * np.random.default_rng(0).integers(0, distinct, rows)
        return pd.Series(pd.DatetimeIndex(minutes.astype("M8[m]").astype("M8[us]")).strftime(fmt), dtype="str", name="d")

    return make


def _sales(rows: int) -> pd.DataFrame:
    return price_paid.generate(rows).drop(columns="Price")


def _vectorized(table: pd.DataFrame) -> Any:
    return skrub.TableVectorizer(high_cardinality=skrub.StringEncoder(random_state=0)).fit_transform(table)


def _vectorized_by_kernels(table: pd.DataFrame) -> Any:
    stratum._load()
    with kernels.on():
        return _vectorized(table)


def _words(rows: int) -> pd.Series:
    return _strings(1000)(rows)["a"]


def _reads(module: Any) -> Callable[[Any], Any]:
    def run(column: pd.Series) -> Any:
        try:
            return module.ToDatetime().fit_transform(column)
        except RejectColumn:
            return None

    return run


def _times(rows: int) -> pd.Series:
    return pd.to_datetime(_dates(10_000)(rows), format="%Y-%m-%d %H:%M")


def _pair(name: str, **parameters: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def run(module: Any, data: Any) -> Any:
        return getattr(module, name)(**parameters).fit_transform(*(data if isinstance(data, tuple) else (data,)))

    return (lambda data: run(preprocessing, data)), (lambda data: run(native, data))


_DENSE = {"sparse_output": False, "dtype": "float32", "handle_unknown": "ignore", "drop": "if_binary"}

CASES = [
    Case(
        "TableVectorizer, price-paid table", _sales, _vectorized, _vectorized_by_kernels, target=10,
        sizes=(100, 10_000, 100_000),
    ),
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
    Case("ToDatetime, 10,000 ISO dates", _dates(10_000), _reads(skrub), _reads(native), target=5),
    Case("ToDatetime, days first", _dates(10_000, "%d/%m/%Y"), _reads(skrub), _reads(native)),
    Case("ToDatetime, no dates", _words, _reads(skrub), _reads(native), target=5),
    Case(
        "DatetimeEncoder", _times, lambda column: skrub.DatetimeEncoder().fit_transform(column),
        lambda column: native.DatetimeEncoder().fit_transform(column), target=5,
    ),
]  # fmt: skip
