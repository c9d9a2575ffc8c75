"""scikit-learn's searches and cross-validations, their fits run by the engine.

Use the names of this module in place of those of ``sklearn.model_selection``::

    from stratum.sklearn import GridSearchCV

The classes are subclasses of scikit-learn's: parameters, attributes, methods, messages and results are
its own. What changes is how the fits of all candidates and folds are computed: as one graph, in which
equal work is one node, on the threads of this process. A step of a Pipeline that several candidates share
is fitted once per fold, and transforms the test rows once.

A pickle of a search loads as scikit-learn's own class, also where stratum is not installed.
"""

from __future__ import annotations

import copy
import copyreg
import functools
from abc import ABCMeta
from collections.abc import Callable
from typing import Any

from sklearn import model_selection
from sklearn.model_selection import _search_successive_halving as _halving

from .. import _core
from ..scripts import fronts
from . import _entry

__all__ = [
    "GridSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV", "RandomizedSearchCV",
    "cross_val_predict", "cross_val_score", "cross_validate",
]  # fmt: skip


def _front(function: Callable[..., Any]) -> Any:
    """The function without frames of the package in tracebacks (see `stratum.scripts.fronts`)."""
    return function if fronts.shown() else _core.Front(function, fronts.HOME)


class _Class(ABCMeta):
    """Classes that pickle as the class of scikit-learn whose module they name."""


def _reduce_class(cls: type) -> Any:
    original = cls.__dict__.get("_original")
    return cls.__qualname__ if original is None else (copy.copy, (original,))  # a copy of a class is the class


copyreg.pickle(_Class, _reduce_class)  # type: ignore[arg-type]


class _Search(metaclass=_Class):
    """What the searches of this module add to scikit-learn's: the engine for their fits, and plain pickles."""

    _original: type

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "_original" not in cls.__dict__:
            return  # a subclass of the user's: it is itself in pickles, and has its own `fit` or ours

        @functools.wraps(cls._original.fit)
        def fit(self: Any, X: Any, y: Any = None, **params: Any) -> Any:
            with _entry.by_engine(type(self).__name__, self.n_jobs):
                return cls._original.fit(self, X, y, **params)

        cls.fit = _front(fit)

    def __reduce_ex__(self, protocol: Any) -> Any:
        original = type(self).__dict__.get("_original")
        if original is None:
            return super().__reduce_ex__(protocol)
        twin = object.__new__(original)
        twin.__dict__.update(self.__dict__)
        return twin.__reduce_ex__(1)  # names the class instead of asking the object for it

    def __copy__(self) -> Any:
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        return new

    def __deepcopy__(self, memo: dict) -> Any:
        new = object.__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new


def _documented(cls: type) -> type:
    """Scikit-learn's text, and its module: a script that prints a class says what it says without stratum."""
    cls.__doc__ = cls._original.__doc__  # type: ignore[attr-defined]
    cls.__module__ = cls._original.__module__  # type: ignore[attr-defined]
    return cls


@_documented
class GridSearchCV(_Search, model_selection.GridSearchCV):
    _original = model_selection.GridSearchCV


@_documented
class RandomizedSearchCV(_Search, model_selection.RandomizedSearchCV):
    _original = model_selection.RandomizedSearchCV


@_documented
class HalvingGridSearchCV(_Search, _halving.HalvingGridSearchCV):
    _original = _halving.HalvingGridSearchCV


@_documented
class HalvingRandomSearchCV(_Search, _halving.HalvingRandomSearchCV):
    _original = _halving.HalvingRandomSearchCV


def _function(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def function(*args: Any, **kwargs: Any) -> Any:
        with _entry.by_engine(original.__name__, kwargs.get("n_jobs")):
            return original(*args, **kwargs)

    return _front(function)


cross_validate = _function(model_selection.cross_validate)
cross_val_score = _function(model_selection.cross_val_score)
cross_val_predict = _function(model_selection.cross_val_predict)
