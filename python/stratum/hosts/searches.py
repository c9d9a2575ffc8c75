"""Searches and cross-validations: what is scikit-learn's and skrub's own around the engine's nodes.

A search is one node that expands (`begin`: splits, candidates, nodes for every pair), into one that picks
(`pick`: results, best candidate, refit), into one that delivers (`deliver`: fitted state to the objects
that the user gets). Splits, grids, scorers and the arithmetic of results are scikit-learn's; which nodes
there are and what they share is the engine's.
"""

from __future__ import annotations

import copy
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from .. import _config, _core
from .._progress import Progress
from . import _skrub_0_11 as sk
from . import _sklearn as skl
from . import backends, estimators, kernels, siblings, studies, watched

# Below so many cells a fold's work is too small for threads: handing the GIL to and fro costs more.
SMALL_CELLS = 30_000

# Order of work in a batch: every search begins before any fold is worked on, and folds come before refits.
# What two of them share would otherwise be freed by the first before the second asks for it.
_FIRST_FOLD, _REFIT = 1, 1 << 30

# The least time that is reported for something that was done.
CLOCK_S = 1e-9

_MODES = ("predict", "predict_proba", "decision_function", "score")
_PREDICTORS = ("predict", "predict_proba", "decision_function", "score")


@dataclass(slots=True)
class Outcome:
    """What became of one model on some rows."""

    scores: Any = None
    fit_error: BaseException | None = None
    fit_at: Any = None
    error: BaseException | None = None  # goes out of the search
    error_in: tuple | None = None  # (mode, node) that it comes from, where it is not the scorer's own


# -- The model that scorers see -------------------------------------------------------------------


class View:
    """What all models of one search have in common; equal views are interchangeable."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self._tags: Any = None
        self._lock = threading.Lock()

    @property
    def tags(self) -> Any:
        if self._tags is None:
            with self._lock:
                if self._tags is None:
                    self._tags = self.pipeline.__sklearn_tags__()
        return self._tags


class Model(sk.XyPipeline):
    """A fitted candidate as scorers see it: its predictions on the scored rows are there already."""

    def __init__(self, data_op: Any = None, environment: Any = None) -> None:
        raise TypeError("made by the engine only")

    @classmethod
    def _make(cls, x: Any, view: View, state: Any, values: dict, X: Any, y: Any, scorers: Any, ticket: Any) -> Model:
        self = object.__new__(cls)
        self.__dict__.update(
            _x=x, _view=view, _state=state, _values=values, _X=X, _y=y, _scorers=scorers, _ticket=ticket,
            _is_fitted=True, environment=view.pipeline.environment, _refused=[], _broken=[], _own=None,
            _content=None if ticket is None else (_encode(X), _encode(y)),
        )  # fmt: skip
        return self

    @property
    def data_op(self) -> Any:
        """The pipeline with this fold's fitted state on its nodes; made when somebody asks."""
        return self._view.pipeline.data_op if self._ticket is None else self._genuine().data_op

    def __sklearn_tags__(self) -> Any:
        return self._view.tags

    @property
    def _estimator_type(self) -> Any:
        return self._view.tags.estimator_type or "transformer"

    @property
    def classes_(self) -> Any:
        try:
            return self._fitted().classes_
        except AttributeError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute 'classes_'") from None

    def _fitted(self) -> Any:
        state = self.__dict__["_state"]
        if state is None or isinstance(state, _core.Failed):
            raise AttributeError("no estimator was fitted")
        return state.estimator

    def __getattr__(self, name: str) -> Any:
        known = name in ("fit", "fit_transform", "transform", "preview")
        if not known and (name not in _PREDICTORS or not hasattr(self._fitted(), name)):
            # By skrub's function: from 3.13 on, what Python suggests instead depends on the last frame.
            sk.attribute_error(self, name)

        if self._own is not None:
            return getattr(self._own, name)

        def method(*args: Any, **kwargs: Any) -> Any:
            if name == "score":
                return self._score(*args, **kwargs)
            if name in ("fit", "fit_transform"):  # other scorers, and the train scores, would see it
                raise self._refuse(f"a scorer calls {name} on the model")
            return self._eval_in_mode(name, *args, **kwargs)

        method.__name__ = name
        return method

    def _refuse(self, why: str) -> _Refused:
        """Leave the search to skrub, whatever becomes of the exception on its way out of the scorer."""
        self._refused.append(NeedsModel(why))
        return _Refused(why)

    def _genuine(self) -> Any:
        """The same model as a pipeline of skrub's, which needs no run."""
        if self._own is None:
            if self._ticket is None:
                raise self._refuse("a scorer copies the model, which was not foreseen")
            self._own = self._ticket.fitted(self._x)
        return self._own

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _itself, (self._genuine(),)

    def __sklearn_clone__(self) -> Any:
        """The candidate's pipeline, unfitted: a genuine one, which the scorer may do with as it likes."""
        if self._ticket is None:
            raise self._refuse("a scorer clones the model, which was not foreseen")
        return self._ticket.unfitted()

    def set_params(self, **params: Any) -> Any:
        raise self._refuse("a scorer sets parameters of the model")

    def _eval_in_mode(self, mode: str, X: Any, y: Any = None) -> Any:
        main = X is self._X and (y is None or y is self._y)
        if self._content is not None:  # code that nobody knows may have written to them
            main = main and None not in self._content and self._content == (_encode(self._X), _encode(self._y))
        if main and mode in self._values:
            value = self._values[mode]
            if isinstance(value, _core.Failed):
                error = noted(value.error, value.at.origin if value.at is not None else None)
                self._broken.append((error, (mode, value.at)))
                raise error
            return value
        if self._ticket is None:
            raise self._refuse(f"a scorer asks for {mode}, which was not foreseen")
        value = self._ticket.evaluate(self._x, mode, X, y, main)
        if main:
            self._values[mode] = value
        return value

    def _score(self, X: Any, y: Any = None, cast_to_float: bool = True, return_predictions: bool = False) -> Any:
        if self._scorers is None:
            result = self._eval_in_mode("score", X, y)
            return (result, {}) if return_predictions else result
        # A scorer that calls score() itself gets the model's own, not these scorers once more.
        plain = object.__new__(type(self))
        plain.__dict__.update(self.__dict__, _scorers=None)
        found = []
        for info in self._scorers:
            scorer = self._prepare_scorer(info["scoring"], info["kwargs"])
            found.extend(self._process_scores(info, scorer(plain, X, y)))
        rename = sk.learners.unique_renaming()
        result = {rename(name): score for name, score in found}
        if cast_to_float and len(result) == 1 and not return_predictions:
            return next(iter(result.values()))
        return (result, dict(self._values)) if return_predictions else result


