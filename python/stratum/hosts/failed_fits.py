"""Fits that failed in scikit-learn's loops: users read of them what they read without the engine.

What it is for
    A traceback is part of what users read, in the warning about failed fits and where an error is raised.
    Between the loop and the estimator stand scikit-learn's and joblib's frames, and none of ours.

How
    A fit of the libraries' code alone is made again where scikit-learn makes it, once for each error; it
    fails in no time as a rule. Code of the user's runs once: there the frames are put together. A stand-in for
    the model, of the same steps, is given to scikit-learn and fails at the same place; its frames come first,
    then those below the node that failed. The few frames between, where an inner fit was a node or was taken
    out of a Pipeline's cache, come from stand-ins as well. So nothing here knows line numbers.

Who may call it
    `stratum.hosts.pipelines`.
"""

from __future__ import annotations

import os
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.parallel import Parallel, delayed

from . import _sklearn as skl
from . import estimators

_HOME = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")

_Part = list[tuple[types.FrameType, int, int]]


@dataclass
class Failure:
    """An error and where scikit-learn's loop would have met it.

    Parameters
    ----------
    error : BaseException
    template : estimator
        The candidate.
    place : int or str
        The number of the step whose fit failed (steps that do nothing are not counted), or ``"model"``: the last
        one or the whole, ``"test"`` or ``"train"``: the score of these rows, ``"predict"``: the predictions,
        ``"parameters"``: that they are set.
    """

    error: BaseException
    template: Any
    place: int | str


class _Asked(Exception):
    """What the stand-ins raise."""


class _Refuses(BaseEstimator):
    def fit(self, X: Any, y: Any = None) -> _Refuses:
        raise _Asked

    def transform(self, X: Any) -> Any:
        return X


class _Unsettable(BaseEstimator):
    def set_params(self, **params: Any) -> _Unsettable:
        raise _Asked


class _Passes(BaseEstimator):
    def fit(self, X: Any, y: Any = None) -> _Passes:
        return self

    def transform(self, X: Any) -> Any:
        return X


def _refuse(*args: Any) -> None:
    raise _Asked


# -- What the loop is told --------------------------------------------------------------------------


def with_own_texts(results: list, tasks: list[tuple]) -> list:
    """The results of a batch, with the texts of failed fits that scikit-learn would have made."""
    texts: dict[str, str] = {}
    for result, task in zip(results, tasks):
        failure = result.pop("failure", None) if isinstance(result, dict) else None
        if failure is None:
            continue
        text = result["fit_error"]
        if text not in texts:
            again = _again(task)
            # (With warnings ignored a fit may end that a warning had failed.)
            own = None if again is None else again[0].get("fit_error")
            texts[text] = _text(task, failure) if own is None else own
        result["fit_error"] = texts[text]
    return results


def raise_own(task: tuple, error: BaseException, failure: Failure | None) -> None:
    """Raise the error that ended a batch as scikit-learn's loop would."""
    _again(task)
    if failure is not None:
        error.__traceback__ = _chained(_joined(task, failure))
    raise error


def _again(task: tuple) -> list | None:
    """What scikit-learn makes of a task; None where that would run code of the user's again."""
    _, args, kwargs = task
    if not all(estimators._is_library(value) for value in (*args[:1], kwargs.get("estimator"), kwargs.get("parameters"))):
        return None
    if any(skl.accepts_callbacks(value) for value in (*args, *kwargs.values())):
        return None
    scorer = kwargs.get("scorer")
    if scorer is not None and not skl.is_library_scorer(scorer, estimators._is_library):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return skl.call_parallel(skl.Parallel(n_jobs=1), [task])


# -- Frames -----------------------------------------------------------------------------------------


def _text(task: tuple, failure: Failure) -> str:
    """The traceback as scikit-learn notes it: from the function of the loop on."""
    loop = task[0].function.__code__
    part = _joined(task, failure)
    first = next((k for k, (frame, _, _) in enumerate(part) if frame.f_code is loop), 0)
    error = failure.error
    return "".join(traceback.format_exception(type(error), error, _chained(part[first:])))


def _joined(task: tuple, failure: Failure) -> _Part:
    """The frames of an error from joblib's to the line that raised it, without ours."""
    part = list(_before(task, failure))
    between: Callable[[], Iterator[tuple]] | None = None
    for entry in _entries(failure.error.__traceback__):
        code = entry[0].f_code
        if code.co_filename.startswith(_HOME):
            between = _between.get(code, between)
            continue
        if between is not None:
            part.extend(between())
            between = None
        part.append(entry)
    return part


