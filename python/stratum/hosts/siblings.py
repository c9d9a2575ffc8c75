"""Candidates that differ in nothing but the penalty of their last, linear model: fitted and scored together.

What it is for
    On a table of a hundred rows a candidate costs what scikit-learn asks before it fits, predicts and scores (0.8 ms a
    fold; the arithmetic takes 10 microseconds), and the nodes that it is made of. Candidates that read the same rows
    and differ in `alpha` or `C` alone need that once.

How
    `groups` finds such candidates in a search before any of their nodes is made. The first of a group is lowered, fitted
    and scored as ever; the others are one node a fold (`fit_and_score`), which checks the rows once, fits with the
    kernels that the native classes have (`fit_many`), and scores with those of the metrics. It counts only if what it
    finds for the first candidate is what the first candidate's own nodes found.

What is left to the ordinary way
    All that is not known here: other models, metrics, types of columns; `exactness="identical"`; a first candidate
    that fails or warns; and each candidate for which a kernel declines, does not converge, or finds a score that
    is no number. Those get nodes of their own when that is known (`take`), so that errors, warnings and scores are
    what they are without this module.

Who may call it
    `stratum.hosts.searches` and `stratum.hosts.pipelines`; the registry of operators.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn import get_config, linear_model
from sklearn.pipeline import Pipeline
from sklearn.utils.extmath import softmax
from sklearn.utils.validation import validate_data

from .. import _config, _core
from ..native._base import Declined
from . import _sklearn as skl
from . import _skrub_0_11 as sk
from . import kernels, searches

# Candidates from which a group is worth a node, and of which a node has at most: it cannot be interrupted.
LEAST, MOST = 8, 500

# Models, the parameters in which candidates may differ, and how far scores may be from the first candidate's own: its
# fit stops where SciPy's optimiser does, which rounds in another order.
_MODELS: dict[type, tuple[tuple[str, ...], float]] = {
    linear_model.Ridge: (("alpha",), 0.0),
    linear_model.Lasso: (("alpha",), 0.0),
    linear_model.ElasticNet: (("alpha", "l1_ratio"), 0.0),
    linear_model.LogisticRegression: (("C",), 1e-6),
}
_CLASSIFIERS = frozenset({linear_model.LogisticRegression})

# The metrics of scikit-learn's scorers: for which models, and which of their methods a scorer of it calls.
_METRICS = {
    "r2_score": (False, ("predict",)),
    "mean_squared_error": (False, ("predict",)),
    "root_mean_squared_error": (False, ("predict",)),
    "mean_absolute_error": (False, ("predict",)),
    "accuracy_score": (True, ("predict",)),
    "roc_auc_score": (True, ("decision_function", "predict_proba")),
    "log_loss": (True, ("predict_proba",)),
}
OWN = "score"  # the model's own method

_NUMBERS = (int, float, np.floating, np.integer)


# -- Which candidates -----------------------------------------------------------------------------


@dataclass
class Group:
    """Candidates that differ in penalties alone."""

    first: int
    others: list[int]
    values: dict[str, tuple]  # of each parameter, the first candidate's value before the others'
    estimator: int = -1  # in a plan, the entry of the model


@dataclass
class Fused:
    """The others of a group on one fold: a node, and what came of it."""

    first: int  # the pair of the first candidate and the fold
    others: list[int]  # the pairs that the node is for
    fold: int
    ref: Any
    own: list[Any]  # nodes of the first candidate: what they say the others would have said
    result: Scores | None = None


def groups(item: Any, candidates: list[list[tuple[int, Any]]]) -> list[Group]:
    """Groups among the candidates of a search, each no larger than a node may be."""
    if len(candidates) < LEAST or not wanted() or _metrics_of(item) is None:
        return []
    entries = _penalties(item)
    if not entries:
        return []
    found: dict[tuple, list[int]] = {}
    for k, outcomes in enumerate(candidates):
        key = tuple((entry, None if entry in entries else _same_as(value)) for entry, value in outcomes)
        found.setdefault(key, []).append(k)
    made: list[Group] = []
    for members in found.values():
        mine = [entry for entry, _ in candidates[members[0]] if entry in entries]
        models = {entries[entry][0] for entry in mine}
        if len(members) < LEAST or len(models) != 1:
            continue
        columns = {}
        for entry in mine:
            column = [_value(item.entries[entry][1], dict(candidates[k])[entry]) for k in members]
            columns[entries[entry][1]] = column
        made.extend(_cut(members, columns, models.pop()))
    return made


def _cut(members: list[int], columns: dict[str, list], estimator: int) -> Iterator[Group]:
    """Groups of at most `MOST` others; candidates whose penalty scikit-learn would refuse stay alone."""
    good = [i for i in range(len(members)) if all(_is_penalty(column[i]) for column in columns.values())]
    if len(good) < LEAST:
        return
    for begin in range(1, len(good), MOST):
        part = [good[0], *good[begin : begin + MOST]]
        values = {name: tuple(float(column[i]) for i in part) for name, column in columns.items()}
        yield Group(members[part[0]], [members[i] for i in part[1:]], values, estimator)


def of_parameters(estimator: Any, parameters: list[dict]) -> list[Group]:
    """Groups among the candidates of scikit-learn's searches, which set parameters of one estimator."""
    last = f"{estimator.steps[-1][0]}__" if type(estimator) is Pipeline else ""
    penalties = {last + name: name for names, _ in _MODELS.values() for name in names}
    found: dict[tuple, list[int]] = {}
    for k, one in enumerate(parameters):
        key = tuple((name, None if name in penalties else _same_as(value)) for name, value in one.items())
        found.setdefault(key, []).append(k)
    made: list[Group] = []
    for members in found.values():
        names = [name for name in parameters[members[0]] if name in penalties]
        if len(members) >= LEAST and names:
            columns = {penalties[name]: [parameters[k][name] for k in members] for name in names}
            made.extend(_cut(members, columns, -1))
    return made


