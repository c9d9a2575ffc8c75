"""The operators that Python runs: what a node does when the engine reaches it.

Each function takes the running node (`x`), the object that made it first (`impl`, for messages) and the
node's arguments, and returns the node's outputs. The table at the end is the registry: name, properties,
number of outputs. skrub's own code is called wherever there is some, so that semantics and messages are
its own; nothing here may change a user's graph, estimator or data.
"""

from __future__ import annotations

import copy
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import _safe_indexing

from .. import _config, _core, scripts
from . import _skrub_0_11 as sk
from . import boosting, columns, estimators, pipelines, said, searches, siblings, threads

_memory_lock = threading.Lock()  # skrub's cache is not made for several threads


class CannotShare(Exception):
    """A mutable value that can neither be shared nor copied: skrub has to evaluate this one itself."""


@dataclass(slots=True)
class State:
    """What fitting leaves behind: skrub keeps the same on the node."""

    estimator: Any
    was_wrapped: bool
    y_type: str | None
    y_names: Any
    borrowed: bool = False  # whether a part of the estimator is part of another state's, too


# -- Captured operations --------------------------------------------------------------------------


def get_attribute(x: Any, impl: Any, obj: Any, name: Any) -> Any:
    return impl.compute(SimpleNamespace(source_object=obj, attr_name=name), None, None)


def get_item(x: Any, impl: Any, container: Any, key: Any) -> Any:
    return impl.compute(SimpleNamespace(container=container, key=key), None, None)


def unpack(x: Any, impl: Any, iterable: Any, expected_length: Any) -> Any:
    return impl.compute(SimpleNamespace(iterable=iterable, expected_length=expected_length), None, None)


def call_function(
    x: Any, impl: Any, func: Any, args: Any, kwargs: Any, globals_: Any, closure: Any, defaults: Any,
    kwdefaults: Any, no_cache: Any, token: Any,
) -> Any:  # fmt: skip
    e = SimpleNamespace(
        func=func, args=args, kwargs=kwargs, globals=globals_, closure=closure, defaults=defaults,
        kwdefaults=kwdefaults, no_cache=no_cache,
    )  # fmt: skip
    return impl.compute(e, None, None)


def call_method(x: Any, impl: Any, obj: Any, name: Any, args: Any, kwargs: Any, token: Any) -> Any:
    return impl.compute(SimpleNamespace(obj=obj, method_name=name, args=args, kwargs=kwargs), None, None)


def binary(x: Any, impl: Any, left: Any, right: Any, op: Any) -> Any:
    return impl.compute(SimpleNamespace(left=left, right=right, op=op), None, None)


def unary(x: Any, impl: Any, operand: Any, op: Any) -> Any:
    return impl.compute(SimpleNamespace(operand=operand, op=op), None, None)


# -- Estimators -----------------------------------------------------------------------------------


def _arguments(kwargs: Any, method: str) -> dict:
    """Keyword arguments for one method, checked as skrub checks them."""
    found = kwargs.get(method) if kwargs else None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise TypeError(
            f"The `{method}_kwargs` passed to `.skb.apply()` should be a dict"
            " of named arguments. Got an object of type"
            f" {type(found).__name__!r} instead: {found!r}"
        )
    return found


def _y_format(y: Any) -> tuple[str | None, Any]:
    target = SimpleNamespace()
    sk.nodes_module.Apply._store_y_format(target, y)
    return target._y_type, target._y_col_names


def _format_predictions(state: State, X: Any, pred: Any) -> Any:
    target = SimpleNamespace(_y_type=state.y_type, _y_col_names=state.y_names)
    return sk.nodes_module.Apply._format_predictions(target, X, pred)


def _fit_with(estimator: Any, method: str, args: tuple, kwargs: dict, no_cache: Any) -> tuple[Any, Any]:
    """Call a fitting method: the fitted estimator and the method's result."""
    if no_cache or not sk.memory.has_memory():
        return estimator, getattr(estimator, method)(*args, **kwargs)
    with _memory_lock:
        fitted, result, _ = sk.memory.call_fitting_method(estimator, method, args, kwargs, no_cache=no_cache)
    return fitted, result


FIT_CODE = _fit_with.__code__  # by which the traceback of a failed fit is recognised


