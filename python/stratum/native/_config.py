"""How many threads native estimators use and how exact they are; for the files of ``stratum.native``."""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Iterator

EXACTNESS = ("identical", "equivalent", "approximate")

_threads: contextvars.ContextVar[int | None] = contextvars.ContextVar("native_threads", default=None)
_exactness: contextvars.ContextVar[str] = contextvars.ContextVar("native_exactness", default="equivalent")


@contextlib.contextmanager
def config_context(*, n_threads: int | None = None, exactness: str | None = None) -> Iterator[None]:
    """Settings of native estimators within a ``with`` block.

    Parameters
    ----------
    n_threads : int or None
        Threads that one call may use; None leaves it. Without any, all processors that this process may use.
        No result depends on it.
    exactness : {"identical", "equivalent", "approximate"} or None
        Whether results have the original's bits, may differ by rounding where that is faster (each estimator
        states the tolerance), or may come from another algorithm (with a stated bound); None leaves it. Without any, ``"equivalent"``.
    """
    if n_threads is not None and (not isinstance(n_threads, int) or n_threads < 1):
        raise ValueError(f"n_threads must be a positive int or None, got {n_threads!r}")
    if exactness is not None and exactness not in EXACTNESS:
        raise ValueError(f"exactness must be one of {EXACTNESS}, got {exactness!r}")
    threads = _threads.set(_threads.get() if n_threads is None else n_threads)
    exact = _exactness.set(_exactness.get() if exactness is None else exactness)
    try:
        yield
    finally:
        _threads.reset(threads)
        _exactness.reset(exact)


def threads() -> int:
    """Threads that a call may use."""
    return _threads.get() or len(os.sched_getaffinity(0))


def exactness() -> str:
    """The exactness that was asked for."""
    return _exactness.get()
