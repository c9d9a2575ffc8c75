"""Single evaluations: learners' methods, `.skb.eval`, previews, reports, X and y of splits.

What it is for
    `evaluate` takes the place of the function of skrub through which everything is evaluated that is no
    search and no cross-validation.  One evaluation has nothing to share with another one, and most are
    small (a row to predict): starting threads and lowering a graph would cost more than the work.  So they
    run here, on the calling thread, in skrub's order: one pass over the nodes that are needed, each
    computed by its own code.  What costs time in skrub is left out: it walks the whole graph five times
    around each evaluation (measured, 9 nodes, one row: 5.2 ms, of which 1 ms is inside nodes).

    A fit on many rows goes to the engine's graph instead (`stratum.hosts.fitting`).

Who may call it
    `stratum._patch` puts `evaluate` in place and tells `stratum.capture.building` of `LOOP_CODE`.

What is the same as in skrub
    Order of evaluation, the values and fitted state left on nodes, `results`, `errors` and `metadata` where
    skrub leaves them, callbacks, notes on errors, and memory: a value goes with its last reader.  Where skrub
    would empty the nodes again at the end, values are not put on them in the first place; a learner may
    therefore predict in several threads at once.
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Generator, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from .. import _config
from . import _skrub_0_11 as sk
from . import estimators, kernels, tracebacks

# Up to so many cells an environment is small: what is computed from it needs no thought about memory.
SMALL_CELLS = 30_000

_WAIT: Any = object()  # not there yet: a frame has to be opened

_Apply = sk.nodes_module.Apply
_Var = sk.nodes_module.Var
_HasApplyAbove = sk.evaluation.HasRunningApplyAncestor
_handlers = sk.evaluation._DataOpTraversal

# Types of which every object stands for itself: neither a DataOp, nor a choice, nor an estimator, nor a
# container that an evaluation looks into.
_PLAIN = frozenset({
    str, bytes, int, float, complex, bool, type(None), type, types.FunctionType,
    types.BuiltinFunctionType, types.MethodType, types.ModuleType, np.ndarray, np.dtype, range,
    pd.DataFrame, pd.Series, pd.Index, np.float64, np.float32, np.int64, np.int32, np.bool_,
})  # fmt: skip

_SEQUENCES = (list, tuple, set, frozenset)


class _Frame:
    """One thing whose evaluation waits for others."""

    __slots__ = ("data_op", "key", "run", "seconds")

    def __init__(self, key: int, run: Generator[Any, Any, Any], data_op: Any = None) -> None:
        self.key, self.run, self.data_op = key, run, data_op
        self.seconds = 0.0


class _Evaluation:
    """One evaluation of a DataOp (or of containers of them) in a mode, with an environment."""

    def __init__(
        self, mode: str, environment: Any, on_nodes: bool, callbacks: Iterable[Callable[..., Any]] = (),
    ) -> None:  # fmt: skip
        self.mode = mode
        self.environment = {} if environment is None else environment
        self.on_nodes = on_nodes  # whether values go to `results` of the nodes
        self.callbacks = tuple(callbacks)
        self.values: dict[int, Any] = {}  # by the node's id, where they do not
        self.readers: dict[int, int] = {}  # how many nodes have yet to read a value
        self.reads: dict[int, list[int]] = {}
        self._applies = 0  # frames of applies
        self._has_xy = sk.X_NAME in self.environment or sk.Y_NAME in self.environment

    def free_early(self, data_op: Any) -> None:
        """Let go of each value with its last reader, by the count of readers in the graph."""
        graph = sk.evaluation.graph(data_op)
        key = {i: id(node._skrub_impl) for i, node in graph["nodes"].items()}
        self.readers = {key[i]: len(parents) for i, parents in graph["parents"].items()}
        self.reads = {key[i]: [key[c] for c in children] for i, children in graph["children"].items()}

    # -- the loop

    def run(self, root: Any) -> Any:
        """The value of `root`."""
        value = self._now(root)
        if value is not _WAIT:
            return value
        running: set[int] = set()
        stack = [self._open(root, running)]
        clock = time.monotonic
        value = None
        while True:
            frame = stack[-1]
            start = clock()
            try:
                asked = frame.run.send(value)
            except StopIteration as end:
                frame.seconds += clock() - start
                value = end.value
                stack.pop()
                running.discard(frame.key)
                if frame.data_op is not None:
                    if isinstance(frame.data_op._skrub_impl, _Apply):
                        self._applies -= 1
                    impl = frame.data_op._skrub_impl
                    key = impl.name if isinstance(impl, _Var) and impl.name in self.environment else None
                    self._store(frame.data_op, value, frame.seconds, key)
                if not stack:
                    return value
                continue
            except Exception as error:
                if frame.data_op is not None:
                    self._failed(frame.data_op, error)
                raise
            frame.seconds += clock() - start
            if type(asked) is _HasApplyAbove:
                here = frame.data_op is not None and isinstance(frame.data_op._skrub_impl, _Apply)
                value = self._applies > here
                continue
            value = self._now(asked)
            if value is _WAIT:
                stack.append(self._open(asked, running))
                value = None

    def _open(self, asked: Any, running: set[int]) -> _Frame:
        """The frame that evaluates something that is not there yet."""
        key = id(asked)
        if key in running:
            raise sk.evaluation.CircularReferenceError(
                "Skrub DataOps cannot contain circular references. "
                f"A cycle was found in this object: {asked}"
            )
        running.add(key)
        if isinstance(asked, sk.DataOp):
            impl = asked._skrub_impl
            if isinstance(impl, _Apply):
                self._applies += 1
            if hasattr(impl, "eval"):
                steps = impl.eval(mode=self.mode, environment=self.environment)
                if isinstance(impl, _Apply) and estimators._is_library(impl.estimator):
                    steps = kernels.within(steps)
            else:
                steps = self._fields(impl)
            return _Frame(key, steps, asked)
        kind = type(asked)
        if kind is dict:
            steps = _handlers.handle_mapping(self, asked)
        elif kind in _SEQUENCES:
            steps = _handlers.handle_seq(self, asked)
        elif kind is slice:
            steps = _handlers.handle_slice(self, asked)
        elif isinstance(asked, sk.BaseChoice):
            steps = self._choice(asked)
        elif isinstance(asked, sk.ChoiceMatch):
            steps = self._choice_match(asked)
        else:
            steps = _handlers.handle_estimator(self, asked)
        return _Frame(key, steps)

    def _now(self, obj: Any, depth: int = 0) -> Any:
        """The value of something that needs no frame, else `_WAIT`."""
        kind = type(obj)
        if kind in _PLAIN:
            return obj
        if isinstance(obj, sk.DataOp):
            return self._known(obj) if depth else self._node_now(obj)
        if kind is dict:
            if depth > 20:
                return _WAIT
            out = {}
            for name, item in obj.items():
                out[name] = found = self._now(item, depth + 1)
                if found is _WAIT:
                    return _WAIT
            return out
        if kind in _SEQUENCES:
            if depth > 20:
                return _WAIT
            items = []
            for item in obj:
                found = self._now(item, depth + 1)
                if found is _WAIT:
                    return _WAIT
                items.append(found)
            return kind(items)
        if kind is slice or isinstance(obj, (sk.BaseChoice, sk.ChoiceMatch, BaseEstimator)):
            return _WAIT
        return obj

    def _known(self, data_op: Any) -> Any:
        impl = data_op._skrub_impl
        if self.on_nodes:
            return impl.results.get(self.mode, _WAIT)
        return self.values.get(id(impl), _WAIT)

    def _node_now(self, data_op: Any) -> Any:
        """The value of a node if it is known, given from outside, or all that it reads is there."""
        value = self._known(data_op)
        if value is not _WAIT:
            return value
        impl = data_op._skrub_impl
        environment = self.environment
        if self._has_xy and impl.is_X and sk.X_NAME in environment:
            key = sk.X_NAME
        elif self._has_xy and impl.is_y and sk.Y_NAME in environment:
            key = sk.Y_NAME
        elif impl.uuid in environment:
            key = impl.uuid
        elif impl.name is not None and impl.name in environment and not isinstance(impl, _Var):
            key = impl.name
        else:
            return self._compute_now(data_op, impl)
        value = environment[key]
        self._store(data_op, value, 0.0, key)
        return value

    def _compute_now(self, data_op: Any, impl: Any) -> Any:
        if hasattr(impl, "eval"):
            return _WAIT
        start = time.monotonic()
        fields = {}
        for name in impl._fields:
            value = getattr(impl, name)
            if type(value) not in _PLAIN:
                value = self._now(value, 1)
                if value is _WAIT:
                    return _WAIT
            fields[name] = value
        try:
            value = impl.compute(SimpleNamespace(**fields), mode=self.mode, environment=self.environment)
        except Exception as error:
            if isinstance(error, StopIteration):  # what it becomes in a generator, where skrub computes
                error, cause = RuntimeError("generator raised StopIteration"), error
                error.__cause__ = cause
            self._failed(data_op, error)
            raise error
        key = impl.name if type(impl) is _Var and impl.name in self.environment else None
        self._store(data_op, value, time.monotonic() - start, key)
        return value

    # -- what frames run

    def _fields(self, impl: Any) -> Generator[Any, Any, Any]:
        """A node that needs all of its fields."""
        fields = {}
        for name in impl._fields:
            value = getattr(impl, name)
            fields[name] = value if type(value) in _PLAIN else (yield value)
        return impl.compute(SimpleNamespace(**fields), mode=self.mode, environment=self.environment)

    def _choice(self, choice: Any) -> Generator[Any, Any, Any]:
        if choice.name is not None and choice.name in self.environment:
            return self.environment[choice.name]
        if self.mode == "preview":
            return (yield sk.choosing.get_default(choice))
        return (yield choice.chosen_outcome_or_default())

    def _choice_match(self, match: Any) -> Generator[Any, Any, Any]:
        outcome = yield match.choice
        return (yield match.outcome_mapping[outcome])

    # -- what is left behind

    def _store(self, data_op: Any, value: Any, seconds: float, key: Any) -> None:
        impl = data_op._skrub_impl
        if self.on_nodes:
            impl.results[self.mode] = value
            metadata = impl.metadata.setdefault(self.mode, {})
            metadata["eval_duration"] = seconds
            metadata["env_key"] = key
            for call in self.callbacks:
                call(data_op, value, duration=seconds, env_key=key)
            return
        self.values[id(impl)] = value
        readers = self.readers
        for read in self.reads.get(id(impl), ()):
            readers[read] -= 1
            if not readers[read]:
                self.values.pop(read, None)

    def _failed(self, data_op: Any, error: Exception) -> None:
        impl = data_op._skrub_impl
        if self.on_nodes:
            impl.errors[self.mode] = error
        if self.mode != "preview":
            error.add_note(
                f"Evaluation of node {impl} failed. See above for full"
                f" traceback. This node was defined here:\n{impl.creation_stack_last_line()}"
            )


# By which an error's traceback shows that it passed through an evaluation.
LOOP_CODE = _Evaluation.run.__code__

# Modes of which values may have been left on nodes: an evaluation that clears has to look for them.
_left_on_nodes: set[str] = {"preview"}


def cells(value: Any) -> int | None:
    """How many cells a value of an environment has; None if that cannot be told (a path, an object)."""
    if value is None or isinstance(value, (bool, int, float, complex)):
        return 1
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and all(isinstance(n, (int, np.integer)) for n in shape):
        count = 1
        for n in shape:
            count *= int(n)
        return count
    if isinstance(value, (list, tuple)) and len(value) <= SMALL_CELLS:
        counts = [cells(item) for item in value]
        return None if None in counts else sum(counts)  # type: ignore[arg-type]
    return None


def size(environment: Any) -> int | None:
    """Cells of all values of an environment; None if that cannot be told."""
    if not isinstance(environment, dict):
        return None
    counts = [cells(value) for value in environment.values()]
    return None if None in counts else sum(counts)  # type: ignore[arg-type]


def _check(environment: Any) -> None:
    """Refuse what is no mapping or holds DataOps and choices, as skrub does."""
    if type(environment) is dict or type(environment) is sk.SharedDict:
        if all(type(value) in _PLAIN for value in environment.values()):
            return
    sk.evaluation._check_environment(environment)


_FITS = ("fit", "fit_transform")


def in_order(data_op: Any, mode: str, environment: Any, count: int | None = None) -> Any:
    """Evaluate one node after the other, on this thread, leaving no values on nodes.

    Parameters
    ----------
    data_op : DataOp, or a container of them
    mode : str
    environment : mapping or None
    count : int, optional
        Cells of the environment, where that is known.

    Returns
    -------
    object
        The value.
    """
    work = _Evaluation(mode, environment, False)
    if count is None or count > SMALL_CELLS:
        work.free_early(data_op)
    return work.run(data_op)


_frames: tracebacks.Frames | None = None  # set with the replacement of `evaluate`

# Asked for nodes whose inputs are all there: such a one needs none of an evaluation's own state.
_AT_ONCE = _Evaluation("preview", None, True)


def preview_now(data_op: Any) -> tuple[Any] | None:
    """The preview of a node of which all inputs have one, left on it as skrub does; None for another node.

    The engine must be on. Building asks for each node: 3 us instead of 8 through all of `evaluate`.
    """
    try:
        value = _AT_ONCE._compute_now(data_op, data_op._skrub_impl)
    except Exception as error:
        raise error if _frames is None else _frames.of_evaluation(error)  # noqa: B904
    return None if value is _WAIT else (value,)


def evaluating(
    original: Callable[..., Any], active: Callable[[], bool], frames: tracebacks.Frames
) -> Callable[..., Any]:
    """skrub's `evaluate`, by the engine where it is on.

    Parameters
    ----------
    original : callable
        skrub's own function.
    active : callable
        Whether the engine is on in this thread.
    frames : Frames
        What puts skrub's frames into tracebacks.

    Returns
    -------
    callable
        With the parameters of `original`.
    """

    from . import fitting

    global _frames
    _frames = frames

    def evaluate(
        data_op: Any, mode: str = "preview", environment: Any = None, clear: bool = False,
        callbacks: Any = (), ancestor_data_op: Any = None,
    ) -> Any:  # fmt: skip
        if not active():
            return original(data_op, mode, environment, clear, callbacks, ancestor_data_op)
        arguments = (data_op, mode, environment, clear, callbacks, ancestor_data_op)
        if clear and not callbacks and _config.option("verify") and fitting.repeatable(data_op, mode):
            from .. import _verify

            return _verify.evaluation(lambda: ours(*arguments), lambda: original(*arguments), mode)
        try:
            return ours(*arguments)
        except Exception as error:
            raise frames.of_evaluation(error)  # noqa: B904

    def ours(
        data_op: Any, mode: str, environment: Any, clear: bool, callbacks: Any, ancestor_data_op: Any
    ) -> Any:
        _check(environment)
        if not clear:
            callbacks = ()
            _left_on_nodes.add(mode)
        on_nodes = not clear or bool(callbacks)
        if clear and (on_nodes or mode in _left_on_nodes):
            sk.evaluation.clear_results(data_op, mode=mode)
        if clear and on_nodes:
            callbacks = (sk.evaluation._cache_pruner(data_op, mode), *callbacks)
        count = None if on_nodes else size(environment)
        large = count is not None and count >= fitting.LEAST_CELLS
        if large and mode in _FITS and type(data_op) is sk.DataOp:
            found = fitting.fit(data_op, mode, environment)
            if found is not None:
                return found[0]
        try:
            if on_nodes:
                return _Evaluation(mode, environment, True, callbacks).run(data_op)
            return in_order(data_op, mode, environment, count)
        except sk.UninitializedVariable as error:
            if environment is not None and not environment.get(sk.IS_PREVIEW_DATA_ENV_NAME):
                whole = ancestor_data_op if ancestor_data_op is not None else data_op
                error.add_note(sk.evaluation._uninitialized_variable_msg(error, whole, environment))
            raise
        finally:
            if clear and on_nodes:
                sk.evaluation.clear_results(data_op, mode=mode)

    return evaluate
