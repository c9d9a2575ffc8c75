"""Values in a canonical, typed, bit-exact form made of JSON alone.

Two values have the same form only if they have the same type and the same bits: 1, 1.0 and True
differ, so do 0.0 and -0.0, two NaN with other payloads, two dtypes, two orders of columns.
Python's ``hash``, ``id``, ``==`` and ``repr`` of containers are not used; sets are ordered by the
form of their elements. Times are reduced to their shape and their signs.

Called by ``side`` on what the engines returned; ``compare`` compares the forms.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import enum
import functools
import json
import os
import re
import struct
import types
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import scipy.sparse
from sklearn.base import BaseEstimator

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{4,}")
# The frames of a traceback inside a message are the engine's own; its last lines are not.
_FRAMES = re.compile(r"Traceback \(most recent call last\):\n(?: .*\n)+")
# skrub tells columns of the same name apart by a random suffix.
_SUFFIX = re.compile(r"__skrub_[0-9a-f]{8}__")
TIME_KEYS = frozenset(
    {"mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time", "fit_time", "score_time"}
)
# Attributes that hold a duration or something that lives outside the value: the distribution of a
# numeric choice carries NumPy's global generator.
_SKIPPED_ATTRIBUTES = frozenset({"refit_time_", "_repr_html_", "_sklearn_output_config_", "_distrib"})
if os.environ.get("STRATUM_DIFF_REUSE"):  # a memo that transforming fills: what is recalled is not transformed
    _SKIPPED_ATTRIBUTES |= {"hash_dict_"}


def scrub(text: str) -> str:
    """Text without memory addresses and without skrub's random suffixes of column names."""
    return _SUFFIX.sub("__skrub_~__", _ADDRESS.sub("0x~", text))


def _float(value: float) -> str:
    return struct.pack(">d", value).hex()


def _array(a: np.ndarray) -> dict[str, Any]:
    if a.dtype == object:
        return {"array": "object", "shape": list(a.shape), "items": [canon(v) for v in a.ravel()]}
    if a.dtype.names or a.dtype.kind == "T":
        return {
            "array": str(a.dtype),
            "shape": list(a.shape),
            "items": [canon(v) for v in a.ravel().tolist()],
        }
    data = np.ascontiguousarray(a)
    return {
        "array": a.dtype.str,
        "shape": list(a.shape),
        "bytes": base64.b64encode(data.tobytes()).decode(),
        # For the eye alone; the bytes decide.
        "see": scrub(np.array2string(a.ravel()[:6], precision=6)),
    }


def _index(index: pd.Index) -> dict[str, Any]:
    out: dict[str, Any] = {
        "index": type(index).__name__,
        "dtype": str(index.dtype),
        "names": [canon(n) for n in index.names],
    }
    if isinstance(index, pd.RangeIndex):
        out["range"] = [index.start, index.stop, index.step]
    else:
        out["items"] = [canon(v) for v in index]
    return out


def _column(values: Any) -> Any:
    """The cells of a pandas column with its dtype."""
    if isinstance(values, np.ndarray):
        return _array(values)
    out: dict[str, Any] = {
        "extension": type(values).__name__,
        "dtype": str(values.dtype),
    }
    if isinstance(values, pd.Categorical):
        out["categories"] = _index(values.categories)
        out["ordered"] = bool(values.ordered)
        out["codes"] = [int(c) for c in values.codes]
    else:
        out["items"] = [canon(v) for v in values]
    return out


def _frame(df: pd.DataFrame) -> dict[str, Any]:
    return {
        "frame": "pandas",
        "columns": _index(df.columns),
        "rows": _index(df.index),
        "cells": [_column(df.iloc[:, k].array.to_numpy() if isinstance(
            df.iloc[:, k].dtype, np.dtype) else df.iloc[:, k].array) for k in range(df.shape[1])],
        "attrs": canon(dict(df.attrs)),
    }


def _series(s: pd.Series) -> dict[str, Any]:
    values = s.to_numpy() if isinstance(s.dtype, np.dtype) else s.array
    return {
        "series": "pandas",
        "name": canon(s.name),
        "rows": _index(s.index),
        "cells": _column(values),
        "attrs": canon(dict(s.attrs)),
    }


def _polars_series(s: pl.Series) -> dict[str, Any]:
    out: dict[str, Any] = {"series": "polars", "name": s.name, "dtype": str(s.dtype)}
    if s.dtype.is_float():
        out["null"] = [bool(v) for v in s.is_null()]
        out["cells"] = _array(s.fill_null(0.0).to_numpy())
    else:
        out["cells"] = [canon(v) for v in s.to_list()]
    return out


