"""LightGBM and XGBoost: candidates that read the same rows train on one binned dataset.

What it is for
    A boosted fit bins its matrix before it trains: at 66,667 x 110 and 100 trees that is 1.25 of 3.65 seconds of
    processor time with LightGBM 4.7 and 1.43 of 4.40 with XGBoost 3.2 (one thread), and the bins depend on the rows
    and a few parameters only. All else around training (validating, handing over, the model's text) took 0.05 and
    0.01 seconds: the packages hand arrays to their libraries as they are and release the GIL inside. So the
    packages' own classes do the fit, every line of it, and what is shared is their own `Dataset` or
    `QuantileDMatrix`. Calling the libraries' C functions instead would save none of the time that is left.

How
    The operators that fit open `reading` around the fit of exactly one of the four classes. Inside it, in this
    thread, the one method of the package that bins is stood in for: the first fit bins as ever and leaves the
    dataset in a table, the others take it from there; one that comes while it is being made waits. Everything that
    the bins may depend on is in the key: the matrix by identity (a value of the run, which nobody changes), label
    and weights bit by bit, and every parameter but those that are known to leave the dataset alone. What the key
    does not cover is binned by the package, as is everything of a version that has not been read.

What stays alive
    A dataset goes with the matrix that it was made of, when its last fit has ended, or with the run.

Who may call it
    The operators; `stratum.engine` calls `forget` when a run has ended.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _config, _core
from ..scripts import fronts

# The versions whose private names stand below.
_VERSIONS = {"lightgbm": ("4.7.",), "xgboost": ("3.2.",)}
_CLASSES = {
    "lightgbm.sklearn": ("LGBMRegressor", "LGBMClassifier"),
    "xgboost.sklearn": ("XGBRegressor", "XGBClassifier"),
}

# What `lightgbm.train` hands to a Dataset, where it bears on training alone (the library's list of dataset parameters
# has none of them; `tests/python/test_native_boosting.py` compares the bins).
_LIGHTGBM_FREE = frozenset(
    {
        "learning_rate", "num_leaves", "max_depth", "num_iterations", "reg_alpha", "reg_lambda", "subsample",
        "subsample_freq", "colsample_bytree", "min_split_gain", "min_child_weight", "num_threads",
    }
)  # fmt: skip
# Further parameters that may be there, which are part of the key: any other one is left to the package.
_LIGHTGBM_KNOWN = frozenset(
    {
        "boosting_type", "subsample_for_bin", "min_child_samples", "random_state", "objective", "metric", "num_class",
        "verbose", "verbosity", "max_bin", "min_data_in_bin", "bin_construct_sample_cnt", "data_random_seed",
        "enable_bundle", "feature_pre_filter", "is_enable_sparse", "use_missing", "zero_as_missing",
        "feature_fraction_seed", "bagging_seed", "extra_trees", "extra_seed", "feature_fraction_bynode", "path_smooth",
        "max_delta_step", "deterministic", "force_col_wise", "force_row_wise", "boost_from_average", "is_unbalance",
        "scale_pos_weight", "alpha", "fair_c", "poisson_max_delta_step", "tweedie_variance_power",
    }
)  # fmt: skip


class _State(threading.local):
    share: _Share | None = None


_state = _State()


class _Made:
    """One binned dataset: being made, there, or (`kept` is None) not to be had."""

    __slots__ = ("_ready", "key", "kept", "least", "whole")

    def __init__(self, key: tuple, least: int) -> None:
        self.key, self.least = key, least
        self.kept = None
        self.whole = False  # no column was left out, so that a smaller `least` would leave out none either
        self._ready = threading.Event()

    def serves(self, key: tuple, least: int) -> bool:
        return self.key == key and (self.least == least or (self.whole and self.least > least))

    def end(self, kept: Any, whole: bool = False) -> None:
        """It is there, or (None) the package's own way has failed or made something that is not shared."""
        self.kept, self.whole = kept, whole
        self._ready.set()
        if kept is not None:
            _table.count(mine=True)

    def take(self) -> Any:
        """Wait for it; None where each fit has to go the package's own way."""
        self._ready.wait()
        if self.kept is not None:
            _table.count(mine=False)
        return self.kept


