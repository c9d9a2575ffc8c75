"""What skrub asks of a pandas column again and again, answered without passing over its rows.

What it is for
    A TableVectorizer asks some eight times whether a column holds strings, of every column, and skrub takes a copy of
    the column without missing values each time (100,000 strings of 38 characters: 2 ms), although only columns of
    objects have to be looked into: of any other the type says it. And it counts the distinct values of each column to
    learn whether there are fewer than forty.

How
    Behind the gate of `stratum.hosts.kernels`: in a thread where kernels are off skrub's own code answers, without a
    frame of ours. Answers are skrub's in every case.

Who may call it
    `stratum.hosts.kernels` installs it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd

from .. import _core
from ..scripts import fronts
from . import _skrub_0_11 as sk

# Rows that are looked at first for distinct values, spread over the column (a table may be sorted).
SAMPLE = 1_024

_plain_is_string = sk.sbd.is_string.dispatch(pd.Series)
_plain_matches = sk.Filter._matches
_types: dict[tuple[type, Any], bool] = {}


def _is_string(col: Any) -> Any:
    dtype = col.dtype
    objects = isinstance(dtype, np.dtype) and dtype.kind == "O"
    if objects or isinstance(dtype, pd.CategoricalDtype):
        return _plain_is_string  # what the objects are counts; called by the `Front`
    key = type(dtype), dtype
    found = _types.get(key)
    if found is None:
        found = _types[key] = bool(_plain_is_string(col.iloc[:0]))
    return found


def _matches(self: Any, col: Any) -> Any:
    if self.predicate is sk.cardinality_below and type(col) is pd.Series and len(col) > 2 * SAMPLE:
        try:
            if not sk.sbd.n_unique(col.iloc[:: len(col) // SAMPLE]) < self.args[0]:
                return False  # nor are there fewer in the whole column
        except Exception:
            return _plain_matches  # which knows what to make of values that cannot be counted
    return _plain_matches


def install(level: int) -> None:
    """Put the answers in place, in threads whose gate is at least at `level`."""
    home = "-" if fronts.shown() else fronts.HOME
    for call, plain in ((_is_string, _plain_is_string), (_matches, _plain_matches)):
        functools.update_wrapper(call, plain)
    sk.sbd.is_string.register(pd.Series, _core.Front(_is_string, home, _plain_is_string, level))
    sk.Filter._matches = _core.Front(_matches, home, _plain_matches, level)
