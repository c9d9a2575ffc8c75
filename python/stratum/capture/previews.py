"""What was known where a pipeline was built: the values of its variables, and previews already computed.

skrub fits every estimator while a pipeline is built (the preview), on all rows unless subsampling is set:
that is the work of the refit, done for nothing. Here the preview of an apply, and of a call that took
long, is bound to the engine's node that means the same. A search whose refit asks for that node finds it,
and so does the preview of a pipeline that is built separately but equal.

A value is bound under the meaning that it had when it was computed: data in memory count by their content
at that moment, so that a frame that was changed since is another one, and nothing that cannot be encoded
is bound. What users can get at (the preview itself) is never the bound object but shares its buffers
where copy-on-write keeps them apart.

skrub's searches hold a clone without values. A batch takes searches without an environment, so the values
that the variables had are remembered beside the search (weakly: they go with it).
"""

from __future__ import annotations

import functools
import math
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from .. import _config, _core, scripts
from ..hosts import _skrub_0_11 as sk
from ..hosts import estimators, operators
from . import building
from . import encode as _encode

# Reentrant: the collector may run while it is held, and what it finds may be a search that forgets itself here.
_lock = threading.RLock()

# A call whose preview took longer is worth looking for again, if that costs less than it took: what was built
# since has to be captured first, some 15 microseconds for each node.  A pause of the garbage collector or of the
# machine makes a quick call look long; in a chain of 10,000 calls one of them cost as much as all the rest.
LONG_CALL_S = 1e-3
CAPTURE_S = 15e-6

_Applied = sk.nodes_module.AppliedEstimator
_Apply = sk.nodes_module.Apply
_Call = sk.nodes_module.Call
_CallMethod = sk.nodes_module.CallMethod
_Concat = sk.nodes_module.Concat
_Var = sk.nodes_module.Var
_LOOKED_FOR = frozenset({_Apply, _Call, _CallMethod})
_unseen = 0  # nodes that were previewed since a pipeline was last captured
_environments: dict[int, tuple[weakref.ref, dict, list[tuple[_Preview, bool]]]] = {}


def remember(search: Any, environment: dict, data_op: Any) -> None:
    """Remember the values that a search's variables had, and keep the previews of its pipeline.

    The DataOps themselves are often gone by the time that the search is fitted: a function made them.
    """
    key = id(search)
    held = _held_below(data_op)

    def forget(_: Any) -> None:
        with _lock:
            _environments.pop(key, None)

    with _lock:
        _environments[key] = (weakref.ref(search, forget), environment, held)


def environment_of(search: Any) -> dict:
    """The environment of a search that was made from variables with values."""
    with _lock:
        known = _environments.get(id(search))
    if known is None or known[0]() is not search:
        return {}
    return dict(known[1])


def trim(search: Any) -> None:
    """The search is about to be fitted: keep of its previews what its refit may ask for.

    Until then they serve pipelines that are built after it. The refit asks for every fitted state, but for an
    output only if something that reads it is not there itself.
    """
    _hold_instead(
        search, lambda held: [(p if needed or _is_random(p) else _Preview(p.states, None), needed) for p, needed in held]
    )


def release(search: Any) -> None:
    """Let go of the previews that were kept for a search: it has been fitted."""
    _hold_instead(search, lambda held: [])


def _hold_instead(search: Any, choose: Callable[[list], list]) -> None:
    """Keep for a search what `choose` makes of what is kept for it."""
    with _lock:
        known = _environments.get(id(search))
        before = known[2][:] if known is not None else []
        if known is not None:
            known[2][:] = choose(before)
    del before  # outside the lock: values may have finalizers


def _remembering(make: Any) -> Any:
    @functools.wraps(make)
    def make_search(self: Any, **kwargs: Any) -> Any:
        search = make(self, **kwargs)
        if isinstance(search, sk.ParamSearch):
            remember(search, self._get_env(), self._data_op)
        return search

    return make_search


# -- Previews -------------------------------------------------------------------------------------

