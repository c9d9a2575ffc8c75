"""scikit-learn's searches and cross-validations as nodes: fits of Pipelines, step by step.

What it is for
    scikit-learn hands every (candidate, fold) to joblib as one call of one function. `BatchItem` takes such
    a batch and makes nodes of it: rows of a fold, the fit of each step, its transform of the test rows, the
    scores. Asking for a node that exists returns it, so a prefix that several candidates have in common
    is fitted once per fold, and what a Pipeline's `memory=` would have done is done already.

Who calls it
    `stratum.sklearn` (through `handler`), while `fit` of a search or a function like `cross_validate` of
    scikit-learn runs in the calling thread.

What stays scikit-learn's
    Everything around the batch (splits, candidates, results, the choice of the best, refits) and inside
    the nodes (`fit_transform`, scorers). The parameters of fits and scorers are cut to the rows of a fold by
    its own function.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
import numbers
import threading
import time
import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import get_tags
from sklearn.utils.validation import _num_samples

from .. import _core
from ..capture import encode
from . import _sklearn as skl
from . import _skrub_0_11 as sk
from . import backends, boosting, columns, estimators, failed_fits, kernels, said, searches, siblings, threads, watched
from .failed_fits import Failure

_tokens = itertools.count()


def _same(obj: Any) -> Any:
    """A constant that equals itself alone, however often it is asked for."""
    return _core.Leaf(obj, b"batch:%d" % next(_tokens))


# -- Inner fits -----------------------------------------------------------------------------------


class Shared:
    """What the nodes of one split share beyond the graph: the inner fits of their estimators.

    A ColumnTransformer, a Voting or Stacking model, a Pipeline inside another estimator fits others inside its own
    `fit`, by scikit-learn's code. That code hands them to `Parallel` (or to the cache of a Pipeline), and so to
    `Inner`, which makes a node of each. The key is the content of the arguments: a column that two
    ColumnTransformers treat alike is treated once. Results are kept until the last pair of the split is done.
    """

    def __init__(self) -> None:
        self.token = b"split:%d:" % next(_tokens)
        self.lock = threading.Lock()
        self.results: dict[bytes, tuple[Any, BaseException | None]] = {}
        self.seconds: dict[bytes, float] = {}  # of inner calls that nobody was charged with yet
        self.spent: dict[int, tuple[Any, list]] = {}  # id of a state or output -> it (weak), (number, seconds)...
        self.keys: dict[int, tuple[Any, bytes]] = {}  # id of an object -> it, and what it was made by
        self.failures: list[Failure] = []  # what ends the batch
        self.pairs: set[int] = set()  # ids of the nodes that end with a score or predictions
        self.ended = 0

    def keep(self, key: bytes, result: Any, error: BaseException | None, seconds: float) -> None:
        with self.lock:
            self.results[key] = result, error
            self.seconds[key] = seconds
            if error is None:
                for i, made in enumerate(result if isinstance(result, tuple) else (result,)):
                    if not isinstance(made, (int, float, str, bool, type(None))):
                        self.keys[id(made)] = made, b"%s:%d" % (key, i)

    def key_of(self, obj: Any) -> bytes | None:
        """Bytes that say what an object is, for as long as the split lasts."""
        found = self.keys.get(id(obj))
        if found is not None and found[0] is obj:
            return b"made" + found[1]
        encoded = encode.encode(estimators.encodable(obj))
        return None if encoded is None else _core.hash128(encoded)

    def charge(self, key: bytes) -> float:
        """Seconds of an inner call for the first who asks; it costs the others nothing."""
        with self.lock:
            return self.seconds.pop(key, 0.0)

    def note_spent(self, obj: Any, seconds: float, before: list | tuple = ()) -> None:
        """What went into an object beyond its own node: the graph does not see what its inner calls took."""
        if seconds or before:
            try:
                self.spent[id(obj)] = weakref.ref(obj), [*before, (next(_tokens), seconds)]
            except TypeError:  # a class that lets nobody watch it: its time is then its node's alone
                return

    def spent_on(self, obj: Any) -> list:
        """What `note_spent` was told of an object: (number, seconds) of each part, so that parts can be divided."""
        found = self.spent.get(id(obj))
        return found[1] if found is not None and found[0]() is obj else []

    def pair_ended(self) -> None:
        """A pair was scored; after the last one nothing is kept."""
        with self.lock:
            self.ended += 1
            if self.ended >= len(self.pairs):
                self.results, self.keys, self.seconds, self.spent = {}, {}, {}, {}


@dataclass
class Call:
    """A call of one of scikit-learn's functions for inner fits."""

    shared: Shared
    key: bytes
    function: Any
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    columns: Any = None  # what takes those of the node that asks