def _encode(data: Any) -> bytes | None:
    from ..capture import encode

    return encode.encode(data)


def _itself(obj: Any) -> Any:
    return obj


# Messages of scorers name the class of the model.
Model.__name__ = Model.__qualname__ = "_XyPipeline"


class NeedsModel(Exception):
    """A known scorer asked for something unforeseen: skrub evaluates this search itself."""


class _Refused(BaseException):
    """Ends a scorer: no Exception, which scikit-learn would turn into a score and a warning."""


def score(
    x: Any, impl: Any, fitted: Any, spec: tuple, modes: tuple, values: tuple, state: Any, X: Any, y: Any,
    scorers: Any, ticket: Any, held: tuple = (),
) -> Outcome:  # fmt: skip
    """Operator: the scores of one model on some rows, by the scorer's own way of calling it."""
    scorer, error_score, view, progress = spec
    if isinstance(fitted, _core.Failed):
        outcome = Outcome(fit_error=fitted.error, fit_at=fitted.at)
    else:
        failed = next((v for v in (X, y, scorers) if isinstance(v, _core.Failed)), None)
        if failed is not None:
            outcome = Outcome(error=failed.error)
        else:
            model = Model._make(x, view, state, dict(zip(modes, values)), X, y, scorers, ticket)
            try:
                outcome = Outcome(scores=skl.score_model(model, X, y, kernels.scorer(scorer), {}, error_score))
            except (Exception, _Refused) as error:
                # Other searches may read the same scores: each names the line of its own that made the node.
                where = next((where for raised, where in model._broken if raised is error), None)
                outcome = Outcome(error=error, error_in=where)
            else:
                if ticket is not None and sys.getrefcount(model) > 2:
                    model._genuine()  # the scorer kept it: it has to outlive the run
            if model._refused:
                outcome = Outcome(error=model._refused[0])
    progress.tick(outcome)
    return outcome


