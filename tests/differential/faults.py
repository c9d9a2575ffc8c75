"""Faults that an engine like stratum could have, and how to plant each of them.

``side --plant NAME`` calls ``plant`` in its own process, once, before it runs anything. A fault is
planted in the engine under test:

- in stratum's C library, by its number, where it was built with planted faults (``-DST_PLANT``;
  the environment variable ``ST_PLANT`` says which one);
- in stratum's Python hosts, by replacing a function;
- or, with ``--engine skrub`` on the tested side, in skrub's evaluator, which then stands in for an
  engine that has the fault. So the harness can be tested without an engine.

``test_faults.py`` asks that the harness finds every one. ``FAULTS`` is the table; ``exercises``
are words of recipes that show the fault, to find such a recipe soon.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd


@dataclasses.dataclass
class Fault:
    """A row of the table.

    Attributes
    ----------
    name : str
        What ``--plant`` takes.
    description : str
        What goes wrong.
    where : str
        The part of an engine where such a fault would live.
    exercises : tuple of tuple of str
        A recipe that contains all the words of one of these is likely to show the fault.
    stand_in : callable
        Plants it in skrub's evaluator.
    number : int or None
        The value of ``ST_PLANT`` that plants it in the C library.
    host : callable or None
        Plants it in stratum's Python hosts.
    """

    name: str
    description: str
    where: str
    exercises: tuple[tuple[str, ...], ...]
    stand_in: Callable[[], None]
    number: int | None = None
    host: Callable[[], None] | None = None

    def shown_by(self, recipe: dict[str, Any]) -> bool:
        """Whether a recipe is likely to show the fault."""
        text = json.dumps(recipe)
        return any(all(word in text for word in words) for words in self.exercises)


FAULTS: dict[str, Fault] = {}


def _fault(
    name: str, description: str, where: str, *exercises: str | tuple[str, ...], number: int | None = None
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    words = tuple((e,) if isinstance(e, str) else e for e in exercises)

    def register(stand_in: Callable[[], None]) -> Callable[[], None]:
        assert name not in FAULTS
        FAULTS[name] = Fault(name, description, where, words, stand_in, number)
        return stand_in

    return register


def _on_host(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def register(host: Callable[[], None]) -> Callable[[], None]:
        FAULTS[name].host = host
        return host

    return register


def plant(name: str, engine: str) -> None:
    """Plant a fault in this process.

    Parameters
    ----------
    name : str
        A name of the table.
    engine : str
        ``"stratum"`` or, for the stand-in, ``"skrub"``.
    """
    fault = FAULTS[name]
    if engine == "skrub":
        fault.stand_in()
    elif fault.number is not None:
        os.environ["ST_PLANT"] = str(fault.number)
    elif fault.host is not None:
        fault.host()
    else:
        raise LookupError(f"{name} cannot be planted in stratum")


def can_plant(name: str, engine: str) -> bool:
    """Whether there is a way to plant this fault in an engine."""
    fault = FAULTS[name]
    return engine == "skrub" or fault.number is not None or fault.host is not None


# --------------------------------------------------------------------------
# helpers


def _ops() -> Any:
    return importlib.import_module("skrub._data_ops._data_ops")


def _evaluation() -> Any:
    return importlib.import_module("skrub._data_ops._evaluation")


def _estimator() -> Any:
    return importlib.import_module("skrub._data_ops._estimator")


def _choosing() -> Any:
    return importlib.import_module("skrub._data_ops._choosing")


def _search() -> Any:
    return importlib.import_module("sklearn.model_selection._search")


def _validation() -> Any:
    return importlib.import_module("sklearn.model_selection._validation")


def _wrap(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a function of a module or a class by what ``make`` makes of it."""
    original = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
    static = isinstance(original, staticmethod)
    function = original.__func__ if static else original
    replaced = functools.wraps(function)(make(function))
    setattr(owner, name, staticmethod(replaced) if static else replaced)


def _deep(value: Any, change: Callable[[Any], Any]) -> Any:
    """``change`` applied to the leaves of lists, tuples and dicts."""
    if type(value) in (list, tuple):
        return type(value)(_deep(v, change) for v in value)
    if type(value) is dict:
        return {k: _deep(v, change) for k, v in value.items()}
    return change(value)


def _arguments(change: Callable[[Any], Any]) -> None:
    """Change constants among the arguments of functions, methods and operators."""
    ops = _ops()

    def make(compute: Callable[..., Any]) -> Callable[..., Any]:
        def changed(self: Any, e: Any, mode: Any, environment: Any) -> Any:
            for field in ("args", "kwargs", "left", "right"):
                if hasattr(e, field):
                    setattr(e, field, _deep(getattr(e, field), change))
            return compute(self, e, mode, environment)

        return changed

    for cls in (ops.Call, ops.CallMethod, ops.BinOp):
        _wrap(cls, "compute", make)


