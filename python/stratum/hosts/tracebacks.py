"""Tracebacks: the frames of skrub's and scikit-learn's loops stand where they stand without stratum.

What it is for
    Between the caller and the node that failed, plain skrub has the same few frames each time: its evaluator's,
    and in a search those of scikit-learn's loop.  Where the engine did the work instead, its own frames are
    taken out of the traceback of an error and those few put in, so that a script fails, and warns of failed
    fits, with the very text that it has by plain skrub.

How
    The frames are the libraries' own: skrub is asked, once for each way of failing, to evaluate or search a
    tiny pipeline whose node raises, and its part of that traceback is kept.  So nothing here knows names or
    line numbers of skrub, but for the few functions by which a way of failing is recognised.

Who may call it
    `stratum.hosts.evaluating`, `stratum.hosts.searches` and `stratum._patch`; the pytest plugin asks `asking`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import types
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import skrub
from sklearn.base import BaseEstimator

from . import _skrub_0_11 as sk
from . import _sklearn as skl
from . import operators

_HOME = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_NODES = sk.nodes_module.__file__

_Part = list[tuple[types.FrameType, int, int]]


class _Asked(Exception):
    """What the nodes raise that show the frames."""


class _Evaluates(sk.nodes_module.DataOpImpl):
    _fields: ClassVar[list[str]] = ["inner"]

    def eval(self, *, mode: str, environment: Any) -> Any:
        yield self.inner
        raise _Asked


class _Computes(sk.nodes_module.DataOpImpl):
    _fields: ClassVar[list[str]] = ["inner"]

    def compute(self, e: Any, mode: str, environment: Any) -> Any:
        raise _Asked


class _Refuses(BaseEstimator):
    def fit(self, X: Any, y: Any = None) -> _Refuses:
        raise _Asked


# Entered from scikit-learn's loop when fits have failed: raises where all of them have.
_ALL_FAILED = "_warn_or_raise_about_fit_failures"
_FOLD = "_fit_and_score"
# What the two checks before any fit refuse.
_WRONG_SCORING = {"parameters": "no score of this name", "scoring": ["no score of this name"]}
# What leaves skrub when it is asked, where it is not what the node raises.
_EXPECTED = {"all": ValueError, "environment": TypeError, "parameters": ValueError, "scoring": ValueError}
# What `evaluate` asks first.
_CHECK = sk.evaluation._check_environment.__code__


_own = threading.local()


def asking() -> bool:
    """Whether skrub is being asked for its frames in this thread (and nobody's pipeline runs)."""
    return getattr(_own, "asking", False)


class Frames:
    """The libraries' frames between a caller and a node.

    Parameters
    ----------
    plain : callable
        Gives a context in which skrub's own evaluator runs.
    """

    def __init__(self, plain: Callable[[], contextlib.AbstractContextManager]) -> None:
        self._plain = plain
        self._parts: dict[tuple, _Part] = {}

    def of_evaluation(self, error: Exception) -> Exception:
        """An error that leaves the engine's `evaluate`, with the traceback that skrub's would give it."""
        return self._with(error, "evaluate")

    def of_fit(self, error: Exception, name: str, supervised: bool) -> Exception:
        """The error of one candidate's fit on one fold, as scikit-learn's loop catches it (see `of_search`)."""
        return self._with(error, name, "caught", supervised)

    def of_search(self, error: Exception, name: str, in_fold: bool, supervised: bool) -> Exception:
        """An error that leaves a search or cross-validation.

        Parameters
        ----------
        error : Exception
        name : str
            ``"grid"``, ``"randomized"`` or ``"cross_validate"``.
        in_fold : bool
            Whether the fit of a candidate raised it, rather than X, y or the splitter.
        supervised : bool
            Whether there is a y.
        """
        return self._with(error, name, "fold" if in_fold else "X", supervised)

    def _with(self, error: Exception, entry: str, where: str = "", supervised: bool = False) -> Exception:
        place, last = error.__traceback__, None
        while place is not None and place.tb_frame.f_code.co_filename.startswith(_HOME):
            place, last = place.tb_next, place.tb_frame.f_code
        if place is None:
            return error
        code = place.tb_frame.f_code
        if code.co_name == _ALL_FAILED and where:
            key = (entry, "all", _Computes, supervised)
        elif code is _CHECK:
            key = (entry, "environment", _Computes, supervised)
        elif code.co_filename == _NODES:
            key = (entry, where, _Evaluates if code.co_name == "eval" else _Computes, supervised)
        elif last is operators.FIT_CODE:
            key = (entry, where, _Refuses, supervised)
        elif where and (check := _check_of(place.tb_frame)):
            key = (entry, check, _Refuses, supervised)
        else:
            return error
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = self._ask(*key)
        for frame, instruction, line in reversed(part):
            place = types.TracebackType(place, frame, instruction, line)
        return error.with_traceback(place)

    def _ask(self, *how: Any) -> _Part:
        """The frames of the libraries for one way of failing.

        They are kept, and must keep nothing of the user's: asked in the thread that handles an error, that error
        would be the context of the one that shows the frames, and the caller's frames would stand below them.
        """
        part: _Part = []
        asked = threading.Thread(target=self._ask_here, args=(part, *how), name="stratum-frames", daemon=True)
        try:
            asked.start()
        except RuntimeError:  # the interpreter ends
            return part
        asked.join()
        return part

    def _ask_here(self, part: _Part, entry: str, where: str, kind: type, supervised: bool) -> None:
        _own.asking = True
        place = None
        try:
            with warnings.catch_warnings(), self._plain():
                warnings.simplefilter("ignore")
                _fail(entry, where, kind, supervised)
        except Exception as error:
            # (Some other error: a skrub that works in another way. The user's error is left as it is.)
            expected = _EXPECTED.get(where, _Asked)
            place = error.__traceback__ if isinstance(error, expected) else None
        found: _Part = []
        while place is not None:
            code = place.tb_frame.f_code
            if code.co_name == _ALL_FAILED or code is _CHECK:
                break
            if where in _WRONG_SCORING and _check_of(place.tb_frame) == where:
                break
            if not place.tb_frame.f_code.co_filename.startswith(_HOME):
                found.append((place.tb_frame, place.tb_lasti, place.tb_lineno))
            place = place.tb_next
        first = _FOLD if where == "caught" else "evaluate" if entry == "evaluate" else None
        file = sk.learners.__file__ if first is None else None
        for k, (frame, _, _) in enumerate(found):
            if frame.f_code.co_name == first or frame.f_code.co_filename == file:
                part.extend(found[k:])
                break


def _fail(entry: str, where: str, kind: type, supervised: bool) -> None:
    """Have skrub fail in a node of `kind`."""
    var = skrub.var("x")
    if entry == "evaluate":
        node = var.skb.apply(_Refuses()) if kind is _Refuses else sk.DataOp(kind(var))
        sk.evaluation.evaluate(node, "fit", {"x": var if where == "environment" else np.zeros((4, 1))})
        return
    y = skrub.var("y").skb.mark_as_y() if supervised else None
    if kind is _Refuses:
        node = var.skb.mark_as_X().skb.apply(_Refuses(), y=y)
    elif where == "X":
        node = sk.DataOp(kind(var)).skb.mark_as_X().skb.apply("passthrough", y=y)
    else:
        node = sk.DataOp(kind((var.skb.mark_as_X(), y)))
    how = {
        "cv": 2, "scoring": _no_score, "n_jobs": 1, "error_score": np.nan if where == "all" else "raise",
    }  # fmt: skip
    if where in _WRONG_SCORING:
        how["scoring"] = _WRONG_SCORING[where]
    environment = {"x": np.zeros((4, 1)), **({"y": np.arange(4) % 2} if supervised else {})}
    if where == "environment":
        environment["x"] = var
    if entry == "cross_validate":
        node.skb.cross_validate(environment, **how)
    elif entry == "randomized":
        node.skb.make_randomized_search(n_iter=1, refit=False, **how).fit(environment)
    else:
        node.skb.make_grid_search(refit=False, **how).fit(environment)


def _check_of(frame: types.FrameType) -> str:
    """What scikit-learn's loop has entered before any fit: a check of ``"parameters"`` or of ``"scoring"``, or neither."""
    code = frame.f_code
    if code in (BaseEstimator._validate_params.__code__, skl.validate_parameter_constraints.__code__):
        return "parameters"
    if code is skl.BaseSearchCV._get_scorers.__code__:
        return "scoring"
    # (All functions whose parameters are validated have the code of one wrapper.)
    if code is skl.check_scoring.__code__ and frame.f_locals.get("func") is skl.check_scoring.__wrapped__:
        return "scoring"
    return ""


def _no_score(model: Any, X: Any, y: Any = None) -> float:
    return 0.0
