"""skrub 0.11 as the engine sees it: the one place for its private names.

What it is for
    The rest of the package imports skrub's internals from here.  `spec`, `choice` and `estimator` tell
    the extension what a captured object is made of (kind, operator, fields in the order in which skrub
    evaluates them); the other names are re-exported under skrub's own.

Who may call it
    `stratum.hosts` and `stratum._patch`.  Another version of skrub gets a file of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from skrub import _apply_to_each_col as columns_module, _dataframe as sbd
from skrub._apply_to_cols import ApplyToCols
from skrub._apply_to_each_col import (
    Parallel as ColumnsParallel,
    _fit_transform_column as fit_transform_column,
    _transform_column as transform_column,
)
from skrub._data_ops import (
    _choosing,
    _data_ops,
    _estimator,
    _evaluation,
    _inspection,
    _optuna,
    _skrub_namespace,
    _subsampling,
)
from skrub._data_ops._data_ops import (
    _MEMORY,
    DataOp,
    UninitializedVariable,
    _check_column_names,
    _wrap_estimator,
    check_subsampled_X_y_shape,
)
from skrub._data_ops._estimator import (
    _SKLEARN_SEARCH_FITTED_ATTRIBUTES_TO_COPY,
    ParamSearch,
    SkrubLearner,
    _copy_attr,
    _rename_cv_param_learner_to_estimator,
    _SharedDict,
    _Splitter,
    _to_env_learner,
    _XyParamSearch,
    _XyPipeline,
    default_score,
)
from skrub._data_ops._utils import IS_PREVIEW_DATA_ENV_NAME, NULL, X_NAME, Y_NAME, attribute_error
from skrub._utils import PassThrough
from skrub.selectors._base import Filter
from skrub.selectors._selectors import _cardinality_below as cardinality_below

from .. import _config, _core
from ..capture import encode as _encode
from ..capture import purity as _purity

__all__ = [
    "ApplyToCols", "DataOp", "IS_PREVIEW_DATA_ENV_NAME", "NULL", "ParamSearch", "PassThrough",
    "SkrubLearner", "UninitializedVariable", "Unsupported", "X_NAME", "Y_NAME", "attribute_error", "choice", "estimator",
    "spec",
]  # fmt: skip

SHOULD_SUBSAMPLE_KEY = _subsampling.SHOULD_SUBSAMPLE_KEY
_should_subsample = _subsampling._should_subsample
env_with_subsampling = _subsampling.env_with_subsampling
BaseChoice = _choosing.BaseChoice
ChoiceMatch = _choosing.Match


class Unsupported(Exception):
    """The engine cannot take this pipeline; skrub's own evaluator does. The text is the reason."""


class AdvancesGenerator(Unsupported):
    """The pipeline draws from a generator that the user holds: whoever comes later must see it drawn from."""


# Operators that run captured operations, in the order in which they are registered: the number of an
# operator is its place here plus OPERATORS_FROM (see stratum.hosts.operators).
COMPUTE = ("getattr", "getitem", "unpack", "call", "method", "binop", "unary")
_OP = {name: i for i, name in enumerate(COMPUTE)}


# What the encodings and the purity scan found in this batch: both remember by address, each in its own
# way. Emptied between batches and after each preview, as users may change their objects then.
memo: dict = {}
_kinds: dict[int, tuple[Any, str]] = {}
_shown: dict[int, tuple[Any, bool]] = {}
verdicts: dict = {}


def forget() -> None:
    """Empty what was found."""
    memo.clear()
    _kinds.clear()
    _shown.clear()
    verdicts.clear()


def _flags_of(token: Any, *code: Any) -> int:
    """Flags of a node with a token, and of one that calls `code`.

    A creation is asked for once, a file's content again and again. What prints or counts its calls is to be heard
    again in a later run.
    """
    if token is not None:
        return _core.N_UNSHARED | (_core.N_ONCE if token[0] == "creation" else 0)
    return _core.N_ONCE if any(is_for_once(one) for one in code) else 0