def fit(
    x: Any, impl: Any, method: str, estimator: Any, X: Any, y: Any, unsupervised: bool, cols: Any,
    exclude_cols: Any, no_wrap: Any, allow_reject: Any, no_cache: Any, kwargs: Any, seed: int | None,
    subsample: bool,
) -> tuple[Any, State]:  # fmt: skip
    """fit or fit_transform on a fresh copy: (the method's result, the state)."""
    if subsample:
        sk.check_subsampled_shape(impl.X, impl.y, X, y, "fit", {sk.SHOULD_SUBSAMPLE_KEY: True})
    given, X = X, sk.check_column_names(X)
    own = estimators.fresh(estimator)
    if seed is not None:
        estimators.put_seed(own, seed)
    wrapped = sk.wrap_estimator(
        estimator=own, cols=cols, exclude_cols=exclude_cols, no_wrap=no_wrap, allow_reject=allow_reject, X=X
    )
    was_wrapped = wrapped is not own and isinstance(wrapped, sk.ApplyToCols)
    y_type, y_names = _y_format(y)
    if method == "fit" and hasattr(wrapped, "fit_transform"):
        method = "fit_transform"
    # A predictor among the transformers: it is fitted, and its predictions are what comes next.
    predicts = method == "fit_transform" and not hasattr(wrapped, "fit_transform")
    arguments = _arguments(kwargs, "fit" if predicts else method)
    with (
        threads.LightGBMThreads(wrapped, x.threads),
        boosting.reading(x, wrapped, given, X, arguments),
        columns.Columns(x, wrapped, given) as taker,
    ):
        if predicts:
            fitted, _ = _fit_with(wrapped, "fit", (X, y), arguments, no_cache)
        else:
            args = (X,) if unsupervised else (X, y)
            fitted, result = _fit_with(wrapped, method, args, arguments, no_cache)
            _tell_of_random_names(x, result)
    if seed is not None:
        estimators.take_seed(fitted)
        estimators.take_seed(own)
    state = State(fitted, was_wrapped, y_type, y_names, taker.borrowed)
    if predicts:
        pred = fitted.predict(X, **_arguments(kwargs, "predict"))
        result = _format_predictions(state, X, pred)
    return result, state


def _tell_of_random_names(x: Any, value: Any) -> None:
    """Duplicate columns of a table get a random suffix from skrub: another evaluation would give them another one."""
    if any(isinstance(name, str) and "__skrub_" in name for name in getattr(value, "columns", ())):
        x.tell()


def predict(state: State, X: Any, **kwargs: Any) -> Any:
    """Predictions as skrub presents them."""
    return _format_predictions(state, X, state.estimator.predict(X, **kwargs))


_ALWAYS = ("preview", "fit", "fit_transform", "transform")


def call(x: Any, impl: Any, mode: str, inner: bool, state: State, X: Any, y: Any, no_cache: Any, kwargs: Any) -> Any:
    """transform, predict, ... with a fitted estimator, as skrub does when it does not fit."""
    estimator = state.estimator
    if mode not in _ALWAYS and not hasattr(estimator, mode):
        mode = "transform"
    given, X = X, sk.check_column_names(X)
    if inner:
        mode = "transform"
    with (
        threads.LightGBMThreads(estimator, x.threads),
        estimators.in_turn(estimator),
        columns.Columns(x, estimator, given),
    ):
        if mode == "transform" and not hasattr(estimator, "transform"):
            return predict(state, X, **_arguments(kwargs, "predict"))
        args = (X, y) if mode == "score" else (X,)
        return getattr(estimator, mode)(*args, **_arguments(kwargs, mode))


def applied(x: Any, impl: Any, state: State) -> Any:
    """The fitted estimator itself."""
    return state.estimator


def _concat(impl: Any, first: Any, others: Any, axis: Any, mode: str, columns: Any) -> tuple[Any, Any]:
    own = object.__new__(sk.nodes_module.Concat)  # skrub keeps the columns on the node: not on the user's
    if columns is not sk.NULL:
        own.all_outputs_ = columns
    result = own.compute(SimpleNamespace(first=first, others=others, axis=axis), mode=mode, environment={})
    return result, own.__dict__.get("all_outputs_", sk.NULL)


def concat_fit(x: Any, impl: Any, first: Any, others: Any, axis: Any) -> tuple[Any, Any]:
    """Concatenate and remember the columns."""
    result, columns = _concat(impl, first, others, axis, "fit", sk.NULL)
    _tell_of_random_names(x, result)
    return result, columns


def concat(x: Any, impl: Any, first: Any, others: Any, axis: Any, columns: Any) -> Any:
    """Concatenate with the columns seen when fitting."""
    return _concat(impl, first, others, axis, "predict", columns)[0]