def _compute(cls: type, change: Callable[..., Any]) -> None:
    """Replace ``compute`` of a node class: ``change(compute, self, e, mode, environment)``."""
    _wrap(cls, "compute", lambda f: lambda self, e, mode, environment: change(f, self, e, mode, environment))


def _folds(change: Callable[[Any, Any, Any], tuple[Any, Any]]) -> None:
    """Change the rows of a fold: ``change(X, train, test)``."""

    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def changed(estimator: Any, X: Any, y: Any, *args: Any, **kwargs: Any) -> Any:
            kwargs["train"], kwargs["test"] = change(X, kwargs["train"], kwargs["test"])
            return f(estimator, X, y, *args, **kwargs)

        return changed

    _wrap(_validation(), "_fit_and_score", make)
    _search()._fit_and_score = _validation()._fit_and_score


def _take(change: Callable[[Any], Any]) -> None:
    """Change what taking rows of a fold gives."""
    for module in ("sklearn.utils.metaestimators", "sklearn.model_selection._validation"):
        owner = importlib.import_module(module)
        if hasattr(owner, "_safe_indexing"):
            _wrap(owner, "_safe_indexing", lambda f: lambda X, rows, **kw: change(f(X, rows, **kw)))


def _results(change: Callable[[Any, dict[str, Any]], dict[str, Any]]) -> None:
    """Change ``cv_results_`` as it is put together."""
    _wrap(
        _search().BaseSearchCV,
        "_format_results",
        lambda f: lambda self, params, n_splits, out, more=None: change(self, f(self, params, n_splits, out, more)),
    )


def _modes(names: Iterable[str], change: Callable[[Any], Any]) -> None:
    """Change what a learner answers in some modes, inside cross-validation."""
    names = tuple(names)

    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def changed(self: Any, mode: str, X: Any, y: Any = None) -> Any:
            result = f(self, mode, X, y)
            return change(result) if mode in names else result

        return changed

    _wrap(_estimator()._XyPipeline, "_eval_in_mode", make)


# --------------------------------------------------------------------------
# what is the same: keys of nodes


@_fault("minus_one_is_minus_two", "-1 and -2 are merged, as Python's hash merges them",
        "graph: keys of constants", '"shift"', '"minus2"', number=1)  # fmt: skip
def _() -> None:
    _arguments(lambda v: type(v)(-1) if type(v) in (int, float) and v == -2 else v)


@_fault("true_is_one", "True and 1 are merged, as == says", "graph: keys of constants",
        ("add_constant", "true"), ("kind_code", "true"), number=2)  # fmt: skip
def _() -> None:
    _arguments(lambda v: 1 if v is True else v)


@_fault("minus_zero_is_zero", "-0.0 and 0.0 are merged, as == says", "graph: keys of constants",
        ("add_constant", "-0.0"), number=3)  # fmt: skip
def _() -> None:
    _arguments(lambda v: 0.0 if type(v) is float and v == 0.0 else v)


@_fault("one_is_one_point_zero", "1 and 1.0 are merged, as == says", "graph: keys of constants", "add_constant")
def _() -> None:
    _arguments(lambda v: int(v) if type(v) is float and v in (1.0, -1.0) else v)


def _other_nans(value: Any) -> Any:
    """A copy of a table whose NaN have another sign."""
    if isinstance(value, pd.DataFrame):
        wide = {c: _other_nans(value[c]) for c in value.columns if str(value.dtypes[c]) == "float64"}
        return value.assign(**wide) if wide else value
    if isinstance(value, pd.Series) and value.dtype == np.float64:
        cells = value.to_numpy().copy()
        cells[np.isnan(cells)] = -np.float64("nan")
        return pd.Series(cells, index=value.index, name=value.name)
    return value


@_fault("nan_payload", "the bits of NaN are not kept", "values: canonical NaN", ('"specials": true', 'eval"'))
def _() -> None:
    for cls in (_ops().GetItem, _ops().CallMethod):
        _compute(cls, lambda f, self, e, m, env: _other_nans(f(self, e, m, env)))


@_fault("keyword_dropped", "the last keyword argument of a call is not part of its key",
        "capture: fields of a call", "add_scaled")  # fmt: skip
def _() -> None:
    def drop(f: Any, self: Any, e: Any, m: Any, env: Any) -> Any:
        e.kwargs = {k: v for k, v in e.kwargs.items() if k != "k"}
        return f(self, e, m, env)

    _compute(_ops().Call, drop)


@_fault("arguments_swapped", "f(a, b) is taken for f(b, a)", "graph: order of inputs", '"weighted"', '"sum_matrices"')
def _() -> None:
    def swap(f: Any, self: Any, e: Any, m: Any, env: Any) -> Any:
        if len(e.args) == 2 and type(e.args[0]) is type(e.args[1]):
            e.args = (e.args[1], e.args[0])
        return f(self, e, m, env)

    _compute(_ops().Call, swap)