def is_for_once(value: Any, depth: int = 0) -> bool:
    """Whether code inside a value prints, draws, counts its calls, or cannot be seen; asked once in a batch."""
    if isinstance(value, (dict, list, tuple)):
        inside = value.values() if isinstance(value, dict) else value
        return depth < 5 and any(is_for_once(one, depth + 1) for one in inside)
    if not callable(value) or isinstance(value, (DataOp, BaseEstimator)):
        return False
    known = _shown.get(id(value))
    if known is None:
        module = getattr(value, "__module__", None)
        library = isinstance(module, str) and _encode.is_library_module(module)
        found = not library and (
            _purity.shown(value) is not None or _purity.classify(value, verdicts).kind == "unknown"
        )
        known = _shown[id(value)] = (value, found)  # held, so that its id stays its own
    return known[1]


def _creation(impl: Any) -> tuple[str, bytes]:
    """Key of one creation of a node: copies and clones of it share it, nothing else does."""
    if _config.option("unseeded") == "independent":
        raise Unsupported("unseeded='independent': draws in skrub's own order need skrub's own evaluator")
    return ("creation", impl.uuid.to_bytes(16, "big"))


def _impure_argument(args: Any, depth: int = 0) -> bool:
    """Whether a function among the arguments shows a clock, randomness or input and output."""
    if isinstance(args, dict):
        args = args.values()
    elif not isinstance(args, (list, tuple)):
        args = (args,)
    for value in args:
        if isinstance(value, (dict, list, tuple)):
            if depth < 5 and _impure_argument(value, depth + 1):
                return True
        elif callable(value) and not isinstance(value, (type, DataOp, BaseEstimator)):
            if _purity.classify(value, verdicts).kind == "impure":
                return True
    return False


def _kind_of(func: Any) -> str:
    """"reader", "impure" or "other", asked once for a function in a batch."""
    known = _kinds.get(id(func))
    if known is not None:
        return known[1]
    kind = "reader" if _purity.is_reader(func) else "other"
    if kind == "other" and _purity.classify(func, verdicts).kind == "impure":
        kind = "impure"
    _kinds[id(func)] = (func, kind)  # the function is held, so that its id stays its own
    return kind


def _call_token(impl: Any) -> Any:
    func = impl.func
    if isinstance(func, DataOp):
        return _creation(impl)
    kind = _kind_of(func)
    if kind == "reader":
        # A reader's result belongs to the file's content; what is no plain file is read once per creation.
        path = impl.args[0] if impl.args else next(iter(impl.kwargs.values()), None)
        try:
            stamp = _encode.stamp_of_file(path)
        except TypeError:  # a buffer, a DataOp: no path
            stamp = None
        return ("file", stamp) if stamp is not None else _creation(impl)
    if kind == "impure" or _impure_argument(impl.args) or (impl.kwargs and _impure_argument(impl.kwargs)):
        return _creation(impl)
    return None


def _var(impl: Any) -> tuple:
    has = impl.value is not NULL
    fields = (impl.name, _core.Leaf(impl.value) if has else None, has, impl.becomes_default)
    return _core.ST_CAP_VAR, -1, fields, 0


def _value(impl: Any) -> tuple:
    return _core.ST_CAP_VALUE, -1, (impl.value,), 0


def _call(impl: Any) -> tuple:
    token = _call_token(impl)
    fields = (
        impl.func, impl.args, impl.kwargs, impl.globals, impl.closure, impl.defaults, impl.kwdefaults,
        impl.no_cache, token,
    )  # fmt: skip
    return _core.ST_CAP_COMPUTE, _OP["call"], fields, _flags_of(token, impl.func, impl.args, impl.kwargs)


def _method(impl: Any) -> tuple:
    name = impl.method_name
    unseeded = isinstance(name, str) and _purity.is_unseeded_method(name, impl.args, impl.kwargs)
    token = _creation(impl) if unseeded or _impure_argument((impl.args, impl.kwargs)) else None
    fields = (impl.obj, name, impl.args, impl.kwargs, token)
    return _core.ST_CAP_COMPUTE, _OP["method"], fields, _flags_of(token, impl.args, impl.kwargs)


def _compute(name: str, *names: str) -> Any:
    op = _OP[name]

    def describe(impl: Any) -> tuple:
        return _core.ST_CAP_COMPUTE, op, tuple([getattr(impl, n) for n in names]), 0

    return describe