def _same_as(value: Any) -> Any:
    """What is equal for values that are interchangeable."""
    return (type(value), repr(value)) if isinstance(value, (int, float, str, type(None))) else id(value)


def of_fit(engine: Any, group: Group, fit: Any, first: Any, X: Any, y: Any, sides: list, asked: list) -> Any:
    """The node for the others of a group where scikit-learn's loop is stood for; None if it cannot be one."""
    model, _, _, _, params, seed, _ = fit.args
    if type(model) not in _MODELS or not set(group.values) <= set(_MODELS[type(model)][0]):
        return None
    if params is not None or seed is not None or not _scores_such(model, asked):
        return None
    if not all(isinstance(part, _core.Ref) for part in (X, y, *(part for side in sides for part in side))):
        return None
    return _make(engine, (first, None), model, group, asked, X, y, sides, None)


def wanted() -> bool:
    """Whether results may differ by rounding, and nothing asks for the libraries' own loops."""
    option = _config.option
    return (
        option("native") and option("exactness") != "identical" and not option("verify")
        and not get_config()["array_api_dispatch"]
    )  # fmt: skip


def _is_penalty(value: Any) -> bool:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool) and 0 < value < np.inf


def _value(choice: Any, outcome: Any) -> Any:
    """What a candidate has for a choice: the outcome itself, or the one with that number."""
    return choice.outcomes[outcome] if isinstance(choice, sk.choosing.Choice) else outcome


def _penalties(item: Any) -> dict[int, tuple[int, str]]:
    """Entries of choices that are a penalty of the last model and nothing else: (entry of the model, parameter)."""
    last = sk.evaluation.find_first_apply(item.data_op)
    if last is None:
        return {}
    entries, last = item.entries, last._skrub_impl
    parents: dict[int, list[int]] = {}
    for i in range(len(entries)):
        for child in item.plan.children(i):
            parents.setdefault(child, []).append(i)
    found = {}
    for i, (kind, choice) in enumerate(entries):
        if kind not in (_core.ST_CAP_NUMBER, _core.ST_CAP_CHOICE) or len(parents.get(i, ())) != 1:
            continue
        if choice.name is not None and choice.name in item.environment:
            continue  # its value is given
        if kind == _core.ST_CAP_CHOICE and not all(isinstance(value, _NUMBERS) for value in choice.outcomes):
            continue
        model = parents[i][0]
        name = _parameter(entries[model], choice)
        if name is not None and _leads_to(model, last, entries, parents):
            found[i] = model, name
    return found


