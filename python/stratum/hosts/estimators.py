"""What the engine knows of estimators: flags, seeds, fresh copies.

Operators ask for properties here, never for names of classes: whether an estimator comes from a library
that is known to be safe between threads, whether its loops release the GIL, whether it would draw from
NumPy's global generator.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone

from .. import _config, _core
from ..capture import purity
from . import _skrub_0_11 as sk

# Libraries whose estimators may run on any thread, different instances side by side.
LIBRARIES = frozenset({"sklearn", "skrub", "lightgbm", "xgboost", "catboost", "stratum"})

# Modules whose fit and predict spend their time outside the GIL (measured with two threads on two cores).
_FREE = (
    "lightgbm", "xgboost", "catboost", "sklearn.ensemble", "sklearn.svm", "sklearn.linear_model",
    "sklearn.tree", "sklearn.neighbors", "sklearn.neural_network",
)  # fmt: skip

# Only here does None as a random_state mean NumPy's global generator: XGBoost, LightGBM and CatBoost
# take a fixed seed instead.
_GLOBAL_GENERATOR = ("sklearn", "skrub", "stratum")


INDEPENDENT = "unseeded='independent': draws in the libraries' own order need their own evaluation"


class Seed(int):
    """A seed that the engine chose: it is found and taken out again after the fit."""

    def __stratum_encode__(self) -> bytes:
        return b"%d" % self


def root_of(obj: Any) -> str:
    """Top-level package of an object's class."""
    return (type(obj).__module__ or "").partition(".")[0]


