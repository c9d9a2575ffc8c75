"""The engine of a process: its graph, its runs, its threads.

What it is for
    `execute` takes items (searches, cross-validations, evaluations), lowers them into one graph, runs it on
    threads and yields each item's outcome as it ends. The graph outlives a run: previews that are bound to
    nodes serve later searches.

Threads
    A run belongs to the thread that calls `execute`; a second one that starts meanwhile (another thread, a
    user's function that fits a search itself) gets an engine of its own, without sharing, rather than wait.
    After a fork the child starts with an empty engine.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import os
import threading
import time
import warnings
import weakref
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any


from . import _config, _core, _progress, scripts
from .capture import encode as _encode
from .capture import previews
from .hosts import _skrub_0_11 as sk
from .hosts import boosting, columns, estimators, kernels, operators, parallels, said, searches, threads
from .reuse import session

POLL_MS = 50  # how often the calling thread looks for signals
GRACE_MS = 600  # how long a cancelled run waits for what cannot be stopped


@dataclass
class RunStats:
    """What the last run of a thread did.

    Attributes
    ----------
    nodes_before : int
        Nodes that the pipelines ask for, each candidate, fold and search counted for itself.
    nodes_after : int
        Nodes that are left when equal work is one node.
    nodes_run : int
        Nodes that were executed.
    fused : int
        Fits of a candidate on a fold that were made together with those of others, without nodes of their own.
    reused : int
        Nodes whose value was there already (previews).
    recalled : int
        Nodes whose value was kept from an earlier run or process, and loaded.
    saved_seconds : float
        What those would have taken to compute, in seconds, without the time of loading them.
    fallbacks : list of (str, str)
        What skrub's own evaluator did, and why.
    seconds : float
        Wall time, in seconds.
    node_seconds : float
        Time inside nodes, summed over threads, in seconds.
    abandoned : list of str
        Nodes that were still running when the run was cancelled.
    profile : list of (str, str, float)
        Operator, description and seconds of every node that ran.
    """

    nodes_before: int = 0
    nodes_after: int = 0
    nodes_run: int = 0
    fused: int = 0
    reused: int = 0
    recalled: int = 0
    saved_seconds: float = 0.0
    recomputed: int = 0
    fallbacks: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    node_seconds: float = 0.0
    abandoned: list[str] = field(default_factory=list)
    profile: list[tuple[str, str, float]] = field(default_factory=list, repr=False)


_last = threading.local()


def last_run() -> RunStats:
    """Statistics of the last run in this thread (all zero before the first).

    Returns
    -------
    RunStats
    """
    return getattr(_last, "stats", None) or RunStats()


def fell_back(what: str, why: str) -> None:
    """Count what is left to skrub without a run."""
    _last.stats = RunStats(fallbacks=[(what, why)])


@dataclass
class Outcome:
    """An item's result or exception."""

    value: Any = None
    error: BaseException | None = None


class Engine:
    """A graph with its operators, and at most one run at a time."""

    def __init__(self) -> None:
        self.said = said.Said()
        self.graph = operators.new_graph(self.said)
        self.reuse = session.Session(self.graph)
        self.busy = threading.Lock()
        self.lowering = threading.RLock()  # plans and scopes belong to one thread at a time
        self.run: Any = None
        self._handed: set[int] = set()
        self.fused = self.spared = 0  # pairs without nodes of their own, and nodes that they would have asked for

    def number(self, name: str) -> int:
        """The number of an operator."""
        return operators.NUMBER[name]

    def node(self, name: str, args: tuple, flags: int = 0, origin: Any = None) -> Any:
        """The node `name(*args)`."""
        return self.graph.node(operators.NUMBER[name], args, flags, origin)

    def new_plan(self, origin_of: Any = None) -> Any:
        """An empty plan; `origin_of` says what its nodes keep of the DataOps that they come from."""
        if origin_of is None:
            return _core.Plan(self.graph, operators.LOWERING)
        return _core.Plan(self.graph, operators.LOWERING, origin_of)

    def hand_out(self, state: Any) -> Any:
        """A fitted state that goes to a user: the second one that gets it gets a copy.

        Two results that hold one fitted estimator would change together.
        """
        if not isinstance(state, operators.State):
            return state
        if id(state) in self._handed or state.borrowed or self._is_bound(state) or self.reuse.holds(state):
            try:
                own = operators.protect(state.estimator)
            except operators.CannotShare:
                return state
            return operators.State(own, state.was_wrapped, state.y_type, state.y_names)
        self._handed.add(id(state))
        return state

    def count_fused(self, pairs: int, nodes_each: int) -> None:
        """Count pairs of candidate and fold that were served without nodes of their own."""
        self.fused += pairs
        self.spared += pairs * nodes_each

    def _is_bound(self, state: Any) -> bool:
        return id(state) in _bound_states


# States that previews keep: what a user gets from a search must not be the same object.
_bound_states: set[int] = set()