def _parameter(entry: tuple[int, Any], choice: Any) -> str | None:
    """The penalty of a model for which a choice stands, if that is its only place."""
    kind, model = entry
    if kind != _core.ST_CAP_ESTIMATOR or type(model) not in _MODELS:
        return None
    places = []
    for name, value in model.get_params(deep=False).items():
        if value is choice:
            places.append(name)
        elif sk.has_evaluables(value) and not isinstance(value, sk.BaseChoice):
            return None
    return places[0] if len(places) == 1 and places[0] in _MODELS[type(model)][0] else None


def _leads_to(entry: int, last: Any, entries: list, parents: dict[int, list[int]]) -> bool:
    """Whether an estimator, through choices perhaps, is that of one apply and read by nothing else."""
    while len(parents.get(entry, ())) == 1:
        below, entry = entries[entry][1], parents[entry][0]
        kind, obj = entries[entry]
        if kind == _core.ST_CAP_APPLY:
            others = (obj.cols, obj.exclude_cols, obj.no_wrap, obj.allow_reject, obj.kwargs, obj.no_cache)
            return obj is last and obj.estimator is below and not any(map(sk.has_evaluables, others))
        if kind not in (_core.ST_CAP_CHOICE, _core.ST_CAP_CHOICE_MATCH):
            return False
    return False


def _metrics_of(item: Any) -> list[tuple[str | None, int, str]] | None:
    return None if item.scoring_entry >= 0 else metrics_of(item.scorer)


def metrics_of(scorer: Any) -> list[tuple[str | None, int, str]] | None:
    """The scores that a scorer makes: (name, sign, metric); None if one of them is not known here."""
    if scorer is sk.score_of_pipeline or type(scorer) is skl._PassthroughScorer:
        return [(None, 1, OWN)]
    if type(scorer) is skl.multimetric_scorer:
        found = [_metric(name, one) for name, one in scorer._scorers.items()]
        return None if None in found or not found else found
    one = _metric(None, scorer)
    return None if one is None else [one]


def _metric(name: str | None, scorer: Any) -> tuple[str | None, int, str] | None:
    known = skl.plain_scorer(scorer)
    if known is None:
        return None
    function, sign, methods = known
    names = [plain.__name__ for plain, _ in kernels._metrics() if plain is function]
    if not names or names[0] not in _METRICS or methods != _METRICS[names[0]][1]:
        return None
    return name, sign, names[0]


# -- Their nodes ----------------------------------------------------------------------------------


def nodes(item: Any, found: list[Group]) -> tuple[list[Fused], list[Group]]:
    """Nodes for groups whose first candidates are lowered, and the groups that are none after all."""
    made: list[Fused] = []
    refused: list[Group] = []
    tests = item.cv.refs(1)
    trains = item.cv.refs(2) if item.train_scores else None
    for group in found:
        of_group = []
        for fold in range(item.n_folds):
            i = group.first * item.n_folds + fold
            one = _node(item, group, fold, tests[i], None if trains is None else trains[i])
            if one is None:
                refused.append(group)
                break
            of_group.append(one)
        else:
            made.extend(of_group)
    return made, refused


def _node(item: Any, group: Group, fold: int, test: Any, train: Any) -> Fused | None:
    asked = _metrics_of(item)
    sides = [_side(test), *([] if train is None else [_side(train)])]
    if asked is None or any(side is None for side in sides):
        return None
    fit = sides[0].fit
    method, model, X, y, unsupervised, *_, kwargs, seed, subsample = fit.args
    if method != "fit" or unsupervised is not False or subsample or seed is not None or kwargs is not None:
        return None
    built = item.cv.scope(group.first, fold).value(group.estimator)
    if type(model) not in _MODELS or not _is_const(built, model) or any(side.fit != fit for side in sides):
        return None
    if not _scores_such(model, asked):
        return None
    if not all(isinstance(part, _core.Ref) for part in (X, y, *(p for side in sides for p in (side.X, side.y)))):
        return None
    ticker = _core.Leaf(item.ticker, False)
    ref = _make(item.engine, (test, train), model, group, asked, X, y, [(side.X, side.y) for side in sides], ticker)
    own = [fit, test, *([] if train is None else [train]), *(ref for side in sides for ref in side.predictions)]
    others = [k * item.n_folds + fold for k in group.others]
    return Fused(group.first * item.n_folds + fold, others, fold, ref, own)