# Content of variables when they were first read: id of the node -> (weak node, encoding or None).
_contents: dict[int, tuple[weakref.ref, bytes | None]] = {}
# Previews that a user got hold of: id of the DataOp -> (weak DataOp, encoding at that time or None).
_handed_out: dict[int, tuple[weakref.ref, bytes | None]] = {}
# Names of functions that have a bound preview: only those are looked for before a call's preview runs. With
# how often looking was in vain since: a pause of the garbage collector makes a quick call look long.
_long_calls: dict[str, int] = {}
_given_up: set[str] = set()  # names that a store calls long, and that were looked for in vain here
_IN_VAIN = 3

# Other processes look for calls that took longer: that costs each of them a hash of the variables.
NOTED_CALL_S = 0.05


class _Origins:
    """What the engine's nodes keep of the DataOps that they come from: all but values.

    Nodes outlive the DataOps of a pipeline that is waiting to be searched. If they kept those, they would keep
    the preview of every step as well: with eight pipelines of the uk-housing demonstration on 100,000 rows
    that was a fifth of the peak of their run.
    """

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, Any]] = {}  # by the id of what they stand for, which is held

    def __call__(self, impl: Any) -> Any:
        if type(impl) is _Var:  # its value is data that the node holds anyway
            return impl
        own = object.__new__(type(impl))
        for name in impl._fields:
            setattr(own, name, self._mirrored(getattr(impl, name)))
        for name in _OWN:
            setattr(own, name, getattr(impl, name))
        own.results, own.errors, own.metadata = {}, {}, {}
        self._made[id(impl)] = impl, own
        return own

    def _mirrored(self, value: Any) -> Any:
        kind = type(value)
        if kind is sk.DataOp:
            known = self._made.get(id(value._skrub_impl))
            return value if known is None else sk.DataOp(known[1])
        if kind is list or kind is tuple:
            return kind([self._mirrored(item) for item in value])
        if kind is dict:
            return {name: self._mirrored(item) for name, item in value.items()}
        return value


# What a node has besides its fields.
_OWN = ("_creation_stack", "is_X", "is_y", "name", "uuid", "description", "checked")


class _Recent:
    """The pipeline that is being built: captured step by step, so that building stays linear.

    It keeps the DataOps of one pipeline alive until another one is built or a run starts.
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.plan = engine.new_plan(_Origins())
        self.subsamples = False
        self.scope: Any = None
        self.seen = 0
        self.variables: list[Any] = []  # those with values

    def lower(self, data_op: Any) -> tuple[Any, int]:
        """(scope, entry) of a DataOp in preview mode."""
        entry = self.plan.capture(data_op)
        new = self.plan.entries(self.seen)
        if not self.subsamples and any(kind in _SUBSAMPLING for kind, _ in new):
            self.subsamples, self.scope = True, None  # what was lowered before has other flags
        if self.scope is None:
            flags = sk.scope_flags("preview", {}) if self.subsamples else 0
            self.scope = _core.Scope(self.plan, "preview", flags, sk.subsampling_seed())
            new, self.seen, self.variables = self.plan.entries(), 0, []
        elif new:
            self.scope.extend()
        looked: dict[int, bytes | None] = {}  # what was encoded just now, by the id of the object
        for i, (kind, impl) in enumerate(new, self.seen):
            if kind == _core.ST_CAP_VAR and impl.value is not sk.NULL:
                new_to_us = not _is_noted(impl)
                content = _content_of(impl)
                if new_to_us:
                    looked[id(impl.value)] = content
                if content is None:
                    raise sk.Unsupported("a variable whose content has no encoding")
                self.scope.bind(i, _core.Leaf(impl.value, content))
                self.variables.append(impl)
        self.seen = len(self.plan)
        self._check_unchanged(looked)
        self.scope.expr(entry)
        return self.scope, entry

    def _check_unchanged(self, looked: dict[int, bytes | None]) -> None:
        """Refuse a pipeline of which a part was changed in place: skrub's previews are made of what it is now.

        Hashing runs at several GB/s: little beside the fit that is to be bound or saved. Each object is
        encoded once: a variable's value is also its preview, and often the value of others.
        """

        def now(value: Any) -> bytes | None:
            if id(value) not in looked:
                looked[id(value)] = _encode.encode(value)
            return looked[id(value)]

        if any(now(impl.value) != _content_of(impl) for impl in self.variables):
            raise sk.Unsupported("the value of a variable that was changed in place")
        for ref, content in list(_handed_out.values()):
            data_op = ref()
            if data_op is None or self.plan.index_of(data_op) is None:
                continue
            if content is None or now(data_op._skrub_impl.results.get("preview")) != content:
                raise sk.Unsupported("a preview that was changed in place")


_SUBSAMPLING = (_core.ST_CAP_SUBSAMPLE, _core.ST_CAP_ASK_SUBSAMPLE)
_recent: _Recent | None = None


def forget_recent() -> None:
    """Let go of the pipeline that was built last."""
    global _recent
    _recent = None


def _lowered(data_op: Any) -> tuple[Any, int] | None:
    """(scope, entry) of a DataOp's preview, or None if the engine cannot say what it means."""
    global _recent, _unseen
    from ..engine import get_engine

    _unseen = 0
    engine = get_engine()
    recent = _recent
    X = getattr(data_op._skrub_impl, "X", None)
    if recent is None or recent.engine is not engine or (X is not None and recent.plan.index_of(X) is None):
        recent = _recent = _Recent(engine)
    _forget_encodings(engine)  # of a run that is going on: a user's function may have changed what it read
    try:
        with engine.lowering, estimators.leave_generator():
            return recent.lower(data_op)
    except (sk.Unsupported, _core.EngineError, RecursionError):
        forget_recent()
        return None
    finally:
        _forget_encodings(engine)