def bound_state(state: Any, owner: Any) -> None:
    """Note that `state` belongs to a preview, for as long as `owner` lives."""
    _bound_states.add(id(state))
    weakref.finalize(owner, _bound_states.discard, id(state)).atexit = False


_engine: Engine | None = None
_engine_lock = threading.Lock()


def get_engine() -> Engine:
    """The engine of this process."""
    global _engine
    with _engine_lock:
        if _engine is None:
            _engine = Engine()
        return _engine


def _after_fork() -> None:
    """A child starts empty: the parent's threads are not there, its locks may be held."""
    global _engine, _engine_lock
    _engine = None
    _engine_lock = threading.Lock()
    _last.__dict__.clear()


os.register_at_fork(after_in_child=_after_fork)


def _encode_hook(obj: Any) -> bytes | None:
    return _encode.encode(estimators.encodable(obj), sk.memo)


_core.configure(
    encode=_encode_hook,
    describe=operators.describe,
    spec=sk.spec,
    choice=sk.choice,
    estimator=sk.estimator,
    build=estimators.build,
    flags=estimators.flags,
    seed=estimators.seed,
    match=sk.match,
    protect=operators.protect,
    before=threads.before,
    data_op=sk.DataOp,
    choice_type=sk.BaseChoice,
    match_type=sk.ChoiceMatch,
    estimator_type=sk.BaseEstimator,
)


# -- Runs -----------------------------------------------------------------------------------------


def _threads_for(items: list[searches.Item]) -> int:
    """Workers of a run: the configured number, at most what the items' n_jobs allow."""
    most = _config.option("n_threads") or threads.cores()
    caps = [_cap(item.n_jobs) for item in items]
    return max(1, min(most, max(caps, default=most)))


def _cap(n_jobs: Any) -> int:
    """`n_jobs` as a number of threads; None does not limit, as the engine shares instead of copying."""
    if not isinstance(n_jobs, int):  # what is no number is refused where parameters are checked
        return threads.cores()
    if n_jobs < 0:
        return max(1, threads.cores() + 1 + n_jobs)
    return max(1, n_jobs)


