"""scikit-learn 1.8 and 1.9 as the engine sees them: the one place for their private names.

Splitters, grids, samplers, scorers and the arithmetic of `cv_results_` stay scikit-learn's own, so that
order, ties, stratification and warnings are exactly what users know.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import joblib
from sklearn import calibration, model_selection, multiclass, multioutput, pipeline
from sklearn._config import get_config
from sklearn.base import is_classifier
from sklearn.ensemble import _bagging, _base as _ensemble_base
from sklearn.feature_selection import _rfe
from sklearn.linear_model import _coordinate_descent, _logistic
from sklearn.metrics import check_scoring
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer, _PassthroughScorer, _Scorer
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._search_successive_halving import HalvingGridSearchCV, HalvingRandomSearchCV
from sklearn.model_selection._validation import (
    _aggregate_score_dicts,
    _fit_and_predict,
    _fit_and_score,
    _insert_error_scores,
    _normalize_score_results,
    _score,
    _warn_or_raise_about_fit_failures,
)
from sklearn.pipeline import _fit_one, _fit_transform_one, _transform_one
from sklearn.utils import indexable
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params

from .. import _core
from ..scripts import fronts
from . import parallels
from .parallels import Handler, Parallel, call_parallel, handler_here, parallel_to

__all__ = [
    "BaseSearchCV", "Parallel", "check_cv", "check_scoring", "cross_validate_defaults", "indexable", "is_classifier",
    "multimetric_scorer", "parallel_to", "response_methods", "score_model", "validate_cross_validate",
    "validate_parameter_constraints", "validate_search", "with_functions",
]  # fmt: skip

multimetric_scorer = _MultimetricScorer
score_model = _score
warn_or_raise_about_fit_failures = _warn_or_raise_about_fit_failures
insert_error_scores = _insert_error_scores
aggregate_score_dicts = _aggregate_score_dicts
normalize_score_results = _normalize_score_results
check_method_params = _check_method_params
fit_transform_one = _fit_transform_one
fit_and_score, fit_and_predict = _fit_and_score, _fit_and_predict
safe_split = _safe_split
# From where they are: the public names are there only for those who have enabled them.
HALVING = (HalvingGridSearchCV, HalvingRandomSearchCV)
SEARCHES = (model_selection.GridSearchCV, model_selection.RandomizedSearchCV)

_SIGNATURE = inspect.signature(model_selection.cross_validate)


def cross_validate_defaults() -> dict[str, Any]:
    """Parameters of `cross_validate` that have a default."""
    return {n: p.default for n, p in _SIGNATURE.parameters.items() if p.default is not p.empty}


def validate_cross_validate(arguments: dict[str, Any]) -> None:
    """Raise what `cross_validate` raises for a bad argument."""
    constraints = getattr(model_selection.cross_validate, "_skl_parameter_constraints", None)
    if constraints is not None and not get_config()["skip_parameter_validation"]:
        known = {k: v for k, v in arguments.items() if k in constraints}
        validate_parameter_constraints(constraints, known, caller_name="cross_validate")


def validate_search(search: Any) -> None:
    """Raise what `fit` of a search raises for a bad parameter."""
    if not get_config()["skip_parameter_validation"]:
        search._validate_params()


def has_callbacks(search: Any) -> bool:
    """Whether scikit-learn callbacks are set on a search."""
    return bool(getattr(search, "_skl_callbacks", None))


def metadata_routing_enabled() -> bool:
    """Whether metadata routing is on."""
    return bool(get_config().get("enable_metadata_routing", False))


def response_methods(scorer: Any, estimator: Any) -> set[str] | None:
    """The methods that a scorer will call on a model of `estimator`; None if that is not known."""
    if isinstance(scorer, _MultimetricScorer):
        found: set[str] = set()
        for one in scorer._scorers.values():
            methods = response_methods(one, estimator)
            if methods is None:
                return None
            found |= methods
        return found
    if isinstance(scorer, _PassthroughScorer):
        return {"score"}
    if not isinstance(scorer, _BaseScorer):
        return None
    wanted = scorer._response_method
    if wanted == "default":
        return {"predict"}
    for method in (wanted,) if isinstance(wanted, str) else wanted:
        if hasattr(estimator, method):
            return {method}
    return set()  # the scorer will raise by itself


def candidates_of(search: Any) -> list[dict]:
    """The candidates of a grid or randomised search, in scikit-learn's order."""
    if isinstance(search, model_selection.GridSearchCV):
        return list(model_selection.ParameterGrid(search.param_grid))
    sampler = model_selection.ParameterSampler(
        search.param_distributions, search.n_iter, random_state=search.random_state
    )
    return list(sampler)


# -- Batches of fits ------------------------------------------------------------------------------
#
# Every search and cross-validation of scikit-learn hands its fits to `Parallel` as a batch of calls of one
# function.  That is where the engine takes them over: all around it (splits, candidates, results, refits)
# stays scikit-learn's code as it is.