def _forget_encodings(engine: Any) -> None:
    """What was encoded may be changed in place before it is encoded next."""
    sk.forget()
    engine.graph.forget()


class _Binding:
    """Values that are bound to nodes for as long as this object lives."""

    __slots__ = ("__weakref__", "_pairs")

    def __init__(self, pairs: list[tuple[Any, Any]]) -> None:
        self._pairs = pairs
        for ref, value in pairs:
            ref.bind(value)

    def __del__(self) -> None:
        for ref, value in self._pairs:
            ref.unbind(value)


class _Preview(NamedTuple):
    """What is bound for one DataOp: what its estimator learned, and its output."""

    states: _Binding | None
    output: _Binding | None


# By the id of the DataOp; equal pipelines hold the same bindings. The DataOp is the owner, not its
# `_skrub_impl`: the engine's node holds that one for its messages, so that the two would keep each other
# alive.
_previews: dict[int, _Preview] = {}
_by_ref: weakref.WeakValueDictionary[Any, _Binding] = weakref.WeakValueDictionary()


def _hold(data_op: Any, preview: _Preview) -> None:
    key = id(data_op)

    def forget() -> None:
        _previews.pop(key, None)

    _previews[key] = preview
    weakref.finalize(data_op, forget).atexit = False


def _bound(pairs: list[tuple[Any, Any]]) -> _Binding:
    """Bind values to nodes for as long as a DataOp that they serve, or a search of one, lives."""
    binding = _Binding(pairs)
    _by_ref[pairs[0][0]] = binding
    return binding


def _held_below(data_op: Any) -> list[tuple[_Preview, bool]]:
    """The previews below a DataOp, and whether a refit of it may ask for their outputs."""
    graph = sk.evaluation.graph(data_op)
    nodes, children = graph["nodes"], graph["children"]
    found = []
    asked = {i for i, node in nodes.items() if node is data_op}
    for i in sorted(nodes, reverse=True):  # readers come before what they read
        preview = _previews.get(id(nodes[i]))
        if preview is not None:
            found.append((preview, i in asked))
        # A choice below: another outcome than the one that was previewed may be refitted.
        if i in asked and (preview is None or building.may_hold_choice(nodes[i])):
            asked.update(children.get(i, ()))
    return found