def times(value: Any, spread: bool = False) -> dict[str, Any]:
    """A time, or an array of them, by presence, shape and sign.

    A standard deviation of times (``spread``) may be zero or not by chance: only that it is not
    negative is kept.
    """
    array = np.asarray(value, dtype=np.float64)
    signs = ["nan" if v != v else int(np.sign(v)) for v in array.ravel().tolist()]
    if spread:
        signs = ["nan" if s == "nan" else ("negative" if s == -1 else "ok") for s in signs]
    return {"times": list(array.shape), "signs": signs}


def results_dict(results: dict[str, Any]) -> dict[str, Any]:
    """A ``cv_results_``: keys in their order, times reduced."""
    return {
        "results": [
            [
                str(k),
                times(v, spread=str(k).startswith("std_"))
                if k in TIME_KEYS
                else {"items": [canon(x) for x in v], "type": type(v).__name__}
                if k == "params"
                else _masked(v)
                if isinstance(v, np.ma.MaskedArray)
                else canon(v),
            ]
            for k, v in results.items()
        ]
    }


def results_frame(df: pd.DataFrame) -> dict[str, Any]:
    """A table of results with its time columns reduced."""
    kept = df[[c for c in df.columns if str(c) not in TIME_KEYS and str(c) not in ("learner",)]]
    return {
        "order": [str(c) for c in df.columns],
        "table": _frame(kept),
        "times": [
            [str(c), times(df[c].to_numpy(), spread=str(c).startswith("std_"))]
            for c in df.columns
            if str(c) in TIME_KEYS
        ],
    }


def _masked(a: np.ma.MaskedArray) -> dict[str, Any]:
    mask = np.ma.getmaskarray(a)
    return {
        "masked": str(a.dtype),
        "mask": [bool(m) for m in mask.ravel()],
        "items": [None if m else canon(v) for m, v in zip(mask.ravel(), a.data.ravel())],
    }


def exception(error: BaseException, deep: bool = True) -> dict[str, Any]:
    """An exception: type, text, notes, and what it was raised from."""
    out: dict[str, Any] = {
        "exception": f"{type(error).__module__}.{type(error).__qualname__}",
        "text": _FRAMES.sub("Traceback ~\n", scrub(str(error))),
        "notes": [scrub(n) for n in getattr(error, "__notes__", [])],
    }
    if deep and error.__cause__ is not None:
        out["cause"] = exception(error.__cause__, deep=False)
    return out


def _attributes(obj: Any, seen: dict[int, int]) -> list[Any]:
    out = []
    for name in sorted(vars(obj)):
        if name in _SKIPPED_ATTRIBUTES or name.endswith("_time_"):
            continue
        out.append([name, canon(vars(obj)[name], seen)])
    return out


def canon(value: Any, seen: dict[int, int] | None = None) -> Any:
    """The canonical form of a value.

    Parameters
    ----------
    value : object
        Anything.
    seen : dict, optional
        Objects on the way to this one, to stop at circles.

    Returns
    -------
    object
        Made of dicts, lists, strings, integers, booleans and None.
    """
    if value is None or type(value) is bool:
        return value
    if type(value) is int:
        return value if abs(value) < 1 << 53 else {"int": str(value)}
    if type(value) is str:
        return _SUFFIX.sub("__skrub_~__", value) if "__skrub_" in value else value
    if type(value) is float:
        return {"float": _float(value), "see": str(value)}
    if isinstance(value, np.generic):
        if value.dtype.kind in "OV":
            return {"numpy": str(value.dtype), "text": scrub(str(value))}
        return {
            "numpy": value.dtype.str,
            "bytes": base64.b64encode(value.tobytes()).decode(),
            "see": str(value),
        }
    if isinstance(value, bytes | bytearray):
        return {type(value).__name__: base64.b64encode(bytes(value)).decode()}
    if value is pd.NaT:
        return {"nat": True}
    if value is pd.NA:
        return {"na": True}
    if isinstance(value, pd.Timestamp | pd.Timedelta):
        return {type(value).__name__: str(value), "unit": value.unit, "value": value.value}
    if isinstance(value, datetime.date | datetime.timedelta | datetime.time | decimal.Decimal):
        return {type(value).__name__: str(value)}
    if isinstance(value, complex):
        return {"complex": [_float(value.real), _float(value.imag)]}
    if isinstance(value, enum.Enum):
        return {"enum": str(value)}

    seen = {} if seen is None else seen
    if id(value) in seen:
        return {"circle": True}
    seen[id(value)] = 1
    try:
        return _canon_object(value, seen)
    finally:
        del seen[id(value)]