def _before(task: tuple, failure: Failure) -> Iterator[tuple]:
    """The frames between the loop's batch and what failed."""
    function, args, kwargs = task
    place = failure.place
    model: Any = _Unsettable() if place == "parameters" else _stand_in(failure)
    kwargs = dict(kwargs)
    if "estimator" in kwargs:
        kwargs["estimator"] = model
    else:
        args = (model, *args[1:])
    given = dict(parameters=None, fit_params=None, score_params=None, verbose=0, error_score="raise")
    if place == "parameters":
        given["parameters"] = {"x": 1}
    kwargs.update((name, value) for name, value in given.items() if name in kwargs)
    if place in ("test", "train"):
        kwargs["scorer"] = _refuse if place == "test" else _Second()
    last: Any = None  # the first function whose frame is the error's own
    if place in ("test", "train"):
        last = skl.score_model
    elif place == "predict":
        last = function.function
    elif isinstance(place, int):
        last = skl.fit_transform_one

    def batch() -> None:
        skl.call_parallel(Parallel(n_jobs=1), [(function, args, kwargs)])

    return _asked(batch, None if last is None else last.__code__)


def _stand_in(failure: Failure) -> Any:
    """A model of the same steps that fails at the same one."""
    template, place = failure.template, failure.place
    if place in ("test", "train"):
        return _Passes()
    if not isinstance(template, Pipeline) or place == "predict":
        return _Refuses()
    steps, number = [], 0
    for name, step in template.steps:
        if skl.is_passthrough(step):
            steps.append((name, step))
            continue
        steps.append((name, _Refuses() if number == place else _Passes()))
        number += 1
    if place == "model":
        steps[-1] = (steps[-1][0], _Refuses())
    return Pipeline(steps)


class _Second:
    """A scorer that fails when it is called for the second time: for the rows of training."""

    def __init__(self) -> None:
        self.called = False

    def __call__(self, *args: Any) -> float:
        if self.called:
            raise _Asked
        self.called = True
        return 0.0


def _of_parallel() -> Iterator[tuple]:
    """The frames between an estimator that hands inner fits to `Parallel` and one of them."""
    return _asked(lambda: skl.call_parallel(Parallel(n_jobs=1), [delayed(_refuse)()]), None)


def _of_memory() -> Iterator[tuple]:
    """The frames between a Pipeline and the fit of a step that goes through its cache."""
    model = Pipeline([("step", _Refuses()), ("last", _Passes())])
    found = list(_asked(lambda: model.fit([[0.0]]), skl.fit_transform_one.__code__))
    inside = [k for k, (frame, _, _) in enumerate(found) if frame.f_code is Pipeline._fit.__code__]
    yield from found[inside[0] + 1 :] if inside else ()


#: What our frames of these functions stand for.
_between: dict[types.CodeType, Callable[[], Iterator[tuple]]] = {}


def stands_for(parallel: Callable[..., Any], step: Callable[..., Any]) -> None:
    """Say which functions of ours take inner fits from `Parallel`, and steps from a Pipeline's cache."""
    _between[parallel.__code__] = _of_parallel
    _between[step.__code__] = _of_memory


def _asked(ask: Callable[[], Any], last: types.CodeType | None) -> Iterator[tuple]:
    """The libraries' frames below `ask`, which a stand-in ends, up to that of `last`."""
    try:
        with warnings.catch_warnings(), skl.parallel_to(None):
            warnings.simplefilter("ignore")
            ask()
    except _Asked as error:
        place = error.__traceback__
    except Exception:  # a scikit-learn that works in another way: what is left is the user's own part
        return
    else:
        return
    for entry in _entries(place):
        if entry[0].f_code is last:
            return
        if not entry[0].f_code.co_filename.startswith(_HOME):
            yield entry


def _entries(place: types.TracebackType | None) -> Iterator[tuple[types.FrameType, int, int]]:
    while place is not None:
        yield place.tb_frame, place.tb_lasti, place.tb_lineno
        place = place.tb_next


def _chained(part: _Part) -> types.TracebackType | None:
    place = None
    for frame, instruction, line in reversed(part):
        place = types.TracebackType(place, frame, instruction, line)
    return place