def inner_call(x: Any, impl: Any, call: Call) -> Any:
    """Operator: an inner fit or transform; its result is kept where others of the split may ask for it."""
    found = call.shared.results.get(call.key)
    if found is None:
        result = error = None
        start = time.perf_counter()
        with inner(x, call.shared, True) as deeper, columns.Columns(x, None, None, call.columns):
            try:
                result = call.function(*call.args, **call.kwargs)
            except Exception as why:
                error = why
        call.shared.keep(call.key, result, error, time.perf_counter() - start - deeper.away + deeper.charged)
        call.args, call.kwargs, call.columns = (), {}, None  # rows that nobody reads any more
        found = result, error
    if found[1] is not None:
        raise found[1]
    return found[0]


def inner_calls(x: Any, impl: Any, results: tuple) -> tuple:
    """Operator: the results of several inner calls."""
    return results


@contextlib.contextmanager
def inner(x: Any, shared: Shared, library: bool) -> Iterator[Inner]:
    """Context in which the inner fits of estimators are nodes; `x` is the node that runs.

    Where not all that runs is of known libraries (`library`), nothing is taken over: results that others read
    could be written to.
    """
    taker = Inner(x, shared, library)
    with skl.parallel_to(taker):
        yield taker


def in_node() -> bool:
    """Whether inner fits of this thread become nodes already."""
    return isinstance(skl.handler_here(), Inner)


class Inner:
    """Takes over batches of inner fits in the thread of a running node."""

    def __init__(self, x: Any, shared: Shared, library: bool) -> None:
        self.x, self.shared, self.library = x, shared, library
        self.away = 0.0  # seconds in which other nodes had the thread
        self.charged = 0.0  # seconds of inner calls that are charged to this node

    def __call__(self, parallel: Any, tasks: list[tuple]) -> Any:
        functions = {task[0].function for task in tasks}
        if not self.library or len(functions) != 1 or not functions <= skl.INNER:
            return NotImplemented
        return self.results([(task[0].function, task[1], task[2]) for task in tasks], batch=True)

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """`_fit_transform_one` for a step of a Pipeline."""
        if not self.library:
            return skl.fit_transform_one(*args, **kwargs)
        return self.results([(skl.fit_transform_one, args, kwargs)])[0]

    def results(self, calls: list[tuple], batch: bool = False) -> list:
        nodes, keys = [], []
        known: dict[int, bytes | None] = {}
        for function, args, kwargs in calls:
            node = self.node(function, args, kwargs, known)
            if node is None:  # as scikit-learn with one job
                return [function(*args, **kwargs) for function, args, kwargs in calls]
            nodes.append(node[0])
            keys.append(node[1])
        ref = self.x.graph.node(_numbers()["inner_calls"], (tuple(nodes),))
        start = time.perf_counter()
        try:
            results = self.x.nested(ref)
        finally:
            said.also(nodes, batch)
            self.away += time.perf_counter() - start
            self.charged += sum(map(self.shared.charge, keys))
        return [_handed_out(result) for result in results]

    def node(
        self, function: Any, args: tuple, kwargs: dict, known: dict[int, bytes | None]
    ) -> tuple[Any, bytes] | None:
        """The node of one call and its key; None where it can be none."""
        shared = self.shared
        cut = skl.inner_arguments(function, args, kwargs)
        if cut is None:
            return None
        values = [*args, *(cut[name] for name in sorted(cut))]
        if not all(isinstance(value, list) or estimators._is_library(value) for value in values):
            return None  # code of the user stays in the thread where it is
        if function in skl.TRANSFORMS and not any(id(value) in shared.keys for value in values):
            return None  # fitted elsewhere: saying what it is may take longer than calling it
        parts = [function.__qualname__.encode(), *(name.encode() for name in sorted(cut))]
        for value in values:
            if id(value) not in known:
                known[id(value)] = shared.key_of(value)
            key = known[id(value)]
            if key is None:
                return None
            parts.append(key)
        key = shared.token + _core.hash128(b"".join(b"%d:%s" % (len(part), part) for part in parts))
        call = Call(shared, key, function, args, cut, columns.here())
        return self.x.graph.node(_numbers()["inner_call"], (_core.Leaf(call, key),)), key


def _numbers() -> dict[str, int]:
    from .operators import NUMBER  # the registry, which names the functions of this module

    return NUMBER


def _handed_out(result: Any) -> Any:
    """A result as one reader gets it: ColumnTransformer renames the columns of what it is given."""
    if isinstance(result, tuple):
        return tuple(_handed_out(part) for part in result)
    module = type(result).__module__
    if module.startswith("pandas"):
        return result.copy(deep=False)
    return result.clone() if module.startswith("polars") else result


