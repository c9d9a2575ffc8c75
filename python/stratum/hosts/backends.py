"""joblib: where the user wants work to run, and with how many threads.

What it is for
    The engine's threads take the place of joblib's workers: `n_jobs` caps them and starts no process.  A
    backend that is neither threads nor loky (Dask, Ray, one of the user's own) was chosen for where it runs:
    `elsewhere` names it, and the search is left to it.

What is left to scikit-learn
    Where the engine leaves a search to scikit-learn, loky would start processes.  `on_threads` says by what its
    fits run instead; `hosts/parallels.py` asks it for every batch of a search's fits that nobody took.  Only such
    a batch: what an estimator does with its own `n_jobs`, inside a fit or in the refit, stays as it was.

Who may call it
    `stratum.hosts.searches`, `stratum.hosts.parallels` and `stratum._patch`.
"""

from __future__ import annotations

import threading
from typing import Any

import joblib.parallel as _parallel

_outer = threading.local()  # n_jobs of a cross-validation of searches, around its inner searches

# The backends that the engine's threads stand in for; a class derived from one is somebody's own.
_NAMES = ("threading", "sequential", "loky")
_OURS = tuple(_parallel.BACKENDS[name] for name in _NAMES if name in _parallel.BACKENDS)
_LOKY = _parallel.BACKENDS.get("loky")


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


def on_threads(parallel: Any) -> Any:
    """What runs a batch of fits that was to go to loky's processes: threads, as many; else `parallel` itself.

    joblib gives what runs inside either the same backend, threads below threads and nothing below those, so that
    an estimator's own `n_jobs` means inside a fit what it meant in a process.
    """
    if parallel.n_jobs in (0, 1) or type(parallel._backend) is not _LOKY:
        return parallel
    return type(parallel)(
        n_jobs=parallel.n_jobs, backend="threading", return_as=parallel.return_as, verbose=parallel.verbose,
        timeout=parallel.timeout, pre_dispatch=parallel.pre_dispatch, batch_size=parallel.batch_size,
    )  # fmt: skip


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
