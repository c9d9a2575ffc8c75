"""Optuna: what the trials of a study share.

What it is for
    `skrub`'s search with the backend "optuna" cross-validates one candidate after the other, each chosen by
    what the ones before it scored.  Each is a run of its own; what comes before the part that differs is the
    same in all of them.  A `Study` keeps those values bound to their nodes from the end of one trial until
    the end of the study, so that the next trial finds them.

Who may call it
    `stratum._patch`, around the fit of an `OptunaParamSearch`; `searches.FoldsItem` tells it of its nodes.

What is kept
    Outputs and fitted state of everything but the last estimator, in folds and before them, as long as all
    of it takes at most a tenth of the memory; what was not asked for the longest goes first.  Pipelines with
    branches keep nothing: asking for a value in a branch would compute it whether it is taken or not.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .. import _core

_KEPT = frozenset({"call", "method", "fit", "apply", "concat_fit", "concat", "subsample"})
_TWO_OUTPUTS = frozenset({"fit", "concat_fit"})
_BRANCHES = (_core.ST_CAP_IF, _core.ST_CAP_MATCH)

_current = threading.local()


@dataclass(slots=True)
class _Kept:
    """The outputs of one node."""

    refs: list[Any]
    values: list[Any]
    size: int
    used: int  # number of the trial that asked for it last


def _bytes(value: Any) -> int | None:
    """Memory of a value; None if it is of a kind that is not kept."""
    from . import operators  # which imports this module's callers

    if isinstance(value, operators.State):
        parts = vars(value.estimator).values() if hasattr(value.estimator, "__dict__") else ()
        return 1024 + sum(part.nbytes for part in parts if isinstance(part, np.ndarray))
    if isinstance(value, pd.DataFrame):
        return int(value.memory_usage(index=True).sum())
    if isinstance(value, pd.Series):
        return int(value.memory_usage(index=True))
    if isinstance(value, np.ndarray):
        return value.nbytes if value.dtype != object else None
    if type(value).__module__.startswith("polars") and hasattr(value, "estimated_size"):
        return int(value.estimated_size())
    if type(value).__module__.startswith("scipy.sparse") and hasattr(value, "data"):
        return 3 * value.data.nbytes
    if isinstance(value, (str, int, float, bool, type(None), list)):
        return 64 if not isinstance(value, list) or all(type(x) is str for x in value) else None
    return None


class Study:
    """Values that outlive a trial. A context: inside it, this thread's cross-validations are its trials."""

    def __init__(self, n_jobs: Any = None) -> None:
        self.n_jobs = n_jobs
        self.most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10
        self.trial = 0
        self.reused = 0
        self._kept: dict[tuple[int, int], _Kept] = {}
        self._engine: Any = None
        self._waiting: dict[int, list[Any]] = {}
        self._found: list[tuple[list[Any], tuple]] = []

    def __enter__(self) -> Study:
        self._before = getattr(_current, "study", None)
        _current.study = self
        return self

    def __exit__(self, *exc: object) -> None:
        _current.study = self._before
        self._waiting.clear()
        self._found.clear()
        for kept in self._kept.values():
            self._unbind(kept)
        self._kept.clear()

    # -- during a trial

    def watch(self, item: Any, models: list[Any], tests: list[Any]) -> None:
        """Nodes of a trial have been made: ask for what the next one may need, as soon as it is there.

        Parameters
        ----------
        item : searches.FoldsItem
        models : list of Ref
            The last estimator's fit for each fold.
        tests : list of Ref
            The scores.
        """
        self.trial += 1
        engine = item.engine
        if any(kind in _BRANCHES for kind, _ in item.entries):
            return
        if self._engine is not engine:
            if self._engine is not None:
                return  # another engine stands in while the first one is busy: its nodes are others
            self._engine = engine
        last = {ref.id for ref in models if ref is not None}
        holds = []
        for ref in engine.graph.order(tests):
            if ref.id in last or any(i.id in last for i in ref.inputs):
                last.add(ref.id)
                continue
            if ref.op not in _KEPT:
                continue
            kept = self._kept.get((id(engine), ref.id))
            if kept is not None:
                kept.used = self.trial
                self.reused += 1
                continue
            ports = [ref.at(port) for port in range(2 if ref.op in _TWO_OUTPUTS else 1)]
            if any(port.bound() is not None for port in ports):
                continue  # a preview keeps it
            number = len(self._waiting)
            self._waiting[number] = ports
            holds.append(engine.node("hold", (_core.Leaf(self, False), self.trial, number, tuple(ports))))
        engine.run.demand_waves(holds, [0] * len(holds))

    def put(self, number: int, values: tuple) -> None:
        """The outputs of a node that is to be kept are there."""
        self._found.append((self._waiting[number], values))

    def settle(self) -> None:
        """A trial has ended: bind what it left, within the memory that there is."""
        from ..engine import bound_state
        from . import operators

        found, self._found, self._waiting = self._found, [], {}
        for refs, values in found:
            sizes = [_bytes(value) for value in values]
            if None in sizes:
                continue
            kept = _Kept(refs, list(values), sum(sizes), self.trial)  # type: ignore[arg-type]
            for ref, value in zip(refs, values):
                ref.bind(value)
                if isinstance(value, operators.State):
                    bound_state(value, self)
            self._kept[(id(self._engine), refs[0].id)] = kept
        total = sum(kept.size for kept in self._kept.values())
        for key, kept in sorted(self._kept.items(), key=lambda pair: pair[1].used):
            if total <= self.most:
                break
            total -= kept.size
            self._unbind(self._kept.pop(key))

    @staticmethod
    def _unbind(kept: _Kept) -> None:
        for ref, value in zip(kept.refs, kept.values):
            ref.unbind(value)


def current() -> Study | None:
    """The study whose trials this thread runs."""
    return getattr(_current, "study", None)