def select(x: Any, impl: Any, condition: Any, keys: tuple | None, has_default: bool) -> None:
    """if_else (no keys) and match: say which option is wanted."""
    if keys is None:
        x.choose(0 if condition else 1)
        return
    place = {key: i for i, key in enumerate(keys)}
    x.choose(place.get(condition, len(keys)) if has_default else place[condition])


def build(x: Any, impl: Any, template: Any, params: dict) -> Any:
    """An estimator whose parameters were computed."""
    return estimators.build(template, params)


def constant(x: Any, impl: Any, value: Any) -> Any:
    return value


def missing(x: Any, impl: Any, kind: str, what: str) -> Any:
    """Fail as skrub does when a variable or a fitted state is not there."""
    if kind == "variable":
        if isinstance(impl, sk.nodes_module.Var):
            impl.compute(SimpleNamespace(name=what, value=sk.NULL, becomes_default=False), "predict", {})
        raise sk.UninitializedVariable(what)
    raise AttributeError(what)


def subsample(x: Any, impl: Any, target: Any, n: Any, how: Any, active: bool, seed: Any) -> Any:
    """Subsample, or only check the arguments where subsampling is off."""
    mode = "preview" if active else "predict"
    return impl.compute(SimpleNamespace(target=target, n=n, how=how), mode=mode, environment={})


def take(x: Any, impl: Any, data: Any, rows: Any) -> Any:
    """The rows of one side of a split."""
    return _safe_indexing(data, rows)


# -- Private copies -------------------------------------------------------------------------------

_IMMUTABLE = (
    str, bytes, int, float, complex, bool, type(None), type, types.FunctionType,
    types.BuiltinFunctionType, types.ModuleType, np.generic, np.dtype, range, slice,
)  # fmt: skip


def protect(value: Any) -> Any:
    """A copy of a computed value for code that might change it in place.

    pandas objects share their buffers (copy-on-write), Polars objects are immutable, the rest is copied.
    """
    if isinstance(value, _IMMUTABLE):
        return value
    module = type(value).__module__
    if module.startswith("pandas"):
        copy_of = getattr(value, "copy", None)
        try:
            return copy_of(deep=False) if copy_of is not None else copy.copy(value)
        except TypeError:  # group-by objects and the like: nothing in them is written to
            return value
    if module.startswith(("polars", "pyarrow", "datetime", "re")):
        return value
    if isinstance(value, np.ndarray):
        return value.copy(order="K")  # rounding depends on the layout
    try:
        return copy.deepcopy(value)
    except Exception as error:
        raise CannotShare(f"a {type(value).__qualname__} can neither be shared nor copied: {error}") from error