# -- Operators ------------------------------------------------------------------------------------


def _writes_to_input(estimator: Any) -> bool:
    """Whether a parameter allows an estimator to work in place on what it is given."""
    if not hasattr(estimator, "get_params") or isinstance(estimator, type):
        return False
    return any(
        value is False and name.rpartition("__")[2].lower() in ("copy", "copy_x")
        for name, value in estimator.get_params(deep=True).items()
    )


def _fresh(estimator: Any, seed: int | None) -> Any:
    own = clone(estimator)
    if seed is not None:
        estimators.put_seed(own, seed)
    return own


def fit_step(
    x: Any, impl: Any, estimator: Any, X: Any, y: Any, params: Any, seed: int | None, shared: Shared
) -> tuple[Any, Any]:
    """Operator: a step that is not the last one: (its output, the fitted step)."""
    own = _fresh(estimator, seed)
    with (
        threads.LightGBMThreads(own, x.threads),
        inner(x, shared, estimators._is_library(own)) as taker,
        columns.Columns(x, own, X),
    ):
        output, fitted = skl.fit_transform_one(own, X, y, None, params=params)
    if seed is not None:
        estimators.take_seed(fitted)
    shared.note_spent(fitted, taker.charged)
    return output, fitted


def fit_model(
    x: Any, impl: Any, estimator: Any, X: Any, y: Any, pass_y: bool, params: Any, seed: int | None,
    shared: Shared,
) -> Any:
    """Operator: the last step, or an estimator that is taken as a whole."""
    own = _fresh(estimator, seed)
    args = (X, y) if pass_y else (X,)
    arguments = (params or {}).get("fit", {})
    with (
        threads.LightGBMThreads(own, x.threads),
        inner(x, shared, estimators._is_library(own)) as taker,
        boosting.reading(x, own, X, X, arguments),
        columns.Columns(x, own, X),
    ):
        own.fit(*args, **arguments)
    if seed is not None:
        estimators.take_seed(own)
    shared.note_spent(own, taker.charged)
    return own


def transform_step(x: Any, impl: Any, fitted: Any, X: Any, shared: Shared) -> Any:
    """Operator: what a fitted step makes of other rows."""
    with (
        inner(x, shared, estimators._is_library(fitted)) as taker,
        estimators.in_turn(fitted),
        columns.Columns(x, fitted, X),
    ):
        output = fitted.transform(X)
    shared.note_spent(output, taker.charged, shared.spent_on(X))
    return output


def take_square(x: Any, impl: Any, estimator: Any, X: Any, rows: Any, train_rows: Any) -> Any:
    """Operator: rows and columns of a kernel or distance matrix."""
    return skl.safe_split(estimator, X, None, rows, train_rows)[0]


@dataclass(slots=True)
class Rows:
    """One side of a split as a score sees it."""

    X: Any
    y: Any
    transformed: Any  # by all steps but the last; None for an estimator that is taken as a whole


def _place(steps: tuple | None) -> int | str:
    """Where a fit failed: the first step without a value, or the last one."""
    broken = (k for k, step in enumerate(steps or ()) if isinstance(step, _core.Failed))
    return next(broken, "model")


def _failed(*values: Any) -> _core.Failed | None:
    return next((v for v in values if isinstance(v, _core.Failed)), None)


def _value(value: Any) -> Callable[[], Any]:
    def get() -> Any:
        if isinstance(value, _core.Failed):
            raise value.error
        return value

    return get


def _assemble(template: Any, steps: tuple | None, final: Any, sides: list[Rows]) -> Any:
    """The fitted model; a pipeline knows what its steps make of the rows of `sides`."""
    if steps is None:
        return final
    fitted = [*steps] if final is None else [*steps, final]
    return skl.served_pipeline(template, fitted, [(side.X, _value(side.transformed)) for side in sides])


def score_pair(
    x: Any, impl: Any, template: Any, steps: tuple | None, final: Any, test: tuple, train: tuple | None, spec: Scoring,
    score_params: tuple, shared: Shared,
) -> dict:  # fmt: skip
    """Operator: what `_fit_and_score` returns for one candidate and fold, but for the times."""
    try:
        with inner(x, shared, spec.library and estimators._is_library(template)) as taker:
            result = _scores(x, template, steps, final, test, train, spec, score_params, shared)
        fits = [part for state in (*(steps or ()), final) for part in shared.spent_on(state)]
        outputs = [part for side in (test, train) if side is not None for part in shared.spent_on(side[2])]
        result["inner"] = {"fit_time": fits, "score_time": [*outputs, (next(_tokens), taker.charged)]}
        return result
    finally:
        shared.pair_ended()