def _remember_apply(data_op: Any, scope: Any, entry: int, result: Any, seconds: float) -> None:
    from ..engine import bound_state

    impl = data_op._skrub_impl
    state_ref, value_ref = scope.state(entry), scope.value(entry)
    if not isinstance(state_ref, _core.Ref) or not isinstance(value_ref, _core.Ref) or not state_ref.plain:
        return
    if state_ref.op != "fit":
        return
    try:
        private = operators.protect(result)
    except operators.CannotShare:
        return
    state = operators.State(impl.estimator_, impl.estimator_was_wrapped_, impl._y_type, impl._y_col_names)
    learned = [(state_ref, state)]
    if value_ref.op != "fit":  # a predictor: the fit's own output is the estimator, predictions another node
        learned.append((state_ref.at(0), impl.estimator_))
    preview = _Preview(_bound(learned), _output(value_ref, private))
    bound_state(state, preview.states)
    _hold(data_op, preview)
    if seconds >= _config.option("reuse_seconds") and not _is_random(preview):
        reuse = _reuse()
        reuse.keep(state_ref, state, seconds)
        reuse.keep(value_ref, private, seconds)
        reuse.end()


def _serve_apply(data_op: Any, scope: Any, entry: int) -> tuple[Any] | None:
    """The preview of an equal pipeline, put on this node; None if there is none."""
    impl = data_op._skrub_impl
    state_ref, value_ref = scope.state(entry), scope.value(entry)
    if not isinstance(state_ref, _core.Ref) or not isinstance(value_ref, _core.Ref):
        return None
    state, value = state_ref.bound(), value_ref.bound()
    kept = (state is None or value is None) and _is_worth_asking(impl.X)
    private = False
    if kept:
        reuse = _reuse()
        state = reuse.find(state_ref)
        value = reuse.find(value_ref) if state is not None else None
        private = value is not None and not reuse.holds(state[0]) and not reuse.holds(value[0])
    if state is None or value is None:
        return None
    estimator, result = state[0].estimator, value[0]
    if not private:
        try:
            estimator, result = operators.protect(estimator), operators.protect(result)
        except operators.CannotShare:
            return None
    impl.estimator_ = estimator
    impl.estimator_was_wrapped_ = state[0].was_wrapped
    impl.estimator_id_ = None
    impl._y_type, impl._y_col_names = state[0].y_type, state[0].y_names
    if not kept:
        _hold(data_op, _Preview(_by_ref.get(state_ref), _by_ref.get(value_ref)))
    return (result,)


def _was_long(name: str) -> bool:
    """Whether a call of that name is worth looking for: one took long, in this process or another."""
    from ..engine import get_engine

    return name in _long_calls or (name not in _given_up and get_engine().reuse.was_long(name))


def _remember_call(data_op: Any, ref: Any, result: Any, seconds: float) -> None:
    """Keep the preview of a call that took long."""
    try:
        private = operators.protect(result)
    except operators.CannotShare:
        return
    _hold(data_op, _Preview(None, _output(ref, private)))
    name = _name_of_call(data_op._skrub_impl)
    _long_calls[name] = 0
    _given_up.discard(name)
    if seconds >= _config.option("reuse_seconds") and not _has_random_names(private):
        reuse = _reuse()
        reuse.keep(ref, private, seconds)
        if seconds >= NOTED_CALL_S:
            reuse.note_long(name)
        reuse.end()


def _serve_call(data_op: Any, ref: Any) -> tuple[Any] | None:
    """The preview of an equal call, alone in a tuple; None if there is none."""
    bound = ref.bound()
    if bound is not None:
        _hold(data_op, _Preview(None, _by_ref.get(ref)))
        return (operators.protect(bound[0]),)
    reuse = _reuse()
    found = reuse.find(ref)
    if found is None or not reuse.holds(found[0]):
        return found
    try:
        return (operators.protect(found[0]),)
    except operators.CannotShare:
        return None


def _reuse() -> Any:
    """What is kept of earlier runs, asked under the settings of this moment."""
    from ..engine import get_engine

    reuse = get_engine().reuse
    reuse.begin()
    return reuse


def _is_worth_asking(X: Any) -> bool:
    """Whether fitting on the preview of X takes longer than asking what is kept."""
    found = X._skrub_impl.results.get("preview") if isinstance(X, sk.DataOp) else X
    return math.prod(getattr(found, "shape", ())) >= _WORTH_CELLS


