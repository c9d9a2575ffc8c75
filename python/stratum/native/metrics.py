"""Metrics under scikit-learn's names: `r2_score`, `roc_auc_score`, `f1_score` and what else its scorers hold.

For whoever imports `stratum.native.metrics`, and behind scikit-learn's own scorers where the engine scores
(`stratum.hosts.kernels`). Signatures, results and errors are the originals'; whatever is not a plain column of labels
or of double-precision numbers, every option that is not named here, and what the original would warn of or refuse,
the original does. Values agree within 1e-12 of the largest term.

What the originals take is mostly asking what they were given: they sort labels some times over. Here labels are
numbered once, and metrics of labels are the originals' own, asked about each pair of labels once, weighted by its rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn import get_config, metrics

from .. import _core
from ._base import Declined
from ._labels import numbered

__all__ = [
    "accuracy_score", "average_precision_score", "balanced_accuracy_score", "f1_score", "log_loss",
    "mean_absolute_error", "mean_squared_error", "precision_score", "r2_score", "recall_score", "roc_auc_score",
    "root_mean_squared_error",
]  # fmt: skip

# As they were when this was imported: somebody may have put ours in their place since.
_ORIGINALS = {name: getattr(metrics, name) for name in __all__}

# Labels of which all pairs are counted, and rows that there are to a pair at least.
MOST_LABELS, ROWS_EACH = 200, 4

# Of the mean square of y: a spread below is rounding, of which the original makes its own.
LEAST_SPREAD = 1e-12


def _stands_for(original: Callable[..., Any], *options: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function that has the original's name, signature and text, and asks it for what ours declines."""

    def wrap(ours: Callable[..., Any]) -> Callable[..., Any]:
        allowed = frozenset(options)

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            if len(args) == 2 and kwargs.keys() <= allowed and not get_config()["array_api_dispatch"]:
                try:
                    return ours(*args, **kwargs)
                except Declined:
                    pass
            return original(*args, **kwargs)

        call.__module__ = __name__  # (pickled by our name)
        call.native = ours  # type: ignore[attr-defined]  # which raises Declined
        return call

    return wrap


def _column(values: Any) -> np.ndarray:
    """A column that lies in memory as NumPy has it."""
    if isinstance(values, pd.Series) and isinstance(values.dtype, (np.dtype, pd.StringDtype)):
        values = values.to_numpy()
    if type(values) not in (np.ndarray, np.memmap) or values.ndim != 1 or not len(values):
        raise Declined("no plain column")
    return values


def _numbers(*columns: Any) -> list[np.ndarray]:
    """Columns of equal length as doubles; at least one of them is double or whole."""
    found = [_column(values) for values in columns]
    if any(len(one) != len(found[0]) or one.dtype.kind not in "fiu" for one in found):
        raise Declined("columns that are not numbers, or of different lengths")
    if all(one.dtype.kind == "f" and one.dtype != np.float64 for one in found):
        raise Declined("single precision")
    if any(one.dtype in (np.float16, np.longdouble) for one in found):
        raise Declined("another precision")
    return [np.ascontiguousarray(one, dtype=np.float64) for one in found]


def _weights(weight: Any, n: int) -> np.ndarray | None:
    if weight is None:
        return None
    weight = _column(weight)
    if len(weight) != n or weight.dtype.kind not in "fiu" or weight.dtype in (np.float16, np.longdouble):
        raise Declined("weights that are none")
    weight = np.ascontiguousarray(weight, dtype=np.float64)
    if not (weight.min() >= 0 and 0 < weight.sum() < np.inf):
        raise Declined("weights that are negative, not finite, or zero in sum")
    return weight


# (What a user reads as their text are the originals'.)

# -- Numbers --------------------------------------------------------------------------------------


def _residuals(y_true: Any, y_pred: Any, weight: Any) -> tuple[float, float, float, float, float]:
    y, predicted = _numbers(y_true, y_pred)
    found = _core.metric_residuals(y, predicted, _weights(weight, len(y)))
    if not np.isfinite(found).all():
        raise Declined("numbers that are not finite, or have no finite squares")
    return found