def _make(
    engine: Any, first: tuple, model: Any, group: Group, asked: list, X: Any, y: Any, sides: list, ticker: Any
) -> Any:
    # (a classifier's loop is outside the lock: it may run beside another one)
    flags = 0 if type(model) in _CLASSIFIERS else _core.N_SMALL
    return engine.node("fit_and_score", (*first, model, group.values, tuple(asked), X, y, tuple(sides), ticker), flags)


def _scores_such(model: Any, asked: list) -> bool:
    """Whether the metrics are for models of this kind."""
    classifies = type(model) in _CLASSIFIERS
    return all(metric == OWN or _METRICS[metric][0] == classifies for _, _, metric in asked)


@dataclass
class _Side:
    """What the score of a candidate on some rows is made of."""

    fit: Any
    X: Any  # as the model gets it
    y: Any
    predictions: tuple


def _side(score: Any) -> _Side | None:
    fit, _, modes, predictions, state, _, y, scorers, ticket, _ = score.args
    if not isinstance(fit, _core.Ref) or fit.op != "fit" or fit.port or scorers is not None or ticket is not None:
        return None
    if not isinstance(state, _core.Ref) or state != fit.at(1) or not predictions:
        return None
    rows = None
    for mode, one in zip(modes, predictions):
        if not isinstance(one, _core.Ref) or one.op != "apply":
            return None
        own, inner, of, X, own_y, _, kwargs = one.args
        if own != mode or inner or of != state or kwargs is not None or not (rows is None or rows == X):
            return None
        rows = X
        if mode == OWN:
            y = own_y
    return _Side(fit, rows, y, tuple(predictions))


def _is_const(expression: Any, value: Any) -> bool:
    return isinstance(expression, _core.Expr) and expression.is_const and expression.const() is value


# -- The operator ---------------------------------------------------------------------------------


@dataclass
class Scores:
    """What a node found for the others of a group."""

    done: np.ndarray  # which of them it has scores for
    scores: list[dict[str | None, np.ndarray]]  # on the test rows, and the train rows where asked
    fit_seconds: float
    score_seconds: float


def fit_and_score(
    x: Any, impl: Any, first: Any, first_train: Any, model: Any, values: dict, asked: tuple, X: Any, y: Any,
    sides: tuple, ticker: Any,
) -> Scores | str:  # fmt: skip
    """Operator: scores of models that differ in penalties, where the first one's are known; or why there are none."""
    known = _known(first, first_train)
    if known is None:
        return "the first candidate failed"
    try:
        from ..native import linear  # (only now: it imports SciPy's optimisers)

        start = time.perf_counter()
        for rows, target in ((X, y), *sides):
            _check_types(rows, target)
        twin: Any = getattr(linear, type(model).__name__).from_original(model)
        arguments = {name: np.array(column, dtype=np.float64) for name, column in values.items()}
        many = twin.fit_many(X, y, **arguments)
        fitted = time.perf_counter()
        found = [_scores(twin, many, rows, target, asked) for rows, target in sides]
    except Declined as why:
        return str(why)
    done = many.done
    tolerance = _MODELS[type(model)][1]
    for own_scores, scores in zip(known, found):
        for name, column in scores.items():
            own = own_scores if name is None else own_scores.get(name)
            if not isinstance(own, float) or not done[0] or not abs(column[0] - own) <= tolerance * max(1.0, abs(own)):
                return "the first candidate has other scores"
            done = done & np.isfinite(column)
    others = [{name: column[1:] for name, column in scores.items()} for scores in found]
    result = Scores(done[1:], others, fitted - start, time.perf_counter() - fitted)
    if ticker is not None:
        ticker.tick_all(lambda: [one for k in np.flatnonzero(result.done) for one in outcomes(result, k)])
    return result