_WORTH_CELLS = 10_000


# Outputs with columns that skrub named at random: another evaluation would give them other names, so these
# are bound wherever they arise, and stay with what was learned from them.
_random: weakref.WeakSet[_Binding] = weakref.WeakSet()


def _has_random_names(value: Any) -> bool:
    """Whether duplicate columns of a table got skrub's random suffix."""
    return any(isinstance(name, str) and "__skrub_" in name for name in getattr(value, "columns", ()))


def _is_random(preview: _Preview) -> bool:
    return preview.output is not None and preview.output in _random


def _output(ref: Any, value: Any) -> _Binding:
    binding = _bound([(ref, value)])
    if _has_random_names(value):
        _random.add(binding)
    return binding


def _serve_concat(data_op: Any, scope: Any, entry: int) -> tuple[Any] | None:
    """The tables of an equal pipeline, concatenated under the names that they got there."""
    state_ref, value_ref = scope.state(entry), scope.value(entry)
    if not isinstance(state_ref, _core.Ref) or not isinstance(value_ref, _core.Ref):
        return None
    names, value = state_ref.bound(), value_ref.bound()
    if names is None or value is None:
        return None
    data_op._skrub_impl.all_outputs_ = list(names[0])
    _hold(data_op, _Preview(_by_ref.get(state_ref), _by_ref.get(value_ref)))
    return (operators.protect(value[0]),)


def _remember_concat(data_op: Any, scope: Any, entry: int, result: Any) -> None:
    state_ref, value_ref = scope.state(entry), scope.value(entry)
    if isinstance(state_ref, _core.Ref) and isinstance(value_ref, _core.Ref) and state_ref.plain:
        names = _bound([(state_ref, list(data_op._skrub_impl.all_outputs_))])
        _hold(data_op, _Preview(names, _output(value_ref, operators.protect(result))))


def _may_write(impl: Any) -> bool:
    """Whether a node runs code that may change in place what it is given."""
    if isinstance(impl, _Call):
        return not estimators.is_library_function(impl.func)
    if isinstance(impl, _CallMethod):
        return estimators.may_change_object(impl.method_name, impl.kwargs)
    if not isinstance(impl, _Apply):
        return False
    estimator = sk.choosing.get_chosen_or_default(impl.estimator)
    return isinstance(estimator, sk.DataOp) or not estimators._is_library(estimator)


def _shield(data_op: Any) -> list[tuple[Any, Any]]:
    """Let the node read private copies of what other nodes computed; what `_unshield` has to put back.

    A search does not see what a step beside its pipeline does in place, so the previews that serve it must
    not see it either. Values from the environment stay the same objects.
    """
    kept: list[tuple[Any, Any]] = []
    if _may_write(data_op._skrub_impl):
        for child in building.children(data_op):
            impl = child._skrub_impl
            value = impl.results.get("preview")
            if isinstance(value, operators._IMMUTABLE) or isinstance(impl, _Var):
                continue
            try:
                private = operators.protect(value)
            except operators.CannotShare:
                continue
            if private is not value:
                kept.append((impl, value))
                impl.results["preview"] = private
    return kept


def _unshield(kept: list[tuple[Any, Any]]) -> None:
    for impl, value in kept:
        impl.results["preview"] = value


def _store(impl: Any, result: Any, seconds: float) -> None:
    """Leave a preview on the node as skrub's evaluator does."""
    impl.results["preview"] = result
    impl.metadata.setdefault("preview", {}).update(eval_duration=seconds, env_key=None)