def _scores(
    x: Any, template: Any, steps: tuple | None, final: Any, test: tuple, train: tuple | None, spec: Scoring,
    score_params: tuple, shared: Shared,
) -> dict:  # fmt: skip
    sides = [Rows(*side) for side in (test, train) if side is not None]
    broken = _failed(*(v for side in sides for v in (side.X, side.y)))
    fit = _failed(*(steps or ()), final)
    if broken is None and fit is not None and fit.at is not None and fit.at.op in ("take", "take_square"):
        broken = fit  # the split failed, not the fit
    if broken is not None:
        raise broken.error
    result: dict[str, Any] = {}
    names = ("test_scores", "train_scores")
    if fit is not None:
        failure = Failure(fit.error, template, _place(steps))
        if not isinstance(fit.error, Exception) or spec.error_score == "raise":
            shared.failures.append(failure)
            raise fit.error
        result["fit_error"] = "".join(traceback.format_exception(fit.error))
        result["failure"] = failure
        metrics = skl.multimetric_names(spec.scorer)
        for name, _ in zip(names, sides):
            result[name] = spec.error_score if metrics is None else {m: spec.error_score for m in metrics}
        model = None
    else:
        result["fit_error"] = None
        model = _assemble(template, steps, final, sides)
        try:
            with threads.LightGBMThreads(model, x.threads):
                scorer = kernels.scorer(spec.scorer)
                for name, side, params in zip(names, sides, score_params):
                    try:
                        result[name] = skl.score_model(model, side.X, side.y, scorer, params, spec.error_score)
                    except Exception as error:
                        shared.failures.append(Failure(error, template, name.partition("_")[0]))
                        raise
        finally:
            if steps is not None:
                skl.release_pipeline(model)
    if spec.counts_samples:
        result["n_test_samples"] = _num_samples(sides[0].X)
    if spec.returns_estimator:
        result["estimator"] = clone(template) if model is None else model
    return result


class _Served:
    """What `_fit_and_predict` sees of a model that is fitted already."""

    def __init__(self, model: Any, X: Any) -> None:
        self._model, self._X = model, X

    def fit(self, *args: Any, **kwargs: Any) -> _Served:
        return self

    def __sklearn_tags__(self) -> Any:
        return get_tags(self._model)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if not callable(found):
            return found
        return lambda X: found(self._X)


def predict_pair(
    x: Any, impl: Any, template: Any, steps: tuple | None, final: Any, test: tuple, given: Any, y: Any, train_rows: Any,
    test_rows: Any, method: str, shared: Shared,
) -> Any:  # fmt: skip
    """Operator: what `_fit_and_predict` returns for one fold."""
    rows = Rows(*test)
    fit = _failed(*(steps or ()), final)
    try:
        if isinstance(rows.X, _core.Failed):
            raise rows.X.error
        if fit is not None:
            shared.failures.append(Failure(fit.error, template, _place(steps)))
            raise fit.error
        model = _assemble(template, steps, final, [rows])
        library = estimators._is_library(template)
        with threads.LightGBMThreads(model, x.threads), inner(x, shared, library):
            served = _Served(model, rows.X)
            try:
                return skl.fit_and_predict(served, given, y, train_rows, test_rows, None, method)
            except Exception as error:
                shared.failures.append(Failure(error, template, "predict"))
                raise
    finally:
        shared.pair_ended()


def begin_batch(x: Any, impl: Any, item: BatchItem) -> None:
    """Operator: the run is there; ask for the pairs, fold after fold."""
    x.become(item.begin())


def gather(x: Any, impl: Any, item: BatchItem, results: tuple, fused: tuple) -> list | None:
    """Operator: the results of a batch, in its order; or the run is asked for others, which these tell."""
    more = item.arrive(results, fused)
    if more is not None:
        x.become(more)
        return None
    return item.gather()


# -- A batch --------------------------------------------------------------------------------------


@dataclass
class Scoring:
    """How the models of a batch are scored."""

    scorer: Any
    error_score: Any
    counts_samples: bool
    returns_estimator: bool
    library: bool  # scorers run no code but that of known libraries


@dataclass
class Fold:
    """One split: its rows, and the parameters that are cut to them."""

    train: Any
    test: Any
    X: Any = None  # nodes, for estimators that are not pairwise
    y: Any = None
    X_test: Any = None
    y_test: Any = None
    fit_params: dict = field(default_factory=dict)
    params: dict = field(default_factory=dict)  # step -> the constant with the parameters of its fit
    score_params: Any = None
    shared: Shared = field(default_factory=Shared)
    constant: Any = None  # that holds `shared`


