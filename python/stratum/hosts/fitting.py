"""Fits on more than a few rows: one evaluation as an item of the engine's graph.

What it is for
    `fit` evaluates a pipeline in mode "fit" or "fit_transform" on the engine's threads: branches that do not
    depend on each other run side by side, and what a preview or an equal pipeline has computed already is
    not computed once more.

Who may call it
    `stratum.hosts.evaluating`, for evaluations that are large enough to be worth threads.

What stays out
    A single evaluation promises skrub's order, so it is kept wherever somebody could tell: code of users
    (which may print, or change what it is given), generators that the script has seeded, skrub's cache.
    Those evaluations run in `stratum.hosts.evaluating`, one node after the other.
"""

from __future__ import annotations

from typing import Any

from .. import _config, _core
from . import _skrub_0_11 as sk
from . import backends, estimators, operators, searches

# Fewer cells than this are fitted sooner than a run has begun (it takes some 5 ms).
LEAST_CELLS = 200_000

_Call = sk.nodes_module.Call
_CallMethod = sk.nodes_module.CallMethod
_Apply = sk.nodes_module.Apply


class FitItem(searches.Item):
    """One evaluation that fits."""

    def __init__(self, data_op: Any, mode: str, environment: dict) -> None:
        super().__init__(data_op, environment, what=mode)
        self.mode = mode
        self.n_jobs = backends.n_jobs_of(None)

    def suits(self, engine: Any) -> bool:
        """Capture; whether something is fitted, and the engine's order is as good as skrub's."""
        try:
            with engine.lowering:
                self.capture(engine, self.data_op)
        except (sk.Unsupported, _core.EngineError, RecursionError):
            return False
        if not any(kind == _core.ST_CAP_APPLY for kind, _ in self.entries):
            return False
        return not any(_keeps_order(obj) for _, obj in self.entries)

    def prepare(self, engine: Any) -> Any:
        scope = self.scope(self.mode)
        self.scopes.append(scope)
        self.value = scope.ref(self.root)
        self.states = self.states_of(scope)
        return engine.node("deliver", (_core.Leaf(self, False), self.value, tuple(s for _, s in self.states)))

    def deliver(self, x: Any, value: Any, states: tuple) -> Any:
        impls = {obj.uuid: obj for _, obj in self.entries if hasattr(obj, "uuid")}
        own = [(entry, self.own(ref, state)) for (entry, ref), state in zip(self.states, states)]
        self.write_back(impls, self.before_failure(value, own))
        if isinstance(value, _core.Failed):
            raise self.annotate(value.error, value.at)
        if self.mode == "fit" and (fitted := self._fitted_here(own, value)) is not None:
            return fitted
        return self.own(self.value, value)

    def _fitted_here(self, own: list[tuple[int, Any]], value: Any) -> Any:
        """What `fit` returns is the estimator that is on the node, copied with it or not."""
        for (_, state), (_, ref) in zip(own, self.states):
            if isinstance(state, operators.State) and isinstance(ref, _core.Ref) and ref.id == self.value.id:
                return state.estimator if hasattr(value, "get_params") else None
        return None

    def plain(self) -> Any:
        from . import evaluating

        return evaluating.in_order(self.data_op, self.mode, self.environment)


def _keeps_order(impl: Any) -> bool:
    """Whether somebody could tell in which order this node ran."""
    if isinstance(impl, (sk.BaseChoice, sk.ChoiceMatch)) or not hasattr(impl, "_fields"):
        return False
    if sk.holds_generator(impl):
        return True
    if isinstance(impl, _Call):
        if not estimators.is_library_function(impl.func):
            return True
    elif isinstance(impl, _CallMethod):
        if estimators.may_change_object(impl.method_name, impl.kwargs):
            return True
    elif isinstance(impl, _Apply):
        return not _is_quiet(sk.choosing.get_chosen_or_default(impl.estimator))
    return _may_differ(impl)


def _may_differ(impl: Any) -> bool:
    """Whether a node that is no apply may give something else the next time."""
    try:
        _, _, fields, flags = sk.spec(impl)
    except sk.Unsupported:
        return True
    # A token of creation stands for a clock, randomness or input and output; a file's is its content.
    return bool(flags & _core.N_UNSHARED) and fields[-1][0] == "creation"


def repeatable(data_op: Any, mode: str) -> bool:
    """Whether evaluating a second time gives the same, as far as can be told."""
    for node in sk.evaluation.nodes(data_op):
        impl = node._skrub_impl
        if sk.holds_generator(impl):
            return False
        if isinstance(impl, _Apply):
            estimator = sk.choosing.get_chosen_or_default(impl.estimator)
            unknown = isinstance(estimator, sk.DataOp)
            if "fit" in mode and (unknown or estimators.flags(estimator) & _core.EST_UNSEEDED):
                return False
        elif _may_differ(impl):
            return False
    return True


def _is_quiet(estimator: Any) -> bool:
    """Whether an estimator is a known library's and draws nothing that skrub's order decides."""
    if estimator is None or isinstance(estimator, str):
        return True
    if isinstance(estimator, (type, sk.DataOp)) or not hasattr(estimator, "get_params"):
        return False
    if sk.has_evaluables(estimator):
        params = estimator.get_params(deep=False).values()
        inside = [sk.choosing.get_chosen_or_default(value) for value in params]
        if any(sk.has_evaluables(value) or not _is_quiet_value(value) for value in inside):
            return False
    bits = estimators.flags(estimator)
    if bits & _core.EST_UNSEEDED:
        if estimators.global_generator_is_seeded() or estimators.draws_in_order():
            return False
    return bool(bits & _core.EST_LIBRARY)


def _is_quiet_value(value: Any) -> bool:
    return _is_quiet(value) if hasattr(value, "get_params") else True


def fit(data_op: Any, mode: str, environment: Any) -> tuple[Any] | None:
    """Evaluate by the engine's graph.

    Parameters
    ----------
    data_op : DataOp
    mode : {"fit", "fit_transform"}
    environment : dict

    Returns
    -------
    tuple or None
        The value, alone in a tuple; None if this evaluation has to keep skrub's order.
    """
    from .. import engine as engines

    if not isinstance(environment, dict) or sk.memory.has_memory():
        return None
    engine = engines.get_engine()
    if engine.busy.locked():
        return None
    item = FitItem(data_op, mode, environment)
    try:
        if not item.suits(engine):
            item.done()
            return None
    finally:
        if not engine.busy.locked():
            sk.forget()
            engine.graph.forget()
    return (engines.execute_one(item),)