def _known(first: Any, first_train: Any) -> list[Any] | None:
    """The scores of the first candidate, on the test rows and the train rows; None if it failed."""
    if isinstance(first, dict):  # of scikit-learn's loop, both in one
        names = ("test_scores", "train_scores")
        return None if first["fit_error"] is not None else [first[name] for name in names if name in first]
    both = [first] if first_train is None else [first, first_train]
    for one in both:
        if not isinstance(one, searches.Outcome) or one.fit_error is not None or one.error is not None:
            return None
    return [one.scores for one in both]


def outcomes(result: Scores, k: int) -> list[Any]:
    """The outcomes of the k-th of the others: on the test rows, and the train rows where asked."""
    made = []
    for scores in result.scores:
        one = {name: float(column[k]) for name, column in scores.items()}
        made.append(searches.Outcome(scores=one[None] if None in one else one))
    return made


def _check_types(X: Any, y: Any) -> None:
    """Decline what scikit-learn might convert, warn of or refuse: all of these it takes as they are."""
    if isinstance(X, pd.DataFrame):
        plain = all(isinstance(dtype, np.dtype) and dtype.kind in "fiu" for dtype in X.dtypes)
        plain = plain and all(type(name) is str for name in X.columns)
    elif type(X).__module__.startswith("polars."):
        plain = all(dtype.is_numeric() for dtype in X.dtypes)
    else:
        plain = type(X) is np.ndarray and X.ndim == 2 and X.dtype.kind in "fiu"
    if not plain or X.shape[0] < 2 or X.shape[1] < 1:
        raise Declined("columns that are not plain numbers")
    if X.shape[0] * X.shape[1] > 4 * searches.SMALL_CELLS:
        raise Declined("many cells: their work is worth nodes of its own")
    if isinstance(y, pd.Series):
        plain = isinstance(y.dtype, (np.dtype, pd.StringDtype))
    elif type(y).__module__.startswith("polars."):
        plain = type(y).__name__ == "Series" and not y.null_count()
    else:
        plain = type(y) is np.ndarray and y.ndim == 1
    if not plain or len(y) != X.shape[0]:
        raise Declined("a target that is no plain column")


def _native(metric: str) -> Callable[..., float]:
    from ..native import metrics

    return getattr(metrics, metric).native


def _column(y: Any) -> np.ndarray:
    return y if isinstance(y, np.ndarray) else y.to_numpy()


def _scores(twin: Any, many: Any, X: Any, y: Any, asked: tuple) -> dict[str | None, np.ndarray]:
    """The scores of all models on some rows, by the names of the metrics."""
    try:
        rows = validate_data(twin, X, accept_sparse="csr", reset=False)
    except ValueError as refused:  # which each model's own prediction says in its own words
        raise Declined(str(refused)) from None
    if not isinstance(rows, np.ndarray):
        raise Declined("no plain matrix")
    scored = _Classified(many, rows, y) if many.classes is not None else _Predicted(many, rows, y)
    return {name: sign * scored.by(metric) for name, sign, metric in asked}


class _Predicted:
    """Predictions of regressors, one row a model, each as the model's own `predict` makes it."""

    def __init__(self, many: Any, X: np.ndarray, y: Any) -> None:
        self.y = y
        self.values = np.empty((len(many.coef), len(X)), dtype=np.result_type(X, many.coef))
        for out, coef, intercept in zip(self.values, many.coef, many.intercept):
            np.add(X @ coef, intercept, out=out)

    def by(self, metric: str) -> np.ndarray:
        if metric == OWN:
            return self.r2()
        native = _native(metric)
        y = _column(self.y)
        return np.array([native(y, values) for values in self.values])

    def r2(self) -> np.ndarray:
        """The coefficient of determination in scikit-learn's order of sums."""
        y = _column(self.y)
        if y.dtype.kind not in "fiu" or y.dtype == np.longdouble or self.values.dtype != np.float64:
            raise Declined("a target that is no number, or single precision")
        y = y.astype(np.float64)
        spread = ((y - np.average(y[:, None], axis=0)) ** 2).sum()
        if not spread > 0:
            raise Declined("a target without variance")
        return 1 - ((y - self.values) ** 2).sum(axis=1) / spread