@dataclass
class Part:
    """An estimator that is fitted by a node of its own."""

    leaf: Any
    flags: int
    seed: int | None
    name: str


@dataclass
class Candidate:
    """A model of the batch, taken apart as far as sharing needs it."""

    template: Any
    leaf: Any
    steps: list[Part] | None  # all but the last one, passthroughs left out; None: taken as a whole
    final: Part | None
    pairwise: bool
    flags: int  # of nodes that call the model: its scores and predictions


class BatchItem(searches.Item):
    """A batch of `_fit_and_score` or `_fit_and_predict`, each call a candidate and a fold."""

    def __init__(self, parallel: Any, tasks: list[tuple], what: str, n_jobs: int | None) -> None:
        super().__init__(None, None, what=what, n_jobs=n_jobs)
        self.parallel, self.tasks = parallel, tasks
        self.function = tasks[0][0].function
        self.seeds: dict[tuple[str, type], int] = {}
        self.raised: int | None = None  # the task whose error ends the batch
        self.failures: list[Failure] = []  # what ends it before it runs
        self.folds: list[Fold] = []
        self.fused: list[siblings.Fused] = []  # calls that are served together
        self.missing: set[int] = set()

    # -- lowering

    def prepare(self, engine: Any) -> Any:
        self.engine = engine
        signature = inspect.signature(self.function)
        calls = []
        for _, args, kwargs in self.tasks:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            calls.append(bound.arguments)
        self.first = first = calls[0]
        self.check(calls)
        self.X, self.y = _same(first["X"]), None if first["y"] is None else _same(first["y"])
        shape = getattr(first["X"], "shape", None)
        small = shape and len(shape) <= 2 and int(np.prod(shape)) <= searches.SMALL_CELLS
        self.flags = _core.N_SMALL if small else 0
        self.scores = self.function is skl.fit_and_score
        if self.scores:
            self.train_scores = bool(first["return_train_score"])
            library = skl.is_library_scorer(first["scorer"], estimators._is_library)
            self.spec = _same(
                Scoring(
                    first["scorer"], first["error_score"], bool(first["return_n_test_samples"]),
                    bool(first["return_estimator"]), library,
                )
            )  # fmt: skip
            if not library:
                self.flags |= _core.N_CALLER
        folds: dict[tuple[int, int], Fold] = {}
        equal: dict[bytes, Fold] = {}
        self.calls, self.candidates = calls, {}
        self.fits, self.pairs, self.waves, self.at = [None] * len(calls), [None] * len(calls), [], []
        self.fused, self.declined = [], set()
        groups, places = self.groups(calls) if small else ([], {})
        together = {k for group in groups for k in group.others}
        for number, call in enumerate(calls):
            self.raised = number
            at = (id(call["train"]), id(call["test"]))
            if at not in folds:
                rows = encode.encode((np.asarray(call["train"]), np.asarray(call["test"])))
                if rows not in equal:
                    equal[rows] = self.fold(call)
                folds[at] = equal[rows]
            self.at.append(folds[at])
            self.waves.append(list(folds).index(at))
            if places.get(id(call.get("parameters"))) not in together:
                self.lower(number)
        self.raised = None
        self.folds = list(folds.values())
        for group in groups:
            self.fuse(group, list(range(len(calls))), places)
        self.results: list[Any] = [None] * len(calls)
        return engine.node("batch", (_core.Leaf(self, False),))

    def lower(self, number: int) -> None:
        """Make the nodes of one call."""
        call, fold = self.calls[number], self.at[number]
        parameters = call.get("parameters")
        if parameters is None:
            candidate = self.candidate(call["estimator"], None)
        elif id(parameters) in self.candidates:
            candidate = self.candidates[id(parameters)]
        else:
            candidate = self.candidates[id(parameters)] = self.candidate(call["estimator"], parameters)
        self.fits[number], self.pairs[number] = fit, pair = self.pair(candidate, fold)
        fold.shared.pairs.add(pair.id)

    def groups(self, calls: list[dict]) -> tuple[list[siblings.Group], dict[int, int]]:
        """Candidates that are fitted together, and the number of each candidate by its parameters."""
        first = self.first
        places: dict[int, int] = {}
        if not self.scores or not siblings.wanted() or siblings.metrics_of(first["scorer"]) is None:
            return [], places
        if first["fit_params"] or first["score_params"] or first["return_estimator"] or first.get("parameters") is None:
            return [], places
        parameters = []
        for call in calls:
            if call["parameters"] is None:
                return [], places
            if places.setdefault(id(call["parameters"]), len(places)) == len(parameters):
                parameters.append(call["parameters"])
        return siblings.of_parameters(first["estimator"], parameters), places

    def fuse(self, group: siblings.Group, numbers: list[int], places: dict[int, int]) -> None:
        """Make the nodes of a group of candidates, one a fold; or of each, where they cannot be fitted together."""
        asked = siblings.metrics_of(self.first["scorer"])
        by_fold: dict[int, dict[int, int]] = {}
        for number in numbers:
            by_fold.setdefault(self.waves[number], {})[places[id(self.calls[number]["parameters"])]] = number
        made = []
        for wave, of_candidate in by_fold.items():
            first = of_candidate[group.first]
            fit, pair = self.fits[first], self.pairs[first]
            others = [of_candidate[k] for k in group.others]
            ref = None
            if fit.op == "fit_model" and asked is not None:
                _, steps, _, test, train, *_ = pair.args
                sides = [(side[0] if steps is None else side[2], side[1]) for side in (test, train) if side is not None]
                _, X, y, *_ = fit.args
                ref = siblings.of_fit(self.engine, group, fit, pair, X, y, sides, asked)
            if ref is None:
                for number in sorted(of_candidate[k] for of_candidate in by_fold.values() for k in group.others):
                    self.lower(number)
                return
            made.append(siblings.Fused(first, others, wave, ref, [fit, pair]))
        self.fused += made

    def begin(self) -> Any:
        """Ask for the pairs, fold after fold: what the candidates of a fold share is freed before the next one."""
        return self.ask([number for number, pair in enumerate(self.pairs) if pair is not None], self.fused)

    def ask(self, numbers: list[int], fused: Any = ()) -> Any:
        """Ask for some pairs; the node that waits for them."""
        self.waiting, pairs = numbers, [self.pairs[number] for number in numbers]
        refs = [one.ref for one in fused]
        waves = [*(self.waves[number] for number in numbers), *(one.fold for one in fused)]
        self.engine.run.demand_waves([*pairs, *refs], waves)
        return self.engine.node("gather", (_core.Leaf(self, False), tuple(pairs), tuple(refs)))

    def check(self, calls: list[dict]) -> None:
        """Refuse what only scikit-learn itself does right."""
        first = self.first
        if isinstance(first.get("verbose"), int) and first["verbose"] > 1:
            raise sk.Unsupported("verbose > 1 reports each fit as it ends")
        if skl.metadata_routing_enabled():
            raise sk.Unsupported("metadata routing")
        if skl.array_api_enabled():
            raise sk.Unsupported("array API dispatch")
        backend = backends.elsewhere(self.n_jobs)
        if backend is not None:
            raise sk.Unsupported(f"joblib's backend is {backend}")
        if self.n_jobs == 0:
            raise sk.Unsupported("n_jobs is 0")
        if self.parallel.return_as != "list":
            raise sk.Unsupported("results as they come")
        same = [n for n in ("X", "y", "scorer", "fit_params", "score_params", "method") if n in first]
        for call in calls:
            if any(call[name] is not first[name] for name in same):
                raise sk.Unsupported("fits on different data in one batch")
            context = call.get("callback_ctx")
            if skl.accepts_callbacks(context) or skl.accepts_callbacks(call["estimator"]):
                raise sk.Unsupported("scikit-learn callbacks")
        watched.check([first.get("scorer")])
        error_score = first.get("error_score", "raise")
        if error_score != "raise" and not isinstance(error_score, numbers.Number):
            raise sk.Unsupported("an error_score that scikit-learn refuses")

    def fold(self, call: dict) -> Fold:
        engine, X = self.engine, self.first["X"]
        train, test = np.asarray(call["train"]), np.asarray(call["test"])
        fold = Fold(_core.Leaf(train), _core.Leaf(test))
        fold.constant = _same(fold.shared)
        fold.X = engine.node("take", (self.X, fold.train), self.flags & _core.N_SMALL)
        fold.X_test = engine.node("take", (self.X, fold.test), self.flags & _core.N_SMALL)
        if self.y is not None:
            fold.y = engine.node("take", (self.y, fold.train), self.flags & _core.N_SMALL)
            fold.y_test = engine.node("take", (self.y, fold.test), self.flags & _core.N_SMALL)
        if call["fit_params"]:
            fold.fit_params = skl.check_method_params(X, params=call["fit_params"], indices=train)
        if self.scores:
            given = call["score_params"] or {}
            sides = [test, train] if self.train_scores else [test]
            params = tuple(skl.check_method_params(X, params=given, indices=rows) for rows in sides)
            fold.score_params = _same(params) if given else params
        return fold

    def candidate(self, estimator: Any, parameters: dict | None) -> Candidate:
        template = clone(estimator)
        if parameters is not None:
            try:
                template = template.set_params(**clone(parameters, safe=False))
            except Exception as error:
                self.failures.append(Failure(error, estimator, "parameters"))
                raise
        watched.check([template])
        if _writes_to_input(template):
            # Its rows would be other ones for the next who reads them, in scikit-learn for its own scorers too.
            raise sk.Unsupported("an estimator that works in place on its input (copy=False)")
        steps = skl.pipeline_steps(template, self.first["fit_params"] or {})
        library = estimators._is_library(template)
        small = self.flags & _core.N_SMALL
        found = Candidate(
            template, _core.Leaf(template), None, None, bool(get_tags(template).input_tags.pairwise),
            self.flags | (0 if library else _core.N_CALLER),
        )  # fmt: skip
        if steps is None:
            found.final = self.part("", template, small)
            return found
        parts = [None if skl.is_passthrough(step) else self.part(name, step, small) for name, step in steps]
        found.steps = [part for part in parts[:-1] if part is not None]
        found.final = parts[-1]
        return found

    def part(self, name: str, estimator: Any, flags: int) -> Part:
        bits = estimators.flags(estimator)
        if not bits & _core.EST_LIBRARY:
            flags |= _core.N_CALLER
        if bits & _core.EST_FREE:
            flags |= _core.N_FREE
        seed = None
        if bits & _core.EST_UNSEEDED:
            seed = self.seeds.get((name, type(estimator)))
            if seed is None:
                seed = self.seeds[name, type(estimator)] = estimators.draw_seed(estimator)
        return Part(_core.Leaf(estimator), flags, seed, name)

    def params_of(self, fold: Fold, step: str | None) -> Any:
        """The parameters of one step's fit in a fold (None: of a whole model); one constant for all candidates."""
        if step not in fold.params:
            given = fold.fit_params if step is None else skl.step_params(fold.fit_params, step)
            fold.params[step] = _same({"fit": given, "fit_transform": given}) if given else None
        return fold.params[step]

    def pair(self, candidate: Candidate, fold: Fold) -> tuple[Any, Any]:
        """The nodes of one candidate on one fold: the last fit, and the scores or predictions."""
        engine = self.engine
        X, X_test, shared = fold.X, fold.X_test, fold.constant
        if candidate.pairwise:
            X = engine.node("take_square", (candidate.leaf, self.X, fold.train, None), candidate.flags)
            X_test = engine.node("take_square", (candidate.leaf, self.X, fold.test, fold.train), candidate.flags)
        Xt, sides = X, [X_test, X]
        steps = None
        if candidate.steps is None:
            params = self.params_of(fold, None)
            args = (candidate.final.leaf, X, fold.y, fold.y is not None, params, candidate.final.seed, shared)
            final = fit = engine.node("fit_model", args, candidate.final.flags)
        else:
            steps = []
            for part in candidate.steps:
                params = self.params_of(fold, part.name)
                made = engine.node("fit_step", (part.leaf, Xt, fold.y, params, part.seed, shared), part.flags)
                Xt, state = made.at(0), made.at(1)
                steps.append(state)
                sides = [engine.node("transform_step", (state, side, shared), part.flags) for side in sides]
            fit, final = (steps[-1] if steps else X), None
            if candidate.final is not None:
                part = candidate.final
                params = self.params_of(fold, part.name)
                args = (part.leaf, Xt, fold.y, True, params, part.seed, shared)
                final = fit = engine.node("fit_model", args, part.flags)
            steps = tuple(steps)
        test = (X_test, fold.y_test, sides[0] if steps is not None else None)
        if not self.scores:
            first = self.first
            y = None if self.y is None else self.y
            args = (candidate.leaf, steps, final, test, self.X, y, fold.train, fold.test, first["method"], shared)
            return fit, engine.node("predict_pair", args, candidate.flags)
        train = (X, fold.y, sides[1] if steps is not None else None) if self.train_scores else None
        args = (candidate.leaf, steps, final, test, train, self.spec, fold.score_params, shared)
        return fit, engine.node("score_pair", args, candidate.flags)

    # -- results

    def arrive(self, results: tuple, fused: tuple) -> Any:
        """Results are there; the node that waits for those that have to be asked for now, or None."""
        for number, result in zip(self.waiting, results):
            self.results[number] = result
        if fused:
            self.missing = siblings.take(self, fused)
        failed = _failed(*self.results)
        if failed is not None:  # the first call that fails ends the batch
            end = next(i for i, result in enumerate(self.results) if result is failed)
            self.missing = {number for number in self.missing if number < end}
        if not self.missing:
            return None
        for number in sorted(self.missing):
            self.raised = number
            self.lower(number)
        self.raised = None
        more, self.missing = self.ask(sorted(self.missing)), set()
        return more

    def found(self, number: int) -> Any:
        """What came of a call."""
        return self.results[number]

    def all_of(self, numbers: set[int]) -> set[int]:
        """Calls that are lowered together with some: each is for itself."""
        return numbers

    def served(self, number: int, fused: siblings.Fused, outcomes: list[searches.Outcome]) -> None:
        """The scores of a call without nodes of its own."""
        result = {"fit_error": None}
        result.update(zip(("test_scores", "train_scores"), (outcome.scores for outcome in outcomes)))
        if self.first["return_n_test_samples"]:
            result["n_test_samples"] = self.results[fused.first]["n_test_samples"]
        self.results[number] = {**result, "inner": {"fit_time": [], "score_time": []}}
        self.pairs[number] = fused.ref
        self.engine.count_fused(1, 2)  # the fit of the last step, and the score

    def gather(self) -> list:
        results = self.results
        failed = _failed(*results)
        if failed is not None:
            self.raised = next(i for i, result in enumerate(results) if result is failed)
        self.engine.said.tell([pair] for pair in (self.pairs if failed is None else self.pairs[: self.raised + 1]))
        if failed is not None:
            raise failed.error
        if not self.scores:
            return list(results)
        run, first = self.engine.run, self.first
        own = [number for number, fit in enumerate(self.fits) if fit is not None]
        times = {}
        for name, refs in (("fit_time", self.fits), ("score_time", self.pairs)):
            times[name] = [0.0] * len(refs)
            for number, seconds in zip(own, run.share([refs[number] for number in own])):
                times[name][number] = seconds
        siblings.times(self, times["fit_time"], times["score_time"])
        parts = [part for result in results for inner in result["inner"].values() for part in inner]
        readers = Counter(number for number, _ in parts)
        out: list[dict] = []
        handed: set[int] = set()
        for i, result in enumerate(results):
            result = {k: copy.copy(v) if isinstance(v, dict) else v for k, v in result.items()}
            spent = result.pop("inner")
            if first["return_times"]:
                for name, seconds in times.items():
                    inner = sum(part / readers[number] for number, part in spent[name])
                    result[name] = max(seconds[i] + inner, searches.CLOCK_S)
                if result["fit_error"] is not None:
                    result["score_time"] = 0.0
            if first["return_parameters"]:
                result["parameters"] = self.tasks[i][2].get("parameters")
            if "estimator" in result:  # the last of its items, as in scikit-learn
                model = result.pop("estimator")
                if handed & _objects_of(model):
                    model = copy.deepcopy(model)
                handed |= _objects_of(model)
                result["estimator"] = model
            out.append(result)
        return out

    def failure(self, error: BaseException) -> Failure | None:
        """Where the error that ended the batch arose, if a fit or score did."""
        found = [*self.failures, *(one for fold in self.folds for one in fold.shared.failures)]
        return next((one for one in found if one.error is error), None)

    def plain(self) -> Any:
        return skl.call_parallel(self.parallel, self.tasks)

    def done(self) -> None:
        self.fits, self.pairs, self.seeds = [], [], {}
        self.calls, self.candidates, self.at, self.results, self.fused = [], {}, [], [], []
        super().done()