def _plain(kind: int, *names: str) -> Any:
    def describe(impl: Any) -> tuple:
        return kind, -1, tuple([getattr(impl, n) for n in names]), 0

    return describe


def _apply(impl: Any) -> tuple:
    kwargs = impl.kwargs
    if type(kwargs) is not dict:
        raise Unsupported("keyword arguments of an apply that are not a plain dict")
    fields = (
        impl.X, impl.estimator, impl.y, impl.cols, impl.exclude_cols, impl.no_wrap, impl.allow_reject,
        bool(impl.unsupervised), kwargs, impl.no_cache,
    )  # fmt: skip
    return _core.ST_CAP_APPLY, -1, fields, 0


def _match(impl: Any) -> tuple:
    if type(impl.targets) is not dict:
        raise Unsupported("targets of a match that are not a plain dict")
    has_default = impl.default is not NULL
    fields = (
        impl.query,
        tuple(impl.targets),
        tuple(impl.targets.values()),
        impl.default if has_default else None,
        has_default,
    )
    return _core.ST_CAP_MATCH, -1, fields, 0


_SPECS = {
    _data_ops.Var: _var,
    _data_ops.Value: _value,
    _data_ops.Call: _call,
    _data_ops.CallMethod: _method,
    _data_ops.GetAttr: _compute("getattr", "source_object", "attr_name"),
    _data_ops.GetItem: _compute("getitem", "container", "key"),
    _data_ops.AsTuple: _compute("unpack", "iterable", "expected_length"),
    _data_ops.BinOp: _compute("binop", "left", "right", "op"),
    _data_ops.UnaryOp: _compute("unary", "operand", "op"),
    _data_ops.Apply: _apply,
    _data_ops.AppliedEstimator: _plain(_core.ST_CAP_APPLIED, "target"),
    _data_ops.Concat: _plain(_core.ST_CAP_CONCAT, "first", "others", "axis"),
    _data_ops.FreezeAfterFit: _plain(_core.ST_CAP_FREEZE, "target"),
    _data_ops.IfElse: _plain(_core.ST_CAP_IF, "condition", "value_if_true", "value_if_false"),
    _data_ops.Match: _match,
    _data_ops.SplitX: _plain(_core.ST_CAP_PASS, "X", "cv", "split_kwargs"),
    _data_ops.Scoring: _plain(_core.ST_CAP_PASS, "pred", "scorers"),
    _data_ops.EvalMode: _plain(_core.ST_CAP_MODE),
    _subsampling.ShouldSubsample: _plain(_core.ST_CAP_ASK_SUBSAMPLE),
    _subsampling.SubsamplePreviews: _plain(_core.ST_CAP_SUBSAMPLE, "target", "n", "how"),
}


def spec(impl: Any) -> tuple:
    """What a node is made of: (kind, operator or -1, fields, flags)."""
    describe = _SPECS.get(type(impl))
    if describe is None:
        raise Unsupported(f"a node of the unknown kind {type(impl).__name__}")
    return describe(impl)


def choice(obj: Any) -> tuple:
    """What a choice or a match on a choice is made of."""
    if isinstance(obj, _choosing.Match):
        if not isinstance(obj.choice, _choosing.Choice):
            raise Unsupported("a match on something that is no choice")
        results = [obj.outcome_mapping[outcome] for outcome in obj.choice.outcomes]
        return _core.ST_CAP_CHOICE_MATCH, -1, (obj.choice, results), 0
    if isinstance(obj, _choosing.Choice):
        return _core.ST_CAP_CHOICE, -1, (obj.chosen_outcome_idx, list(obj.outcomes)), 0
    if isinstance(obj, _choosing.BaseNumericChoice):
        return _core.ST_CAP_NUMBER, -1, (obj.default(), obj.chosen_outcome), 0
    raise Unsupported(f"a choice of the unknown kind {type(obj).__name__}")


def match(obj: Any, value: Any) -> int:
    """Which result of a match on a choice belongs to a value from the environment."""
    result = obj.outcome_mapping[value]
    for i, outcome in enumerate(obj.choice.outcomes):
        if obj.outcome_mapping[outcome] is result:
            return i
    raise Unsupported("a value for a choice that is none of its outcomes")