def _preview_together(together: Any, data_op: Any, scope: Any, entry: int, original: Callable[[], Any]) -> Any:
    """A preview in a script that runs with others: what another one fitted is put on this node."""
    impl = data_op._skrub_impl
    state_ref, value_ref = scope.state(entry), scope.value(entry)
    X = impl.X._skrub_impl.results["preview"] if isinstance(impl.X, sk.DataOp) else impl.X
    known = isinstance(state_ref, _core.Ref) and isinstance(value_ref, _core.Ref) and state_ref.op == "fit"
    estimator = sk.choosing.get_chosen_or_default(impl.estimator)
    if not known or any(impl.kwargs.values()) or not together.wants_preview(estimator, X):
        return original()
    start = time.perf_counter()
    made: list[Any] = []

    def fit() -> tuple[Any, Any]:
        made.append(original())
        state = operators.State(impl.estimator_, impl.estimator_was_wrapped_, impl._y_type, impl._y_col_names)
        return (made[0] if value_ref.op == "fit" else impl.estimator_), state

    output, state = together.node(state_ref.at(0), "fit", fit)
    if made:
        if value_ref.op != "fit":
            together.node(value_ref, "apply", lambda: made[0])
        return made[0]
    if value_ref.op != "fit":
        output = together.node(value_ref, "apply", lambda: operators.predict(state, X))
    impl.estimator_, impl.estimator_was_wrapped_, impl.estimator_id_ = state.estimator, state.was_wrapped, None
    impl._y_type, impl._y_col_names = state.y_type, state.y_names
    _store(impl, output, time.perf_counter() - start)
    return output


def _evaluating(original: Callable[..., Any]) -> Callable[..., Any]:
    from .._patch import active
    from ..hosts import evaluating, said

    @functools.wraps(original)
    def evaluate(
        data_op: Any, mode: str = "preview", environment: Any = None, clear: bool = False,
        callbacks: Any = (), ancestor_data_op: Any = None,
    ) -> Any:  # fmt: skip
        global _unseen
        plain = mode != "preview" or environment is not None or clear or type(data_op) is not sk.DataOp
        if plain:
            return original(data_op, mode, environment, clear, callbacks, ancestor_data_op)
        impl = data_op._skrub_impl
        kind = type(impl)
        if "preview" in impl.results or not active():
            return original(data_op, mode, environment, clear, callbacks, ancestor_data_op)
        _unseen += 1
        _note_variables(impl)
        if kind is _Concat:
            return concatenate(data_op)
        if kind is _Applied:
            return hand_out_estimator(data_op)
        if kind not in _LOOKED_FOR:
            return at_once(data_op)
        place = None
        start = time.perf_counter()
        if kind is _Apply:
            if isinstance(impl.X, sk.DataOp) and "preview" not in impl.X._skrub_impl.results:
                return building.preview(data_op)
            place = None if sk.holds_generator(impl) else _lowered(data_op)
            served = _serve_apply(data_op, *place) if place is not None else None
            if served is not None:
                _store(impl, served[0], time.perf_counter() - start)
                return served[0]
        elif sk.holds_generator(impl):  # what is drawn later depends on what is drawn here
            return at_once(data_op)
        elif _was_long(_name_of_call(impl)):
            place = _lowered(data_op)
            ref = place[0].value(place[1]) if place is not None else None
            served = _serve_call(data_op, ref) if isinstance(ref, _core.Ref) else None
            if served is not None:
                _store(impl, served[0], time.perf_counter() - start)
                return served[0]
        start = time.perf_counter()
        together = scripts.connected() if kind is _Apply and place is not None else None
        kept = _shield(data_op)
        heard = said.heard()
        try:
            if together is not None and together.begin():
                result = _preview_together(together, data_op, *place, lambda: building.preview(data_op))
            else:
                result = at_once(data_op)
        finally:
            _unshield(kept)
        if said.heard() != heard:
            return result  # a script that knows nothing of stratum sees the warnings of the refit too
        if kind is _Apply:
            if place is not None:
                _remember_apply(data_op, *place, result, time.perf_counter() - start)
        elif (seconds := time.perf_counter() - start) > LONG_CALL_S + _unseen * CAPTURE_S:
            place = place or _lowered(data_op)
            ref = place[0].value(place[1]) if place is not None else None
            if isinstance(ref, _core.Ref) and ref.plain and not ref.flags & _core.N_UNSHARED:
                _remember_call(data_op, ref, result, seconds)
        elif place is not None:
            name = _name_of_call(impl)
            _long_calls[name] = _long_calls.get(name, 0) + 1
            if _long_calls[name] > _IN_VAIN:
                del _long_calls[name]
                _given_up.add(name)
        return result

    def at_once(data_op: Any) -> Any:
        """The preview by the shortest way that there is."""
        found = evaluating.preview_now(data_op) if type(data_op._skrub_impl) is not _Var else None
        return building.preview(data_op) if found is None else found[0]

    def hand_out_estimator(data_op: Any) -> Any:
        """The fitted estimator is the user's now: a copy, where the one on the node is bound."""
        result = building.preview(data_op)
        if id(data_op._skrub_impl.target) not in _previews:
            return result
        try:
            own = operators.protect(result)
        except operators.CannotShare:
            return result
        data_op._skrub_impl.results["preview"] = own
        return own

    def concatenate(data_op: Any) -> Any:
        place = _lowered(data_op) if _random else None
        start = time.perf_counter()
        served = _serve_concat(data_op, *place) if place is not None else None
        if served is not None:
            _store(data_op._skrub_impl, served[0], time.perf_counter() - start)
            return served[0]
        result = building.preview(data_op)
        if _has_random_names(result):
            place = place or _lowered(data_op)
            if place is not None:
                _remember_concat(data_op, *place, result)
        return result

    return evaluate