@_stands_for(metrics.r2_score, "sample_weight")
def r2_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    total, mean, squares, _, spread = _residuals(y_true, y_pred, sample_weight)
    if len(y_true) < 2 or not spread > LEAST_SPREAD * total * (mean * mean) or spread < 1e-290:
        raise Declined("no spread")
    return 1.0 - squares / spread


@_stands_for(metrics.mean_squared_error, "sample_weight")
def mean_squared_error(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    total, _, squares, _, _ = _residuals(y_true, y_pred, sample_weight)
    return squares / total


@_stands_for(metrics.root_mean_squared_error, "sample_weight")
def root_mean_squared_error(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    total, _, squares, _, _ = _residuals(y_true, y_pred, sample_weight)
    return float(np.sqrt(squares / total))


@_stands_for(metrics.mean_absolute_error, "sample_weight")
def mean_absolute_error(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    total, _, _, absolute, _ = _residuals(y_true, y_pred, sample_weight)
    return absolute / total


# -- Labels ---------------------------------------------------------------------------------------


def _pairs(y_true: Any, y_pred: Any, weight: Any) -> tuple[np.ndarray, np.ndarray]:
    """The labels, and how many rows (or their weight) have each of them as the true and as the predicted one."""
    true, predicted = _column(y_true), _column(y_pred)
    if len(true) != len(predicted):
        raise Declined("columns of different lengths")
    weight = _weights(weight, len(true))
    if weight is not None and not weight.min() > 0:
        raise Declined("rows without weight")  # (which have labels all the same)
    kinds = {true.dtype.kind, predicted.dtype.kind}
    if kinds == {"i"} or kinds == {"b"}:
        kind = np.result_type(true, predicted)
        a, b = (np.ascontiguousarray(v, dtype=np.int64) for v in (true, predicted))
        low = min(int(a.min()), int(b.min()))
        k = _few(max(int(a.max()), int(b.max())) - low + 1, len(true))
        labels = (np.arange(k) + low).astype(kind)
    elif kinds <= {"O", "U"} or kinds == {"f"}:
        labels, codes = numbered(np.concatenate([true, predicted]))
        low, k, codes = 0, _few(len(labels), len(true)), codes.astype(np.int64)
        a, b = codes[: len(true)], codes[len(true) :]
    else:
        raise Declined("labels of other types")
    counts = np.empty(k * k)
    if not _core.metric_pairs(a, b, low, k, weight, counts):
        raise RuntimeError("labels have changed while they were counted")
    counts = counts.reshape(k, k)
    there = counts.any(axis=0) | counts.any(axis=1)
    return labels[there], counts[there][:, there]


def _few(k: int, n: int) -> int:
    """So many labels, if their pairs are few among so many rows, and scikit-learn would not warn of their number."""
    if k > min(MOST_LABELS, max(2, n // 2)) or k * k * ROWS_EACH > max(n, 64):
        raise Declined("many labels")
    return k


def _by_pairs(name: str, y_true: Any, y_pred: Any, weight: Any, options: dict[str, Any]) -> Any:
    """The original's answer for each pair of labels once, weighted.

    Each pair is there, with no weight if it never occurs: so what the original takes the labels for (two or more,
    so many among so many rows) does not change.
    """
    labels, counts = _pairs(y_true, y_pred, weight)
    k = len(labels)
    return _ORIGINALS[name](np.repeat(labels, k), np.tile(labels, k), sample_weight=counts.reshape(-1), **options)


@_stands_for(metrics.accuracy_score, "sample_weight", "normalize")
def accuracy_score(y_true: Any, y_pred: Any, *, normalize: bool = True, sample_weight: Any = None) -> float:
    if normalize is not True:
        raise Declined("a sum")
    _, counts = _pairs(y_true, y_pred, sample_weight)
    return float(counts.trace() / counts.sum())


@_stands_for(metrics.balanced_accuracy_score, "sample_weight", "adjusted")
def balanced_accuracy_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None, **options: Any) -> float:
    return _by_pairs("balanced_accuracy_score", y_true, y_pred, sample_weight, options)


_AVERAGES = ("sample_weight", "labels", "pos_label", "average", "zero_division")


@_stands_for(metrics.f1_score, *_AVERAGES)
def f1_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None, **options: Any) -> Any:
    return _by_pairs("f1_score", y_true, y_pred, sample_weight, options)


@_stands_for(metrics.precision_score, *_AVERAGES)
def precision_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None, **options: Any) -> Any:
    return _by_pairs("precision_score", y_true, y_pred, sample_weight, options)


@_stands_for(metrics.recall_score, *_AVERAGES)
def recall_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None, **options: Any) -> Any:
    return _by_pairs("recall_score", y_true, y_pred, sample_weight, options)


# -- Scores and probabilities ---------------------------------------------------------------------


def _ranking(y_true: Any, y_score: Any, weight: Any, pos_label: Any = None) -> tuple[float, float, float, float]:
    """Of the positive rows (of the greater of two labels, or of the one that is named) among the scores."""
    score = _column(y_score)
    if score.dtype not in (np.float64, np.float32):
        raise Declined("scores that are no floats")
    true = _column(y_true)
    if len(true) != len(score):
        raise Declined("columns of different lengths")
    if true.dtype.kind in "biu":
        labels = np.array([true.min(), true.max()])
        positive = true == labels[1]
        if labels[0] == labels[1] or np.count_nonzero(positive) + np.count_nonzero(true == labels[0]) < len(true):
            raise Declined("not two labels")
    else:
        labels, codes = numbered(true)
        if len(labels) != 2:
            raise Declined("not two labels")
        positive = codes == 1
    if pos_label is not None:
        if labels.dtype.kind not in "biuf" or type(pos_label) is not int or pos_label not in labels:
            raise Declined("another positive label")
        if pos_label == labels[0]:
            positive = ~positive
    found = _core.metric_ranking(
        np.ascontiguousarray(score, dtype=np.float64), positive, _weights(weight, len(score))
    )
    if found is None or not found[0] > 0 or not found[1] > 0:
        raise Declined("scores that are not finite, or one class without weight")
    return found


@_stands_for(metrics.roc_auc_score, "sample_weight", "average", "max_fpr", "multi_class", "labels")
def roc_auc_score(
    y_true: Any, y_score: Any, *, average: Any = "macro", sample_weight: Any = None, max_fpr: Any = None,
    multi_class: Any = "raise", labels: Any = None,
) -> Any:  # fmt: skip
    # (for two classes neither `average` nor `multi_class` matters; what they may be the original says)
    known = average in ("macro", "weighted") and multi_class in ("raise", "ovr", "ovo")
    if not known or max_fpr is not None or labels is not None:
        raise Declined("options")
    return float(_ranking(y_true, y_score, sample_weight)[2])


@_stands_for(metrics.average_precision_score, "sample_weight", "average", "pos_label")
def average_precision_score(
    y_true: Any, y_score: Any, *, average: Any = "macro", pos_label: Any = 1, sample_weight: Any = None
) -> float:
    if average != "macro":
        raise Declined("options")
    return _ranking(y_true, y_score, sample_weight, pos_label)[3]


@_stands_for(metrics.log_loss, "sample_weight", "labels", "normalize")
def log_loss(
    y_true: Any, y_proba: Any, *, normalize: bool = True, sample_weight: Any = None, labels: Any = None
) -> float:
    if normalize is not True or labels is not None:
        raise Declined("options")
    if type(y_proba) is not np.ndarray or y_proba.dtype != np.float64 or y_proba.ndim not in (1, 2):
        raise Declined("no probabilities in double precision")
    true = _column(y_true)
    if len(true) != len(y_proba) or not y_proba.size:
        raise Declined("columns of different lengths")
    known, codes = numbered(true)
    if len(known) < 2 or len(known) != max(2, y_proba.shape[-1] if y_proba.ndim == 2 else 1):
        raise Declined("other classes")
    weight = _weights(sample_weight, len(true))
    picked = np.empty(len(true))
    if not _core.metric_picked(y_proba, codes, picked):
        raise Declined("no probabilities")
    eps = np.finfo(np.float64).eps
    return float(np.average(-np.log(np.clip(picked, eps, 1 - eps)), weights=weight))