def has_evaluables(obj: Any, depth: int = 0) -> bool:
    """Whether a DataOp or a choice is somewhere inside containers and estimators."""
    if isinstance(obj, (DataOp, BaseChoice, ChoiceMatch)):
        return True
    kind = type(obj)
    if kind in (list, tuple, set, frozenset):
        return depth < 50 and any(has_evaluables(x, depth + 1) for x in obj)
    if kind is dict:
        return depth < 50 and any(has_evaluables(x, depth + 1) for x in obj.values())
    if kind is slice:
        return any(has_evaluables(x, depth + 1) for x in (obj.start, obj.stop, obj.step))
    if isinstance(obj, BaseEstimator):
        return depth < 50 and any(has_evaluables(x, depth + 1) for x in obj.get_params(deep=False).values())
    return False


def estimator(obj: Any) -> tuple | None:
    """None for an estimator without choices or DataOps inside, else its parts."""
    if not has_evaluables(obj):
        return None
    return _core.ST_CAP_ESTIMATOR, -1, (_core.Leaf(obj), obj.get_params()), 0


def holds_generator(impl: Any) -> bool:
    """Whether a node draws from a generator that the user holds: skrub advances that very object."""
    if isinstance(impl, _data_ops.Apply):
        found = _choosing.get_chosen_or_default(impl.estimator)
        known = hasattr(found, "get_params") and not isinstance(found, type)
        values = found.get_params().values() if known else ()
    elif isinstance(impl, (_data_ops.Call, _data_ops.CallMethod)):
        values = (*impl.args, *impl.kwargs.values()) if impl.kwargs else impl.args
    else:
        return False
    for value in values:  # asked for each call that is built: no generator of our own
        if isinstance(value, (np.random.RandomState, np.random.Generator)):
            return True
    return False


def bind_environment(scope: Any, entries: list[tuple[int, Any]], environment: dict) -> None:
    """Bind what an environment gives to the entries of a plan, with skrub's precedence."""
    for i, (kind, obj) in enumerate(entries):
        if kind in (_core.ST_CAP_CHOICE, _core.ST_CAP_NUMBER):
            if obj.name is not None and obj.name in environment:
                scope.bind(i, environment[obj.name])
            continue
        if kind in (_core.ST_CAP_CHOICE_MATCH, _core.ST_CAP_ESTIMATOR):
            continue
        if obj.is_X and X_NAME in environment:
            scope.bind(i, environment[X_NAME])
        elif obj.is_y and Y_NAME in environment:
            scope.bind(i, environment[Y_NAME])
        elif obj.uuid in environment:
            scope.bind(i, environment[obj.uuid])
        elif obj.name is not None and obj.name in environment:
            scope.bind(i, environment[obj.name])


def scope_flags(mode: str, environment: dict) -> int:
    """Flags of a scope for this environment and the current configuration."""
    flags = _core.SCOPE_USE_VALUES if environment.get("_skrub_use_var_values", False) else 0
    if _should_subsample(mode, environment):
        flags |= _core.SCOPE_SUBSAMPLE
    return flags


def subsampling_seed() -> int:
    """The configured seed of random subsamples."""
    return int(_subsampling.get_config()["subsampling_seed"])


# Names that other modules of the package use as they are.
evaluation = _evaluation
inspection = _inspection
OptunaParamSearch = _optuna.OptunaParamSearch
learners = _estimator
nodes_module = _data_ops
namespace = _skrub_namespace
subsampling = _subsampling
choosing = _choosing
memory = _MEMORY
check_column_names = _check_column_names
wrap_estimator = _wrap_estimator
check_subsampled_shape = check_subsampled_X_y_shape
copy_attributes = _copy_attr
search_attributes = _SKLEARN_SEARCH_FITTED_ATTRIBUTES_TO_COPY
SharedDict = _SharedDict
Splitter = _Splitter
XyPipeline = _XyPipeline
XyParamSearch = _XyParamSearch
to_env_learner = _to_env_learner
rename_cv_parameters = _rename_cv_param_learner_to_estimator
score_of_pipeline = default_score
dataframes = sbd
