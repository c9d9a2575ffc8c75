"""Thread counts of the libraries, and the settings that each worker carries.

OpenBLAS has one limit for the whole process: it is 1 while more than one node may run and is raised for a
node that runs alone.  OpenMP has one per thread and per loaded runtime (XGBoost, LightGBM and scikit-learn
bring their own): each worker sets it in every runtime, and looks again after imports.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from threadpoolctl import ThreadpoolController

_state = threading.local()


class Limits:
    """Thread limits during one run; `restore` puts back what was found."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._modules = -1
        self._blas: list[Any] = []
        self._openmp: list[Any] = []
        self._found: list[tuple[Any, int]] = []
        self._most: dict[str, int] = {}  # what the user allows each library (OMP_NUM_THREADS and the like)
        self._current = 0
        self._look()

    def _look(self) -> None:
        """Find the libraries that are loaded now; only after something was imported."""
        modules = len(sys.modules)
        if modules == self._modules:
            return
        self._modules = modules
        libraries = ThreadpoolController().lib_controllers
        known = {lib.filepath for lib, _ in self._found}
        self._blas = [lib for lib in libraries if lib.user_api == "blas"]
        self._openmp = [lib for lib in libraries if lib.user_api == "openmp"]
        for lib in libraries:
            self._most.setdefault(lib.filepath, lib.get_num_threads() or 1)
        for lib in self._blas:
            if lib.filepath not in known:
                self._found.append((lib, self._most[lib.filepath]))
                lib.set_num_threads(min(self._most[lib.filepath], max(1, self._current)))

    def before(self, threads: int) -> None:
        """Called on a worker before a node runs that may use `threads` threads."""
        if len(sys.modules) != self._modules:
            with self._lock:
                self._look()
            _state.limit = None
        limit = (id(self), threads)
        if getattr(_state, "limit", None) != limit:
            for lib in self._openmp:
                lib.set_num_threads(min(threads, self._most[lib.filepath]))
            _state.limit = limit
        if threads != self._current:
            with self._lock:
                if threads != self._current:
                    self._current = threads
                    for lib in self._blas:
                        lib.set_num_threads(min(threads, self._most[lib.filepath]))

    def restore(self) -> None:
        """Put the process-wide limits back."""
        with self._lock:
            for lib, count in self._found:
                lib.set_num_threads(count)
            self._current = 0


_limits: Limits | None = None


def begin() -> Limits:
    """Limits for a run that starts now."""
    global _limits
    _limits = Limits()
    return _limits


def before(threads: int) -> None:
    """The extension's hook: a node is about to run on a worker."""
    limits = _limits
    if limits is not None:
        limits.before(threads)


class LightGBMThreads:
    """LightGBM on `threads` threads where the user left the number open.

    Without `n_jobs` it takes all physical cores whatever OpenMP's setting is: two fits side by side then
    spin against each other (measured: 3.0 s with one thread each, 19 s with two beside other load). The
    trees do not depend on the number; the parameter is put back.
    """

    def __init__(self, estimator: Any, threads: int) -> None:
        ours = type(estimator).__module__.startswith("lightgbm") and getattr(estimator, "n_jobs", 0) is None
        self._estimator, self._threads = estimator if ours else None, threads

    def __enter__(self) -> None:
        if self._estimator is not None:
            self._estimator.n_jobs = self._threads

    def __exit__(self, *exc: object) -> None:
        if self._estimator is not None:
            self._estimator.n_jobs = None


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0)) or 1
    except AttributeError:  # not every system has affinities
        return os.cpu_count() or 1