def _name_of_call(impl: Any) -> str:
    func = impl.method_name if type(impl) is _CallMethod else impl.func
    return func if isinstance(func, str) else getattr(func, "__qualname__", type(func).__qualname__)


def _is_noted(impl: Any) -> bool:
    known = _contents.get(id(impl))
    return known is not None and known[0]() is impl


def _content_of(impl: Any) -> bytes | None:
    """What a variable held when it was first read: a preview means this content, whatever becomes of it."""
    key = id(impl)
    known = _contents.get(key)
    if known is not None and known[0]() is impl:
        return known[1]

    def forget(ref: Any) -> None:
        if key in _contents and _contents[key][0] is ref:
            del _contents[key]

    content = _encode.encode(impl.value)
    _contents[key] = (weakref.ref(impl, forget), content)
    return content


def _note_variables(impl: Any) -> None:
    """Note the content of the variables that a new node reads directly."""
    for name in impl._fields:
        value = getattr(impl, name)
        if type(value) is sk.DataOp:
            source = value._skrub_impl
            if type(source) is _Var and source.value is not sk.NULL and id(source) not in _contents:
                _content_of(source)


def _handing_out(original: Callable[..., Any]) -> Callable[..., Any]:
    """`.skb.preview()`: the user gets the very object that later steps read, and may write to it."""

    @functools.wraps(original)
    def preview(self: Any) -> Any:
        result = original(self)
        data_op = self._data_op
        key = id(data_op)
        known = _handed_out.get(key)
        if isinstance(result, operators._IMMUTABLE) or (known is not None and known[0]() is data_op):
            return result

        def forget(ref: Any) -> None:
            if key in _handed_out and _handed_out[key][0] is ref:
                del _handed_out[key]

        _handed_out[key] = (weakref.ref(data_op, forget), _encode.encode(result))
        return result

    return preview


def install() -> None:
    """Let previews serve searches, and skrub's makers of searches remember what they were made from."""
    if not hasattr(sk.namespace.SkrubNamespace.preview, "_stratum"):
        wrapped_preview = _handing_out(sk.namespace.SkrubNamespace.preview)
        wrapped_preview._stratum = True  # type: ignore[attr-defined]
        sk.namespace.SkrubNamespace.preview = wrapped_preview
    if not hasattr(sk.evaluation.evaluate, "_stratum"):
        wrapped_evaluate = _evaluating(sk.evaluation.evaluate)
        wrapped_evaluate._stratum = True  # type: ignore[attr-defined]
        sk.evaluation.evaluate = wrapped_evaluate
    for name in ("make_grid_search", "make_randomized_search"):
        make = getattr(sk.namespace.SkrubNamespace, name)
        if not hasattr(make, "_stratum"):
            wrapped = _remembering(make)
            wrapped._stratum = True
            setattr(sk.namespace.SkrubNamespace, name, wrapped)
