"""Computing again and comparing: `verify` against plain skrub, `reuse="verify"` against what was kept.

With `verify` each item is run by the engine and by plain skrub; a difference raises `VerifyError`, which names the
first place where the two differ. Fitted times are compared only by being there. `difference` serves
`stratum.reuse.session` too.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from . import _patch, engine
from .hosts import searches
from .reuse.values import attributes

RELATIVE = 1e-9  # rounding may differ where libraries ran with other thread counts


class VerifyError(AssertionError):
    """The engine and plain skrub differ, or what is computed and what was kept."""


def _is_time(name: Any) -> bool:
    return isinstance(name, str) and name.endswith("_time")


def difference(a: Any, b: Any, where: str) -> str | None:
    """The first difference between two results, or None."""
    if isinstance(a, pd.DataFrame) and isinstance(b, pd.DataFrame):
        if list(a.columns) != list(b.columns):
            return f"{where}: columns {list(a.columns)} and {list(b.columns)}"
        if found := difference(a.index.to_numpy(), b.index.to_numpy(), f"{where}.index"):
            return found
        pairs = ((name, a.iloc[:, i], b.iloc[:, i]) for i, name in enumerate(a.columns))
        found = (difference(x.to_numpy(), y.to_numpy(), f"{where}[{n!r}]") for n, x, y in pairs if not _is_time(n))
        return next((f for f in found if f), None)
    if isinstance(a, pd.Series) and isinstance(b, pd.Series):
        if found := difference(a.index.to_numpy(), b.index.to_numpy(), f"{where}.index"):
            return found
        return difference(a.to_numpy(), b.to_numpy(), where)
    if isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b):
            return f"{where}: keys {list(a)} and {list(b)}"
        found = (difference(a[k], b[k], f"{where}[{k!r}]") for k in a if not _is_time(k))
        return next((f for f in found if f), None)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) != len(b):
            return f"{where}: lengths {len(a)} and {len(b)}"
        found = (difference(x, y, f"{where}[{i}]") for i, (x, y) in enumerate(zip(a, b)))
        return next((f for f in found if f), None)
    if isinstance(a, np.ma.MaskedArray) and isinstance(b, np.ma.MaskedArray):
        return difference(a.tolist(), b.tolist(), where)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if a.shape != b.shape:
            return f"{where}: shapes {a.shape} and {b.shape}"
        if a.dtype.kind in "fc" and b.dtype.kind in "fc":
            same = np.allclose(a, b, rtol=RELATIVE, atol=0, equal_nan=True)
            return None if same else f"{where}: {a} and {b}"
        return difference(a.tolist(), b.tolist(), where)
    if isinstance(a, float) and isinstance(b, float):
        same = a == b or (a != a and b != b) or abs(a - b) <= RELATIVE * abs(b)
        return None if same else f"{where}: {a!r} and {b!r}"
    if type(a) is not type(b):
        return f"{where}: {type(a).__name__} and {type(b).__name__}"
    if isinstance(a, (str, bytes, int, bool, type(None), np.generic)):
        return None if a == b or (a != a and b != b) else f"{where}: {a!r} and {b!r}"
    if hasattr(a, "equals"):  # frames of Polars, tables of Arrow
        return None if a.equals(b) else f"{where}: values differ"
    if isinstance(a, (type, types.FunctionType, types.BuiltinFunctionType)):
        return None if a is b else f"{where}: {a!r} and {b!r}"
    # Whatever else has attributes is compared by them; what has none (a booster's own memory) is not.
    return difference(attributes(a), attributes(b), where)


def _results(item: searches.Item, value: Any) -> Any:
    return value.cv_results_ if isinstance(item, searches.SearchItem) else value


def _outcome(call: Callable[[], Any]) -> engine.Outcome:
    try:
        return engine.Outcome(value=call())
    except Exception as error:
        return engine.Outcome(error=error)


def _compared(got: engine.Outcome, expected: engine.Outcome, what: str) -> engine.Outcome:
    """What the engine said; a `VerifyError` in its place where plain skrub said something else."""
    if (got.error is None) != (expected.error is None):
        found = f"errors: {got.error!r} and {expected.error!r}"
    elif got.error is not None:
        same = type(got.error) is type(expected.error) and str(got.error) == str(expected.error)
        found = None if same else f"errors: {got.error!r} and {expected.error!r}"
    else:
        found = difference(got.value, expected.value, what)
    if found is None:
        return got
    return engine.Outcome(error=VerifyError(f"the engine and plain skrub differ at {found}"))


def evaluation(ours: Callable[[], Any], theirs: Callable[[], Any], mode: str) -> Any:
    """A single evaluation both ways, skrub's first: what it leaves on nodes is then the engine's.

    Parameters
    ----------
    ours, theirs : callable
        Evaluate by the engine and by skrub.
    mode : str
        The mode, for the message.

    Returns
    -------
    object
        The engine's value.
    """
    with _patch.plain_skrub():
        expected = _outcome(theirs)
    outcome = _compared(_outcome(ours), expected, mode)
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


def run(items: list[searches.Item]) -> Iterator[tuple[int, engine.Outcome]]:
    """As `engine.execute`, each outcome checked against plain skrub."""
    references = {}
    for item in items:
        other = copy.copy(item)
        if isinstance(item, searches.SearchItem):
            other.owner = type(item.owner)(item.owner.data_op.skb.clone(drop_values=False), item.owner.search)
        elif isinstance(item, searches.EvalItem):
            other.data_op = item.data_op.skb.clone(drop_values=False)
        with _patch.plain_skrub():
            try:
                references[item.index] = engine.Outcome(value=_results(other, other.plain()))
            except Exception as error:
                references[item.index] = engine.Outcome(error=error)
    by_index = {item.index: item for item in items}
    for index, outcome in engine.execute(items):
        expected, item = references[index], by_index[index]
        if outcome.error is None:
            compared = _compared(engine.Outcome(value=_results(item, outcome.value)), expected, item.what)
        else:
            compared = _compared(outcome, expected, item.what)
        yield index, compared if compared.error is not None else outcome