def _is_library(value: Any, depth: int = 0) -> bool:
    """Whether no code from outside the known libraries runs inside."""
    if depth > 20:
        return False
    if isinstance(value, BaseEstimator) or hasattr(value, "get_params"):
        if isinstance(value, type) or root_of(value) not in LIBRARIES:
            return False
        return all(_is_library(v, depth + 1) for v in value.get_params(deep=False).values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(_is_library(v, depth + 1) for v in value)
    if isinstance(value, dict):
        return all(_is_library(v, depth + 1) for v in value.values())
    if callable(value):
        module = getattr(value, "__module__", None) or root_of(value)
        return module.partition(".")[0] in LIBRARIES | {"numpy", "scipy", "builtins", "math", "operator"}
    return True


_FUNCTIONS_OF = LIBRARIES | {"pandas", "polars", "numpy", "scipy", "builtins", "operator", "math"}


def is_library_function(func: Any) -> bool:
    """Whether a function comes from a library that does not write to its arguments."""
    module = getattr(func, "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] in _FUNCTIONS_OF


# Methods that change their object: frames, containers, arrays.
_IN_PLACE = frozenset({
    "add", "append", "clear", "discard", "extend", "fill", "insert", "isetitem", "partition", "pop",
    "popitem", "put", "remove", "resize", "reverse", "set_flags", "setdefault", "setflags", "sort", "update",
})  # fmt: skip


def may_change_object(method: Any, kwargs: Any) -> bool:
    """Whether a method may change the object that it is called on."""
    return "inplace" in kwargs or not isinstance(method, str) or method in _IN_PLACE


def _solver_draws(*solvers: str) -> Any:
    return lambda p: p.get("solver") in solvers


# Estimators with a random_state that is drawn from only under some parameters. What is not here draws.
_DRAWS_IF = {
    "Ridge": _solver_draws("sag", "saga"),
    "RidgeClassifier": _solver_draws("sag", "saga"),
    "LogisticRegression": _solver_draws("liblinear", "sag", "saga"),
    "LogisticRegressionCV": _solver_draws("liblinear", "sag", "saga"),
    "Lasso": lambda p: p.get("selection") == "random",
    "ElasticNet": lambda p: p.get("selection") == "random",
    "LassoCV": lambda p: p.get("selection") == "random",
    "ElasticNetCV": lambda p: p.get("selection") == "random",
    "MultiTaskLasso": lambda p: p.get("selection") == "random",
    "MultiTaskElasticNet": lambda p: p.get("selection") == "random",
    "SVC": lambda p: bool(p.get("probability")) and p.get("probability") != "deprecated",
    "NuSVC": lambda p: bool(p.get("probability")) and p.get("probability") != "deprecated",
    "DummyClassifier": lambda p: p.get("strategy") in ("stratified", "uniform"),
    "PCA": lambda p: p.get("svd_solver") not in ("full", "covariance_eigh"),
}


def _draws(owner: Any) -> bool:
    """Whether an estimator without a seed would draw from NumPy's global generator."""
    if root_of(owner) not in _GLOBAL_GENERATOR:
        return False
    rule = _DRAWS_IF.get(type(owner).__name__)
    return rule is None or rule(owner.get_params(deep=False))


def _unseeded(estimator: Any) -> list[str]:
    """Names of the parameters through which the estimator would draw from the global generator."""
    names = []
    params = estimator.get_params(deep=True)
    for name, value in params.items():
        if value is not None or not (name == "random_state" or name.endswith("__random_state")):
            continue
        owner = estimator if "__" not in name else params.get(name.rpartition("__")[0])
        if owner is not None and _draws(owner):
            names.append(name)
    return names


def flags(estimator: Any) -> int:
    """Bits of `_core.EST_*` for an estimator that is to be fitted."""
    bits = 0
    if hasattr(estimator, "transform"):
        bits |= _core.EST_TRANSFORM
    if hasattr(estimator, "fit_transform"):
        bits |= _core.EST_FIT_TRANSFORM
    if hasattr(estimator, "predict"):
        bits |= _core.EST_PREDICT
    if isinstance(estimator, type) or not hasattr(estimator, "get_params"):
        return bits  # skrub will refuse it with its own message
    if _is_library(estimator):
        bits |= _core.EST_LIBRARY
        if type(estimator).__module__.startswith(_FREE):
            bits |= _core.EST_FREE
    elif any(sk.is_for_once(code) or purity.classify(code, sk.verdicts).kind == "impure" for code in code_inside(estimator)):
        bits |= _core.EST_ONCE
    if _talks(estimator):
        bits |= _core.EST_ONCE
    if root_of(estimator) in LIBRARIES and _unseeded(estimator):
        bits |= _core.EST_UNSEEDED
    return bits


def _is_set(value: Any) -> bool:
    """Whether a `verbose` asks for something: whatever is no plain number may."""
    return bool(value) if isinstance(value, (bool, int, float, np.generic, type(None))) else True


def _talks(estimator: Any) -> bool:
    """Whether fitting prints: what is recalled instead would not."""
    params = estimator.get_params(deep=True)
    if any(name.rpartition("__")[2] == "verbose" and _is_set(value) for name, value in params.items()):
        lightgbm = root_of(estimator) == "lightgbm" and isinstance(params.get("verbose"), int)
        return not (lightgbm and params["verbose"] < 0)
    # LightGBM talks unless it is told not to; only a script that knows nothing of the engine is to hear it again.
    silent = params.get("verbose", params.get("verbosity", 0))
    chatty = root_of(estimator) == "lightgbm" and not (isinstance(silent, int) and silent < 0)
    return chatty and _config.option("unseeded") == "faithful"


def code_inside(value: Any, depth: int = 0) -> Iterator[Any]:
    """The functions and classes inside a value that do not come from a library."""
    if depth > 10 or isinstance(value, (sk.DataOp, str, bytes)):
        return
    inside: Iterable[Any] = ()
    if isinstance(value, sk.choosing.Choice):
        inside = value.outcomes
    elif isinstance(value, (list, tuple, set, frozenset)):
        inside = value
    elif isinstance(value, dict):
        inside = value.values()
    elif isinstance(value, BaseEstimator) or (hasattr(value, "get_params") and not isinstance(value, type)):
        if root_of(value) not in LIBRARIES:
            yield type(value)
        inside = value.get_params(deep=False).values()
    elif hasattr(value, "_score_func"):
        inside = (value._score_func,)
    elif hasattr(value, "_scorers"):
        inside = (value._scorers,)
    elif callable(value) and not isinstance(value, type) and not is_library_function(value):
        yield value
    for one in inside:
        yield from code_inside(one, depth + 1)


def _sets_plainly(estimator: Any) -> bool:
    """Whether setting the parameters that an estimator has already changes nothing about it."""
    if type(estimator).set_params is not BaseEstimator.set_params:
        return False
    return not any(hasattr(value, "get_params") for value in estimator.get_params(deep=False).values())


def fresh(estimator: Any) -> Any:
    """An unfitted copy, made as skrub makes one for each evaluation: a clone with its parameters set again.

    Setting them again matters to classes that record it (LightGBM does).
    """
    new = clone(estimator, safe=False)
    if isinstance(estimator, BaseEstimator) and not _sets_plainly(estimator):
        new.set_params(**estimator.get_params())
    return new


def encodable(obj: Any) -> Any:
    """What is encoded for an object: LightGBM's estimators record how often their parameters were set."""
    if type(obj).__module__.startswith("lightgbm") and isinstance(obj, BaseEstimator):
        return fresh(obj)
    return obj


def build(template: Any, params: dict) -> Any:
    """`template` with parameters set, as skrub does once they are evaluated."""
    new = clone(template)
    new.set_params(**params)
    return new


_lock = threading.Lock()

# -- One caller at a time -------------------------------------------------------------------------

# Encoders whose `transform` works in the fitted object: MinHashEncoder keeps hashes there, of which a second
# thread would find one gone, and GapEncoder the activations of the strings at hand.
_WORK_IN_STATE = frozenset({"MinHashEncoder", "GapEncoder"})
_turns: weakref.WeakKeyDictionary[Any, threading.RLock | None] = weakref.WeakKeyDictionary()


def in_turn(fitted: Any) -> contextlib.AbstractContextManager[Any]:
    """Context for a call of a fitted estimator's `transform` or `predict`: alone, where that writes to it."""
    if root_of(fitted) not in ("skrub", "sklearn"):
        return contextlib.nullcontext()
    with _lock:
        if fitted not in _turns:
            parts = (fitted, *fitted.get_params(deep=True).values())
            writes = any(type(part).__name__ in _WORK_IN_STATE for part in parts)
            _turns[fitted] = threading.RLock() if writes else None
        turn = _turns[fitted]
    return contextlib.nullcontext() if turn is None else turn


# -- Seeds ----------------------------------------------------------------------------------------

_seeds: dict[int, int] = {}  # creation (uuid) -> seed
_ordinals: dict[bytes, int] = {}  # equal unseeded nodes so far


def global_generator_is_seeded() -> bool:
    """Whether somebody called np.random.seed (a generator seeded by the system keeps its SeedSequence)."""
    bit_generator = np.random.mtrand._rand._bit_generator
    return getattr(bit_generator, "seed_seq", None) is None


def draws_in_order() -> bool:
    """Whether estimators without a seed must draw when and as often as skrub with one job would."""
    option = _config.option("unseeded")
    return option == "independent" or (option == "faithful" and global_generator_is_seeded())


class leave_generator:
    """Context in which no seed may be drawn from a generator that the script has seeded.

    A preview and a single fit draw from it themselves, as in skrub; one draw more would change what comes
    after them.
    """

    def __enter__(self) -> None:
        _leaving.depth = getattr(_leaving, "depth", 0) + 1

    def __exit__(self, *exc: object) -> None:
        _leaving.depth -= 1


_leaving = threading.local()


def seed(impl: Any, estimator: Any) -> int:
    """The seed of one creation: the same for all its candidates and folds, another one for the next."""
    if draws_in_order():
        raise sk.Unsupported(INDEPENDENT)
    with _lock:
        known = _seeds.get(impl.uuid)
        if known is not None:
            return known
        if getattr(_leaving, "depth", 0) and global_generator_is_seeded():
            raise sk.Unsupported("a draw from NumPy's global generator, which the script has seeded")
        value = _draw(sk.choosing.get_chosen_or_default(impl.estimator))
        _seeds[impl.uuid] = value
        return value


def _draw(template: Any) -> int:
    """The next seed for an estimator of this class: one draw from the user's generator if that is seeded."""
    if global_generator_is_seeded():
        return int(np.random.randint(0, 2**31 - 1))
    name = f"{type(template).__module__}.{type(template).__qualname__}".encode()
    ordinal = _ordinals.get(name, 0)
    _ordinals[name] = ordinal + 1
    text = b"seed:%d:%d:" % (_config.option("seed"), ordinal) + name
    return int.from_bytes(_core.hash128(text)[:4], "little") & 0x7FFFFFFF


def draw_seed(template: Any) -> int:
    """A seed for a creation that is no node of a DataOp; whoever asks keeps it for candidates and folds."""
    if draws_in_order():
        raise sk.Unsupported(INDEPENDENT)
    with _lock:
        return _draw(template)


def reset_seeds() -> None:
    """Forget all draws, as a new process would."""
    with _lock:
        _seeds.clear()
        _ordinals.clear()


def put_seed(estimator: Any, value: int) -> None:
    """Set the seed wherever the estimator would draw from the global generator."""
    names = _unseeded(estimator)
    if names:
        estimator.set_params(**{name: Seed(value) for name in names})


def take_seed(obj: Any) -> None:
    """Put None back wherever a `Seed` is left: users see the parameters that they gave."""
    seen: set[int] = set()
    todo = [obj]
    while todo:
        x = todo.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if type(x) in (list, tuple):
            todo.extend(v for v in x if isinstance(v, (BaseEstimator, list, tuple, dict)))
        elif type(x) is dict:
            for k, v in x.items():
                if type(v) is Seed:
                    x[k] = None
                elif isinstance(v, (BaseEstimator, list, tuple, dict)):
                    todo.append(v)
        elif isinstance(x, BaseEstimator):
            for k, v in vars(x).items():
                if type(v) is Seed:
                    setattr(x, k, None)
                elif isinstance(v, (BaseEstimator, list, tuple, dict)):
                    todo.append(v)
