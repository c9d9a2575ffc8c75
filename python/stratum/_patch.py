"""Which functions of skrub are replaced while stratum is imported, and how.

Methods and functions are replaced, never classes: what users hold stays skrub's own. Every replacement
asks the configuration first (`engine`), so that one option brings plain skrub back.
"""

from __future__ import annotations

import functools
import threading
import warnings
from typing import Any

import skrub

from . import _config
from .capture import building, previews
from .hosts import _skrub_0_11 as sk
from .hosts import evaluating, searches

_plain = threading.local()  # set while skrub's own evaluator is asked on purpose


def active() -> bool:
    """Whether the engine is on in this thread."""
    return _config.option("engine") == "stratum" and not getattr(_plain, "depth", 0)


class plain_skrub:
    """Context in which skrub's own evaluator runs (the reference of `verify`, the way of fallbacks)."""

    def __enter__(self) -> None:
        _plain.depth = getattr(_plain, "depth", 0) + 1

    def __exit__(self, *exc: object) -> None:
        _plain.depth -= 1


_original_fit = sk.ParamSearch.fit
_original_cross_validate = sk.learners.cross_validate


@functools.wraps(_original_fit)
def _fit(self: Any, environment: Any) -> Any:
    if not active():
        return _original_fit(self, environment)
    from . import _api

    return _api.run_one(searches.SearchItem(self, environment))


@functools.wraps(_original_cross_validate)
def _cross_validate(
    learner: Any, environment: Any, *, keep_subsampling: bool = False, cv: Any = None, **kwargs: Any
) -> Any:
    if not active() or not hasattr(learner, "__skrub_to_Xy_pipeline__"):
        return _original_cross_validate(learner, environment, keep_subsampling=keep_subsampling, cv=cv, **kwargs)
    from . import _api

    return _api.run_one(searches.CrossValidateItem(learner, environment, keep_subsampling, cv, kwargs))


def install() -> None:
    """Put the replacements in place; an unknown version of skrub gets one warning and stays plain."""
    version = tuple(int(part) for part in skrub.__version__.split(".")[:2])
    if version != (0, 11):
        warnings.warn(
            f"stratum knows skrub 0.11, not {skrub.__version__}: everything runs by plain skrub",
            RuntimeWarning,
            stacklevel=3,
        )
        return
    searches.SearchItem.engine_off = staticmethod(_original_fit)
    searches.CrossValidateItem.engine_off = staticmethod(_original_cross_validate)
    sk.ParamSearch.fit = _fit
    sk.learners.cross_validate = _cross_validate
    sk.namespace.cross_validate = _cross_validate
    skrub.cross_validate = _cross_validate
    if getattr(skrub, "_data_ops", None) is not None and hasattr(skrub._data_ops, "cross_validate"):
        skrub._data_ops.cross_validate = _cross_validate
    sk.evaluation.evaluate = evaluating.evaluating(sk.evaluation.evaluate, active)
    building.install(active)
    previews.install()
    # These modules of skrub imported the function by its name.
    for module in (sk.learners, sk.namespace, sk.inspection):
        module.evaluate = sk.evaluation.evaluate