@_fault("operands_swapped", "a - b is taken for b - a", "graph: order of inputs", '"op_name": "sub"')
def _() -> None:
    def swap(f: Any, self: Any, e: Any, m: Any, env: Any) -> Any:
        if e.op.__name__ in ("__sub__", "sub"):
            e.left, e.right = e.right, e.left
        return f(self, e, m, env)

    _compute(_ops().BinOp, swap)


@_fault("columns_as_a_set", "a list of columns loses its order", "capture: lists as sets", "first_minus_second")
def _() -> None:
    def sort(f: Any, self: Any, e: Any, m: Any, env: Any) -> Any:
        if isinstance(e.key, list):
            e.key = sorted(set(e.key))
        return f(self, e, m, env)

    _compute(_ops().GetItem, sort)


@_fault("closures_merged", "two functions with the same code and other free variables are merged",
        "capture: keys of functions", '"make_lambda"', '"closure"')  # fmt: skip
def _() -> None:
    seen: dict[str, Any] = {}

    def first(f: Any, self: Any, e: Any, m: Any, env: Any) -> Any:
        closure = getattr(e.func, "__closure__", None)
        if closure:
            e.func = seen.setdefault(e.func.__code__.co_qualname, e.func)
        return f(self, e, m, env)

    _compute(_ops().Call, first)


@_fault("code_constants_ignored", "two lambdas that differ in a constant alone are merged",
        "capture: keys of functions", '"minus2"')  # fmt: skip
def _() -> None:
    from tests.differential import udf

    def same(f: Any, self: Any, e: Any, m: Any, env: Any) -> Any:
        if e.func is udf.LAMBDAS["minus2"]:
            e.func = udf.LAMBDAS["minus"]
        return f(self, e, m, env)

    _compute(_ops().Call, same)


@_fault("seeds_merged", "integer seeds are not part of the key", "capture: parameters of estimators and splitters",
        '"random_state": 7', '"random_state": 5', '"random_state": 1')  # fmt: skip
def _() -> None:
    from sklearn.utils import validation

    original = validation.check_random_state

    def merged(seed: Any) -> Any:
        return original(0 if isinstance(seed, int) else seed)

    for name in ("sklearn.model_selection._split", "sklearn.model_selection._search"):
        importlib.import_module(name).check_random_state = merged


# --------------------------------------------------------------------------
# choices and the environment


@_fault("outcome_off_by_one", "a candidate gets the next outcome of a choice", "lowering: substitution",
        ('"choose_from"', '"search"'), number=4)  # fmt: skip
def _() -> None:
    choosing = _choosing()

    def chosen(self: Any) -> Any:
        if self.chosen_outcome_idx is None:
            return self.default()
        return self.outcomes[(self.chosen_outcome_idx + 1) % len(self.outcomes)]

    choosing.Choice.chosen_outcome_or_default = chosen


@_fault("default_for_chosen", "the default outcome is used, whatever was chosen", "lowering: substitution",
        ('"choose_from"', '"search"'), number=5)  # fmt: skip
def _() -> None:
    choosing = _choosing()
    choosing.Choice.chosen_outcome_or_default = lambda self: self.default()
    choosing.BaseNumericChoice.chosen_outcome_or_default = lambda self: self.default()


@_fault("choice_match_wrong_branch", "a match on a choice takes another branch", "lowering: substitution", '"$match"', number=10)  # fmt: skip
def _() -> None:
    def wrong(self: Any, choice_match: Any) -> Any:
        outcome = yield choice_match.choice
        values = list(choice_match.outcome_mapping)
        other = values[(values.index(outcome) + 1) % len(values)]
        return (yield choice_match.outcome_mapping[other])

    _evaluation()._Evaluator.handle_choice_match = wrong


@_fault("match_wrong_branch", "a match on a value takes another branch", "expand nodes: match", '"op": "match"')
def _() -> None:
    def wrong(self: Any, *, environment: Any, mode: Any) -> Any:
        query = yield self.query
        keys = list(self.targets)
        if query in self.targets and len(keys) > 1:
            query = keys[(keys.index(query) + 1) % len(keys)]
        target = self.targets.get(query, self.default) if self.has_default() else self.targets[query]
        return (yield target)

    _ops().Match.eval = wrong


@_fault("if_else_negated", "if_else takes the other branch", "expand nodes: if_else", '"op": "if_else"')
def _() -> None:
    def wrong(self: Any, *, environment: Any, mode: Any) -> Any:
        condition = yield self.condition
        return (yield self.value_if_false if condition else self.value_if_true)

    _ops().IfElse.eval = wrong


@_fault("choice_override_ignored", "a choice named in the environment keeps its own outcome",
        "capture: environment", '"set"')  # fmt: skip
