"""skrub's column-wise transformers, column by column: TableVectorizer, Cleaner, ApplyToCols.

What it is for
    Inside a node that fits or applies one of them, the columns that take long become nodes computed from within it:
    free threads take some, and candidates that do the same to the same column of the same rows have it done once.
    Everything around the columns stays skrub's: which ones are selected (by what the rows of the fold are like),
    names, order, the frame that is made of the results.

How
    skrub hands its columns to joblib's `Parallel` as a batch of calls of one function. In its module that name stands
    for a function that asks whether a node is running in this thread: everybody else gets joblib's. What
    is too small for a node (`_LIGHT`, `LEAST_ROWS`) is called as joblib would, in order.

    A result is kept for others where the rows of the node have further readers (`Exec.readers`), by what the column
    holds, what is done to it and the target; it goes with the last reader of the rows, or with the run. The fitted
    transformer of a column is then part of several candidates' results: a state that holds a borrowed one is copied
    before a user gets it (`Columns.borrowed`).

    When a column fails, the batch is done again by joblib in this thread: the error, its notes, its frames and the
    warnings before it are skrub's own.

What stays out
    Batches with code of users, with estimators that would draw from the global generator (their order counts), and
    those that a joblib backend of the user's own choice is to run.

Who may call it
    The operators (`Columns`) and `stratum._patch` (`install`); `stratum.engine` calls `forget` when a run has ended.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Iterable
from typing import Any

from .. import _core
from ..capture import encode
from ..scripts import fronts
from . import _skrub_0_11 as sk
from . import backends, estimators, said

__all__ = ["Columns", "column", "counts", "forget", "here", "install"]

# Rows below which a node costs more than it gains (making, taking and waiting for one: some 50 microseconds).
LEAST_ROWS = 5_000

# Steps of skrub's that look at a column and mostly leave it as it is: less than two milliseconds for 100,000 rows.
_LIGHT = frozenset(
    {
        "CleanCategories", "CleanNullStrings", "Drop", "DropUninformative", "DurationToFloat", "PassThrough", "ToDatetime",
        "ToFloat", "ToStr",
    }
)  # fmt: skip


class _Own(threading.local):
    taker: Columns | None = None  # what takes the batches of the node that runs in this thread


_own = _Own()


class Call:
    """One call of one of skrub's functions for a column."""

    __slots__ = ("args", "function", "held", "keeps", "kwargs", "result", "taken")

    def __init__(self, task: tuple, keeps: bool) -> None:
        self.function, self.args, self.kwargs = task
        self.keeps, self.taken = keeps, False
        self.held = _transformer(task)  # what a key knows by identity must live as long as the key
        self.result: Any = None


def column(x: Any, impl: Any, call: Call) -> Any:
    """Operator: a column of a batch; asks for no other node, so that whoever waits may take it."""
    result = call.result
    if result is None:
        before, _own.taker = _own.taker, None
        try:
            result = call.function(*call.args, **call.kwargs)
        finally:
            _own.taker = before
        if call.keeps:
            call.result = result
            call.args, call.kwargs = (), {}  # a column that nobody reads any more
    return result


# -- What is kept -----------------------------------------------------------------------------------


