"""Metrics against scikit-learn's: the cases that ``bench.kernels`` measures."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .kernel_case import Case


def _numbers(rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.normal(size=rows)
    return y, y + rng.normal(size=rows)


def _scores(rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, rows)
    return y, y + rng.normal(size=rows)


def _labels(rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, rows)
    return y, np.where(rng.random(rows) < 0.6, y, rng.integers(0, 5, rows))


def _probabilities(rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 5, rows), rng.dirichlet(np.ones(5), rows)


def _ask(module: str, name: str, options: dict[str, Any], data: tuple[np.ndarray, np.ndarray]) -> Any:
    return getattr(__import__(module, fromlist=[name]), name)(*data, **options)


def _case(name: str, make: Callable[[int], Any], target: float, **options: Any) -> Case:
    native, original = (functools.partial(_ask, m, name, options) for m in ("stratum.native.metrics", "sklearn.metrics"))
    return Case(name, make, original, native, target=target)


CASES = [
    _case("r2_score", _numbers, 6),
    _case("mean_squared_error", _numbers, 4),
    _case("roc_auc_score", _scores, 20),
    _case("average_precision_score", _scores, 10),
    _case("log_loss", _probabilities, 8),
    _case("accuracy_score", _labels, 8),
    _case("f1_score", _labels, 4, average="macro"),
]
