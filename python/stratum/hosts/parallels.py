"""scikit-learn's `Parallel`: where its batches of calls can be taken over.

What it is for
    Searches, cross-validations and ensembles hand their fits to `sklearn.utils.parallel.Parallel` as a
    batch.  A thread that has a handler gives them to it; without one nothing changes.

What no handler takes
    goes to joblib, but not to processes: fits of a search or a cross-validation then run on as many threads
    (`backends.on_threads`).

Who may call it
    `stratum.sklearn`, the hosts and the engine.  It imports nothing but `Parallel`, what a search has imported
    and the extension: a script that makes one small search pays for no more.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from sklearn import config_context
from sklearn.model_selection._validation import _fit_and_predict, _fit_and_score
from sklearn.utils.parallel import Parallel

from .. import _core
from ..scripts import fronts
from . import backends

__all__ = ["Handler", "call_parallel", "carry", "handler_here", "install", "nobody", "parallel_to"]

# A handler takes (the Parallel, its tasks as (function, args, kwargs)) and returns their results in order,
# or NotImplemented where it knows nothing of them.
Handler = Callable[[Any, list[tuple[Callable[..., Any], tuple, dict]]], Any]

_own = threading.local()
_original_call = Parallel.__call__
_original_enter, _original_exit = Parallel.__enter__, Parallel.__exit__


@contextlib.contextmanager
def parallel_to(handler: Handler | None) -> Iterator[None]:
    """In this thread, batches of calls go to `handler` (None: to joblib, as ever)."""
    before = getattr(_own, "handler", None)
    _own.handler = handler
    try:
        yield
    finally:
        _own.handler = before


def handler_here() -> Handler | None:
    """What takes the batches of this thread."""
    return getattr(_own, "handler", None)


def nobody(parallel: Any, tasks: list[tuple]) -> Any:
    """A handler that takes nothing: around a search that is left to the libraries."""
    return NotImplemented


def call_parallel(parallel: Any, tasks: list[tuple], processes: bool = False) -> Any:
    """What scikit-learn itself does with a batch; in processes only if those are allowed."""
    with parallel_to(None):
        return _original_call(parallel, tasks) if processes else _by_joblib(parallel, tasks)


# -- Batches that stay joblib's ---------------------------------------------------------------------

_FITS = frozenset({_fit_and_score, _fit_and_predict})
Around = Callable[[int], contextlib.AbstractContextManager[Callable[[], None]]]
_around: list[Around] = []


def carry(around: Around) -> None:
    """Say what is to hold around batches on joblib's threads.

    Parameters
    ----------
    around : callable
        Given the number of threads, a context in the thread whose batch it is; its value is called in each of
        the others before a task.
    """
    _around[:] = [around]


class _Task:
    """A task as a thread of joblib's runs it.

    `sklearn.utils.parallel` sets the filters of warnings anew around each task, as another process needs it.
    Between threads they are shared: one would lose its filters while another one sets them.
    """

    def __init__(self, function: Any, settle: Callable[[], None]) -> None:
        self.function, self.settle = function, settle

    def with_config_and_warning_filters(self, config: dict, filters: Any) -> _Task:
        self.config = config
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.settle()
        with config_context(**self.config):
            return self.function(*args, **kwargs)


def _by_joblib(parallel: Any, tasks: list[tuple]) -> Any:
    """A batch that nobody took, without processes where it is one of a search's fits."""
    threads = parallel
    if tasks and all(getattr(task[0], "function", None) in _FITS for task in tasks):
        threads = backends.on_threads(parallel)
    if threads is parallel:
        return _original_call(parallel, tasks)
    filters = warnings.filters
    before = list(filters)
    count = min(threads._backend.effective_n_jobs(threads.n_jobs), len(tasks))
    try:
        with _around[0](count) as settle:
            return _original_call(threads, [(_Task(f.function, settle), args, kwargs) for f, args, kwargs in tasks])
    finally:
        # What a fit sets and takes back may have crossed with what another one did.
        if warnings.filters is not filters or filters != before:
            filters[:] = before
            warnings.filters = filters
            warnings._filters_mutated()  # type: ignore[attr-defined]


# -- The way in -------------------------------------------------------------------------------------


def _call(self: Any, iterable: Any) -> Any:
    handler = handler_here()
    if handler is None:
        return _original_call  # called by the `Front`
    tasks = list(iterable)
    result = NotImplemented
    if tasks and all(hasattr(task[0], "with_config_and_warning_filters") for task in tasks):
        result = handler(self, tasks)
    return _by_joblib(self, tasks) if result is NotImplemented else result


def _enter(self: Any) -> Any:
    """Searches hold their `Parallel` open: its workers would wait for batches that never come."""
    if handler_here() is None:
        return _original_enter(self)
    self._never_entered = True
    return self


def _exit(self: Any, *exc: Any) -> None:
    if self.__dict__.pop("_never_entered", False):
        return
    _original_exit(self, *exc)


def install() -> None:
    """Let batches of calls be taken over; without a handler in the thread nothing changes."""
    _call.__doc__ = _original_call.__doc__
    home = "-" if fronts.shown() else fronts.HOME
    Parallel.__call__ = _core.Front(_call, home, _original_call)
    Parallel.__enter__, Parallel.__exit__ = _enter, _exit
