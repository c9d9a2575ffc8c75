"""Class labels as numbers; for the estimators and metrics of this package.

scikit-learn asks for the type of a target by sorting it, several times (100,000 numbers: 2 ms each, strings: 60 ms).
Here it is read once. What is no plain column of labels, or would be warned of, is declined.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ._base import Declined

__all__ = ["as_codes", "numbered"]

# Labels from the least to the greatest up to which a table of them is made.
MOST_RANGE = 1 << 16

# scikit-learn warns of more classes than half the rows from this many rows on.
SOME_ROWS = 20


def numbered(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sorted labels of a column, and each row's number among them (uint32).

    Parameters
    ----------
    y : ndarray of shape (n,)
        Booleans, whole numbers (as floats too) or strings.
    """
    if y.ndim != 1 or not len(y):
        raise Declined("labels that are no column, or none")
    if y.dtype.kind == "f":
        if y.dtype == np.float16 or not (np.abs(y) < 2.0**53).all() or not (y == np.trunc(y)).all():
            raise Declined("labels that are not whole numbers")
        labels, codes = _of_numbers(y.astype(np.int64))
        labels = labels.astype(y.dtype)
    elif y.dtype.kind in "biu" and y.dtype != np.uint64:
        labels, codes = _of_numbers(y.astype(np.int64))
        labels = labels.astype(y.dtype)
    elif y.dtype.kind == "U" or (y.dtype == object and pd.api.types.infer_dtype(y, skipna=False) == "string"):
        found, labels = pd.factorize(y)
        order = np.argsort(labels)
        rank = np.empty(len(order), dtype=np.uint32)
        rank[order] = np.arange(len(order), dtype=np.uint32)
        labels, codes = np.asarray(labels)[order].astype(y.dtype), rank[found]
    else:
        raise Declined("labels of another type")
    if len(y) > SOME_ROWS and len(labels) > len(y) // 2:
        raise Declined("more labels than half the rows")
    return labels, codes


def _of_numbers(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = int(y.min()), int(y.max())
    if high - low >= MOST_RANGE:
        labels, codes = np.unique(y, return_inverse=True)
        return labels, codes.astype(np.uint32)
    y = y - low
    there = np.bincount(y, minlength=high - low + 1) > 0
    return np.flatnonzero(there) + low, (np.cumsum(there, dtype=np.uint32) - np.uint32(1))[y]


def as_codes(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Each row's number among sorted classes that are given; a label that is none of them is declined."""
    labels, codes = numbered(y)
    if (labels.dtype.kind in "OU") != (classes.dtype.kind in "OU") or not len(classes):
        raise Declined("classes of another type")
    place: Any = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    if not (classes[place] == labels).all():
        raise Declined("labels that are none of the classes")
    return place.astype(np.uint32)[codes]