class _Table:
    """Binned datasets by the matrix they were made of."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a matrix may be collected while the lock is held
        self._rows: dict[int, tuple[Any, list[_Made]]] = {}
        self.made = self.taken = 0

    def claim(self, X: Any, key: tuple, least: int = 0) -> tuple[_Made, bool]:
        """The dataset for a key, and whether it is the caller who makes it.

        `least` is how many rows a leaf must have: columns are left out that no leaf could be split by.
        """
        with self._lock:
            known = self._rows.get(id(X))
            if known is None or known[0]() is not X:
                number = id(X)
                known = (weakref.ref(X, lambda ref: self._gone(number, ref)), [])
                self._rows[number] = known
            for made in known[1]:
                if made.serves(key, least):
                    return made, False
            made = _Made(key, least)
            known[1].append(made)
            return made, True

    def count(self, mine: bool) -> None:
        """A dataset was made that others may take, or was taken."""
        with self._lock:
            self.made += mine
            self.taken += not mine

    def _gone(self, number: int, ref: Any) -> None:
        with self._lock:
            known = self._rows.get(number)
            if known is not None and known[0] is ref:
                del self._rows[number]

    def has(self, X: Any) -> bool:
        """Whether something was made of a matrix."""
        known = self._rows.get(id(X))
        return known is not None and known[0]() is X

    def drop(self, X: Any) -> None:
        """Nobody will read a matrix again."""
        with self._lock:
            if self.has(X):
                del self._rows[id(X)]

    def clear(self) -> None:
        with self._lock:
            self._rows.clear()

    def __len__(self) -> int:
        return len(self._rows)


_table = _Table()


def _begin() -> None:
    """In a process that was forked, nobody ends what was being made, and a lock may be held for ever."""
    global _table
    _table = _Table()


os.register_at_fork(after_in_child=_begin)


def counts() -> tuple[int, int, int]:
    """How many datasets were made to be shared, how often one was taken, and matrices that have some now."""
    return _table.made, _table.taken, len(_table)


def forget() -> None:
    """A run has ended: nothing stays."""
    _table.clear()


class _Share:
    """One fit that may share: the node's input, the matrix as the package's `fit` gets it, the estimator."""

    __slots__ = ("X", "estimator", "given")

    def __init__(self, given: Any, X: Any, estimator: Any) -> None:
        self.given, self.X, self.estimator = given, X, estimator


class reading:
    """Context around the fit of an estimator in a node.

    Parameters
    ----------
    x : Exec
        The running node.
    estimator : object
        What is about to be fitted; anything but the four classes passes through.
    given : object
        The node's input.
    X : object
        What the fit is called with: the input itself, or the frame that skrub makes of it in the same way each time
        (with names that are strings).
    arguments : dict or None
        Further arguments of the fit; where there are some, nothing is shared.
    """

    __slots__ = ("_before", "_given", "_x")

    def __init__(self, x: Any, estimator: Any, given: Any, X: Any, arguments: Any = None) -> None:
        self._x = None
        if type(estimator).__module__ not in _CLASSES or arguments or not _known(type(estimator)):
            return
        if not _config.option("native") or not _is_plain(X):
            return
        if x.readers(given) > 1 or _table.has(given):
            self._x, self._given = x, given
            self._before, _state.share = _state.share, _Share(given, X, estimator)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        if self._x is not None:
            _state.share = self._before
            if self._x.readers(self._given) <= 1:
                _table.drop(self._given)
            self._given = None


@functools.cache
def _known(cls: type) -> bool:
    """Whether a class is one of the four, of a version that is known; its package is then prepared."""
    module = cls.__module__
    if cls.__name__ not in _CLASSES[module] or getattr(sys.modules.get(module), cls.__name__, None) is not cls:
        return False
    package = module.partition(".")[0]
    version = str(getattr(importlib.import_module(package), "__version__", ""))
    if not version.startswith(_VERSIONS[package]):
        return False
    _install(package)
    return True


@functools.cache
def _install(package: str) -> None:
    if package == "lightgbm":
        owner, name, made_by = importlib.import_module("lightgbm.basic").Dataset, "_lazy_init", _lightgbm
    else:
        owner, name, made_by = importlib.import_module("xgboost.sklearn").XGBModel, "_create_dmatrix", _xgboost
    plain = vars(owner)[name]
    call = functools.wraps(plain)(made_by(plain))
    setattr(owner, name, _core.Front(call, "-" if fronts.shown() else fronts.HOME, plain, 1))


# -- What a dataset is made of -------------------------------------------------------------------------


def _is_plain(X: Any) -> bool:
    """Whether a matrix is numbers alone, of a type that the packages take as it is."""
    if type(X) is np.ndarray:
        return X.ndim == 2 and X.dtype.kind in "fiub"
    if type(X).__name__ != "DataFrame":
        return False
    if type(X).__module__.startswith("pandas"):
        # (The kind of a pandas category is "O", that of a sparse column is what it holds.)
        return all(t.kind in "fiub" and not hasattr(t, "fill_value") for t in X.dtypes)
    if type(X).__module__.startswith("polars"):
        return all(t.is_numeric() or str(t) == "Boolean" for t in X.dtypes)
    return False


class _Unknown(Exception):
    """Something whose part in a dataset is not known."""


def _bits(values: Any) -> tuple | None:
    """Labels or weights as something that is equal where the bits are."""
    if values is None:
        return None
    if type(values).__name__ == "Series" and type(values).__module__.startswith("pandas"):
        if not isinstance(values.dtype, np.dtype):
            raise _Unknown
        values = values.to_numpy()
    if type(values) is not np.ndarray or values.dtype.kind not in "fiub":
        raise _Unknown
    return values.dtype.str, values.shape, values.tobytes()


def _value(value: Any) -> str:
    """A parameter as something that is equal where the package would do the same."""
    if isinstance(value, (list, tuple)):
        return repr([_value(one) for one in value])
    if value is None or type(value) in (bool, int, float, str) or isinstance(value, np.generic):
        return repr(value)
    raise _Unknown


def _parameters(params: dict, names: Any) -> tuple:
    return tuple((name, _value(params[name])) for name in sorted(names))


# -- LightGBM --------------------------------------------------------------------------------------------


class _Borrowed:
    """In the place of a Dataset's `_free_handle`, where the handle is another one's, which frees it at the end."""

    __slots__ = ("_borrower", "_owner")

    def __init__(self, borrower: Any, owner: Any) -> None:
        self._borrower, self._owner = weakref.ref(borrower), owner

    def __call__(self) -> Any:
        borrower = self._borrower()
        if borrower is not None:
            borrower._handle = None
            borrower._need_slice = True
            borrower.__dict__.pop("_free_handle", None)
        return borrower


def _lightgbm_key(kwargs: dict, estimator: Any) -> tuple[tuple, int]:
    """All that the bins of a `Dataset` depend on, but the matrix; and `min_child_samples`, where that counts.

    Columns that no leaf of so many rows could be split by are left out, unless `feature_pre_filter` says no.
    """
    params = kwargs["params"]
    nothing = ("reference", "group", "init_score", "predictor", "position")
    if any(kwargs[name] is not None for name in nothing) or not (params.keys() <= _LIGHTGBM_FREE | _LIGHTGBM_KNOWN):
        raise _Unknown
    if kwargs["feature_name"] != "auto" or kwargs["categorical_feature"] != "auto":
        raise _Unknown
    if not (estimator.objective is None or isinstance(estimator.objective, str)):
        raise _Unknown
    least = params["min_child_samples"]
    if type(least) is not int:
        raise _Unknown
    named = params.keys() - _LIGHTGBM_FREE - {"min_child_samples"}
    key = ("lightgbm", _parameters(params, named), _bits(kwargs["label"]), _bits(kwargs["weight"]))
    return key, 0 if params.get("feature_pre_filter") is False else least


def _lightgbm(plain: Callable[..., Any]) -> Callable[..., Any]:
    cls = importlib.import_module("lightgbm.basic").Dataset

    def lend(dataset: Any) -> Any:
        """What owns the dataset's handle from now on; None where more than numbers came in."""
        if dataset.pandas_categorical or "categorical_column" in dataset.params:
            return None
        owner = object.__new__(cls)
        owner.__dict__.update(dataset.__dict__, data=None, params=None, _params_back_up=None)
        dataset._free_handle = _Borrowed(dataset, owner)
        return owner

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        share = _state.share
        if share is None or args or type(self) is not cls or kwargs.get("data") is not share.X:
            return plain(self, *args, **kwargs)
        try:
            made, mine = _table.claim(share.given, *_lightgbm_key(kwargs, share.estimator))
        except (_Unknown, TypeError):  # (TypeError: no weak reference to this matrix)
            return plain(self, **kwargs)
        if mine:
            owner, whole = None, False
            try:
                result = plain(self, **kwargs)
                whole = all(self.feature_num_bin(i) > 0 for i in range(self.num_feature()))
                owner = lend(self)
            finally:
                made.end(owner, whole)
            return result
        owner = made.take()
        if owner is None:
            return plain(self, **kwargs)
        own = {name: value for name, value in vars(self).items() if name in ("data", "params", "_params_back_up")}
        self.__dict__.update(vars(owner), **own)
        self._free_handle = _Borrowed(self, owner)
        return self

    return call