class Ticker:
    """Counts scored models for the line of progress; equal for all searches, part of no key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: Progress | None = None
        self._pairs = self._per = self._failed = 0
        self._best: float | None = None

    def __stratum_encode__(self) -> bytes:
        return b"ticker"

    def start(self, candidates: int, pairs_each: int) -> None:
        enabled = _config.option("progress")
        self._per = max(1, pairs_each)
        line = Progress(candidates, enabled)
        self._line = line if line.active else None

    def tick(self, outcome: Outcome) -> None:
        line = self._line
        if line is None:
            return
        with self._lock:
            self._pairs += 1
            if outcome.fit_error is not None or outcome.error is not None:
                self._failed += 1
            elif isinstance(outcome.scores, float) and (self._best is None or outcome.scores > self._best):
                self._best = outcome.scores
            line.update(self._pairs // self._per, -(-self._failed // self._per), self._best)

    def tick_all(self, outcomes: Callable[[], list[Outcome]]) -> None:
        """Count models that were scored together; `outcomes` is asked only where there is a line."""
        if self._line is not None:
            for outcome in outcomes():
                self.tick(outcome)

    def stop(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


# -- Items ----------------------------------------------------------------------------------------


@dataclass
class Item:
    """One thing that was asked for: a search, a cross-validation, an evaluation."""

    data_op: Any
    environment: Any
    index: int = 0
    what: str = ""
    n_jobs: int | None = None
    engine: Any = None
    plan: Any = None
    root: int = -1
    entries: list = field(default_factory=list)
    scopes: list = field(default_factory=list)  # in which its nodes were lowered, for messages

    # each kind of item says how
    def prepare(self, engine: Any) -> Any:
        """Capture and lower; the ref of the item's result."""
        raise NotImplementedError

    def plain(self) -> Any:
        """The result by skrub's own evaluator."""
        raise NotImplementedError

    def done(self) -> None:
        """Forget what was only needed while it ran."""
        self.plan = self.engine = None
        self.scopes = []
        self.entries = []

    def capture(self, engine: Any, data_op: Any) -> None:
        self.engine = engine
        self.plan = engine.new_plan()
        self.root = self.plan.capture(data_op)
        self.entries = self.plan.entries()
        watched.check(watched.fields(obj) for _, obj in self.entries)

    def flags(self, mode: str) -> int:
        """Flags of a scope; subsampling only where the plan has a place for it, so that keys agree."""
        flags = sk.scope_flags(mode, self.environment)
        if not {kind for kind, _ in self.entries} & {_core.ST_CAP_SUBSAMPLE, _core.ST_CAP_ASK_SUBSAMPLE}:
            flags &= ~_core.SCOPE_SUBSAMPLE
        return flags

    def scope(self, mode: str, fitted: Any = None) -> Any:
        scope = _core.Scope(self.plan, mode, self.flags(mode), sk.subsampling_seed(), fitted)
        sk.bind_environment(scope, self.entries, self.environment)
        return scope

    def impl_of(self, at: Any, *scopes: Any) -> Any:
        """The node of this item's own graph that became engine node `at`, there or in one of some more scopes."""
        for scope in (*self.scopes, *scopes):
            for i, (kind, obj) in enumerate(self.entries):
                for found in (scope.value(i), scope.state(i)):
                    if isinstance(found, _core.Ref) and found.id == at.id and hasattr(obj, "creation_stack_last_line"):
                        return obj
        return at.origin

    def annotate(self, error: BaseException, at: Any) -> BaseException:
        """The error with the note on the line that made the failing node, as skrub words it."""
        if at is None:
            return error
        error = noted(error, self.impl_of(at))
        if isinstance(error, sk.UninitializedVariable) and not (self.environment or {}).get(sk.IS_PREVIEW_DATA_ENV_NAME):
            text = sk.evaluation._uninitialized_variable_msg(error, self.data_op, self.environment)
            if text not in getattr(error, "__notes__", []):
                error.add_note(text)
        return error

    def before_failure(self, value: Any, states: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
        """Of (entry, state), those that skrub has on its nodes: it stops at the first node that fails.

        Entries stand in skrub's order of evaluation; ours may have computed some that come later.
        """
        if not isinstance(value, _core.Failed) or value.at is None:
            return states
        for scope in self.scopes:
            for i in range(len(self.entries)):
                for found in (scope.value(i), scope.state(i)):
                    if isinstance(found, _core.Ref) and found.id == value.at.id:
                        return [(entry, state) for entry, state in states if entry < i]
        return states

    def write_back(self, impls: dict[int, Any], states: list[tuple[int, Any]]) -> None:
        """Put fitted state on nodes, as skrub's evaluation leaves it there. `impls` is keyed by uuid."""
        for entry, state in states:
            if isinstance(state, _core.Failed):
                continue  # in a branch that was not taken
            impl = impls[self.entries[entry][1].uuid]
            kind = self.entries[entry][0]
            if kind == _core.ST_CAP_APPLY:
                impl.estimator_ = state.estimator
                impl.estimator_was_wrapped_ = state.was_wrapped
                impl.estimator_id_ = None
                impl._y_type, impl._y_col_names = state.y_type, state.y_names
            elif kind == _core.ST_CAP_CONCAT:
                if state is not sk.NULL:
                    impl.all_outputs_ = state
            else:
                impl.value_ = state

    def own(self, ref: Any, value: Any) -> Any:
        """A value that goes to the user: not the object that a preview keeps, nor another result's."""
        from . import operators

        if isinstance(value, operators.State):
            return self.engine.hand_out(value)
        if isinstance(value, _core.Failed) or not isinstance(ref, _core.Ref):
            return value
        return operators.protect(value) if ref.bound() is not None or self.engine.reuse.holds(value) else value

    def states_of(self, scope: Any) -> list[tuple[int, Any]]:
        """(entry, ref or constant) of everything that was fitted in a scope."""
        found = []
        for i in range(len(self.entries)):
            state = scope.state(i)
            if state is not None:
                found.append((i, state))
        return found


def noted(error: BaseException, impl: Any) -> BaseException:
    """The error with the note on the line that made a failing node, as skrub words it."""
    if impl is None or not hasattr(impl, "creation_stack_last_line"):
        return error
    note = (
        f"Evaluation of node {impl} failed. See above for full"
        f" traceback. This node was defined here:\n{impl.creation_stack_last_line()}"
    )
    notes = getattr(error, "__notes__", [])
    if note not in notes:
        if any(n.startswith("Evaluation of node ") for n in notes):
            error = _copy_of_error(error)
        error.add_note(note)
    return error


def _copy_of_error(error: BaseException) -> BaseException:
    """A copy that can carry notes of its own; the same object if its class does not let itself be copied."""
    try:
        new = copy.copy(error)
    except Exception:
        return error
    new.__traceback__ = error.__traceback__
    new.__cause__ = error.__cause__
    new.__notes__ = [n for n in getattr(error, "__notes__", []) if not n.startswith("Evaluation of node ")]
    return new


def _impls_by_uuid(data_op: Any) -> dict[int, Any]:
    return {node._skrub_impl.uuid: node._skrub_impl for node in sk.evaluation.nodes(data_op)}


class EvalItem(Item):
    """`.skb.eval()`"""

    def __init__(self, data_op: Any, environment: Any, keep_subsampling: bool = False) -> None:
        super().__init__(data_op, environment, what="eval")
        self.given = environment
        self.keep_subsampling = keep_subsampling

    def prepare(self, engine: Any) -> Any:
        namespace = self.data_op.skb
        sk.nodes_module.check_data_op(self.data_op)
        environment = self.given
        if environment is not None and not hasattr(environment, "keys"):
            raise TypeError(
                "The `environment` passed to `eval()` should be None or a dictionary, "
                f"got: '{type(environment)}'"
            )
        if environment is None:
            environment = namespace._get_env()
        else:
            provided = sk.namespace._var_values_provided(self.data_op, environment)
            environment = {**environment, "_skrub_use_var_values": not provided}
        self.environment = sk.env_with_subsampling(self.data_op, environment, self.keep_subsampling)
        sk.evaluation._check_environment(self.environment)
        self.capture(engine, self.data_op)
        if any(sk.holds_generator(obj) for _, obj in self.entries):
            raise sk.AdvancesGenerator("a generator of the user: evaluating in place advances it")
        scope = self.scope("fit_transform")
        self.scopes.append(scope)
        self.value = scope.ref(self.root)
        self.states = self.states_of(scope)
        return engine.node("deliver", (_core.Leaf(self, False), self.value, tuple(s for _, s in self.states)))

    def deliver(self, x: Any, value: Any, states: tuple) -> Any:
        # skrub leaves the fitted state on the user's own nodes, of what was fitted before a failure too
        impls = {obj.uuid: obj for kind, obj in self.entries if hasattr(obj, "uuid")}
        own = [(entry, self.own(ref, state)) for (entry, ref), state in zip(self.states, states)]
        self.write_back(impls, self.before_failure(value, own))
        if isinstance(value, _core.Failed):
            raise self.annotate(value.error, value.at)
        return self.own(self.value, value)

    def plain(self) -> Any:
        return self.data_op.skb.eval(self.given, keep_subsampling=self.keep_subsampling)


class FoldsItem(Item):
    """What searches and cross-validations have in common: X and y first, then folds."""

    cv: Any = None  # the engine's side
    tests: Any = ()  # outcomes of the pairs, as they come in
    trains: Any = ()
    fused: Any = ()  # nodes for candidates that are fitted together
    n_fused = nodes_each = 0  # pairs that they served; nodes that a pair would have asked for
    pairs: Any = ()  # the scores of each pair of candidate and fold
    keep: Any = None
    train_scores = False
    frames: Any = None  # what puts the libraries' frames into tracebacks; set when skrub's functions are replaced
    failed_in_fold = False
    supervised = False
    loop = ""  # whose loop it stands for, as `tracebacks` names them

    def check_backend(self) -> None:
        """Leave the work to a joblib backend that was chosen for where it runs; to joblib, what it refuses."""
        backend = backends.elsewhere(self.n_jobs)
        if backend is not None:
            raise sk.Unsupported(f"joblib's backend is {backend}")
        if self.n_jobs == 0:
            raise sk.Unsupported("n_jobs is 0")

    def prepare_xy(self, engine: Any, splitter: Any) -> Any:
        """Nodes for X, y and the splitter; the node that begins the search when they are there."""
        data_op, environment = self.data_op, self.environment
        found = sk.evaluation.find_X_y_and_cv(data_op)
        if "X" not in found:
            raise ValueError('DataOp should have a node marked with "mark_as_X()"')
        if "y" not in found:
            first = sk.evaluation.find_first_apply(data_op)
            if first is not None and getattr(first._skrub_impl, "y", None) is not None:
                raise ValueError('DataOp should have a node marked with "mark_as_y()"')
        sk.evaluation._check_environment(environment)
        if "_skrub_predictions" in environment:
            raise sk.Unsupported("predictions given in the environment")
        self.given_splitter = splitter
        self.capture(engine, data_op)
        self.x_node, self.y_node = found["X"], found.get("y")
        self.supervised = self.y_node is not None
        self.x_entry = self.plan.index_of(self.x_node)
        self.y_entry = self.plan.index_of(self.y_node) if self.y_node is not None else -1
        scope = self.scope("fit_transform")
        self.scopes.append(scope)
        # What folds and the refit read: no node that wraps a constant, or previews would mean another thing.
        self.x_expr = scope.expr(self.x_entry)
        self.y_expr = scope.expr(self.y_entry) if self.y_node is not None else None
        self.x_ref = scope.ref(self.x_entry)
        self.y_ref = scope.ref(self.y_entry) if self.y_node is not None else None
        cv = split_kwargs = None
        if "cv" in found:
            cv, split_kwargs = scope.field(self.x_entry, 1), scope.field(self.x_entry, 2)
        self.has_cv = "cv" in found
        return engine.node("search", (_core.Leaf(self, False), self.x_ref, self.y_ref, cv, split_kwargs))

    def splitter_for(self, X: Any, y: Any, cv: Any, split_kwargs: Any) -> Any:
        """What skrub hands to scikit-learn as `cv`."""
        if self.y_node is not None:
            message = (
                "\nAre `.skb.subsample()` and `.skb.mark_as_*()` applied in the same order"
                " for both X and y?"
            )
            sk.check_subsampled_shape(
                self.x_node, self.y_node, X, y, "fit_transform", self.environment, msg=message
            )
        if self.given_splitter is not None:
            return self.given_splitter
        if self.has_cv:
            return sk.Splitter(skl.check_cv(cv), split_kwargs)
        return None

    def expand(self, x: Any, X: Any, y: Any, splits: list, candidates: list, scorer: Any, error_score: Any) -> None:
        """Make the nodes of every candidate and fold, and become the node that picks."""
        engine = self.engine
        # X and y were computed for all folds: their time is nobody's fit.
        engine.run.share([ref for ref in (self.x_ref, self.y_ref) if ref is not None], everything=True)
        first = sk.evaluation.find_scoring_node(self.data_op)
        self.scoring_entry = self.plan.index_of(first) if first is not None else -1
        if self.pipeline.__sklearn_tags__().input_tags.pairwise:
            raise sk.Unsupported("a pairwise estimator: its X is split along both axes")
        watched.check([scorer])
        self.scorer, self.error_score = scorer, error_score
        self.view = View(self.pipeline)
        self.ticker = Ticker()
        flags = self.flags("fit")
        shape = getattr(X, "shape", None)
        if shape and len(shape) <= 2 and int(np.prod(shape)) <= SMALL_CELLS:
            flags |= _core.SCOPE_SMALL
        base = _core.Scope(self.plan, "fit", flags, sk.subsampling_seed())
        sk.bind_environment(base, self.entries, self.environment)
        x_expr = self.x_expr if X is self.X_given else _core.Leaf(X, False)
        y_expr = None if y is None else self.y_expr if y is self.y_given else _core.Leaf(y, False)
        cv = _core.CV(
            self.plan, self.root, base, flags, sk.subsampling_seed(), self.x_entry, self.y_entry,
            engine.number("take"), engine.number("score"), self._modes, self._ticket,
        )  # fmt: skip
        cv.data(x_expr, y_expr)
        self.x_expr, self.y_expr = x_expr, y_expr
        self.rows = []
        for train, test in splits:
            rows = _core.Leaf(np.asarray(train)), _core.Leaf(np.asarray(test))
            self.rows.append(rows)
            cv.add_fold(*rows)
        for outcomes in candidates:
            cv.add_candidate(outcomes)
        # With scorers of scikit-learn's own, what they see of a model beside its predictions is its tags.
        known = self._view_key(scorer)
        study = studies.current()
        small = flags & _core.SCOPE_SMALL and study is None and not self.wants_learners
        groups = siblings.groups(self, candidates) if small else []
        spec = (
            _core.Leaf(scorer),
            error_score,
            _core.Leaf(self.view, False if known is None else known),
            _core.Leaf(self.ticker) if known is not None else _core.Leaf(self.ticker, False),
        )
        cv.scoring(spec, self.scoring_entry, self.train_scores)
        self.cv, self.n_folds, self.n_candidates = cv, len(splits), len(candidates)
        self.lowered, self.waiting, self.nodes_each = [], [], 0
        n = len(candidates) * len(splits)
        self.pairs, self.tests, self.trains = [()] * n, [None] * n, [None] * n
        self.fused, self.declined, self.n_fused = [], set(), 0
        together = {k for group in groups for k in group.others}
        self.lower([k for k in range(len(candidates)) if k not in together])
        if groups:
            self.fused, alone = siblings.nodes(self, groups)
            self.lower([k for group in alone for k in group.others])
        tests, trains = self.refs()
        self.ticker.start(len(candidates), len(splits) * (2 if self.train_scores else 1))
        if study is not None:
            study.watch(self, cv.refs(0), tests)
        fused = [one.ref for one in self.fused]
        engine.run.demand_waves(fused, [_FIRST_FOLD + one.fold for one in self.fused])
        self.keep = engine.run.keep(tests)
        extra = self.fold_states() if self.wants_learners else []
        if not tests:
            raise ValueError("No fits were performed. Was the CV iterator empty? Were there no candidates?")
        x.become(
            engine.node(
                "pick", (_core.Leaf(self, False), tuple(tests), tuple(trains), tuple(extra), tuple(fused))
            )
        )

    def _view_key(self, scorer: Any) -> bytes | None:
        """Encoding of what a scorer sees of every model of this search; None if that is not known."""
        single = scorer._scorers.values() if isinstance(scorer, skl.multimetric_scorer) else [scorer]
        for one in single:
            if one is not sk.score_of_pipeline and not isinstance(one, (skl._BaseScorer, skl._PassthroughScorer)):
                return None
            if next(estimators.code_inside(one), None) is not None:
                return None
        if self.scoring_entry >= 0:
            return None
        return _encode(self.view.tags)

    def lower(self, candidates: list[int]) -> None:
        """Make the nodes of some candidates."""
        if not candidates and self.n_candidates:
            return
        engine, n_folds = self.engine, self.n_folds
        wanted = bytearray(self.n_candidates)
        for k in candidates:
            wanted[k] = 1
        before = engine.graph.stats()["asked"]
        with engine.lowering:
            self.cv.lower(wanted)
        if candidates:
            asked = engine.graph.stats()["asked"] - before - n_folds * (2 if self.y_expr is None else 4)  # (rows)
            self.nodes_each = asked // max(1, len(candidates) * n_folds)
        self.lowered = sorted({*self.lowered, *(k * n_folds + fold for k in candidates for fold in range(n_folds))})
        self.waiting = [i for i in self.lowered if self.tests[i] is None]

    def refs(self) -> tuple[list, list]:
        """Ask for the scores that are lowered and not there yet: their refs, of train scores too where wanted."""
        tests = self.cv.refs(1)
        trains = self.cv.refs(2) if self.train_scores else None
        for i in self.waiting:
            self.pairs[i] = (tests[i],) if trains is None else (tests[i], trains[i])
        waves = [_FIRST_FOLD + i % self.n_folds for i in self.waiting]
        tests = [tests[i] for i in self.waiting]
        trains = [] if trains is None else [trains[i] for i in self.waiting]
        self.engine.run.demand_waves([*tests, *trains], [*waves, *waves[: len(trains)]])
        return tests, trains

    def found(self, i: int) -> Any:
        """What came of a pair."""
        return self.tests[i]

    def all_of(self, pairs: set[int]) -> set[int]:
        """All pairs of the candidates of some: a candidate is lowered on every fold."""
        return {k * self.n_folds + fold for k in {i // self.n_folds for i in pairs} for fold in range(self.n_folds)}

    def served(self, i: int, fused: Any, outcomes: list[Outcome]) -> None:
        """The outcomes of a pair without nodes of its own."""
        self.tests[i] = outcomes[0]
        if self.train_scores:
            self.trains[i] = outcomes[1]
        self.pairs[i] = (fused.ref,) * len(outcomes)
        self.n_fused += 1

    def arrive(self, x: Any, tests: tuple, trains: tuple, fused: tuple) -> bool:
        """Scores are there; whether they are all, or others had to be asked for."""
        for k, i in enumerate(self.waiting):
            self.tests[i] = tests[k]
            if trains:
                self.trains[i] = trains[k]
        missing = siblings.take(self, fused) if fused else ()
        if not missing:
            self.engine.count_fused(self.n_fused, self.nodes_each)
            return True
        self.lower(sorted({i // self.n_folds for i in missing}))
        tests, trains = self.refs()
        x.become(self.engine.node("pick", (_core.Leaf(self, False), tuple(tests), tuple(trains), (), ())))
        return False

    wants_learners = False

    def fold_states(self) -> list:
        raise NotImplementedError

    # -- what the engine asks while it lowers

    def _known_methods(self, estimator: Any) -> set[str] | None:
        scorer = self.scorer
        if scorer is sk.score_of_pipeline or isinstance(scorer, skl._PassthroughScorer):
            if self.scoring_entry < 0:
                return {"score"}
        elif not isinstance(scorer, skl.multimetric_scorer):
            return skl.response_methods(scorer, estimator)
        methods: set[str] = set()
        single = scorer._scorers.values() if isinstance(scorer, skl.multimetric_scorer) else [scorer]
        for one in single:
            if one is sk.score_of_pipeline or isinstance(one, skl._PassthroughScorer):
                found = {"score"} if self.scoring_entry < 0 else self._methods_of_scoring_node(estimator)
            else:
                found = skl.response_methods(one, estimator)
            if found is None:
                return None
            methods |= found
        return methods

    def _methods_of_scoring_node(self, estimator: Any) -> set[str] | None:
        """Methods that the scorers of `.skb.with_scoring()` call; None if it is not known ahead."""
        methods: set[str] = set()
        for info in self.entries[self.scoring_entry][1].scorers:
            scoring = info["scoring"]
            if sk.has_evaluables(scoring) or sk.has_evaluables(info["kwargs"]):
                return None
            if callable(scoring) and not isinstance(scoring, skl._BaseScorer):
                return None
            found = skl.response_methods(skl.check_scoring(self.pipeline, scoring), estimator)
            if found is None:
                return None
            methods |= found
        return methods

    def _modes(self, estimator: Any) -> int:
        methods = None if estimator is None else self._known_methods(estimator)
        self._complete = methods is not None
        return sum(1 << i for i, mode in enumerate(_MODES) if methods and mode in methods)

    def _ticket(self, candidate: int, fold: int, train: int) -> Any:
        return None if self._complete else Ticket(self, candidate, fold, bool(train))

    def rows_of(self, fold: int, train: bool) -> tuple[Any, Any]:
        """Refs of X and y on one side of a split."""
        rows = self.rows[fold][0 if train else 1]
        X = self.engine.node("take", (self.x_expr, rows))
        y = None if self.y_expr is None else self.engine.node("take", (self.y_expr, rows))
        return X, y

    # -- results

    def collect(self, tests: list, trains: Any) -> list[dict]:
        """One dict for each pair, as scikit-learn's own loop makes them; raises what must not be scored."""
        fit_times, score_times = self._times(0), self._times(1)
        siblings.times(self, fit_times, score_times)
        out = []
        for i, outcome in enumerate(tests):
            for train, o in enumerate((outcome, *(trains[i : i + 1]))):
                self._raise_if_broken(o, i, bool(train))
            result = {"fit_error": None}
            sides = [("test_scores", outcome)] + ([("train_scores", trains[i])] if trains else [])
            for name, o in sides:
                if o.fit_error is not None:
                    error = self._annotate_pair(o.fit_error, o.fit_at, i)
                    if result["fit_error"] is None:
                        result["fit_error"] = "".join(
                            traceback.format_exception(self.frames.of_fit(error, self.loop, self.supervised))
                        )
                    if isinstance(self.scorer, skl.multimetric_scorer):
                        result[name] = {n: self.error_score for n in self.scorer._scorers}
                    else:
                        result[name] = self.error_score
                else:
                    result[name] = copy.copy(o.scores)
            # What another item of the batch was charged with costs this one nothing that a clock could tell.
            result["fit_time"] = max(fit_times[i], CLOCK_S)
            result["score_time"] = 0.0 if outcome.fit_error is not None else max(score_times[i], CLOCK_S)
            out.append(result)
        return out

    def _times(self, part: int) -> list[float]:
        """Seconds of each pair's fit (0) or score (1); zero where it has no node of its own."""
        refs, times = self.cv.refs(part), [0.0] * len(self.tests)
        there = [i for i, ref in enumerate(refs) if ref is not None]
        for i, seconds in zip(there, self.engine.run.share([refs[i] for i in there])):
            times[i] = seconds
        return times

    def _annotate_pair(self, error: BaseException, at: Any, i: int) -> BaseException:
        self.scopes.append(self.cv.scope(i // self.n_folds, i % self.n_folds))
        try:
            return self.annotate(error, at)
        finally:
            self.scopes.pop()

    def _annotate_score(self, error: BaseException, mode: str, at: Any, i: int, train: bool) -> BaseException:
        if at is None:
            return error
        candidate, fold = divmod(i, self.n_folds)
        with self.engine.lowering:  # once more, to see which of this item's own nodes it is: nothing is run
            fitted = self.cv.scope(candidate, fold)
            scope, _ = self.cv.evaluate(candidate, mode, *self.rows_of(fold, train), fitted)
        return noted(error, self.impl_of(at, fitted, scope))

    def _raise_if_broken(self, outcome: Any, i: int, train: bool) -> None:
        if isinstance(outcome, _core.Failed):
            raise outcome.error
        if outcome.error is not None:
            if outcome.error_in is None:
                raise outcome.error
            raise self._annotate_score(outcome.error, *outcome.error_in, i, train)
        error = outcome.fit_error
        if error is None:
            return
        if not isinstance(error, Exception) or isinstance(error, _CANNOT_SHARE()):
            raise error
        if isinstance(self.error_score, str) and self.error_score == "raise":
            self.failed_in_fold = True
            raise self._annotate_pair(error, outcome.fit_at, i)

    def learner_with(self, candidate: int | None, states: list[tuple[int, Any]], params: dict) -> Any:
        """A fitted pipeline with the outcomes of a candidate and the given state."""
        learner = clone(self.pipeline)
        if params:
            learner.set_params(**clone(params, safe=False))
        self.write_back(_impls_by_uuid(learner.data_op), states)
        learner._is_fitted = True
        return learner

    def done(self) -> None:
        if getattr(self, "ticker", None) is not None:
            self.ticker.stop()
        self.keep = self.cv = None
        self.pairs = self.fused = ()
        self.tests = self.trains = []
        self.x_ref = self.y_ref = self.x_expr = self.y_expr = None
        self.rows = []
        super().done()


def _CANNOT_SHARE() -> tuple:
    from .operators import CannotShare

    return (CannotShare, NeedsModel)


class Ticket:
    """Lets a scorer that nobody knows ask a model for more than was foreseen."""

    def __init__(self, item: FoldsItem, candidate: int, fold: int, train: bool) -> None:
        self.item, self.candidate, self.fold, self.train = item, candidate, fold, train

    def evaluate(self, x: Any, mode: str, X: Any, y: Any, main: bool) -> Any:
        item = self.item
        with item.engine.lowering:
            scope = item.cv.scope(self.candidate, self.fold)
            if main:
                X, all_y = item.rows_of(self.fold, self.train)
                y = all_y
            else:
                X = _core.Leaf(X, False)
                y = None if y is None else _core.Leaf(y, False)
            read, ref = item.cv.evaluate(self.candidate, mode, X, y, scope)
        try:
            return x.nested(ref)
        except Exception as error:
            at = x.failed_at(ref)
            with_note = noted(error, item.impl_of(at, scope, read) if at is not None else None)
            if with_note is error:
                raise
            raise with_note from error.__cause__

    def unfitted(self) -> Any:
        """A pipeline with the outcomes of this model's candidate."""
        params = self.item.params[self.candidate] if self.item.params else {}
        pipeline = clone(self.item.pipeline)
        return pipeline.set_params(**clone(params, safe=False)) if params else pipeline

    def fitted(self, x: Any) -> Any:
        """A copy of the pipeline with this model's fitted state on it."""
        item = self.item
        scope = item.cv.scope(self.candidate, self.fold)
        states = [(entry, x.nested(ref)) for entry, ref in item.states_of(scope) if isinstance(ref, _core.Ref)]
        params = item.params[self.candidate] if item.params else {}
        return item.learner_with(self.candidate, states, params)


class SearchItem(FoldsItem):
    """`ParamSearch.fit()`: grid and randomised searches."""

    def __init__(self, search: Any, environment: Any) -> None:
        super().__init__(search.data_op, environment, what="search")
        self.owner = search  # the ParamSearch that is being fitted
        self.loop = "randomized" if hasattr(search.search, "n_iter") else "grid"
        self.n_jobs = backends.n_jobs_of(search.search.n_jobs)
        self.params: list[dict] = []

    def prepare(self, engine: Any) -> Any:
        self.check_backend()
        if type(self.owner.search) not in skl.SEARCHES:
            raise sk.Unsupported(f"a search by {type(self.owner.search).__name__}")
        self.owner.refit_ = self.owner.search.refit
        search = self.search = clone(self.owner.search)
        if isinstance(search.verbose, int) and search.verbose > 1:
            raise sk.Unsupported("verbose > 1 reports each fit as it ends")
        if skl.has_callbacks(search):
            raise sk.Unsupported("scikit-learn callbacks")
        if skl.metadata_routing_enabled():
            raise sk.Unsupported("metadata routing")
        if not isinstance(self.environment, dict):
            raise sk.Unsupported("an environment that is not a dict")
        self.pipeline = search.estimator = sk.XyPipeline(self.owner.data_op, sk.SharedDict(self.environment))
        grid = search.estimator.get_param_grid()
        if hasattr(search, "param_grid"):
            search.param_grid = grid
        else:
            search.param_distributions = grid
        return self.prepare_xy(engine, search.cv)

    def begin(self, x: Any, X: Any, y: Any, cv: Any, split_kwargs: Any) -> None:
        search = self.search
        search.cv = self.splitter_for(X, y, cv, split_kwargs)
        if search.scoring is None:
            search.scoring = sk.score_of_pipeline
        skl.validate_search(search)
        scorers, self.refit_metric = search._get_scorers()
        self.X_given, self.y_given = X, y
        X, y = skl.indexable(X, y)
        checked = search._checked_cv_orig = skl.check_cv(search.cv, y, classifier=skl.is_classifier(search.estimator))
        search.n_splits_ = checked.get_n_splits(X, y)
        params = skl.candidates_of(search)
        splits = list(checked.split(X, y))
        if len(splits) != search.n_splits_:
            raise ValueError(
                f"cv.split and cv.get_n_splits return inconsistent results. "
                f"Expected {search.n_splits_} splits, got {len(splits)}"
            )
        if search.verbose > 0:
            print(
                f"Fitting {search.n_splits_} folds for each of {len(params)} candidates,"
                f" totalling {len(params) * search.n_splits_} fits"
            )
        self.params = params
        self.train_scores = bool(search.return_train_score)
        choices = sk.evaluation.choices(self.data_op)
        entry = {f"data_op__{k}": self.plan.index_of(choice) for k, choice in choices.items()}
        discrete = {f"data_op__{k}" for k, choice in choices.items() if isinstance(choice, sk.choosing.Choice)}
        candidates = [
            [(entry[k], int(v) if k in discrete else v) for k, v in one.items()] for one in params
        ]
        self.expand(x, X, y, splits, candidates, scorers, search.error_score)

    def pick(self, x: Any, tests: list, trains: Any, extra: tuple) -> Any:
        search = self.search
        out = self.collect(tests, trains)
        skl.warn_or_raise_about_fit_failures(out, search.error_score)
        if callable(search.scoring):
            skl.insert_error_scores(out, search.error_score)
        results = search._format_results(self.params, search.n_splits_, out, {})
        first = out[0]["test_scores"]
        search.multimetric_ = isinstance(first, dict)
        metric = self.refit_metric
        if callable(search.scoring) and search.multimetric_:
            search._check_refit_for_multimetric(first)
            metric = search.refit
        if search.refit or not search.multimetric_:
            search.best_index_ = search._select_best_index(search.refit, metric, results)
            if not callable(search.refit):
                search.best_score_ = results[f"mean_test_{metric}"][search.best_index_]
            search.best_params_ = results["params"][search.best_index_]
        scorer = self.scorer
        search.scorer_ = scorer._scorers if isinstance(scorer, skl.multimetric_scorer) else scorer
        search.cv_results_ = results
        if not search.refit:
            return self._finish()
        with self.engine.lowering:
            scope, value = self.cv.evaluate(int(search.best_index_), "fit", None, None, None)
        self.scopes.append(scope)
        self.refit_ref = value
        self.states = self.states_of(scope)
        wanted = [value, *(state for _, state in self.states if isinstance(state, _core.Ref))]
        self.engine.run.demand_waves(wanted, [_REFIT] * len(wanted))
        x.become(
            self.engine.node("deliver", (_core.Leaf(self, False), value, tuple(s for _, s in self.states)))
        )
        return None

    def deliver(self, x: Any, value: Any, states: tuple) -> Any:
        if isinstance(value, _core.Failed):
            raise self.annotate(value.error, value.at)
        start = time.perf_counter()
        search = self.search
        fitted = [(entry, self.engine.hand_out(state)) for (entry, _), state in zip(self.states, states)]
        best = self.learner_with(int(search.best_index_), fitted, search.best_params_)
        search.best_estimator_ = best
        # Where the preview's value served, what is left is handing it over.
        spent = self.engine.run.share([self.refit_ref], everything=True)[0]
        search.refit_time_ = spent + time.perf_counter() - start
        return self._finish()

    def _finish(self) -> Any:
        owner, search = self.owner, self.search
        sk.copy_attributes(search, owner, sk.search_attributes)
        if hasattr(search, "best_estimator_"):
            owner.best_learner_ = sk.to_env_learner(search.best_estimator_)
        return owner

    def plain(self) -> Any:
        return self.engine_off(self.owner, self.environment)

    engine_off: Any = None  # skrub's own ParamSearch.fit; set when it is replaced


class CrossValidateItem(FoldsItem):
    """`skrub.cross_validate()` and `.skb.cross_validate()`"""

    loop = "cross_validate"

    def __init__(self, learner: Any, environment: Any, keep_subsampling: bool, cv: Any, kwargs: dict) -> None:
        # (A DataOp as the learner: its copy is made when the item's turn comes, as in plain skrub.)
        made = not isinstance(learner, sk.DataOp)
        super().__init__(learner.data_op if made else learner, environment, what="cross_validate")
        self.learner, self.keep_subsampling, self.given_cv, self.kwargs = learner, keep_subsampling, cv, kwargs
        self.given_environment = environment
        self.n_jobs = backends.n_jobs_of(kwargs.get("n_jobs"))
        self.params: list[dict] = []

    def prepare(self, engine: Any) -> Any:
        if isinstance(self.learner, sk.DataOp):
            self.learner = self.learner.skb.make_learner()
            self.data_op = self.learner.data_op
        if type(self.learner) is not sk.SkrubLearner:
            raise sk.Unsupported(f"cross-validation of a {type(self.learner).__name__}")
        self.check_backend()
        self.environment = sk.env_with_subsampling(self.data_op, self.environment, self.keep_subsampling)
        kwargs = sk.rename_cv_parameters(self.kwargs)
        defaults = skl.cross_validate_defaults()
        for name in kwargs:
            if name not in defaults:
                raise sk.Unsupported(f"the parameter {name}")
        self.arguments = {**defaults, **kwargs}
        if self.arguments["params"] or self.arguments["groups"] is not None or skl.metadata_routing_enabled():
            raise sk.Unsupported("metadata for the fit")
        if self.arguments["verbose"]:
            raise sk.Unsupported("verbose reports each fit as it ends")
        if not isinstance(self.environment, dict):
            raise sk.Unsupported("an environment that is not a dict")
        self.pipeline = self.learner.__skrub_to_Xy_pipeline__(self.environment)
        self.wants_learners = bool(self.arguments["return_estimator"])
        return self.prepare_xy(engine, self.given_cv)

    def begin(self, x: Any, X: Any, y: Any, cv: Any, split_kwargs: Any) -> None:
        given = self.arguments
        splitter = self.splitter_for(X, y, cv, split_kwargs)
        skl.validate_cross_validate({**given, "estimator": self.pipeline, "X": X, "y": y, "cv": splitter})
        self.X_given, self.y_given = X, y
        X, y = skl.indexable(X, y)
        checked = skl.check_cv(splitter, y, classifier=skl.is_classifier(self.pipeline))
        scorers = skl.check_scoring(self.pipeline, scoring=given["scoring"], raise_exc=given["error_score"] == "raise")
        self.train_scores = bool(given["return_train_score"])
        self.splits = list(checked.split(X, y))
        self.expand(x, X, y, self.splits, [[]], scorers, given["error_score"])

    def fold_states(self) -> list:
        self.state_entries = []
        refs = []
        for fold in range(self.n_folds):
            states = self.states_of(self.cv.scope(0, fold))
            self.state_entries.append([entry for entry, _ in states])
            refs.append(tuple(ref for _, ref in states))
        return refs

    def pick(self, x: Any, tests: list, trains: Any, extra: tuple) -> Any:
        given = self.arguments
        out = self.collect(tests, trains)
        skl.warn_or_raise_about_fit_failures(out, given["error_score"])
        if callable(given["scoring"]):
            skl.insert_error_scores(out, given["error_score"])
        table = skl.aggregate_score_dicts(out)
        ret: dict[str, Any] = {"fit_time": table["fit_time"], "score_time": table["score_time"]}
        test = skl.normalize_score_results(table["test_scores"])
        train = skl.normalize_score_results(table["train_scores"]) if trains else {}
        for name in test:
            ret[f"test_{name}"] = test[name]
            if trains:
                ret[f"train_{name}"] = train[name]
        if self.wants_learners:
            ret["learner"] = []
            for fold, states in enumerate(extra):
                fitted = [
                    (entry, self.engine.hand_out(state)) for entry, state in zip(self.state_entries[fold], states)
                ]
                learner = self.learner_with(None, fitted, {})
                learner._is_fitted = out[fold]["fit_error"] is None
                ret["learner"].append(sk.to_env_learner(learner))
        if given["return_indices"]:
            ret["train_indices"], ret["test_indices"] = zip(*self.splits)
        return pd.DataFrame(ret)

    def plain(self) -> Any:
        return self.engine_off(
            self.learner, self.given_environment, keep_subsampling=self.keep_subsampling, cv=self.given_cv, **self.kwargs
        )

    engine_off: Any = None  # skrub's own cross_validate; set when it is replaced


# -- Operators ------------------------------------------------------------------------------------


def begin(x: Any, impl: Any, item: FoldsItem, X: Any, y: Any, cv: Any, split_kwargs: Any) -> Any:
    """Operator: X and y are there; make candidates and folds."""
    return item.begin(x, X, y, cv, split_kwargs)


def pick(x: Any, impl: Any, item: FoldsItem, tests: tuple, trains: tuple, extra: tuple, fused: tuple) -> Any:
    """Operator: all scores are there, or those that tell which others are to be asked for."""
    if not item.arrive(x, tests, trains, fused):
        return None
    item.engine.said.tell(item.pairs, [ref for ref in (item.x_ref, item.y_ref) if ref is not None])
    item.keep = None if not getattr(item, "search", None) else item.keep
    return item.pick(x, item.tests, item.trains if item.train_scores else (), extra)


def deliver(x: Any, impl: Any, item: Item, value: Any, states: tuple) -> Any:
    """Operator: the value and the fitted state of an evaluation are there."""
    return item.deliver(x, value, states)