def _() -> None:
    def ignore(self: Any, choice: Any) -> Any:
        if self.mode == "preview":
            return (yield _choosing().get_default(choice))
        return (yield choice.chosen_outcome_or_default())

    _evaluation()._Evaluator.handle_choice = ignore


@_fault("X_override_ignored", "the value for the node marked as X is not used", "capture: environment",
        '"kind": "learner"')  # fmt: skip
def _() -> None:
    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def ignore(self: Any, data_op: Any) -> Any:
            if data_op._skrub_impl.is_X and self.mode == "predict" and "_skrub_X" in self.environment:
                self.environment = {k: v for k, v in self.environment.items() if k != "_skrub_X"}
            return f(self, data_op)

        return ignore

    _wrap(_evaluation()._Evaluator, "handle_data_op", make)


@_fault("named_node_override_ignored", "a value for a named node is not used", "capture: environment",
        '"set": {"node')  # fmt: skip
def _() -> None:
    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def ignore(self: Any, mode: Any = "preview", environment: Any = None, callbacks: Any = ()) -> None:
            kept = {k: v for k, v in (environment or {}).items() if not str(k).startswith("node")}
            f(self, mode, kept if environment is not None else None, callbacks)

        return ignore

    _wrap(_evaluation()._Evaluator, "__init__", make)


# --------------------------------------------------------------------------
# folds


@_fault("test_rows_leak", "the model is fitted on the rows of the test side too", "lowering: folds",
        '"cross_validate"', number=7)  # fmt: skip
def _() -> None:
    _folds(lambda X, train, test: (np.concatenate([np.asarray(train), np.asarray(test)]), test))


@_fault("wrong_fold", "a model is scored on rows of another fold", "lowering: folds", '"cross_validate"', number=8)
def _() -> None:
    _folds(lambda X, train, test: (train, np.asarray(train)[: len(test)]))


@_fault("rows_sorted", "the rows of a fold are taken in sorted order", "lowering: folds", "ShuffleSplit", "$splits")
def _() -> None:
    _folds(lambda X, train, test: (np.sort(train), np.sort(test)))


@_fault("groups_ignored", "the groups of split_kwargs are not used", "hosts: splitters", "GroupKFold")
def _() -> None:
    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def ignore(self: Any, splitter: Any, split_kwargs: Any) -> None:
            f(self, splitter, split_kwargs)
            if "groups" in self.split_kwargs:
                self.split_kwargs = {"groups": np.arange(len(self.split_kwargs["groups"])) % 4}

        return ignore

    _wrap(_estimator()._Splitter, "__init__", make)


@_fault("stratification_ignored", "folds of a classifier are not stratified", "hosts: splitters",
        ('"splitter": "int"', "Classif"), ('"splitter": "none"', "Classif"), ('"splitter": "int"', "Nearest"),
        ('"splitter": "none"', "Nearest"), ('"splitter": "int"', "Logistic"))  # fmt: skip
def _() -> None:
    for module in (_search(), _validation()):
        _wrap(module, "check_cv", lambda f: lambda cv=5, y=None, *, classifier=False, **kw: f(cv, y, **kw))


@_fault("index_lost", "taking rows makes a new index", "lowering: take", "introspect")
def _() -> None:
    _take(lambda v: v.reset_index(drop=True) if isinstance(v, pd.DataFrame | pd.Series) else v)


@_fault("dtype_changed", "taking rows widens small types", "lowering: take",
        ("introspect", "float32"), ("introspect", "int8"))  # fmt: skip
def _() -> None:
    def widen(value: Any) -> Any:
        if isinstance(value, pd.DataFrame):
            small = {c: d for c, d in value.dtypes.items() if str(d) in ("float32", "int8")}
            return value.astype({c: "float64" if str(d) == "float32" else "int64" for c, d in small.items()})
        return value

    _take(widen)