# -- XGBoost ---------------------------------------------------------------------------------------------


def _xgboost_key(kwargs: dict, estimator: Any) -> tuple:
    """All that the bins of a `QuantileDMatrix` depend on, but the matrix."""
    given = {name for name, value in kwargs.items() if value is not None}
    if not given <= {"data", "label", "missing", "enable_categorical"} or getattr(estimator, "kwargs", None):
        raise _Unknown
    objective = estimator.objective
    if not (isinstance(objective, str) and objective.startswith(("reg:", "binary:", "multi:", "count:"))):
        raise _Unknown
    own = {name: getattr(estimator, name) for name in _XGBOOST_KEY}
    plain = own["booster"] in (None, "gbtree", "dart") and own["device"] in (None, "cpu")
    if not plain or own["tree_method"] not in (None, "auto", "hist") or estimator.callbacks:
        raise _Unknown
    if callable(estimator.eval_metric):
        raise _Unknown
    own.update(missing=kwargs["missing"], enable_categorical=kwargs["enable_categorical"])
    return "xgboost", _parameters(own, own), _bits(kwargs["label"])


_XGBOOST_KEY = ("booster", "device", "max_bin", "n_jobs", "tree_method", "verbosity")


def _xgboost(plain: Callable[..., Any]) -> Callable[..., Any]:
    cls = importlib.import_module("xgboost").QuantileDMatrix

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        share = _state.share
        if share is None or args or self is not share.estimator or kwargs.get("data") is not share.X:
            return plain(self, *args, **kwargs)
        try:
            made, mine = _table.claim(share.given, _xgboost_key(kwargs, self))
        except (_Unknown, TypeError):  # (TypeError: no weak reference to this matrix)
            return plain(self, **kwargs)
        if mine:
            kept = None
            try:
                result = plain(self, **kwargs)
                kept = result if type(result) is cls else None
            finally:
                made.end(kept)
            return result
        kept = made.take()
        return plain(self, **kwargs) if kept is None else kept

    return call