def is_library_scorer(scorer: Any, is_library: Callable[[Any], bool]) -> bool:
    """Whether a scorer runs no code from outside the known libraries."""
    if isinstance(scorer, _MultimetricScorer):
        return all(is_library_scorer(one, is_library) for one in scorer._scorers.values())
    if isinstance(scorer, _PassthroughScorer):
        return True  # the model's own: its flags say what it is
    if isinstance(scorer, _BaseScorer):
        return type(scorer).__module__.startswith("sklearn.") and is_library(scorer._score_func)
    return is_library(scorer)


def with_functions(scorer: Any, stand_ins: list[tuple[Any, Any]]) -> Any:
    """A scorer that calls other functions in the place of those named: a copy, unless it has none of them.

    Only scorers of exactly scikit-learn's own classes are copied.
    """
    if type(scorer) is _MultimetricScorer:
        made = {name: with_functions(one, stand_ins) for name, one in scorer._scorers.items()}
        if all(one is scorer._scorers[name] for name, one in made.items()):
            return scorer
        scorer = copy.copy(scorer)
        scorer._scorers = made
    elif type(scorer) is _Scorer:
        new = next((new for old, new in stand_ins if old is scorer._score_func), None)
        if new is not None:
            scorer = copy.copy(scorer)
            scorer._score_func = new
    return scorer


def plain_scorer(scorer: Any) -> tuple[Any, int, tuple[str, ...]] | None:
    """Function, sign and methods of a scorer of scikit-learn's own class without further arguments; else None."""
    if type(scorer) is not _Scorer or scorer._kwargs:
        return None
    methods = scorer._response_method
    methods = "predict" if methods == "default" else methods
    return scorer._score_func, scorer._sign, (methods,) if isinstance(methods, str) else tuple(methods)


def multimetric_names(scorer: Any) -> list[str] | None:
    """Names of the metrics of a scorer of several; None for any other scorer."""
    return list(scorer._scorers) if isinstance(scorer, _MultimetricScorer) else None


def accepts_callbacks(obj: Any) -> bool:
    """Whether scikit-learn callbacks are set on an estimator, one of its parts, or a callback context."""
    if getattr(obj, "_skl_callbacks", None) or getattr(obj, "_callbacks", None):
        return True
    if not hasattr(obj, "get_params") or isinstance(obj, type):
        return False
    return any(getattr(value, "_skl_callbacks", None) for value in obj.get_params(deep=True).values())


def array_api_enabled() -> bool:
    """Whether arrays of other libraries are dispatched to."""
    return bool(get_config().get("array_api_dispatch", False))


def pipeline_steps(model: Any, fit_params: dict) -> list[tuple[str, Any]] | None:
    """The steps of a pipeline; None where it has to be fitted as a whole.

    What makes `Pipeline.fit` raise before its first step, or print, is left to it.
    """
    if type(model) is not pipeline.Pipeline or model.verbose or model.transform_input is not None:
        return None
    memory = model.memory
    if not (memory is None or isinstance(memory, (str, joblib.Memory))):
        return None  # somebody's own idea of a cache
    try:
        if not get_config()["skip_parameter_validation"]:
            model._validate_params()
        own = pipeline.Pipeline(list(model.steps))
        own._check_method_params("fit", fit_params)
        own._validate_steps()
    except Exception:
        return None  # the fit will say so itself
    return own.steps


def step_params(fit_params: dict, step: str) -> dict:
    """Those parameters of `Pipeline.fit` that are for one step, under the names that it knows."""
    split = ((name.split("__", 1), value) for name, value in fit_params.items())
    return {param: value for (owner, param), value in split if owner == step}


class _Pending:
    """What the first step of a served pipeline hands on: the others' work is done."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _ServedStep:
    """A fitted step whose output for known inputs is there; everything else is the step's own."""

    def __init__(self, step: Any, known: list[tuple[Any, Callable[[], Any]]] | None, last: bool) -> None:
        self._step, self._known, self._last = step, known, last

    def transform(self, X: Any, **params: Any) -> Any:
        if isinstance(X, _Pending):
            return X.value if self._last else X
        for given, value in self._known or ():
            if X is given and not params:
                return value() if self._last else _Pending(value())
        return self._step.transform(X, **params)

    if not fronts.shown():  # scikit-learn's own note of a score that failed has none of our frames
        transform = _core.Front(transform, fronts.HOME)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._step, name)


def served_pipeline(model: Any, fitted: list[Any], known: list[tuple[Any, Callable[[], Any]]]) -> Any:
    """A pipeline of fitted steps that knows what its transformers make of some inputs.

    Parameters
    ----------
    model : Pipeline
        Unfitted; it is not changed.
    fitted : list
        One estimator for each step that is no passthrough.
    known : list of (object, callable)
        Inputs, recognised by identity, and what answers with their transformed form.
    """
    own = fitted_pipeline(model, fitted)
    steps = [i for i, _, _ in pipeline.Pipeline._iter(own, with_final=False)]
    if not steps:
        return own

    own._iter = _ServedIter(own, steps, known)
    return own


