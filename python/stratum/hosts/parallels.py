"""scikit-learn's `Parallel`: where its batches of calls can be taken over.

What it is for
    Searches, cross-validations and ensembles hand their fits to `sklearn.utils.parallel.Parallel` as a
    batch.  A thread that has a handler gives them to it; without one nothing changes.

Who may call it
    `stratum.sklearn` and the hosts.  It imports nothing but `Parallel`: a script that makes one small search
    pays for no more.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from sklearn.utils.parallel import Parallel

__all__ = ["Handler", "call_parallel", "handler_here", "install", "parallel_to"]

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


def call_parallel(parallel: Any, tasks: list[tuple]) -> Any:
    """What scikit-learn itself does with a batch."""
    with parallel_to(None):
        return _original_call(parallel, tasks)


def _call(self: Any, iterable: Any) -> Any:
    handler = handler_here()
    if handler is None:
        return _original_call(self, iterable)
    tasks = list(iterable)
    result = NotImplemented
    if tasks and all(hasattr(task[0], "with_config_and_warning_filters") for task in tasks):
        result = handler(self, tasks)
    return _original_call(self, tasks) if result is NotImplemented else result


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
    Parallel.__call__, Parallel.__enter__, Parallel.__exit__ = _call, _enter, _exit
