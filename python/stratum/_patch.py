"""Which functions of skrub are replaced while stratum is imported, and how.

Methods and functions are replaced, never classes: what users hold stays skrub's own. Every replacement
asks the configuration first (`engine`), so that one option brings plain skrub back.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import skrub

from . import _config, scripts
from .capture import building, previews
from .hosts import _skrub_0_11 as sk
from .hosts import backends, columns, evaluating, kernels, parallels, said, searches, studies, threads, tracebacks


class _Plain(threading.local):
    depth = 0  # above 0 while skrub's own evaluator is asked on purpose


_plain = _Plain()


def active() -> bool:
    """Whether the engine is on in this thread."""
    return _config.option("engine") == "stratum" and not _plain.depth


class plain_skrub:
    """Context in which skrub's own evaluator runs (the reference of `verify`, the way of fallbacks)."""

    def __enter__(self) -> None:
        _plain.depth += 1

    def __exit__(self, *exc: object) -> None:
        _plain.depth -= 1


_original_fit = sk.ParamSearch.fit
_original_cross_validate = sk.learners.cross_validate
_original_optuna_fit = sk.OptunaParamSearch.fit


@functools.wraps(_original_fit)
def _fit(self: Any, environment: Any) -> Any:
    if not active():
        return _original_fit(self, environment)
    from . import _api

    item = searches.SearchItem(self, environment)
    try:
        return _api.run_one(item)
    except Exception as error:
        raise _frames.of_search(error, item.loop, item.failed_in_fold, item.supervised)  # noqa: B904


@functools.wraps(_original_cross_validate)
def _cross_validate(
    learner: Any, environment: Any, *, keep_subsampling: bool = False, cv: Any = None, **kwargs: Any
) -> Any:
    if not active() or not hasattr(learner, "__skrub_to_Xy_pipeline__"):
        return _original_cross_validate(learner, environment, keep_subsampling=keep_subsampling, cv=cv, **kwargs)
    from . import _api, engine

    if isinstance(learner, (sk.ParamSearch, sk.OptunaParamSearch)):
        # Each outer fold fits a search, which is a run of its own: joblib has nothing to do.
        n_jobs = backends.n_jobs_of(kwargs.get("n_jobs"))
        backend = backends.elsewhere(n_jobs)
        if backend is None:
            kwargs["n_jobs"] = 1
        try:
            with backends.around(n_jobs):
                return _original_cross_validate(
                    learner, environment, keep_subsampling=keep_subsampling, cv=cv, **kwargs
                )
        finally:
            if backend is not None:
                engine.fell_back("cross_validate", f"joblib's backend is {backend}")
    item = searches.CrossValidateItem(learner, environment, keep_subsampling, cv, kwargs)
    study = studies.current()
    if study is None:
        try:
            return _api.run_one(item)
        except Exception as error:
            raise _frames.of_search(error, item.loop, item.failed_in_fold, item.supervised)  # noqa: B904
    item.n_jobs = study.n_jobs
    try:
        return _api.run_one(item)
    finally:
        study.settle()


@functools.wraps(_original_optuna_fit)
def _optuna_fit(self: Any, environment: Any) -> Any:
    from . import engine

    if not active():
        return _original_optuna_fit(self, environment)
    n_jobs = backends.n_jobs_of(self.n_jobs)
    backend = backends.elsewhere(n_jobs)
    if backend is not None or n_jobs == 0:
        try:
            return _original_optuna_fit(self, environment)
        finally:
            engine.fell_back("search", f"joblib's backend is {backend}" if backend else "n_jobs is 0")
    # One trial after the other, each on the engine's threads: what they share is computed once, and the
    # sampler knows of all trials before.  skrub would start n_jobs processes or threads of trials.
    own = object.__new__(type(self))
    own.__dict__.update(self.__dict__, n_jobs=1)
    try:
        with studies.Study(n_jobs):
            _original_optuna_fit(own, environment)
    finally:
        self.__dict__.update({name: value for name, value in own.__dict__.items() if name != "n_jobs"})
    return self


@contextlib.contextmanager
def _on_threads(count: int) -> Iterator[Callable[[], None]]:
    """Around fits that joblib makes on threads of its own: they go on under the settings of this one."""
    settings, depth = _config.snapshot(), _plain.depth
    limits, share = threads.Limits(), max(1, threads.cores() // max(1, count))

    def settle() -> None:
        _config.apply(settings)
        _plain.depth = depth
        limits.before(share)

    try:
        yield settle
    finally:
        limits.restore()


_frames = tracebacks.Frames(plain_skrub)


def install() -> None:
    """Put the replacements in place."""
    searches.FoldsItem.frames = _frames
    kernels.install()
    columns.install()
    parallels.install()
    parallels.carry(_on_threads)
    searches.SearchItem.engine_off = staticmethod(_original_fit)
    searches.CrossValidateItem.engine_off = staticmethod(_original_cross_validate)
    sk.ParamSearch.fit = _fit
    sk.OptunaParamSearch.fit = _optuna_fit
    sk.learners.cross_validate = _cross_validate
    sk.namespace.cross_validate = _cross_validate
    skrub.cross_validate = _cross_validate
    if getattr(skrub, "_data_ops", None) is not None and hasattr(skrub._data_ops, "cross_validate"):
        skrub._data_ops.cross_validate = _cross_validate
    sk.evaluation.evaluate = evaluating.evaluating(sk.evaluation.evaluate, active, _frames)
    building.install(active, [evaluating.LOOP_CODE])
    previews.install()
    # These modules of skrub imported the function by its name.
    for module in (sk.learners, sk.namespace, sk.inspection):
        module.evaluate = sk.evaluation.evaluate
    if "_stratum_hook" in sys.modules:
        said.install()
    scripts.connected()  # from here on reads of files are shared