class _Table:
    """Nodes of columns, by the rows that they belong to."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # rows may be collected while the lock is held
        self._rows: dict[int, tuple[Any, dict[bytes, tuple[Any, Call]]]] = {}
        self.made = self.taken = 0

    def node(self, x: Any, rows: Any, key: bytes, task: tuple) -> tuple[Any, Call]:
        """The node for a key: the one that another reader of the rows has made, or a new one."""
        with self._lock:
            known = self._rows.get(id(rows))
            if known is None or known[0]() is not rows:
                number = id(rows)
                known = (weakref.ref(rows, lambda ref: self._gone(number, ref)), {})
                self._rows[number] = known
            found = known[1].get(key)
            if found is None:
                found = known[1][key] = _node(x, task, True)
                self.made += 1
            else:
                self.taken += 1
            return found

    def _gone(self, number: int, ref: Any) -> None:
        with self._lock:
            known = self._rows.get(number)
            if known is not None and known[0] is ref:
                del self._rows[number]

    def has(self, rows: Any) -> bool:
        """Whether something was made of rows."""
        known = self._rows.get(id(rows))
        return known is not None and known[0]() is rows

    def drop(self, rows: Any) -> None:
        """Nobody will read rows again."""
        with self._lock:
            if self.has(rows):
                del self._rows[id(rows)]

    def clear(self) -> None:
        with self._lock:
            self._rows.clear()

    def __len__(self) -> int:
        return len(self._rows)


_table = _Table()


def _begin() -> None:
    """In a process that was forked a lock may be held for ever."""
    global _table
    _table = _Table()
    _own.taker = None


os.register_at_fork(after_in_child=_begin)


def counts() -> tuple[int, int, int]:
    """How many columns were computed to be shared, how often one was taken, and tables of rows that have some now."""
    return _table.made, _table.taken, len(_table)


def forget() -> None:
    """A run has ended: nothing stays."""
    _table.clear()


# -- Batches ------------------------------------------------------------------------------------------


class Columns:
    """Takes over the batches of columns in the thread of a running node.

    A context around the call of an estimator there.

    Parameters
    ----------
    x : Exec
        The running node.
    estimator : object
        Where code of users is part of it, nothing is taken over: it stays in its thread, and in its order.
    rows : object
        The node's input, whose readers may want the same columns.
    like : Columns, optional
        Of the node that this one works for, in place of estimator and rows.

    Attributes
    ----------
    borrowed : bool
        Whether a fitted transformer is one that another node has got, too.
    """

    __slots__ = ("_before", "_keys", "_mine", "_shares", "_takes", "borrowed", "estimator", "rows", "x")

    def __init__(self, x: Any, estimator: Any, rows: Any, like: Columns | None = None) -> None:
        self.x, self.estimator, self.rows = x, estimator, rows
        self.borrowed = False
        self._takes: bool | None = None  # asked with the first batch: most nodes have none
        self._shares, self._mine = False, like is None
        if like is not None and like.takes():
            self.estimator, self.rows = like.estimator, like.rows
            self._takes, self._shares = like.takes(), like._shares
        self._keys: dict[int, tuple[Any, bytes | None]] = {}  # of what many calls of a batch have in common

    def __enter__(self) -> Columns:
        self._before, _own.taker = _own.taker, self
        return self

    def __exit__(self, *exc: object) -> None:
        _own.taker = self._before
        if self._mine and self._shares and self.x.readers(self.rows) <= 1:
            _table.drop(self.rows)
        self._keys = {}

    def takes(self) -> bool:
        """Whether columns of this node may be nodes of their own."""
        if self._takes is None:
            self._takes = estimators._is_library(self.estimator) and type(self.rows).__weakrefoffset__ != 0
            self._shares = self._takes and (self.x.readers(self.rows) > 1 or _table.has(self.rows))
        return self._takes

    def batch(self, parallel: Any, iterable: Iterable[tuple]) -> Any:
        """What `parallel(iterable)` returns."""
        tasks = list(iterable)
        results = self._results(parallel, tasks)
        return parallel(tasks) if results is None else results

    def _results(self, parallel: Any, tasks: list[tuple]) -> list | None:
        """Results in order; None: joblib is to do it."""
        if not all(task[0] is sk.fit_transform_column or task[0] is sk.transform_column for task in tasks):
            return None
        # (One transformer for all columns, or fitted clones of one: those that are not worth a node do nothing.)
        long = [i for i, task in enumerate(tasks) if _is_long(task)]
        if not long or not self._may(parallel, tasks, long):
            return None
        if len(long) < 2 and not self._shares:
            return None
        # The largest first: whoever waits for the others has begun it.
        nodes = {i: self._node(tasks[i]) for i in sorted(long, key=lambda i: -_size(tasks[i][1][0]))}
        refs = [nodes[i][0] for i in long]
        _own.taker = None  # (while this node waits, its thread may run others)
        try:
            found = self.x.nested(self.x.graph.node(_number("inner_calls"), (tuple(refs),)))
        except _core.EngineError:
            raise
        except Exception:
            return None  # joblib will fail alike
        finally:
            _own.taker = self
        said.also(refs, False)
        results = {}
        for i, result in zip(long, found, strict=True):
            call = nodes[i][1]
            self.borrowed |= call.taken and call.function is sk.fit_transform_column and result[-1] is not None
            call.taken = True
            results[i] = _handed_out(result)
        return [results[i] if i in results else task[0](*task[1], **task[2]) for i, task in enumerate(tasks)]

    def _may(self, parallel: Any, tasks: list[tuple], long: list[int]) -> bool:
        """Whether the columns of a batch may."""
        if not self.takes() or backends.elsewhere(parallel.n_jobs) is not None:
            return False
        fitted = {id(one): one for i in long if tasks[i][0] is sk.fit_transform_column for one in tasks[i][1][3:4]}
        return not any(estimators.flags(one) & _core.EST_UNSEEDED for one in fitted.values())

    def _node(self, task: tuple) -> tuple[Any, Call]:
        if self._shares:
            key = self._key(*task)
            if key is not None:
                return _table.node(self.x, self.rows, key, task)
        return _node(self.x, task, False)

    def _key(self, function: Any, args: tuple, kwargs: dict) -> bytes | None:
        """What a call's result depends on; None where it cannot be said, or the result is nobody else's."""
        if function is sk.transform_column:
            data, transformer, options = args
            parts = [b"transform", b"%d" % id(transformer), self._known(options)]
        else:
            data, y, _, transformer, allow_reject, options = args
            parts = [b"fit", self._known(y), self._known(transformer), b"%d" % allow_reject, self._known(options)]
        if kwargs or None in parts or _writes(transformer):
            return None
        encoded = encode.encode(data)
        if encoded is None:
            return None
        return _core.hash128(b"".join(b"%d:%s" % (len(part), part) for part in (*parts, encoded) if part is not None))

    def _known(self, value: Any) -> bytes | None:
        found = self._keys.get(id(value))
        if found is None or found[0] is not value:
            encoded = encode.encode(estimators.encodable(value))
            found = self._keys[id(value)] = value, None if encoded is None else _core.hash128(encoded)
        return found[1]


def _number(name: str) -> int:
    from .operators import NUMBER  # the registry, which names the functions of this module

    return NUMBER[name]


def _node(x: Any, task: tuple, keeps: bool) -> tuple[Any, Call]:
    call = Call(task, keeps)
    return x.graph.node(_number("column"), (_core.Leaf(call, False),)), call


def _transformer(task: tuple) -> Any:
    """What is done to the column of a call; None: nothing."""
    function, args, _ = task
    if function is sk.transform_column:
        return args[1]
    data, _, selected, transformer = args[:4]
    return transformer if sk.sbd.name(data) in selected else None


def _is_long(task: tuple) -> bool:
    """Whether a call is worth a node."""
    if len(task[1][0]) < LEAST_ROWS:
        return False
    transformer = _transformer(task)
    return transformer is not None and not (
        type(transformer).__name__ in _LIGHT and type(transformer).__module__.startswith("skrub.")
    )


def _writes(transformer: Any) -> bool:
    """Whether `transform` works in the fitted object: nobody shares that."""
    parts = (transformer, *transformer.get_params(deep=True).values())
    return any(type(part).__name__ in estimators._WORK_IN_STATE for part in parts)


def _size(data: Any) -> int:
    """Bytes of a column, as far as that says how long it takes."""
    size = getattr(data, "nbytes", None)
    return int(data.estimated_size() if size is None else size)


def _handed_out(result: Any) -> Any:
    """A result as one reader gets it: columns are renamed, which makes new ones, but a list is the reader's own."""
    if isinstance(result, tuple):
        name, columns, transformer = result
        return name, list(columns), transformer
    return list(result)


# -- The way in ---------------------------------------------------------------------------------------


def here() -> Columns | None:
    """What takes the batches of the node that runs in this thread, for nodes that work for it."""
    if _own.taker is not None:
        _own.taker.takes()
    return _own.taker


def _parallel(*args: Any, **kwargs: Any) -> Any:
    """In the place of joblib's `Parallel` in the module of skrub that has the batches."""
    parallel = sk.ColumnsParallel(*args, **kwargs)
    taker = _own.taker
    if taker is None:
        return parallel
    return _core.Front(functools.partial(taker.batch, parallel), "-" if fronts.shown() else fronts.HOME)


def install() -> None:
    """Let batches of columns be taken over; without a node in the thread nothing changes."""
    sk.columns_module.Parallel = _parallel