class _ServedIter:
    """`Pipeline._iter` of one pipeline, with served steps; a pickle or copy of it serves nothing."""

    def __init__(self, own: Any, steps: list[int], known: list[tuple[Any, Callable[[], Any]]]) -> None:
        self._own, self._steps, self._known = own, steps, known

    def __call__(self, with_final: bool = True, filter_passthrough: bool = True) -> Iterator[tuple[int, str, Any]]:
        steps = self._steps
        for i, name, step in pipeline.Pipeline._iter(self._own, with_final, filter_passthrough):
            if filter_passthrough and i in steps:
                step = _ServedStep(step, self._known if i == steps[0] else None, i == steps[-1])
            yield i, name, step

    def __reduce__(self) -> tuple:
        return functools.partial, (pipeline.Pipeline._iter, self._own)


def fitted_pipeline(model: Any, fitted: list[Any]) -> Any:
    """A pipeline like `model` with fitted steps."""
    own = object.__new__(type(model))
    own.__dict__.update(model.__dict__)
    parts = iter(fitted)
    own.steps = [(name, step if is_passthrough(step) else next(parts)) for name, step in model.steps]
    return own


def release_pipeline(model: Any) -> None:
    """Forget what a served pipeline knew."""
    model.__dict__.pop("_iter", None)


def is_passthrough(step: Any) -> bool:
    """Whether a step does nothing."""
    return step is None or (isinstance(step, str) and step == "passthrough")


_original_check_memory = pipeline.check_memory


def _check_memory(memory: Any) -> Any:
    """A user's cache on disk has nothing to add where equal fits are one node."""
    handler = handler_here()
    if handler is None or not (memory is None or isinstance(memory, (str, joblib.Memory))):
        return _original_check_memory(memory)
    step = getattr(handler, "step", None)
    # (Where code of the user's keeps fits from being nodes, a Pipeline without a cache is left alone.)
    if step is None or (memory is None and not handler.library):
        return _original_check_memory(None)
    return _NodeMemory(step)


class _NodeMemory:
    """What a Pipeline that is fitted inside a node has for its cache: its steps' fits are nodes as well."""

    location = None

    def __init__(self, step: Callable[..., Any]) -> None:
        self._step = step

    def cache(self, func: Callable[..., Any], ignore: Any = None) -> Callable[..., Any]:
        def cached(*args: Any, **kwargs: Any) -> Any:
            if ignore and (accepts_callbacks(kwargs.get("callback_ctx")) or accepts_callbacks(args[0])):
                return func(*args, **kwargs)
            output, fitted = self._step(*args, **{k: v for k, v in kwargs.items() if k not in (ignore or ())})
            return output, _fitted_alike(args[0], fitted)

        return cached


def _fitted_alike(own: Any, fitted: Any) -> Any:
    """A step of one's own with what a step that equals it has learnt.

    Without a cache a Pipeline fits the very object that it was given, and whoever made it may look there (a
    TableVectorizer does).
    """
    if own is fitted or type(own) is not type(fitted) or not hasattr(own, "get_params"):
        return fitted
    # skrub's keep what they were given, and that may know its TableVectorizer; a FeatureUnion puts fitted parts there.
    kept = own.get_params(deep=False) if type(own).__module__.startswith("skrub.") else ()
    vars(own).update((name, value) for name, value in vars(fitted).items() if name not in kept)
    return own


def install() -> None:
    """Let batches of calls be taken over; without a handler in the thread nothing changes."""
    parallels.install()
    pipeline.check_memory = _check_memory


# Calls that estimators make of their inner fits, by `Parallel`: each depends on nothing but its arguments and
# returns what it made.  (What writes into its arguments, as forests' predictions do, is not among them.)
TRANSFORMS = frozenset({_transform_one})
INNER = frozenset(
    {
        _fit_transform_one, _fit_one, _ensemble_base._fit_single_estimator, _bagging._parallel_build_estimators,
        calibration._fit_classifier_calibrator_pair, multiclass._fit_binary, multiclass._fit_ovo_binary,
        multioutput._fit_estimator, _coordinate_descent._path_residuals, _logistic._log_reg_scoring_path,
        _rfe._rfe_single_fit, _fit_and_predict, _fit_and_score, model_selection.cross_val_predict,
    }
) | TRANSFORMS  # fmt: skip
_HAS_CALLER = frozenset({_fit_and_score})


def inner_arguments(function: Callable[..., Any], args: tuple, kwargs: dict) -> dict | None:
    """The keyword arguments of an inner call without what is no part of its result; None: leave it as it is."""
    verbose = kwargs.get("verbose")
    if kwargs.get("message") is not None or (isinstance(verbose, int) and verbose > 1):
        return None  # it prints
    if any(accepts_callbacks(value) for value in (*args, *kwargs.values())):
        return None
    if function in _HAS_CALLER:
        return {**kwargs, **{n: None for n in ("caller", "callback_ctx") if n in kwargs}}
    return kwargs