def describe(obj: Any) -> str:
    """Short text for a plan."""
    module = type(obj).__module__
    if module.startswith(("pandas", "polars")) or isinstance(obj, np.ndarray):
        shape = getattr(obj, "shape", None)
        return f"<{type(obj).__name__} {'x'.join(map(str, shape))}>" if shape else f"<{type(obj).__name__}>"
    if isinstance(obj, BaseEstimator):
        return " ".join(repr(obj).split())[:80]
    name = getattr(obj, "__name__", None)
    if isinstance(name, str):
        return name
    text = " ".join(repr(obj).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _hold(x: Any, impl: Any, study: Any, trial: int, number: int, values: tuple) -> None:
    """Hand the outputs of a node to a study, which keeps them for its next trial."""
    if not any(isinstance(value, _core.Failed) for value in values):
        study.put(number, values)


# -- The registry ---------------------------------------------------------------------------------

_SAFE = _core.THREAD_SAFE | _core.HOLDS_GIL
_USER = _core.HOLDS_GIL | _core.OPAQUE
_CALLER = _core.HOLDS_GIL | _core.TOLERANT


@dataclass(frozen=True)
class Operator:
    """One row: what the engine knows of an operator."""

    name: str
    func: Callable[..., Any]
    props: int
    n_out: int = 1
    brief: str = ""


# The captured operations first, in the order of `sk.COMPUTE`.
OPERATORS = (
    Operator("getattr", get_attribute, _core.HOLDS_GIL, brief="attribute of an object"),
    Operator("getitem", get_item, _core.HOLDS_GIL, brief="item of a container"),
    Operator("unpack", unpack, _core.HOLDS_GIL, brief="an iterable as a tuple of known length"),
    Operator("call", call_function, _USER, brief="a function of the user"),
    Operator("method", call_method, _USER, brief="a method of an object"),
    Operator("binop", binary, _core.HOLDS_GIL, brief="binary operator"),
    Operator("unary", unary, _core.HOLDS_GIL, brief="unary operator"),
    Operator("fit", fit, _SAFE | _core.FITS, 2, "fit an estimator: output and state"),
    Operator("apply", call, _SAFE, brief="transform or predict with a state"),
    Operator("applied", applied, _SAFE, brief="the fitted estimator of a state"),
    Operator("concat_fit", concat_fit, _SAFE | _core.FITS, 2, "concatenate and remember the columns"),
    Operator("concat", concat, _SAFE, brief="concatenate with remembered columns"),
    Operator("select", select, _core.HOLDS_GIL | _core.CHOOSES, brief="one of several branches"),
    Operator("build", build, _core.HOLDS_GIL, brief="an estimator with computed parameters"),
    Operator("constant", constant, _core.HOLDS_GIL, brief="a value from outside"),
    Operator("missing", missing, _core.HOLDS_GIL, brief="fails: something is not there"),
    Operator("subsample", subsample, _SAFE, brief="rows for a preview"),
    Operator("take", take, _SAFE | _core.TAKES_ROWS, brief="rows of one side of a split"),
    Operator("score", searches.score, _SAFE | _core.TOLERANT | _core.NESTS, brief="scores of a model"),
    Operator("fit_and_score", siblings.fit_and_score, _SAFE, brief="fits that differ in penalties, and scores"),
    Operator("search", searches.begin, _core.HOLDS_GIL | _core.EXPANDS | _core.NESTS, brief="candidates and folds"),
    Operator("pick", searches.pick, _CALLER | _core.EXPANDS | _core.NESTS, brief="results of a search; the refit"),
    Operator("fit_step", pipelines.fit_step, _SAFE | _core.FITS | _core.NESTS, 2, "fit a step: output and the fitted step"),
    Operator("fit_model", pipelines.fit_model, _SAFE | _core.FITS | _core.NESTS, brief="fit the last step, or a whole model"),
    Operator("transform_step", pipelines.transform_step, _SAFE | _core.NESTS, brief="transform with a fitted step"),
    Operator("inner_call", pipelines.inner_call, _SAFE | _core.NESTS, brief="an inner fit of an estimator"),
    Operator("inner_calls", pipelines.inner_calls, _SAFE, brief="inner fits of an estimator"),
    Operator("column", columns.column, _SAFE, brief="a column of a table that is transformed column by column"),
    Operator("take_square", pipelines.take_square, _SAFE | _core.TAKES_ROWS, brief="rows and columns of a matrix"),
    Operator("score_pair", pipelines.score_pair, _SAFE | _core.TOLERANT | _core.NESTS, brief="scores of a scikit-learn model"),
    Operator("predict_pair", pipelines.predict_pair, _SAFE | _core.TOLERANT | _core.NESTS, brief="predictions of a fold"),
    Operator("batch", pipelines.begin_batch, _core.HOLDS_GIL | _core.EXPANDS, brief="the fits of scikit-learn's search"),
    Operator("gather", pipelines.gather, _CALLER | _core.EXPANDS, brief="results of a batch, in its order"),
    Operator("deliver", searches.deliver, _CALLER | _core.NESTS, brief="results as the user gets them"),
    Operator("hold", _hold, _CALLER, brief="hands a value to a study, for its next trial"),
)
assert tuple(op.name for op in OPERATORS[: len(sk.COMPUTE)]) == sk.COMPUTE
NUMBER = {op.name: i for i, op in enumerate(OPERATORS)}
LOWERING = {
    "fit": NUMBER["fit"], "call": NUMBER["apply"], "applied": NUMBER["applied"],
    "concat_fit": NUMBER["concat_fit"], "concat": NUMBER["concat"], "select": NUMBER["select"],
    "build": NUMBER["build"], "constant": NUMBER["constant"], "missing": NUMBER["missing"],
    "subsample": NUMBER["subsample"],
}  # fmt: skip


def new_graph(warned: said.Said) -> Any:
    """An empty graph with every operator registered; `warned` keeps what they warn of, where that is asked for."""
    graph = _core.Graph()
    together = scripts.connected()
    keeps = _config.option("unseeded") == "faithful"
    said.install()
    for op in OPERATORS:
        func = op.func if together is None else together.around(op.name, op.func)
        if keeps:
            func = warned.around(func)
        func = said.telling(func)
        graph.op(op.name, func, op.props, op.n_out, 1, op.brief)
    return graph
