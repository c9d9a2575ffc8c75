"""How the fits of scikit-learn's searches come to the engine, and when it is worth loading.

What it is for
    `by_engine` is entered around each search and function of `stratum.sklearn`: in it, batches of fits are
    the engine's.

The engine comes late
    It brings skrub, pandas and Polars with it: about a second of imports, more than many a small script
    takes.  Under ``python -m stratum run`` and ``STRATUM=1`` a script that has none of them yet runs its
    first fits as scikit-learn does, one by one, and the engine is loaded when they have taken `PATIENCE`
    seconds together; it then takes the fits that are left.  Where much data is handed over, several scripts
    share their work, or a fit prints, it is loaded at once.

Who may call it
    `stratum.sklearn` alone.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import stratum

from ..hosts import backends, parallels

#: Seconds of fits that a process makes by scikit-learn itself before the engine is loaded.
PATIENCE = 0.4
#: Bytes of data from which on the engine is loaded without waiting.
MUCH = 4_000_000

_spent = 0.0
_installed = False

parallels.install()


@contextlib.contextmanager
def by_engine(what: str, n_jobs: Any) -> Iterator[None]:
    """In this thread, the fits of scikit-learn's searches are the engine's while it is switched on."""
    if stratum._loaded:
        engine = _engine()
        if engine is None or engine.in_node():
            yield  # inside a node its own handler takes the fits
            return
    with parallels.parallel_to(_Handler(what, n_jobs)):
        yield


class _Handler:
    """Takes the batches of one search."""

    def __init__(self, what: str, n_jobs: Any) -> None:
        self.what, self.n_jobs = what, n_jobs

    def __call__(self, parallel: Any, tasks: list[tuple]) -> Any:
        done = [] if stratum._loaded else self._first(parallel, tasks)
        if len(done) == len(tasks):
            return done
        left = tasks[len(done) :]
        result = self._rest(parallel, left)
        if not done:
            return result
        if result is NotImplemented:
            result = parallels.call_parallel(parallel, left)
        return [*done, *result]

    def _first(self, parallel: Any, tasks: list[tuple]) -> list:
        """Results of the first tasks, by scikit-learn, as long as patience lasts."""
        global _spent
        done: list = []
        if not self._may_wait(parallel, tasks):
            return done
        one = type(parallel)(n_jobs=1)
        start = time.perf_counter()
        try:
            for task in tasks:
                if _spent + time.perf_counter() - start > PATIENCE:
                    break
                done += parallels.call_parallel(one, [task])
        finally:
            _spent += time.perf_counter() - start
        return done

    def _may_wait(self, parallel: Any, tasks: list[tuple]) -> bool:
        hook = sys.modules.get("_stratum_hook")
        if hook is None or hook.exchange is not None or parallel.verbose or backends.elsewhere(self.n_jobs):
            return False
        if self.n_jobs == 0 or any(task[2].get("verbose") for task in tasks):
            return False
        arguments = [*tasks[0][1], *tasks[0][2].values()]
        return sum(_bytes(value) for value in arguments) < MUCH

    def _rest(self, parallel: Any, tasks: list[tuple]) -> Any:
        stratum._load()
        engine = _engine()
        if engine is None:  # switched off: scikit-learn as it is
            return parallels.call_parallel(parallel, tasks, processes=True)
        from .. import _api

        return engine.handler(self.what, self.n_jobs, _api.run_one)(parallel, tasks)


def _engine() -> Any:
    """The engine's side of searches; None where it is switched off or has refused this skrub."""
    global _installed
    if stratum._refusal is not None:
        return None
    from .. import _patch
    from ..hosts import _sklearn, pipelines

    if not _installed:
        _sklearn.install()
        _installed = True
    return pipelines if _patch.active() else None


def _bytes(value: Any) -> int:
    """Roughly what data takes; 0 for what is no data."""
    if isinstance(value, (list, tuple)):
        return 64 * len(value)
    size = getattr(value, "nbytes", None)
    if isinstance(size, int):
        return size
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and all(isinstance(n, int) for n in shape):
        cells = 1
        for n in shape:
            cells *= n
        return 16 * cells
    return 0
