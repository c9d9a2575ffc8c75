"""joblib: where the user wants work to run, and with how many threads.

What it is for
    The engine's threads take the place of joblib's workers: `n_jobs` caps them and starts no process.  A
    backend that is neither threads nor loky (Dask, Ray, one of the user's own) was chosen for where it runs:
    `elsewhere` names it, and the search is left to it.

Who may call it
    `stratum.hosts.searches` and `stratum._patch`.
"""

from __future__ import annotations

import threading
from typing import Any

import joblib.parallel as _parallel

_outer = threading.local()  # n_jobs of a cross-validation of searches, around its inner searches

# The backends that the engine's threads stand in for; a class derived from one is somebody's own.
_NAMES = ("threading", "sequential", "loky")
_OURS = tuple(_parallel.BACKENDS[name] for name in _NAMES if name in _parallel.BACKENDS)


def n_jobs_of(n_jobs: Any) -> Any:
    """The number of jobs that holds: the given one, else joblib's configured one; None: no limit."""
    if n_jobs is None:
        n_jobs = getattr(_outer, "n_jobs", None)
    if n_jobs is None:
        n_jobs = _parallel.get_active_backend()[1]
    return n_jobs


def elsewhere(n_jobs: Any) -> str | None:
    """Name of the joblib backend that a search is to run on, if that is not for the engine to replace."""
    if n_jobs == 1:
        return None  # joblib stays in this thread whatever the backend
    backend = _parallel.get_active_backend()[0]
    return None if type(backend) in _OURS else type(backend).__name__


class around:
    """Context in which `n_jobs` holds for searches that say nothing of their own."""

    def __init__(self, n_jobs: Any) -> None:
        self.n_jobs = n_jobs

    def __enter__(self) -> None:
        self._before = getattr(_outer, "n_jobs", None)
        if self.n_jobs is not None:
            _outer.n_jobs = self.n_jobs

    def __exit__(self, *exc: object) -> None:
        _outer.n_jobs = self._before