class _Classified:
    """Decisions of classifiers, one row a model (for more than two classes, one column a class)."""

    def __init__(self, many: Any, X: np.ndarray, y: Any) -> None:
        self.y, self.classes = y, many.classes
        k, rows, p = many.coef.shape
        values = (many.coef.reshape(k * rows, p) @ X.T).reshape(k, rows, len(X)) + many.intercept[:, :, None]
        self.values = values[:, 0] if rows == 1 else np.ascontiguousarray(values.transpose(0, 2, 1))

    def by(self, metric: str) -> np.ndarray:
        if metric in (OWN, "accuracy_score"):
            return self.accuracy()
        native = _native(metric)
        y, binary = _column(self.y), self.values.ndim == 2
        if metric == "log_loss":
            return np.array([native(y, expit(one) if binary else softmax(one)) for one in self.values])
        if not binary:
            raise Declined("a ranking of more than two classes")
        return np.array([native(y, one) for one in self.values])

    def accuracy(self) -> np.ndarray:
        """The share of rows whose class is the predicted one."""
        y = _column(self.y)
        if y.dtype.kind != self.classes.dtype.kind and {y.dtype.kind, self.classes.dtype.kind} != {"i", "u"}:
            raise Declined("labels of another type")
        try:
            place = np.minimum(np.searchsorted(self.classes, y), len(self.classes) - 1)
        except TypeError:
            raise Declined("labels that cannot be compared") from None
        true = np.where(self.classes[place] == y, place, -1)
        predicted = self.values > 0 if self.values.ndim == 2 else self.values.argmax(axis=2)
        return np.count_nonzero(predicted == true, axis=1) / len(y)


# -- What came of them ----------------------------------------------------------------------------


def take(item: Any, results: tuple) -> set[int]:
    """Hand the scores that nodes have found to an item (`served`); answers the pairs that have to get their own nodes."""
    said = item.engine.said.by_node
    declined: set[int] = set()
    for fused, result in zip(item.fused, results):
        if isinstance(result, _core.Failed) and isinstance(result.error, Exception):
            if result.at is not None and result.at.id == fused.ref.id:  # (not what its rows are made by)
                _report(result.error)
        if not isinstance(result, Scores) or any(ref.id in said for ref in (*fused.own, fused.ref)):
            declined.update(fused.others)
            continue
        fused.result = result
        declined.update(np.array(fused.others)[~result.done].tolist())
    declined = item.all_of(declined)
    for fused in item.fused:
        if fused.result is not None:
            for k, i in enumerate(fused.others):
                if i not in declined:
                    item.served(i, fused, outcomes(fused.result, k))
    item.declined = declined
    return declined


def times(item: Any, fits: list[float], scores: list[float]) -> None:
    """Divide what groups took among their candidates; what the first one took was for all of them."""
    spent: dict[int, Times] = {}
    for fused in item.fused:
        if fused.result is not None:
            of = spent.setdefault(fused.first, Times(fits[fused.first], scores[fused.first], [fused.first]))
            of.fit += fused.result.fit_seconds
            of.score += fused.result.score_seconds
            of.members += [i for i in fused.others if i not in item.declined]
    for of in spent.values():
        for i in of.members:
            fits[i], scores[i] = of.fit / len(of.members), of.score / len(of.members)


@dataclass
class Times:
    """Seconds that a group spent on a fold."""

    fit: float
    score: float
    members: list[int] = field(default_factory=list)


def _report(error: Exception) -> None:
    """Tell of a node that failed where the first candidate did not: a fault of ours, that would else be slow only."""
    warnings.warn(
        f"fitting candidates together failed ({type(error).__name__}: {error}); each was fitted for itself, results "
        "are right. Please report it; set_config(native=False) switches this off.",
        RuntimeWarning,
        stacklevel=2,
    )