class _Workers:
    """The threads of one run, each with the caller's settings and context."""

    def __init__(self, run: Any, count: int) -> None:
        settings = _config.snapshot()
        self.threads = []
        for i in range(count):
            context = contextvars.copy_context()
            thread = threading.Thread(
                target=context.run, args=(self._work, run, settings), name=f"stratum-{i}", daemon=True
            )
            self.threads.append(thread)
        for thread in self.threads:
            thread.start()

    @staticmethod
    def _work(run: Any, settings: Any) -> None:
        _config.apply(settings)
        # (KeyboardInterrupt from `interrupt`, too late for the node that it was meant for.)
        with contextlib.suppress(KeyboardInterrupt), kernels.on():
            run.worker(threading.current_thread())

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the Python code that workers are in."""
        for thread in self.threads:
            if thread.is_alive() and thread.ident is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt)
                )

    def join(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))


def execute(items: list[searches.Item]) -> Iterator[tuple[int, Outcome]]:
    """Run items, fused into one graph; yields (index, outcome) as they end."""
    engine = get_engine()
    if not engine.busy.acquire(blocking=False):
        engine = Engine()
        engine.busy.acquire()
    stats = _last.stats = RunStats()
    try:
        while items:
            items = yield from _execute(engine, items, stats)
    finally:
        engine.busy.release()


def _execute(
    engine: Engine, items: list[searches.Item], stats: RunStats
) -> Generator[tuple[int, Outcome], None, list[searches.Item]]:
    """Run items up to the first one that advances a generator of the user's; returns those after it.

    What comes after such an item must find the generator where plain skrub would have left it,
    what comes before must not: so it ends a round.
    """
    start = time.perf_counter() - stats.seconds
    before = engine.graph.stats()
    filters = list(warnings.filters)
    together = scripts.connected()
    if together is not None:
        together.begin()
    plain: list[searches.Item] = []
    run = workers = limits = None
    kept_before = session.Counts()
    live: list[searches.Item] = []
    previews.forget_recent()
    engine._handed.clear()
    engine.graph.forget()  # what was encoded before this run may have been changed in place
    engine.said.begin()
    failed_early: list[tuple[int, Outcome]] = []
    try:
        roots = []
        after: list[searches.Item] = []
        for k, item in enumerate(items):
            try:
                with engine.lowering:
                    root = item.prepare(engine)
                if isinstance(item, searches.SearchItem):
                    previews.trim(item.owner)
            except (sk.Unsupported, _core.EngineError, RecursionError) as why:
                _fall_back(stats, item, why)
                plain.append(item)
                if isinstance(why, sk.AdvancesGenerator):
                    after = items[k + 1 :]
                    break
            except Exception as error:
                failed_early.append((item.index, Outcome(error=error)))
            else:
                roots.append(root)
                live.append(item)
        yield from failed_early
        if live:
            recall = engine.reuse.begin()
            kept_before = engine.reuse.counts()
            run = engine.run = _core.Run(engine.graph, _threads_for(live), recall)
            run.demand(roots, root=True)
            limits = threads.begin()
            workers = _Workers(run, _threads_for(live))
        while live and (i := run.next(POLL_MS)) >= 0:
            item, result = live[i], run.root(i)
            if not result[0] and isinstance(result[1], _NOT_OURS):
                _fall_back(stats, item, result[1])
                plain.append(item)
            elif result[0]:
                _done(item)
                yield item.index, Outcome(value=result[1])
            else:
                error = item.annotate(result[1], result[2])
                _done(item)
                yield item.index, Outcome(error=error)
        if run is not None:
            _finish_stats(engine, run, stats, before)
    except BaseException as error:
        if run is not None and not isinstance(error, GeneratorExit):
            _abandon(run, workers, stats)
        raise
    finally:
        for item in live:
            _done(item)
        if run is not None:
            run.close()
            engine.run = None
        if workers is not None and not stats.abandoned:
            workers.join(5.0)
        if limits is not None:
            limits.restore()
        boosting.forget()
        columns.forget()
        engine.reuse.end()
        made_of_it = engine.reuse.counts() - kept_before
        stats.saved_seconds += made_of_it.saved
        engine.said.end()
        warnings.filters[:] = filters
        warnings._filters_mutated_lock_held() if hasattr(warnings, "_filters_mutated_lock_held") else _mutated()
        engine.graph.forget()
        sk.forget()
        stats.seconds = time.perf_counter() - start
    _say_reuse(stats, made_of_it, engine.reuse.place())
    engine.reuse.check()
    # skrub's own evaluator, once the engine is free again: inner searches may use it
    for item in plain:
        try:
            with parallels.parallel_to(parallels.nobody):
                value = item.plain()
        except Exception as error:
            yield item.index, Outcome(error=error)
        else:
            yield item.index, Outcome(value=value)
    stats.seconds = time.perf_counter() - start
    return after


def _done(item: searches.Item) -> None:
    """Forget what was kept for an item while it ran."""
    item.done()
    if isinstance(item, searches.SearchItem):
        previews.release(item.owner)


_NOT_OURS = (sk.Unsupported, operators.CannotShare, searches.NeedsModel)


def _mutated() -> None:
    """Tell the warnings module that its filters were written to."""
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _fall_back(stats: RunStats, item: searches.Item, why: BaseException) -> None:
    stats.fallbacks.append((item.what, str(why)))
    _done(item)


def _finish_stats(engine: Engine, run: Any, stats: RunStats, before: dict) -> None:
    after = engine.graph.stats()
    counts = run.stats()
    stats.nodes_before += after["asked"] - before["asked"] + engine.spared
    stats.fused += engine.fused
    engine.fused = engine.spared = 0
    stats.nodes_after += counts["tasks"]
    stats.nodes_run += counts["executed"]
    stats.reused += counts["reused"]
    stats.recalled += counts["recalled"]
    stats.recomputed += counts["recomputed"]
    stats.node_seconds += counts["seconds"]
    stats.profile += [(ref.op, _origin_text(ref), seconds) for ref, seconds, _ in run.profile()]


def _say_reuse(stats: RunStats, made: session.Counts, place: str | None) -> None:
    """One line about what was reused and kept, where a line of progress would be shown too."""
    if stats.seconds + stats.saved_seconds < _progress.DELAY_S or not (stats.recalled or made.written):
        return
    asked = stats.recalled + stats.nodes_run
    text = f"reused {stats.recalled} of {asked} nodes ({stats.recalled / max(asked, 1):.0%}), {made.saved:.1f} s saved"
    text += f"; {made.memory / 2**20:.0f} MiB kept in memory"
    if place is not None:
        text += f", {made.written / 2**20:.0f} MiB written to {place}"
    _progress.say(text, _config.option("progress"))


def _origin_text(ref: Any) -> str:
    origin = ref.origin
    return repr(origin) if origin is not None else ""


def _abandon(run: Any, workers: _Workers | None, stats: RunStats) -> None:
    """A run was interrupted: stop what can be stopped, leave what cannot."""
    run.cancel()
    if workers is not None:
        workers.interrupt()
    for ref, _thread in run.settle(GRACE_MS):
        stats.abandoned.append(f"{ref.op} {_origin_text(ref)}".strip())
    if stats.abandoned:
        warnings.warn(
            "The run was interrupted, but these steps cannot be stopped and were abandoned: "
            + "; ".join(stats.abandoned),
            RuntimeWarning,
            stacklevel=2,
        )




def execute_one(item: searches.Item) -> Any:
    """Run one item: its value, or its exception raised."""
    outcome = Outcome()
    for _, outcome in execute([item]):
        pass
    if outcome.error is not None:
        raise outcome.error
    return outcome.value