def _objects_of(model: Any) -> set[int]:
    """The estimators that a model holds directly."""
    steps = getattr(model, "steps", None)
    return {id(model), *(id(step) for _, step in steps)} if isinstance(steps, list) else {id(model)}


# -- The way in -----------------------------------------------------------------------------------


def handler(what: str, n_jobs: Any, run: Callable[[BatchItem], list]) -> skl.Handler:
    """What takes scikit-learn's batches over while a search or function of it runs in this thread.

    Parameters
    ----------
    what : str
        The name of the search or function, for `last_run().fallbacks`.
    n_jobs : int or None
        As the user gave it.
    run : callable
        Runs an item: `stratum._api.run_one`.
    """

    def handle(parallel: Any, tasks: list[tuple]) -> Any:
        functions = {task[0].function for task in tasks}
        if functions not in ({skl.fit_and_score}, {skl.fit_and_predict}):
            return NotImplemented
        item = BatchItem(parallel, tasks, what, backends.n_jobs_of(n_jobs))
        with skl.parallel_to(None):
            try:
                results = run(item)
            except Exception as error:
                raised = error
            else:
                return failed_fits.with_own_texts(results, tasks)
            if item.raised is not None:
                failed_fits.raise_own(tasks[item.raised], raised, item.failure(raised))
        raise raised

    return handle


failed_fits.stands_for(Inner.__call__, Inner.step)