def _canon_object(value: Any, seen: dict[int, int]) -> Any:
    if type(value) is list:
        return [canon(v, seen) for v in value]
    if isinstance(value, np.ma.MaskedArray):
        return _masked(value)
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, pd.DataFrame):
        return _frame(value)
    if isinstance(value, pd.Series):
        return _series(value)
    if isinstance(value, pd.Index):
        return _index(value)
    if isinstance(value, pl.DataFrame):
        return {"frame": "polars", "columns": [_polars_series(s) for s in value.get_columns()]}
    if isinstance(value, pl.Series):
        return _polars_series(value)
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return _column(value)
    if scipy.sparse.issparse(value):
        coo = value.tocsr().copy()
        coo.sort_indices()
        return {
            "sparse": type(value).__name__,
            "shape": list(value.shape),
            "data": _array(coo.data),
            "indices": _array(coo.indices.astype(np.int64)),
            "indptr": _array(coo.indptr.astype(np.int64)),
        }
    if isinstance(value, tuple):
        return {type(value).__name__: [canon(v, seen) for v in value]}
    if isinstance(value, set | frozenset):
        items = sorted((canon(v, seen) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
        return {type(value).__name__: items}
    if isinstance(value, dict):
        return {
            "dict": type(value).__name__,
            "items": [[canon(k, seen), canon(v, seen)] for k, v in value.items()],
        }
    if isinstance(value, np.random.RandomState):
        return {"RandomState": canon(list(value.get_state()), seen)}
    if isinstance(value, np.random.Generator):
        return {"Generator": canon(value.bit_generator.state, seen)}
    if isinstance(value, np.dtype):
        return {"dtype": str(value)}
    if isinstance(value, slice | range):
        return {type(value).__name__: [canon(v, seen) for v in (value.start, value.stop, value.step)]}
    if isinstance(value, BaseException):
        return exception(value)
    if isinstance(value, type):
        return {"type": f"{value.__module__}.{value.__qualname__}"}
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType | np.ufunc):
        name = getattr(value, "__qualname__", getattr(value, "__name__", "?"))
        return {"function": f"{getattr(value, '__module__', '?')}.{name}"}
    if isinstance(value, types.MethodType):
        return {"method": value.__qualname__, "of": canon(value.__self__, seen)}
    if isinstance(value, functools.partial):
        return {"partial": [canon(value.func, seen), canon(value.args, seen), canon(value.keywords, seen)]}
    if isinstance(value, types.ModuleType):
        return {"module": value.__name__}
    return _canon_instance(value, seen)


def _canon_instance(value: Any, seen: dict[int, int]) -> Any:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if kind.startswith("xgboost.") and hasattr(value, "save_raw"):
        text = bytes(value.save_raw("json")).decode(errors="surrogateescape")
        return {"object": kind, "model": _SUFFIX.sub("__skrub_~__", text)}
    if kind.startswith("lightgbm.") and hasattr(value, "model_to_string"):
        return {"object": kind, "model": _SUFFIX.sub("__skrub_~__", value.model_to_string())}
    if isinstance(value, BaseEstimator):
        return {"estimator": kind, "attributes": _attributes(value, seen)}
    if type(value).__module__.startswith(("sklearn.", "scipy.")) and hasattr(value, "__getstate__"):
        # Compiled objects (trees, distances): their pickled state is their value.
        try:
            state = value.__getstate__()
        except TypeError:
            state = None
        if state is not None:
            if type(value).__module__.startswith("sklearn.neighbors._") and type(state) is tuple:
                # A tree of neighbours counts the queries that were made of it.
                state = state[:7] + state[11:]
            return {"object": kind, "state": canon(state, seen)}
    if kind == "skrub._utils.LRUDict":
        # A cache in a fitted encoder: which of two transforms came last decides its order, and nothing else.
        return {"object": kind, "items": sorted([key, canon(item, seen)] for key, item in value.cache.items())}
    if hasattr(value, "__dict__"):
        return {"object": kind, "attributes": _attributes(value, seen)}
    return {"object": kind, "text": scrub(repr(value))}