@_fault("refit_on_a_fold", "the refit sees the rows of one fold alone", "lowering: refit", '"search"', number=11)  # fmt: skip
def _() -> None:
    inside: list[int] = []

    def nested(f: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            inside.append(1)
            try:
                return f(*args, **kwargs)
            finally:
                inside.pop()

        return run

    _wrap(_validation(), "_fit_and_score", nested)
    _search()._fit_and_score = _validation()._fit_and_score

    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def part(self: Any, mode: str, X: Any, y: Any = None) -> Any:
            if mode == "fit" and not inside:
                X, y = X[: len(X) * 3 // 4], y[: len(X) * 3 // 4] if y is not None else None
            return f(self, mode, X, y)

        return part

    _wrap(_estimator()._XyPipeline, "_eval_in_mode", make)


# --------------------------------------------------------------------------
# state


@_fault("state_of_another_fold", "a transformer is applied with the state of an earlier fit", "lowering: states",
        "StandardScaler", "Centre")  # fmt: skip
def _() -> None:
    seen: dict[int, Any] = {}

    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def stale(self: Any, *, mode: Any, environment: Any) -> Any:
            if "fit" not in mode and mode != "preview" and hasattr(self, "estimator_"):
                self.estimator_ = seen.setdefault(self.uuid, self.estimator_)
            return f(self, mode=mode, environment=environment)

        return stale

    _wrap(_ops().Apply, "eval", make)


@_fault("applied_estimator_of_another_fold", "applied_estimator gives the estimator of an earlier fit",
        "lowering: states", "applied_estimator")  # fmt: skip
def _() -> None:
    seen: dict[int, Any] = {}
    _compute(_ops().AppliedEstimator, lambda f, self, e, m, env: seen.setdefault(self.uuid, f(self, e, m, env)))


@_fault("frozen_value_computed_again", "a frozen value is computed from the rows to predict", "lowering: freeze",
        '"freeze"', number=12)  # fmt: skip
def _() -> None:
    def again(self: Any, *, mode: Any, environment: Any) -> Any:
        self.value_ = yield self.target
        return self.value_

    _ops().FreezeAfterFit.eval = again


@_fault("concat_names_forgotten", "names of concatenated columns are not those of the fit", "lowering: concat",
        "named_by_mode")  # fmt: skip
def _() -> None:
    def forget(f: Any, self: Any, e: Any, mode: Any, env: Any) -> Any:
        return f(self, e, "fit", env)

    _compute(_ops().Concat, forget)


@_fault("estimator_not_cloned", "the user's own estimator is fitted", "hosts: fresh copies", '"apply"')
def _() -> None:
    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def run(self: Any, estimator: Any) -> Any:
            if not hasattr(estimator, "transformer") and not _evaluation().needs_eval(estimator.get_params()):
                yield None
                return estimator
            return (yield from f(self, estimator))

        return run

    _wrap(_evaluation()._DataOpTraversal, "handle_estimator", make)


@_fault("shared_value_mutated", "a value made once is handed to several users without a copy",
        "running: private copies", "mutate_")  # fmt: skip
def _() -> None:
    made: dict[str, Any] = {}

    def once(f: Any, self: Any, e: Any, m: Any, env: Any) -> Any:
        name = getattr(e.func, "__name__", "")
        if name.startswith("fresh_"):
            return made.setdefault(name, f(self, e, m, env))
        return f(self, e, m, env)

    _compute(_ops().Call, once)


@_fault("y_format_lost", "predictions do not take the form of y", "hosts: predictions", '"kind": "eval"')
def _() -> None:
    _ops().Apply._format_predictions = lambda self, X, pred: pred


@_fault("unsupervised_ignored", "an unsupervised estimator is given y", "hosts: fit", '"unsupervised"')
def _() -> None:
    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def ignore(self: Any, *, mode: Any, environment: Any) -> Any:
            self.unsupervised = False
            return f(self, mode=mode, environment=environment)

        return ignore

    _wrap(_ops().Apply, "eval", make)


@_fault("fit_kwargs_in_predict", "keywords of fit are passed to predict", "hosts: keywords", '"predict_kwargs"')
def _() -> None:
    def merged(self: Any, method_name: str) -> Any:
        kwargs = yield {**(self.kwargs.get("fit") or {}), **(self.kwargs.get(method_name) or {})}
        return {k: v for k, v in kwargs.items() if k != "sample_weight" or method_name == "fit"}

    _ops().Apply._eval_kwargs = merged


@_fault("predict_kwargs_dropped", "keywords of predict are dropped", "hosts: keywords", '"predict_kwargs"')
def _() -> None:
    def dropped(self: Any, method_name: str) -> Any:
        kwargs = yield self.kwargs.get(method_name, None)
        return {} if method_name == "predict" or kwargs is None else kwargs

    _ops().Apply._eval_kwargs = dropped


@_fault("mode_of_fit", "eval_mode says fit_transform while predicting", "lowering: modes", "mode_shift", '"eval_mode"', number=13)  # fmt: skip
def _() -> None:
    _compute(_ops().EvalMode, lambda f, self, e, m, env: m if m == "preview" else "fit_transform")


@_fault("subsampling_always_on", "a subsample is taken although nobody asked", "capture: scope", '"subsample"')
def _() -> None:
    subsampling = importlib.import_module("skrub._data_ops._subsampling")
    subsampling._should_subsample = lambda mode, environment: "fit" in mode or mode == "preview"


# --------------------------------------------------------------------------
# scores and results


@_fault("scores_beside_another_candidate", "scores stand beside other candidates' names", "lowering: results",
        '"grid"', '"randomized"', number=9)  # fmt: skip
def _() -> None:
    def turn(self: Any, results: dict[str, Any]) -> dict[str, Any]:
        for key in results:
            if key.endswith("_test_score") or "_test_" in key:
                results[key] = np.roll(results[key], 1)
        return results

    _results(turn)


@_fault("train_and_test_scores_swapped", "train scores stand in the place of test scores", "lowering: results",
        '"return_train_score"')  # fmt: skip
def _() -> None:
    def swap(self: Any, results: dict[str, Any]) -> dict[str, Any]:
        for key in [k for k in results if "_test_" in k and k.replace("_test_", "_train_") in results]:
            other = key.replace("_test_", "_train_")
            results[key], results[other] = results[other], results[key]
        return results

    _results(swap)


@_fault("best_index_off", "the best candidate is the one before or after", "hosts: results", '"search"')
def _() -> None:
    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        return lambda refit, metric, results: (f(refit, metric, results) + 1) % len(results["params"])

    _wrap(_search().BaseSearchCV, "_select_best_index", make)


@_fault("ties_ranked_differently", "equal scores get ranks in order of appearance", "hosts: results",
        ('"search"', "Dummy"), ('"search"', "DecisionTree"), ('"search"', "mutate_"))  # fmt: skip
def _() -> None:
    def rank(self: Any, results: dict[str, Any]) -> dict[str, Any]:
        for key in [k for k in results if k.startswith("rank_test_")]:
            scores = results[key.replace("rank_", "mean_")]
            order = np.argsort(-np.asarray(scores), kind="stable")
            ranks = np.empty(len(order), dtype=np.int32)
            ranks[order] = np.arange(1, len(order) + 1)
            results[key] = ranks
        return results

    _results(rank)


@_fault("order_of_results", "the keys of cv_results_ come in another order", "hosts: results", '"search"')
def _() -> None:
    _results(lambda self, results: {k: results[k] for k in sorted(results)})


@_fault("spread_of_samples", "standard deviations divide by n - 1", "hosts: results", '"search"')
def _() -> None:
    def spread(self: Any, results: dict[str, Any]) -> dict[str, Any]:
        for key in [k for k in results if k.startswith("std_test_")]:
            name = key.removeprefix("std_test_")
            splits = [results[k] for k in results if k.startswith("split") and k.endswith(f"_test_{name}")]
            results[key] = np.std(np.stack(splits), axis=0, ddof=1)
        return results

    _results(spread)


@_fault("labels_for_probabilities", "scorers of probabilities are given labels", "hosts: scorers",
        "roc_auc", "neg_log_loss", "predict_proba")  # fmt: skip
def _() -> None:
    _modes(["predict_proba"], lambda p: np.eye(p.shape[1])[np.argmax(p, axis=1)])


@_fault("sign_of_a_scorer", "greater_is_better=False is not respected", "hosts: scorers",
        '"greater_is_better": false')  # fmt: skip
def _() -> None:
    from sklearn.metrics import _scorer

    _wrap(_scorer._BaseScorer, "__init__", lambda f: lambda self, func, sign, *a, **kw: f(self, func, 1, *a, **kw))


@_fault("scorer_weights_dropped", "keywords of with_scoring are dropped", "hosts: scorers", '"sample_weight"')
def _() -> None:
    _wrap(_estimator()._XyPipeline, "_prepare_scorer", lambda f: lambda self, scoring, kwargs: f(self, scoring, None))


@_fault("error_score_ignored", "a failing fit scores NaN, whatever error_score says", "hosts: results",
        '"error_score": -1.0', '"error_score": 0.25', '"error_score": "raise"')  # fmt: skip
def _() -> None:
    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def ignore(*args: Any, **kwargs: Any) -> Any:
            return f(*args, **{**kwargs, "error_score": np.nan})

        return ignore

    _wrap(_validation(), "_fit_and_score", make)
    _search()._fit_and_score = _validation()._fit_and_score


# --------------------------------------------------------------------------
# errors and batches


@_fault("exception_swallowed", "a step that fails hands on its input", "running: failures", "fail_if", "fail_on_fold",
        "fail_unless_preview")  # fmt: skip
def _() -> None:
    def swallow(f: Any, self: Any, e: Any, m: Any, env: Any) -> Any:
        try:
            return f(self, e, m, env)
        except (ValueError, ArithmeticError, LookupError):
            return e.args[0]

    _compute(_ops().Call, swallow)


@_fault("creation_line_lost", "an error does not say where its node was made", "running: failures",
        "fail_unless_preview", "fail_if")  # fmt: skip
def _() -> None:
    _ops().DataOpImpl.creation_stack_last_line = lambda self: ""


@_fault("last_error_raised", "the last error of a batch is raised, not the first", "running: batches",
        ("fail_unless_preview", '"on_error": "raise"'), ("the last failure", '"on_error": "raise"'))  # fmt: skip
def _() -> None:
    from tests.differential import side

    side.Side.first_error = staticmethod(lambda errors: errors[-1])


@_fault("batch_order", "the results of a batch come in another order", "running: batches", '"kind": "batch"')
def _() -> None:
    from tests.differential import side

    side.Side.in_order = staticmethod(lambda made: list(reversed(made)))


@_fault("graph_rewritten", "a run leaves something on the user's own nodes", "capture: the user's graph", '"search"')
def _() -> None:
    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def run(self: Any, *, fitted: bool = False, **kwargs: Any) -> Any:
            made = f(self, fitted=fitted, **kwargs)
            impl = self._data_op._skrub_impl
            if hasattr(impl, "estimator"):
                impl.estimator_ = copy.copy(getattr(impl, "estimator", None))
            return made

        return run

    namespace = importlib.import_module("skrub._data_ops._skrub_namespace").SkrubNamespace
    _wrap(namespace, "make_grid_search", make)


# --------------------------------------------------------------------------
# the same faults in stratum's Python hosts

# stratum runs these through the same functions of skrub and scikit-learn that the stand-ins replace.
for _name in (
    "keyword_dropped", "arguments_swapped", "closures_merged", "code_constants_ignored", "seeds_merged",
    "groups_ignored", "concat_names_forgotten", "y_format_lost", "train_and_test_scores_swapped",
    "best_index_off", "ties_ranked_differently", "order_of_results", "spread_of_samples",
    "sign_of_a_scorer", "scorer_weights_dropped", "exception_swallowed", "creation_line_lost",
    "graph_rewritten",
):  # fmt: skip
    FAULTS[_name].host = FAULTS[_name].stand_in


def _host(name: str) -> Any:
    return importlib.import_module(f"stratum.hosts.{name}")


def _operator(name: str, change: Callable[..., Any]) -> None:
    """Replace the function of an operator: ``change(function, *arguments)``."""
    operators = _host("operators")
    rows = [
        dataclasses.replace(op, func=functools.partial(change, op.func)) if op.name == name else op
        for op in operators.OPERATORS
    ]
    assert rows != list(operators.OPERATORS), f"no operator is called {name}"
    operators.OPERATORS = tuple(rows)


@_on_host("one_is_one_point_zero")
def _() -> None:
    FAULTS["one_is_one_point_zero"].stand_in()


@_on_host("nan_payload")
def _() -> None:
    for name in ("getitem", "method"):
        _operator(name, lambda f, *a: _other_nans(f(*a)))


@_on_host("operands_swapped")
def _() -> None:
    def swap(f: Any, x: Any, impl: Any, left: Any, right: Any, op: Any) -> Any:
        return f(x, impl, right, left, op) if op.__name__ in ("__sub__", "sub") else f(x, impl, left, right, op)

    _operator("binop", swap)


@_on_host("columns_as_a_set")
def _() -> None:
    _operator("getitem", lambda f, x, impl, container, key: f(
        x, impl, container, sorted(set(key)) if isinstance(key, list) else key))  # fmt: skip


@_on_host("match_wrong_branch")
def _() -> None:
    def wrong(f: Any, x: Any, impl: Any, condition: Any, keys: Any, has_default: bool) -> None:
        if keys is not None and condition in keys and len(keys) > 1:
            condition = keys[(list(keys).index(condition) + 1) % len(keys)]
        f(x, impl, condition, keys, has_default)

    _operator("select", wrong)


@_on_host("if_else_negated")
def _() -> None:
    _operator("select", lambda f, x, impl, condition, keys, has_default: f(
        x, impl, not condition if keys is None else condition, keys, has_default))  # fmt: skip


def _binding(keep: Callable[[Any, Any], bool]) -> None:
    """Bind from the environment only what ``keep(kind, object)`` lets through."""
    sk = _host("_skrub_0_11")

    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def bind(scope: Any, entries: Any, environment: Any) -> None:
            kept = [(k, o) if keep(k, o) else (sk._core.ST_CAP_CHOICE_MATCH, o) for k, o in entries]
            f(scope, kept, environment)

        return bind

    _wrap(sk, "bind_environment", make)


@_on_host("choice_override_ignored")
def _() -> None:
    core = importlib.import_module("stratum._core")
    _binding(lambda kind, obj: kind not in (core.ST_CAP_CHOICE, core.ST_CAP_NUMBER))


@_on_host("X_override_ignored")
def _() -> None:
    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def init(self: Any, mode: str, environment: Any, *args: Any, **kwargs: Any) -> None:
            if mode == "predict" and environment is not None and "_skrub_X" in environment:
                environment = {k: v for k, v in environment.items() if k != "_skrub_X"}
            f(self, mode, environment, *args, **kwargs)

        return init

    _wrap(_host("evaluating")._Evaluation, "__init__", make)


@_on_host("named_node_override_ignored")
def _() -> None:
    _binding(lambda kind, obj: not str(getattr(obj, "name", "")).startswith("node"))


@_on_host("stratification_ignored")
def _() -> None:
    _wrap(_host("_sklearn"), "check_cv", lambda f: lambda cv=5, y=None, *, classifier=False, **kw: f(cv, y, **kw))


@_on_host("rows_sorted")
def _() -> None:
    _operator("take", lambda f, x, impl, data, rows: f(x, impl, data, np.sort(rows)))


@_on_host("index_lost")
def _() -> None:
    def lose(f: Any, x: Any, impl: Any, data: Any, rows: Any) -> Any:
        value = f(x, impl, data, rows)
        return value.reset_index(drop=True) if isinstance(value, pd.DataFrame | pd.Series) else value

    _operator("take", lose)


@_on_host("dtype_changed")
def _() -> None:
    def widen(f: Any, x: Any, impl: Any, data: Any, rows: Any) -> Any:
        value = f(x, impl, data, rows)
        if isinstance(value, pd.DataFrame):
            kinds = {"float32": "float64", "int8": "int64"}
            return value.astype({c: kinds[str(d)] for c, d in value.dtypes.items() if str(d) in kinds})
        return value

    _operator("take", widen)


@_on_host("state_of_another_fold")
def _() -> None:
    seen: dict[int, Any] = {}

    def stale(f: Any, x: Any, impl: Any, mode: Any, inner: Any, state: Any, *rest: Any) -> Any:
        return f(x, impl, mode, inner, seen.setdefault(impl.uuid, state), *rest)

    _operator("apply", stale)


@_on_host("applied_estimator_of_another_fold")
def _() -> None:
    seen: dict[int, Any] = {}
    _operator("applied", lambda f, x, impl, state: seen.setdefault(impl.uuid, f(x, impl, state)))


@_on_host("estimator_not_cloned")
def _() -> None:
    _host("estimators").fresh = lambda estimator: estimator


@_on_host("shared_value_mutated")
def _() -> None:
    # Both halves of the fault: nothing is copied, and the engine's copies are made by this function.
    operators = _host("operators")
    operators.protect = lambda value: value
    importlib.import_module("stratum.engine").protect = operators.protect
    FAULTS["shared_value_mutated"].stand_in()


@_on_host("unsupervised_ignored")
def _() -> None:
    operators = _host("operators")

    def ignore(f: Any, x: Any, impl: Any, method: Any, estimator: Any, X: Any, y: Any, unsupervised: Any,
               *rest: Any) -> Any:  # fmt: skip
        return f(x, impl, method, estimator, X, np.zeros(len(X)) if unsupervised else y, False, *rest)

    assert operators is not None
    _operator("fit", ignore)


@_on_host("fit_kwargs_in_predict")
def _() -> None:
    sk = _host("_skrub_0_11")
    describe = sk._SPECS[_ops().Apply]

    def merged(impl: Any) -> tuple:
        kind, op, fields, flags = describe(impl)
        kwargs = impl.kwargs
        if isinstance(kwargs, dict) and isinstance(kwargs.get("fit"), dict):
            of_fit = {k: v for k, v in kwargs["fit"].items() if k != "sample_weight"}
            kwargs = {**kwargs, "predict": {**of_fit, **(kwargs.get("predict") or {})}}
        return kind, op, tuple(kwargs if f is impl.kwargs else f for f in fields), flags

    sk._SPECS[_ops().Apply] = merged


@_on_host("predict_kwargs_dropped")
def _() -> None:
    _wrap(_host("operators"), "_arguments", lambda f: lambda kwargs, method: (
        {} if method == "predict" else f(kwargs, method)))  # fmt: skip


@_on_host("subsampling_always_on")
def _() -> None:
    _host("_skrub_0_11")._should_subsample = lambda mode, environment: "fit" in mode or mode == "preview"


@_on_host("labels_for_probabilities")
def _() -> None:
    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def labels(self: Any, mode: str, X: Any, y: Any = None) -> Any:
            result = f(self, mode, X, y)
            return np.eye(result.shape[1])[np.argmax(result, axis=1)] if mode == "predict_proba" else result

        return labels

    _wrap(_host("searches").Model, "_eval_in_mode", make)


@_on_host("error_score_ignored")
def _() -> None:
    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def ignore(self: Any, x: Any, X: Any, y: Any, splits: Any, candidates: Any, scorer: Any, _: Any) -> Any:
            return f(self, x, X, y, splits, candidates, scorer, np.nan)

        return ignore

    _wrap(_host("searches").FoldsItem, "expand", make)


@_on_host("batch_order")
def _() -> None:
    _wrap(importlib.import_module("stratum"), "run", lambda f: lambda items, **kw: list(reversed(f(items, **kw))))


@_on_host("last_error_raised")
def _() -> None:
    def make(f: Callable[..., Any]) -> Callable[..., Any]:
        def last(items: Any, on_error: str = "raise") -> Any:
            results = f(items, on_error="return")
            errors = [r for r in results if isinstance(r, BaseException)]
            if errors and on_error == "raise":
                errors[-1].results = results  # type: ignore[attr-defined]
                raise errors[-1]
            return results

        return last

    _wrap(importlib.import_module("stratum"), "run", make)
